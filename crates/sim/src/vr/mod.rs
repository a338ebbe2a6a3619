//! Viewstamped Replication in a simulated world.
//!
//! [`ashlar_vr::Replica`] and [`ashlar_vr::Client`] are the real ones. Around them: hosts with clocks that
//! drift and disks that lose what was not synced, and some of what was (`host`), clients that change and read
//! keys (`client`), faults (`fault`), an operator that changes the members (`operator`), and at the end a world
//! without faults in which all must come to rest (`liveness`). Oracles watch all of it, one property a file
//! (`oracle`). What differs from run to run is in `plan`; `world` has the state, the events and the clock.

mod client;
mod coverage;
mod fault;
mod host;
mod liveness;
mod operator;
mod oracle;
mod plan;
mod sabotage;
mod world;

pub use coverage::Coverage;
pub use sabotage::Sabotage;

use crate::{report, trace::Keep};
use world::World;

/// Whose view the oracles judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Everything: clients' views and the replicas' insides.
    All,
    /// Only what clients see: shows that they would notice a defect too.
    Clients,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A defect to put in.
    pub sabotage: Option<Sabotage>,
    /// Whose view is judged.
    pub judge: Judge,
    /// What to keep of the trace of a run without violation; one with a violation has at least
    /// its last lines.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self { sabotage: None, judge: Judge::All, keep: Keep::Nothing }
    }
}

/// How a run went.
pub type Report = report::Report<Coverage>;

/// Runs the world of `seed`.
pub fn run(seed: u64, options: Options) -> Report {
    report::explained(options.keep, |keep| {
        let mut world = World::new(seed, Options { keep, ..options });
        let violation = report::violation_of(|| world.run());
        world.into_report(seed, violation)
    })
}
