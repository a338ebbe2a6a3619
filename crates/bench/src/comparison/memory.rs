//! Memory of the front end with many idle connections.

use super::steps::Steps;
use super::testbed::Testbed;
use super::{ComparisonError, LoadShape, Scheme, Subject};

/// Memory hardly varies between rounds: a few show whether it does.
const ROUNDS_MAX: usize = 3;

/// One measurement of memory to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryTrial {
    /// The round, from 0.
    pub(crate) round: usize,
    pub(crate) subject: Subject,
    pub(crate) scheme: Scheme,
    /// Connections to open.
    pub(crate) connections: usize,
}

/// What it found.
#[derive(Clone, Debug)]
pub(crate) struct MemorySample {
    pub(crate) trial: MemoryTrial,
    /// Connections that were open.
    pub(crate) connections: usize,
    /// Memory of the front end's processes, freshly started, before the first connection.
    pub(crate) resident_bytes_before: u64,
    /// The same with the connections open and idle.
    pub(crate) resident_bytes: u64,
}

/// All measurements of memory, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryPlan(pub(crate) Vec<MemoryTrial>);

impl MemoryPlan {
    /// Round by round, scheme by scheme, the subjects one right after the other.
    pub(crate) fn new(
        rounds: usize,
        schemes: &[Scheme],
        subjects: &[Subject],
        connections: usize,
    ) -> Self {
        let mut trials = Vec::new();
        for round in 0..rounds.min(ROUNDS_MAX) {
            for scheme in schemes {
                for subject in subjects {
                    let (subject, scheme) = (*subject, *scheme);
                    trials.push(MemoryTrial { round, subject, scheme, connections });
                }
            }
        }
        Self(trials)
    }

    /// Makes them.
    pub(crate) fn measure(
        &self,
        testbed: &mut Testbed,
        load: &LoadShape,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<MemorySample>, ComparisonError> {
        let mut samples = Vec::with_capacity(self.0.len());
        for trial in &self.0 {
            steps.next(&format!("memory of {}", trial.subject.name()))?;
            let sample = testbed.measure_memory(trial, load);
            samples.push(sample.map_err(|error| steps.failed(error))?);
        }
        Ok(samples)
    }
}
