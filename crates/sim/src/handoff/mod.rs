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

use crate::{report, trace::Keep};
use world::World;

/// Whose view the oracles judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Everything: clients' and applications' views, and the hosts' insides.
    All,
    /// Only what clients and applications see: shows that they would notice a defect too.
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
