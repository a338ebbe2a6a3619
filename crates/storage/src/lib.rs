//! Durable storage of objects on one node.
//!
//! [`Engine`] is what the shell of the object store asks of a disk. Metadata and small bodies live
//! in an embedded key-value store, large bodies in files; `docs/storage.md` describes the layout
//! and what is synced when.
//!
//! Read in this order: [`engine`], [`error`].

pub mod engine;
pub mod error;

pub use ashlar_object::list::{Bound, Step as ScanStep};
pub use engine::{Batch, Blob, Engine, Item, Place, Snapshot, StageWriter, Stored, StoredChange};
pub use error::StorageError;
