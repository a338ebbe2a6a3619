//! A client's write at the head: what is asked, what decides, how it comes out.

use crate::{Key, ObjectMeta, Operation, Version, condition::Conditions};

/// Names a client's write until it is answered; the shell chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A client's write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Key and change.
    pub operation: Operation,
    /// Evaluated against the newest version at the moment the write is numbered.
    pub conditions: Conditions,
}

/// How a write came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every replica has persisted it.
    Committed {
        /// Its number.
        version: Version,
        /// Whether it replaced or removed an object.
        replaced: bool,
    },
    /// A condition does not hold; nothing has changed.
    PreconditionFailed,
    /// The object to remove does not exist.
    NotFound,
    /// Nothing has been done and nothing will be.
    Refused(Refusal),
}

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Writes enter at the head.
    #[error("this node is not the head of the key's chain")]
    NotHead,
    /// A replica of the chain cannot be reached.
    #[error("a replica of the key's chain is unavailable")]
    ChainBroken,
    /// Too many writes wait for their commit.
    #[error("too many writes of the key's partition are under way")]
    WindowFull,
    /// The disk of a replica has no room for another object. Deletions are taken.
    #[error("a disk of the key's chain is full")]
    NoSpace,
    /// This replica's disk lost what it had acknowledged.
    #[error("this replica has lost data")]
    DataLost,
}

/// The newest version of a key in the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Its number.
    pub version: Version,
    /// The object, or none after a deletion.
    pub meta: Option<ObjectMeta>,
}

/// What the head must know about its storage to decide on a write.
pub trait Metadata {
    /// Why the storage could not answer.
    type Error;

    /// The newest persisted version of `key`, committed or not.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn newest(&self, key: &Key) -> Result<Option<Newest>, Self::Error>;
}
