//! Connections that move from owner to owner, in a simulated world.
//!
//! [`ashlar_handoff::protocol`]'s machines and the connection image are the real ones, as are steering's
//! decisions ([`ashlar_fastpath::steering`]), which the kernel program consists of. Around them: the two
//! ends of TCP (`tcp`), hosts with sockets that can be frozen, exported and imported (`host`), processes
//! that answer requests (`application`, `request`), shells that perform the duties which the protocol
//! numbers (`depart`, `arrive`, `claim`), channels (`channel`), steering's table and the datagrams to it
//! (`steering`, `control`), clients (`client`), faults (`fault`) and a healed end (`liveness`). Oracles
//! watch all of it, one property a file (`oracle`). What differs from run to run is in `plan`; `world` has
//! the state, the events and the clock.

mod application;
mod arrive;
mod channel;
mod claim;
mod client;
mod control;
mod coverage;
mod depart;
mod fault;
mod host;
mod liveness;
mod oracle;
mod plan;
mod request;
mod sabotage;
mod steering;
mod tcp;
mod world;

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
