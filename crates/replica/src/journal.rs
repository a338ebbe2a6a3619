//! Where replicas keep what must survive.

use ashlar_vr::Write;
use std::io;

/// A journal could not be written. What it holds is what was synced before; nothing more is written to it.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct JournalError(#[from] pub io::Error);

/// The writes of one replica, in their order, each all or nothing.
pub trait Journal: Send {
    /// Adds a write. It may be lost until [`Journal::sync`] has come back.
    ///
    /// # Errors
    /// Once; and ever after.
    fn append(&mut self, write: &Write) -> Result<(), JournalError>;

    /// Everything added so far survives a power loss.
    ///
    /// # Errors
    /// Once; and ever after: what a failed sync has left behind, nobody knows.
    fn sync(&mut self) -> Result<(), JournalError>;

    /// Nothing was added for a while.
    ///
    /// # Errors
    /// As for the others.
    fn rest(&mut self) -> Result<(), JournalError>;
}
