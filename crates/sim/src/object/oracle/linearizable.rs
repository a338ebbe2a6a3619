//! An order of the operations explains what the clients of a key saw.

use crate::{
    linearizability::{
        Event, Verdict, check as search,
        register::{Operation, Outcome as Told, Register},
    },
    object::client::{ClientOperation, Request, Response, State},
};
use ashlar_object::{Key, chain::Outcome};

/// The oracle's name.
pub(crate) const NAME: &str = "linearizable";

/// How many placements are tried for one key.
const STEPS_MAX: usize = 200_000;

/// The history of a key: all but the reads that were not answered and the writes that were
/// refused, which have no effect.
pub(crate) fn history(key: usize, operations: &[ClientOperation]) -> Vec<Event<Operation>> {
    let of_key = operations.iter().filter(|operation| operation.key == key);
    of_key.filter_map(event).collect()
}

fn event(operation: &ClientOperation) -> Option<Event<Operation>> {
    let (returned, response) = match operation.state {
        State::Answered(stamp, response) => (Some(stamp), Some(response)),
        State::Open | State::GivenUp => (None, None),
    };
    let told = match (operation.request, response) {
        (Request::Read, Some(Response::Read(value))) => Operation::Read(value),
        (Request::Read, _) => return None,
        (Request::Write { put, condition, .. }, response) => Operation::Write {
            put,
            condition,
            outcome: match response {
                Some(Response::Write(Outcome::Committed { replaced, .. })) => {
                    Told::Done { replaced }
                }
                Some(Response::Write(Outcome::PreconditionFailed)) => Told::PreconditionFailed,
                Some(Response::Write(Outcome::NotFound)) => Told::NotFound,
                Some(Response::Write(Outcome::Refused(_))) => return None,
                _ => Told::Unknown,
            },
        },
    };
    Some(Event { invoked: operation.invoked, returned, operation: told })
}

/// Whether the history is linearizable; false if that could not be decided. With a violation comes
/// the history as text.
pub(crate) fn check(
    key: &Key,
    history: &[Event<Operation>],
) -> (Result<bool, String>, Vec<String>) {
    match search(&Register, history, STEPS_MAX) {
        Verdict::Linearizable => (Ok(true), Vec::new()),
        Verdict::Undecided => (Ok(false), Vec::new()),
        Verdict::Violated { placed_max } => {
            let count = history.len();
            let detail =
                format!("key {key}: at most {placed_max} of {count} operations have an order");
            (Err(detail), history.iter().map(line).collect())
        }
    }
}

fn line(event: &Event<Operation>) -> String {
    let returned = event.returned.map_or("…".to_owned(), |stamp| stamp.to_string());
    format!("{:>5} to {returned:>5}  {:?}", event.invoked, event.operation)
}
