//! Viewstamped Replication in a simulated world.
//!
//! [`ashlar_vr::Accelerated`] replicas and [`ashlar_vr::Client`] are the real ones. Around them: hosts with clocks that
//! drift and disks that lose what was not synced, and some of what was (`host`), programs in kernels that decide for replicas
//! (`kernel`), clients that change and read
//! keys (`client`) and others that write all the time (`writer`), faults (`fault`), an operator that changes the
//! members (`operator`), and at the end a world without faults in which all must come to rest (`liveness`).
//! Oracles watch all of it, one property a file (`oracle`). What differs from run to run is in `plan`; `world` has the state, the events and the clock.

mod client;
mod coverage;
mod fault;
mod host;
mod journal;
mod kernel;
mod liveness;
mod operator;
mod oracle;
mod plan;
mod sabotage;
mod world;
mod writer;

pub use coverage::Coverage;
pub use sabotage::Sabotage;

pub use crate::simulation::Judge;

use crate::{report, shrink, simulation};
use world::World;

/// How to run.
pub type Options = simulation::Options<Sabotage>;

/// How a run went.
pub type Report = report::Report<Coverage>;

/// A failing run that was made smaller.
pub type Shrunk = shrink::Shrunk<Coverage>;

/// Runs the world of `seed`.
pub fn run(seed: u64, options: Options) -> Report {
    simulation::run::<World>(seed, options)
}

/// Makes the failing run of `seed` smaller, with at most `runs_max` runs; none if it does not fail.
pub fn shrink(seed: u64, options: Options, runs_max: u64) -> Option<Shrunk> {
    simulation::shrink::<World>(seed, options, runs_max)
}
