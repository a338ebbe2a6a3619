//! What an oracle says when a property does not hold.

use std::fmt;

/// A property that a run broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The oracle that saw it.
    pub oracle: &'static str,
    /// When, in microseconds of virtual time.
    pub at_us: u64,
    /// What is wrong, in one line.
    pub detail: String,
    /// What helps to understand it, such as the history of a key.
    pub context: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (milliseconds, rest) = (self.at_us / 1000, self.at_us % 1000);
        let (oracle, detail) = (self.oracle, &self.detail);
        write!(formatter, "{oracle} at {milliseconds}.{rest:03} ms: {detail}")
    }
}
