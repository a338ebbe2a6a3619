//! The steps of a run, one after the other: progress, interruption, and alternating rounds.

use super::measurement::Measurement;
use super::{Case, ComparisonError, Subject};
use crate::experiment::{self, Sample, Trial};
use crate::load::LoadReport;

/// Told what a run is doing, and asked whether to go on.
pub trait Progress {
    /// A step begins; `done` of `total` steps are over.
    fn step(&mut self, done: usize, total: usize, what: &str) {
        let _ = (done, total, what);
    }

    /// Whether to stop, clean up and fail with [`ComparisonError::Interrupted`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
impl Progress for () {}

/// What is measured under load: every subject under every case in every round.
pub(crate) struct Plan<'a> {
    /// The subjects.
    pub(crate) subjects: &'a [Subject],
    /// The cases.
    pub(crate) cases: &'a [Case],
    /// How often.
    pub(crate) rounds: usize,
    /// Which subjects can be measured under which case.
    pub(crate) applies: &'a dyn Fn(Subject, Case) -> bool,
}

impl Plan<'_> {
    /// All measurements, in their order.
    pub(crate) fn trials(&self) -> Vec<Trial> {
        let mut trials = experiment::schedule(self.subjects.len(), self.cases.len(), self.rounds);
        trials.retain(|trial| (self.applies)(self.subjects[trial.subject], self.cases[trial.case]));
        trials
    }
}

/// A run under way.
pub(crate) struct Steps<'a> {
    /// Whoever watches.
    pub(crate) progress: &'a mut dyn Progress,
    /// Steps begun.
    done: usize,
    /// Steps in all.
    total: usize,
}

impl<'a> Steps<'a> {
    /// A run of `total` steps.
    pub(crate) fn new(progress: &'a mut dyn Progress, total: usize) -> Self {
        Self { progress, done: 0, total }
    }

    /// Begins the next step, unless the user has called off.
    pub(crate) fn next(&mut self, what: &str) -> Result<(), ComparisonError> {
        if self.progress.is_cancelled() {
            return Err(ComparisonError::Interrupted);
        }
        self.progress.step(self.done, self.total, what);
        self.done += 1;
        Ok(())
    }

    /// An error of a step: when the user interrupts, the generator is interrupted too, and what it
    /// says of it is of no interest.
    pub(crate) fn failed(&self, error: ComparisonError) -> ComparisonError {
        if self.progress.is_cancelled() { ComparisonError::Interrupted } else { error }
    }

    /// Measures what `plan` says, each trial by `measure`.
    pub(crate) fn measure_load(
        &mut self,
        plan: &Plan<'_>,
        mut measure: impl FnMut(Subject, Case) -> Result<Measurement, ComparisonError>,
    ) -> Result<Vec<Sample<Measurement>>, ComparisonError> {
        let trials = plan.trials();
        let mut samples: Vec<Sample<Measurement>> = Vec::with_capacity(trials.len());
        for trial in trials {
            let (subject, case) = (plan.subjects[trial.subject], plan.cases[trial.case]);
            let round = trial.round + 1;
            self.next(&format!("round {round}: {} {case}", subject.name()))?;
            let measured = measure(subject, case).map_err(|error| self.failed(error))?;
            check_tls_terms(&samples, plan.subjects, case, trial, &measured.load)?;
            samples.push(Sample { trial, measured });
        }
        Ok(samples)
    }
}

/// Subjects compare under a case only if TLS does the same work for both.
pub(crate) fn check_tls_terms(
    samples: &[Sample<Measurement>],
    subjects: &[Subject],
    case: Case,
    trial: Trial,
    load: &LoadReport,
) -> Result<(), ComparisonError> {
    let differing = samples
        .iter()
        .find(|sample| sample.trial.case == trial.case && sample.measured.load.tls != load.tls);
    let Some(differing) = differing else {
        return Ok(());
    };
    Err(ComparisonError::TlsTerms {
        case: case.to_string(),
        one: subjects[differing.trial.subject].name(),
        other: subjects[trial.subject].name(),
        terms: format!("{:?} and {:?}", differing.measured.load.tls, load.tls),
    })
}
