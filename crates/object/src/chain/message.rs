//! What replicas of a chain say to each other; [the table](crate::chain) has the directions.

use crate::{Entry, Version};
use serde::{Deserialize, Serialize};

/// The neighbour a message comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Neighbour {
    /// The replica before this one.
    Predecessor,
    /// The replica after this one.
    Successor,
}

/// What a replica and everything behind it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// All are there and hold what they must: they take writes.
    pub writable: bool,
    /// All have room for new objects; otherwise only deletions are taken.
    pub has_space: bool,
}

/// What replicas of a chain say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Persist this entry and pass it on.
    Prepare(Entry),
    /// Where should I resume?
    Probe {
        /// What the sender knows to be committed: the receiver must hold at least this.
        committed: Version,
        /// What the sender has persisted, if it has joined: all that may ever have been committed.
        holds: Option<Version>,
    },
    /// Send what follows `accepted`.
    Resume {
        /// The highest version that the sender has taken in.
        accepted: Version,
        /// As in [`Message::Progress`].
        committed: Version,
        /// As in [`Message::Progress`].
        readiness: Readiness,
        /// Whether `accepted` is at least what everybody behind the sender has persisted. A fresh
        /// replica whose successor is fresh too does not know before it has heard of it.
        compared: bool,
    },
    /// How far the chain has come.
    Progress {
        /// Everything up to here is committed.
        committed: Version,
        /// What the sender and everything behind it can take.
        readiness: Readiness,
    },
    /// The staged body of this entry is not here.
    BodyMissing {
        /// The entry.
        version: Version,
    },
}
