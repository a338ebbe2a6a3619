//! What the benchmarks of front ends share: subjects that are measured in turn, one at a time on
//! the same host of one lab, under the same load.
//!
//! Storage nodes stay; the front end is exchanged. The generator runs on a host of its own.

pub mod generator;

mod break_even;
mod case;
mod ceiling;
mod configuration;
mod error;
mod measurement;
mod memory;
mod meters;
mod moves;
mod outcome;
mod present;
mod present_moves;
mod ratios;
mod shape;
mod steps;
mod subject;
mod testbed;
#[cfg(test)]
pub(crate) mod testing;

pub use break_even::BreakEvenEntry;
pub use case::{Case, NotAScheme, Scheme};
pub use error::ComparisonError;
pub use measurement::{Entry, HostCpu, LoadEntry, MemoryEntry};
pub use moves::{LoneMovesEntry, MovesEntry, StageEntry};
pub use outcome::Outcome;
pub use shape::{LabPlace, LoadShape};
pub use steps::Progress;
pub use subject::{NotASubject, Subject};

pub(crate) use break_even::break_even;
pub(crate) use case::cases;
pub(crate) use measurement::Measurement;
pub(crate) use memory::MemoryPlan;
pub(crate) use moves::LoneSample;
pub(crate) use ratios::{metrics, of_memory, of_pair};
pub(crate) use shape::{check_peers, check_rounds_and_cases, has_repeats, refuse};
pub(crate) use steps::{Plan, Steps};
pub(crate) use testbed::{Testbed, TestbedSpec};

#[cfg(test)]
pub(crate) use memory::{MemorySample, MemoryTrial};
#[cfg(test)]
pub(crate) use moves::{MoveCounts, Moves};
#[cfg(test)]
pub(crate) use steps::check_tls_terms;
