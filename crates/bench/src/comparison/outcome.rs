//! Everything that a run found out.

use super::measurement::{self, Entry, Measurement};
use super::memory::MemorySample;
use super::moves::LoneSample;
use super::{BreakEvenEntry, Case, Subject};
use crate::experiment::Sample;
use crate::report::{Machine, Report};
use crate::statistics::Summary;
use std::collections::BTreeMap;

/// Everything that a run found out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the report is called.
    pub title: &'static str,
    /// The subjects' names.
    pub subjects: Vec<&'static str>,
    /// The cases, in order.
    pub cases: Vec<Case>,
    /// Every measurement under load.
    pub(crate) samples: Vec<Sample<Measurement>>,
    /// Every measurement of memory.
    pub(crate) memory: Vec<MemorySample>,
    /// The moves of a single connection.
    pub(crate) lone: Vec<LoneSample>,
    /// From which size on hand-off pays, by scheme.
    pub(crate) break_even: Vec<BreakEvenEntry>,
    /// What is quoted.
    pub ratios: BTreeMap<String, Summary>,
    /// What makes figures doubtful; empty for a clean run.
    pub warnings: Vec<String>,
    /// Requests that failed. Above 0 the figures are not to be quoted.
    pub failures: u64,
}

impl Outcome {
    /// What was found out under load, without ratios.
    pub(crate) fn new(
        title: &'static str,
        subjects: &[Subject],
        cases: Vec<Case>,
        samples: Vec<Sample<Measurement>>,
    ) -> Self {
        let subjects: Vec<&'static str> = subjects.iter().map(|subject| subject.name()).collect();
        let mut warnings = Vec::new();
        let mut failures = 0;
        for sample in &samples {
            let (name, case) = (subjects[sample.trial.subject], cases[sample.trial.case]);
            let load = &sample.measured.load;
            failures += load.failures.total();
            let round = sample.trial.round + 1;
            let lines = load.warnings();
            warnings
                .extend(lines.iter().map(|line| format!("round {round}, {name}, {case}: {line}")));
        }
        Self {
            title,
            subjects,
            cases,
            samples,
            memory: Vec::new(),
            lone: Vec::new(),
            break_even: Vec::new(),
            ratios: BTreeMap::new(),
            warnings,
            failures,
        }
    }

    /// Warns, ahead of everything else, that a debug build was measured beside peers in a lab.
    pub(crate) fn warn_of_debug_build(&mut self) {
        if cfg!(debug_assertions) {
            let warning = "this is a debug build: ours is slower than it is, the peers are not";
            self.warnings.insert(0, warning.to_owned());
        }
    }

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
