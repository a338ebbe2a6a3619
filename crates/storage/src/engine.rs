//! What a storage engine does for the shell of the object store.
//!
//! An engine performs the storage's part of the duties that [`ashlar_object::chain`] numbers: it
//! makes writes durable in order, recovers what the disk holds, and shows readers a consistent
//! view. All calls block; the shell makes them from threads that may.
//!
//! A large body arrives before its write: [`Engine::stage`], then [`StageWriter::finish`], then
//! an [`Item::Entry`] that names it. From then on the engine owns it and removes it when the write
//! is superseded. Until then the shell owns it and calls [`Engine::discard_stage`] if the write
//! does not come; what it forgets, it finds with [`Engine::unnamed_stages`].

use crate::StorageError;
use ashlar_object::{
    Entry, Key, ObjectMeta, PartitionIndex, StageId, Version,
    chain::{Newest, Recovered},
    list::{Bound, Step},
};
use bytes::Bytes;
use std::{fs::File, time::Duration};

/// How many slices [`Engine::unnamed_stages`] knows: every value of a byte.
pub const SWEEP_SLICES: usize = 256;

/// What one sync makes durable: all items in order, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The items. A batch without any does nothing.
    pub items: Vec<Item>,
}

/// One change to what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Persist: the entry becomes the newest version of its key and the partition's applied mark.
    ///
    /// Its version is the one after the partition's applied mark, and a staged body that it names
    /// is complete here and belongs to no other entry.
    Entry {
        /// The partition that numbered the entry.
        partition: PartitionIndex,
        /// The write.
        entry: Entry,
    },
    /// The entry is committed: all versions of its key below it go, with their bodies, and the
    /// entry itself if it is a deletion. The partition's committed mark rises to it.
    ///
    /// Its version is at most the applied mark. Repeating it has no effect.
    Release {
        /// The partition that numbered the entry.
        partition: PartitionIndex,
        /// The write, as it was persisted.
        entry: Entry,
    },
    /// The partition's replica has agreed with its neighbours on what it must hold.
    Joined {
        /// The partition.
        partition: PartitionIndex,
    },
}

/// One version of a key, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number within the partition.
    pub version: Version,
    /// The partition that numbered it.
    pub partition: PartitionIndex,
    /// What the version says of the key.
    pub change: StoredChange,
}

impl Stored {
    /// The identifier of the large body, if there is one.
    pub fn stage(&self) -> Option<StageId> {
        match self.change {
            StoredChange::Put { place: Place::Staged(id), .. } => Some(id),
            _ => None,
        }
    }
}

/// What a version says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredChange {
    /// The key names this object.
    Put {
        /// The object.
        meta: ObjectMeta,
        /// Where its bytes are.
        place: Place,
    },
    /// The key names nothing.
    Delete,
}

/// Where the bytes of an object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside the metadata: [`Snapshot::inline_body`].
    Inline,
    /// In a file: [`Engine::open_stage`].
    Staged(StageId),
}

/// Durable storage of the partitions' replicas on one node.
pub trait Engine: Send + Sync + 'static {
    /// What the disk holds of a partition; nothing at all is a partition never written to.
    ///
    /// The window's entries carry their inline bytes. Called before the first [`Engine::apply`]
    /// that touches the partition.
    ///
    /// # Errors
    /// When the disk cannot be read or what it holds is damaged.
    fn recover(&self, partition: PartitionIndex) -> Result<Recovered, StorageError>;

    /// Makes the batch durable with one sync; it is visible and safe when the call returns.
    ///
    /// After an error nothing of the batch is visible. If the error
    /// [is transient](StorageError::is_transient) the same batch may be applied again; after any
    /// other it is not known whether the batch is on the disk, and the engine must be opened
    /// anew before it is written to.
    ///
    /// # Errors
    /// When the disk cannot be written or is full, or a staged body is missing.
    ///
    /// # Panics
    /// When two threads call it at the same moment, or the items break their rules.
    fn apply(&self, batch: &Batch) -> Result<(), StorageError>;

    /// Whether there is room for new objects. Ask before a write is numbered: a batch with it may
    /// then still find room when this has turned to no, and deletions go on making room.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    fn has_space(&self) -> Result<bool, StorageError> {
        Ok(true)
    }

    /// The newest version of a key, committed or not.
    ///
    /// # Errors
    /// When the disk cannot be read or what it holds is damaged.
    fn newest(&self, key: &Key) -> Result<Option<Newest>, StorageError>;

    /// A consistent view of all that is applied now. Cheap to take; it keeps the space of what is
    /// dropped meanwhile from being used again, so it is not to be held for long.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError>;

    /// Begins to receive a large body. Several may be received at once, even of one `id`: they
    /// are the same bytes.
    ///
    /// # Errors
    /// When the disk cannot be written or is full.
    fn stage(&self, id: StageId) -> Result<Box<dyn StageWriter>, StorageError>;

    /// Whether the body is complete and synced here.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn has_stage(&self, id: StageId) -> Result<bool, StorageError>;

    /// Opens a complete body, to read it or to ship it to the successor. An open body stays
    /// readable after its release.
    ///
    /// # Errors
    /// [`StorageError::Gone`] when it is not here (any more): a reader then takes a new snapshot.
    /// Otherwise when the disk cannot be read or the file is damaged.
    fn open_stage(&self, id: StageId) -> Result<Box<dyn Blob>, StorageError>;

    /// Removes a complete body whose write was refused or never came. A body that an entry names
    /// stays, and one that is not here is no error.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    fn discard_stage(&self, id: StageId) -> Result<(), StorageError>;

    /// Complete bodies that no entry names and that have not been written to for `age`: one of
    /// [`SWEEP_SLICES`] slices of all bodies, at most `count_max` of it. They belong to writes that
    /// never came, or that are about to.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn unnamed_stages(
        &self,
        slice: u8,
        age: Duration,
        count_max: usize,
    ) -> Result<Vec<StageId>, StorageError>;
}

/// A consistent view of the metadata and the inline bodies.
///
/// Staged bodies are not part of it: they may be released under it.
pub trait Snapshot: Send {
    /// All versions of a key, ascending.
    ///
    /// # Errors
    /// When the disk cannot be read or what it holds is damaged.
    fn versions(&self, key: &Key) -> Result<Vec<Stored>, StorageError>;

    /// The bytes of a version whose place is [`Place::Inline`], verified.
    ///
    /// # Errors
    /// When the disk cannot be read or what it holds is damaged; a body that is missing counts as
    /// damaged.
    fn inline_body(&self, key: &Key, stored: &Stored) -> Result<Bytes, StorageError>;

    /// Offers keys with all their versions (ascending), in the order of the keys' bytes, from the
    /// first at or after `from`, until `visit` says stop. Bodies are not read.
    ///
    /// # Errors
    /// When the disk cannot be read or what it holds is damaged.
    fn scan(
        &self,
        from: &Bound,
        visit: &mut dyn FnMut(&Key, &[Stored]) -> Step,
    ) -> Result<(), StorageError>;
}

/// A large body that is being received. Dropping it discards what was written.
pub trait StageWriter: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk cannot be written or is full; the writer is of no use afterwards.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Ends the body, syncs it and makes it known under its identifier; returns its length in
    /// bytes.
    ///
    /// # Errors
    /// When the disk cannot be written or is full; nothing is known under the identifier then.
    ///
    /// # Panics
    /// When a write has failed before.
    fn finish(self: Box<Self>) -> Result<u64, StorageError>;
}

/// A complete large body.
pub trait Blob: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `bytes_max` bytes from `offset`, and at least one unless `offset` is at or after
    /// the end or `bytes_max` is zero. Every byte returned has been verified.
    ///
    /// # Errors
    /// When the disk cannot be read or the file is damaged.
    fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, StorageError>;

    /// The file whose first [`Blob::len`] bytes are the body, if there is one. What is read from
    /// it directly is not verified.
    fn file(&self) -> Option<&File>;
}
