//! The object store's chains in a simulated world.
//!
//! [`ashlar_object::chain::Replica`] is the real one, as are the cluster map, the read rule and the
//! conditions. Around it: a shell that performs the duties which that module numbers (`node`,
//! `batch`, `bodies`, `write`, `read`), connections that break (`link`), clients (`client`), faults
//! (`fault`, `space`) and, at the end, a world without faults in which all must come to rest (`liveness`).
//! Oracles watch all of it, one property a file (`oracle`). What differs from run to run is in
//! `plan`; `world` has the state, the events and the clock.

mod batch;
mod bodies;
mod client;
mod coverage;
mod fault;
mod link;
mod liveness;
mod node;
mod oracle;
mod plan;
mod read;
mod sabotage;
mod space;
mod storage;
mod world;
mod write;

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
