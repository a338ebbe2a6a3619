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

use crate::{trace::Keep, violation::Violation};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};
use world::World;

/// How many lines of the trace a violation comes with.
const TRACE_LINES: usize = 200;

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
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What the seed decided beforehand.
    pub plan: String,
    /// The first property that was broken.
    pub violation: Option<Violation>,
    /// What the run exercised.
    pub coverage: Coverage,
    /// How long it took, in microseconds of virtual time.
    pub virtual_us: u64,
    /// The hash of its whole trace, unless nothing is kept of it.
    pub trace_hash: u64,
    /// The trace, as far as it is kept.
    pub trace: Vec<String>,
}

/// Runs the world of `seed`.
pub fn run(seed: u64, options: Options) -> Report {
    let report = run_once(seed, options);
    if report.violation.is_none() || options.keep != Keep::Nothing {
        return report;
    }
    let keep = Keep::Last(TRACE_LINES);
    let mut again = run_once(seed, Options { keep, ..options });
    if again.violation != report.violation {
        let detail = format!("the first run ended otherwise: {:?}", report.violation);
        let (oracle, at_us) = ("determinism", again.virtual_us);
        again.violation = Some(Violation { oracle, at_us, detail, context: Vec::new() });
    }
    again
}

fn run_once(seed: u64, options: Options) -> Report {
    let mut world = World::new(seed, options);
    // A core that panics has broken its own invariant: a finding like any other.
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(*violation),
        Err(panic) => Some(Violation {
            oracle: "panic",
            at_us: world.now_us(),
            detail: panic_text(panic.as_ref()),
            context: Vec::new(),
        }),
    };
    world.into_report(seed, violation)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_owned()
}
