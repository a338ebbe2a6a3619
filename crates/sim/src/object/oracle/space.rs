//! What was numbered before a full disk was heard of finds room in its reserve.
//!
//! Otherwise the node cannot go on, not even with the deletions that would make room.

/// The oracle's name.
pub(crate) const NAME: &str = "space";
