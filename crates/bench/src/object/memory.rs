//! Memory of the front end with many idle connections.

use super::{ObjectSpec, Place, Scheme, Subject};

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

/// How many measurements each subject takes.
pub(super) fn trials(spec: &ObjectSpec) -> usize {
    schedule(spec, &[Subject::Ours]).len()
}

/// All measurements: round by round, scheme by scheme, the subjects one right after the other.
pub(super) fn schedule(spec: &ObjectSpec, subjects: &[Subject]) -> Vec<MemoryTrial> {
    let (Some(connections), Place::Lab(_)) = (spec.idle_connections, &spec.place) else {
        return Vec::new();
    };
    let mut trials = Vec::new();
    for round in 0..spec.rounds.min(ROUNDS_MAX) {
        for scheme in &spec.schemes {
            for subject in subjects {
                trials.push(MemoryTrial { round, subject: *subject, scheme: *scheme, connections });
            }
        }
    }
    trials
}
