//! What the measurements of a run have in common, and the checks that every command makes.

use super::{ComparisonError, Scheme};
use crate::experiment::ROUNDS_MAX;
use crate::load::{Arrival, Keyed, LoadSpec, Mix, Target, Workload};
use crate::peers::Peer;
use crate::units::ByteSize;
use ashlar_lab::{CpuQuota, LabName};
use std::time::Duration;

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct LoadShape {
    /// Connections over all threads.
    pub connections: usize,
    /// Generator threads.
    pub threads: usize,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Operations on preloaded objects, in place of GETs of synthetic ones: mix and number of keys.
    pub mix: Option<(Mix, u64)>,
    /// Time under load before the measured window.
    pub warm_up: Duration,
    /// Length of the measured window.
    pub window: Duration,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// Whether received bytes are compared.
    pub verify_content: bool,
    /// Decides which operations are drawn.
    pub seed: u64,
}

/// The lab to build.
#[derive(Clone, Debug)]
pub struct LabPlace {
    /// Tells it apart from other labs on the machine.
    pub name: LabName,
    /// Storage nodes.
    pub storage_nodes: u8,
    /// The processor quota of the front end and of each storage node; none for no limit.
    pub server_quota: Option<CpuQuota>,
    /// Event-loop threads of every server, ours and the peers.
    pub server_threads: u16,
    /// What is measured beside ours.
    pub peers: Vec<Peer>,
}

impl LoadShape {
    /// The run of the generator for objects of `size` at `target`.
    pub(crate) fn at(&self, target: Target, size: ByteSize) -> LoadSpec {
        LoadSpec {
            target,
            workload: match self.mix {
                None => Workload::Synthetic(vec![size]),
                Some((mix, keys)) => Workload::Keyed(Keyed { mix, keys, size }),
            },
            arrival: self.arrival,
            connections: self.connections,
            threads: self.threads,
            warm_up: self.warm_up,
            window: self.window,
            timeout: self.timeout,
            verify_content: self.verify_content,
            seed: self.seed,
        }
    }
}

/// A refusal of a field of a specification.
pub(crate) fn refuse<T>(
    field: &'static str,
    reason: impl Into<String>,
) -> Result<T, ComparisonError> {
    Err(ComparisonError::Spec { field, reason: reason.into() })
}

/// Refuses rounds out of bounds, and cases that would be measured twice.
pub(crate) fn check_rounds_and_cases(
    rounds: usize,
    schemes: &[Scheme],
    sizes: &[ByteSize],
) -> Result<(), ComparisonError> {
    if !(1..=ROUNDS_MAX).contains(&rounds) {
        return refuse("rounds", format!("must be 1 to {ROUNDS_MAX}"));
    }
    if has_repeats(sizes) {
        return refuse("sizes", "a size is given twice");
    }
    if has_repeats(schemes) {
        return refuse("schemes", "a scheme is given twice");
    }
    Ok(())
}

/// Refuses peers that would be measured twice.
pub(crate) fn check_peers(peers: &[Peer]) -> Result<(), ComparisonError> {
    if has_repeats(peers) {
        return refuse("peer", "a peer is given twice");
    }
    Ok(())
}

/// Whether something stands twice in a list.
pub(crate) fn has_repeats<T: PartialEq>(list: &[T]) -> bool {
    (1..list.len()).any(|index| list[..index].contains(&list[index]))
}
