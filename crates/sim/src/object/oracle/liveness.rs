//! Without faults everything ends, and new writes and reads succeed.
//!
//! The steps are in [`crate::object`]'s liveness phase; what clients see is enough to judge them.

/// The oracle's name.
pub(crate) const NAME: &str = "liveness";
