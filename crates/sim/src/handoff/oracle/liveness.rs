//! Without faults every client is answered, by every node.
//!
//! The steps are in [`crate::handoff`]'s liveness phase; what clients see is enough to judge them.

/// The oracle's name.
pub(crate) const NAME: &str = "liveness";
