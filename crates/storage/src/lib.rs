//! Durable storage on one node: of objects, and of what replicas must remember.
//!
//! [`Engine`] is what the shell of the object store asks of a disk. Metadata and small bodies live
//! in an embedded key-value store, large bodies in files; `docs/storage.md` describes the layout
//! and what is synced when.
//!
//! Read in this order: [`engine`], [`error`], [`disk`], then `directory`, `journal`, `metadata` with
//! `record`, `blob`, and [`mod@scrub`]. [`replica_journal`] is for itself: `docs/replication.md` describes it.

mod blob;
mod directory;
pub mod disk;
pub mod engine;
pub mod error;
mod journal;
mod metadata;
mod record;
pub mod replica_journal;
pub mod scrub;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod step;

pub use ashlar_object::list::{Bound, Step as ScanStep};
pub use disk::{DiskEngine, DiskOptions, open_disk};
pub use engine::{
    Batch, Blob, Engine, Item, Place, SWEEP_SLICES, Snapshot, StageWriter, Stored, StoredChange,
};
pub use error::StorageError;
pub use replica_journal::{Contents, Purpose, ReplicaJournal};
pub use scrub::{Finding, ScrubProgress, ScrubReport, scrub, scrub_dir};

#[cfg(test)]
mod tests;
