//! What is replicated by executing the same operations everywhere.

use crate::{ClientId, OPERATION_BYTES_MAX};
use bytes::Bytes;

/// The most bytes of a result or an answer: what the largest operation has brought, and a little to say about it.
pub const RESULT_BYTES_MAX: usize = OPERATION_BYTES_MAX + (4 << 10);

/// An operation as a service executes it.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// Its place in the log.
    pub op: u64,
    /// When a leader took it, in milliseconds since 1970; never less than for the one before.
    pub time_ms: u64,
    /// Who asks.
    pub client: ClientId,
    /// What is asked for, as the client sent it.
    pub body: &'a [u8],
}

/// A state machine. The same operations in the same order give the same state and the same results on every
/// replica: nothing else may have a part in them, no clock, no chance, no order of a hash map.
///
/// Results and answers have at most [`RESULT_BYTES_MAX`] bytes; a replica whose service gives a longer one panics. A
/// service bounds what it keeps for one operation, or says in the result that it would be too much.
pub trait Service {
    /// Executes an operation and gives its result, of at most [`RESULT_BYTES_MAX`] bytes. What it makes of a body
    /// that is none of its operations is a result like any other.
    fn execute(&mut self, operation: &Operation<'_>) -> Bytes;

    /// Answers a question, with at most [`RESULT_BYTES_MAX`] bytes, changing nothing.
    fn read(&self, question: &[u8]) -> Bytes;

    /// The whole state, for a replica that lacks the log.
    fn snapshot(&self) -> Bytes;

    /// Takes the state of a snapshot in place of its own; false, and nothing changes, if it is none.
    fn restore(&mut self, snapshot: &Bytes) -> bool;
}

impl<S: Service + ?Sized> Service for Box<S> {
    fn execute(&mut self, operation: &Operation<'_>) -> Bytes {
        (**self).execute(operation)
    }

    fn read(&self, question: &[u8]) -> Bytes {
        (**self).read(question)
    }

    fn snapshot(&self) -> Bytes {
        (**self).snapshot()
    }

    fn restore(&mut self, snapshot: &Bytes) -> bool {
        (**self).restore(snapshot)
    }
}
