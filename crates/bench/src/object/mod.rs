//! `ashlar bench object`: our front end beside other proxies, in front of the same storage nodes.
//!
//! The storage nodes answer `GET /N` with N bytes from memory, so that the front end is what is
//! measured. Ours and each peer run on the same host of the lab, one at a time, under the same
//! processor quota; the generator runs on a host of its own.

pub mod generator;
mod measurement;
mod memory;
mod present;
mod ratios;
mod spec;
mod testbed;

pub use measurement::{Entry, HostCpu, LoadEntry, MemoryEntry};
pub use present::{table, write_page};
pub use spec::{Case, LabPlace, LoadShape, NotAScheme, ObjectSpec, Place, Scheme};

use crate::experiment::{self, Sample, Trial};
use crate::load::{LoadError, LoadReport, Target};
use crate::peers::{Peer, PeerError};
use crate::report::{Machine, Report};
use crate::statistics::Summary;
use ashlar_lab::LabError;
use measurement::Measurement;
use memory::MemorySample;
use std::collections::BTreeMap;
use std::io;
use testbed::Testbed;

/// What our front end is called in ratios: it relays every response.
pub const OURS: &str = "relay";

/// One of the things that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    /// Our front end.
    Ours,
    /// Another proxy in its place.
    Peer(Peer),
    /// Whatever answers at the URL of a run without a lab.
    Target,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::Peer(peer) => peer.name(),
            Self::Target => "target",
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A field of the specification is out of its bounds or does not fit another.
    #[error("{field}: {reason}")]
    Spec {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A peer cannot be measured.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The generator failed.
    #[error("{subject}, {case}: {source}")]
    Load {
        /// Which subject was measured.
        subject: &'static str,
        /// Under which load.
        case: String,
        /// What happened.
        source: LoadError,
    },
    /// The generator in the lab failed.
    #[error("{subject}, {case}: {reason}")]
    Generator {
        /// Which subject was measured.
        subject: &'static str,
        /// Under which load.
        case: String,
        /// What it said.
        reason: String,
    },
    /// Two subjects negotiated different TLS terms: their figures do not compare.
    #[error("{case}: {one} and {other} negotiated different TLS terms: {terms}")]
    TlsTerms {
        /// Under which load.
        case: String,
        /// A subject.
        one: &'static str,
        /// Another.
        other: &'static str,
        /// Both terms.
        terms: String,
    },
    /// The machine refused a file or a process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The user called it off.
    #[error("interrupted")]
    Interrupted,
}

/// Told what a run is doing, and asked whether to go on.
pub trait Progress {
    /// A step begins; `done` of `total` steps are over.
    fn step(&mut self, done: usize, total: usize, what: &str) {
        let _ = (done, total, what);
    }

    /// Whether to stop, clean up and fail with [`ObjectError::Interrupted`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
impl Progress for () {}

/// Everything that a run found out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The subjects' names, ours first.
    pub subjects: Vec<&'static str>,
    /// The cases, in order.
    pub cases: Vec<Case>,
    /// Every measurement under load.
    pub(crate) samples: Vec<Sample<Measurement>>,
    /// Every measurement of memory.
    pub(crate) memory: Vec<MemorySample>,
    /// What is quoted.
    pub ratios: BTreeMap<String, Summary>,
    /// What makes figures doubtful; empty for a clean run.
    pub warnings: Vec<String>,
    /// Requests that failed. Above 0 the figures are not to be quoted.
    pub failures: u64,
}

impl Outcome {
    /// The machine-readable report. `command` is the command line.
    pub fn report(&self, command: String) -> Report<Entry> {
        Report {
            command,
            machine: Machine::here(),
            ratios: self.ratios.clone(),
            series: measurement::entries(self),
        }
    }
}

/// Measures what `spec` says.
///
/// # Errors
/// See [`ObjectError`]. Failed requests are no error but counted in the outcome.
pub fn run(spec: &ObjectSpec, progress: &mut dyn Progress) -> Result<Outcome, ObjectError> {
    let cases = spec.check()?;
    let subjects = spec.subjects();
    for subject in &subjects {
        if let Subject::Peer(peer) = subject {
            // A missing program shows before anything is built.
            peer.program()?;
        }
    }
    let mut run = Run {
        spec,
        testbed: None,
        progress,
        done: 0,
        total: subjects.len() * (cases.len() * spec.rounds + memory::trials(spec))
            + usize::from(matches!(spec.place, Place::Lab(_))),
    };
    if let Place::Lab(place) = &spec.place {
        run.step("build the lab")?;
        run.testbed = Some(Testbed::build(place, spec, run.progress)?);
    }
    // The short part first: what fails in it fails soon.
    let memory = run.measure_memory(&subjects)?;
    let samples = run.measure_load(&subjects, &cases)?;
    if let Some(testbed) = run.testbed {
        testbed.remove()?;
    }
    let mut outcome = outcome(spec, &subjects, cases, samples, memory);
    if cfg!(debug_assertions) && matches!(spec.place, Place::Lab(_)) {
        let warning = "this is a debug build: ours is slower than it is, the peers are not";
        outcome.warnings.insert(0, warning.to_owned());
    }
    Ok(outcome)
}

/// A run under way.
struct Run<'a> {
    spec: &'a ObjectSpec,
    /// Absent for a target that is there already.
    testbed: Option<Testbed>,
    progress: &'a mut dyn Progress,
    /// Steps begun.
    done: usize,
    /// Steps in all.
    total: usize,
}

impl Run<'_> {
    fn step(&mut self, what: &str) -> Result<(), ObjectError> {
        if self.progress.is_cancelled() {
            return Err(ObjectError::Interrupted);
        }
        self.progress.step(self.done, self.total, what);
        self.done += 1;
        Ok(())
    }

    /// An error of a step: when the user interrupts, the generator is interrupted too, and what it
    /// says of it is of no interest.
    fn failed(&self, error: ObjectError) -> ObjectError {
        if self.progress.is_cancelled() { ObjectError::Interrupted } else { error }
    }

    fn measure_load(
        &mut self,
        subjects: &[Subject],
        cases: &[Case],
    ) -> Result<Vec<Sample<Measurement>>, ObjectError> {
        let trials = experiment::schedule(subjects.len(), cases.len(), self.spec.rounds);
        let mut samples: Vec<Sample<Measurement>> = Vec::with_capacity(trials.len());
        for trial in trials {
            let (subject, case) = (subjects[trial.subject], cases[trial.case]);
            let round = trial.round + 1;
            self.step(&format!("round {round}: {} {case}", subject.name()))?;
            let measured = match &mut self.testbed {
                Some(testbed) => testbed.measure(subject, case, &self.spec.load),
                None => measure_target(self.spec, case),
            };
            let measured = measured.map_err(|error| self.failed(error))?;
            check_tls_terms(&samples, subjects, case, trial, &measured.load)?;
            samples.push(Sample { trial, measured });
        }
        Ok(samples)
    }

    fn measure_memory(&mut self, subjects: &[Subject]) -> Result<Vec<MemorySample>, ObjectError> {
        let mut samples = Vec::new();
        for trial in memory::schedule(self.spec, subjects) {
            self.step(&format!("memory of {}", trial.subject.name()))?;
            let Some(testbed) = &mut self.testbed else {
                unreachable!("memory is measured in a lab only");
            };
            let sample = testbed.measure_memory(&trial, &self.spec.load);
            samples.push(sample.map_err(|error| self.failed(error))?);
        }
        Ok(samples)
    }
}

/// Subjects compare under a case only if TLS does the same work for both.
fn check_tls_terms(
    samples: &[Sample<Measurement>],
    subjects: &[Subject],
    case: Case,
    trial: Trial,
    load: &LoadReport,
) -> Result<(), ObjectError> {
    let differing = samples
        .iter()
        .find(|sample| sample.trial.case == trial.case && sample.measured.load.tls != load.tls);
    let Some(differing) = differing else {
        return Ok(());
    };
    Err(ObjectError::TlsTerms {
        case: case.to_string(),
        one: subjects[differing.trial.subject].name(),
        other: subjects[trial.subject].name(),
        terms: format!("{:?} and {:?}", differing.measured.load.tls, load.tls),
    })
}

fn measure_target(spec: &ObjectSpec, case: Case) -> Result<Measurement, ObjectError> {
    let Place::Target { url, trust } = &spec.place else {
        unreachable!("without a lab there is a target");
    };
    let load_error = |source| ObjectError::Load {
        subject: Subject::Target.name(),
        case: case.to_string(),
        source,
    };
    let target = Target::parse(url, trust)
        .map_err(|error| ObjectError::Spec { field: "target", reason: error.to_string() })?;
    let load = crate::load::run(&spec.load.at(target, case.size), |_| {}).map_err(load_error)?;
    Ok(Measurement { load, cpu: None })
}

fn outcome(
    spec: &ObjectSpec,
    subjects: &[Subject],
    cases: Vec<Case>,
    samples: Vec<Sample<Measurement>>,
    memory: Vec<MemorySample>,
) -> Outcome {
    let names: Vec<&'static str> = subjects.iter().map(|subject| subject.name()).collect();
    let mut warnings = Vec::new();
    let mut failures = 0;
    for sample in &samples {
        let (name, case) = (names[sample.trial.subject], cases[sample.trial.case]);
        let load = &sample.measured.load;
        failures += load.failures.total();
        let round = sample.trial.round + 1;
        let lines = load.warnings();
        warnings.extend(lines.iter().map(|line| format!("round {round}, {name}, {case}: {line}")));
    }
    let mut ratios = ratios::of_load(&names, &cases, &samples, &spec.load.arrival);
    ratios.extend(ratios::of_memory(&names, &memory));
    Outcome { subjects: names, cases, samples, memory, ratios, warnings, failures }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
