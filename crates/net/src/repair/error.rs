//! Why a connection cannot be taken or put back.

use std::fmt;
use std::io;

/// Why a connection could not be frozen, exported, imported, thawed or closed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel {
        /// The system call or socket option.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Only ESTABLISHED and CLOSE_WAIT move.
    #[error("a connection in state {state} does not move")]
    State {
        /// The state, by its name in RFC 9293.
        state: &'static str,
    },
    /// The socket is not of the family that TCP connections have.
    #[error("the socket has no address of IPv4 or IPv6")]
    AddressFamily,
    /// Bytes were written and never sent.
    #[error("{bytes} bytes were written and never sent")]
    Unsent {
        /// How many.
        bytes: usize,
    },
    /// A queue is longer than an image takes.
    #[error("the {queue} queue holds {bytes} bytes, an image takes {bytes_max}")]
    QueueTooLong {
        /// `send` or `receive`.
        queue: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A queue gave another number of bytes than it said it holds: urgent data, or a change in spite of the freeze.
    #[error("the {queue} queue holds {bytes} bytes and shows {shown}")]
    QueueChanged {
        /// `send` or `receive`.
        queue: &'static str,
        /// The length that it said.
        bytes: usize,
        /// The bytes that it showed.
        shown: usize,
    },
    /// A socket that shall receive late bytes lacks earlier ones, too.
    #[error("bytes before the late ones are missing")]
    Gap,
    /// The peer sent late bytes again while they were put into the queue.
    #[error("late bytes came a second time")]
    Overtaken,
    /// The kernel took part of the send queue only.
    #[error("the restored send queue is not all marked as sent: {bytes} bytes are not")]
    NotRestored {
        /// How many bytes are not.
        bytes: usize,
    },
}

/// A socket that stays as it was, and why it was not frozen.
pub struct NotFrozen<S> {
    /// The socket, as usable as before.
    pub socket: S,
    /// The reason.
    pub error: RepairError,
}

impl<S> fmt::Debug for NotFrozen<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NotFrozen").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<S> fmt::Display for NotFrozen<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the connection was not frozen: {}", self.error)
    }
}

impl<S> std::error::Error for NotFrozen<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Names the step that failed.
pub(super) trait Context<T> {
    fn step(self, step: &'static str) -> Result<T, RepairError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, RepairError> {
        self.map_err(|error| RepairError::Kernel { step, source: error.into() })
    }
}
