//! How a run went.

use crate::{trace::Keep, violation::Violation};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How many lines of the trace a violation comes with.
const TRACE_LINES: usize = 200;

/// How a run went; `C` counts what it exercised.
#[derive(Clone, Debug)]
pub struct Report<C> {
    /// Its seed.
    pub seed: u64,
    /// What the seed decided beforehand.
    pub plan: String,
    /// The first property that was broken.
    pub violation: Option<Violation>,
    /// What the run exercised.
    pub coverage: C,
    /// How long it took, in microseconds of virtual time.
    pub virtual_us: u64,
    /// The hash of its whole trace, unless nothing is kept of it.
    pub trace_hash: u64,
    /// The trace, as far as it is kept.
    pub trace: Vec<String>,
}

/// Runs once, and again with a trace if a property was broken and none was kept.
pub(crate) fn explained<C>(keep: Keep, run: impl Fn(Keep) -> Report<C>) -> Report<C> {
    let report = run(keep);
    if report.violation.is_none() || keep != Keep::Nothing {
        return report;
    }
    let mut again = run(Keep::Last(TRACE_LINES));
    if again.violation != report.violation {
        let detail = format!("the first run ended otherwise: {:?}", report.violation);
        let (oracle, at_us) = ("determinism", again.virtual_us);
        again.violation = Some(Violation { oracle, at_us, detail, context: Vec::new() });
    }
    again
}

/// What `run` found. A core that panics has broken its own invariant: a finding like any other, but
/// without its moment.
pub(crate) fn violation_of(run: impl FnOnce() -> Result<(), Box<Violation>>) -> Option<Violation> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(*violation),
        Err(panic) => {
            let (detail, context) = (panic_text(panic.as_ref()), Vec::new());
            Some(Violation { oracle: "panic", at_us: 0, detail, context })
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_owned()
}
