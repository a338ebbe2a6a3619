//! Changing the tables.

use super::{
    BLOBS, BODIES, DIRTY, JOURNAL_ROW, NumberKey, PARTITIONS, STATE, VERSIONS, Value, VersionKey,
    failure, number_bytes,
};
use crate::{
    Place, StorageError, Stored, StoredChange,
    record::{self, BlobOwner},
    step::{PartitionMarks, Step},
};
use ashlar_object::{Body, Change, Entry, Key, PartitionIndex, StageId, Version};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::{path::Path, sync::Arc};

/// How a change is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Visible; the journal makes it durable.
    Journalled,
    /// Visible and durable, with all changes before it.
    Synced,
}

/// A change under way; dropping it undoes it.
pub(crate) struct Update {
    transaction: WriteTransaction,
    path: Arc<Path>,
    /// Large bodies that no version names after the change.
    released: Vec<StageId>,
}

/// The tables of one change.
struct Tables<'t> {
    versions: Table<'t, VersionKey, Value>,
    bodies: Table<'t, NumberKey, Value>,
    dirty: Table<'t, NumberKey, Value>,
    partitions: Table<'t, u16, Value>,
    blobs: Table<'t, u128, Value>,
    state: Table<'t, &'static str, Value>,
}

impl Update {
    pub(super) fn begin(database: &Database, path: Arc<Path>) -> Result<Self, StorageError> {
        let transaction = database.begin_write().map_err(|error| failure(&path, error))?;
        let released = Vec::new();
        Ok(Self { transaction, path, released })
    }

    /// Makes the tables, which readers expect to exist.
    pub(super) fn create_tables(&self) -> Result<(), StorageError> {
        self.tables().map(drop)
    }

    /// Takes the steps of the batch with this number. `marks` are those of its partitions
    /// afterwards.
    pub(crate) fn take(
        &mut self,
        number: u64,
        steps: &[Step],
        marks: &PartitionMarks,
    ) -> Result<(), StorageError> {
        let mut tables = self.tables()?;
        let mut released = Vec::new();
        let result = tables.take(number, steps, marks, &mut released);
        drop(tables);
        self.released.append(&mut released);
        result.map_err(|error| match error {
            TakeError::Store(error) => failure(&self.path, *error),
            TakeError::Row(error) => error,
        })
    }

    /// Ends the change; returns the large bodies that no version names any more.
    pub(crate) fn commit(mut self, durability: Durability) -> Result<Vec<StageId>, StorageError> {
        match durability {
            Durability::Journalled => self
                .transaction
                .set_durability(redb::Durability::None)
                .map_err(|error| failure(&self.path, error))?,
            // Saves the allocator's state along, so that opening the store after a crash does not
            // read all of it.
            Durability::Synced => self.transaction.set_quick_repair(true),
        }
        self.transaction.commit().map_err(|error| failure(&self.path, error))?;
        Ok(self.released)
    }

    fn tables(&self) -> Result<Tables<'_>, StorageError> {
        Tables::open(&self.transaction).map_err(|error| failure(&self.path, error))
    }
}

/// Why a step was not taken.
enum TakeError {
    /// The key-value store's word; boxed because it is large.
    Store(Box<redb::Error>),
    /// A row is damaged.
    Row(StorageError),
}

impl<E: Into<redb::Error>> From<E> for TakeError {
    fn from(error: E) -> Self {
        Self::Store(Box::new(error.into()))
    }
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            versions: transaction.open_table(VERSIONS)?,
            bodies: transaction.open_table(BODIES)?,
            dirty: transaction.open_table(DIRTY)?,
            partitions: transaction.open_table(PARTITIONS)?,
            blobs: transaction.open_table(BLOBS)?,
            state: transaction.open_table(STATE)?,
        })
    }

    fn take(
        &mut self,
        number: u64,
        steps: &[Step],
        marks: &PartitionMarks,
        released: &mut Vec<StageId>,
    ) -> Result<(), TakeError> {
        for step in steps {
            match step {
                Step::Entry { partition, entry } => self.put(*partition, entry)?,
                Step::Release { partition, version, key, deletes } => {
                    self.release(key, *version, *deletes, released)?;
                    self.dirty.remove((*partition, version.0))?;
                }
                Step::Joined { .. } => {}
            }
        }
        for (&partition, marks) in marks {
            let row = record::encode(&[&partition.to_le_bytes()], marks);
            self.partitions.insert(partition, row.as_slice())?;
        }
        let row = record::encode(&[JOURNAL_ROW.as_bytes()], &number);
        self.state.insert(JOURNAL_ROW, row.as_slice())?;
        Ok(())
    }

    fn put(&mut self, partition: u16, entry: &Entry) -> Result<(), TakeError> {
        let key = &entry.operation.key;
        let version = entry.version.0;
        let number = number_bytes(partition, version);
        let change = match &entry.operation.change {
            Change::Put { meta, body } => {
                let place = match body {
                    Body::Inline(bytes) => {
                        let row = record::seal(&[&number], bytes);
                        self.bodies.insert((partition, version), row.as_slice())?;
                        Place::Inline
                    }
                    Body::Staged(id) => {
                        self.own_blob(*id, key, entry.version)?;
                        Place::Staged(*id)
                    }
                };
                let meta = meta.clone();
                StoredChange::Put { meta, place }
            }
            Change::Delete => StoredChange::Delete,
        };
        let stored =
            Stored { version: entry.version, partition: PartitionIndex(partition), change };
        let sealed_for: &[&[u8]] = &[key.as_bytes(), &version.to_le_bytes()];
        let row = record::encode_version(sealed_for, &stored);
        self.versions.insert((key.as_bytes(), version), row.as_slice())?;
        let row = record::encode(&[&number], key);
        self.dirty.insert((partition, version), row.as_slice())?;
        Ok(())
    }

    fn own_blob(&mut self, id: StageId, key: &Key, version: Version) -> Result<(), TakeError> {
        let key = key.clone();
        let row = record::encode(&[&id.0.to_le_bytes()], &BlobOwner { key, version });
        let before = self.blobs.insert(id.0, row.as_slice())?;
        assert!(before.is_none(), "two entries name the body {id}");
        Ok(())
    }

    /// Drops all versions of `key` below `version`, and itself if it is a deletion.
    fn release(
        &mut self,
        key: &Key,
        version: Version,
        deletes: bool,
        released: &mut Vec<StageId>,
    ) -> Result<(), TakeError> {
        let end = if deletes { version.next() } else { version };
        let mut superseded = Vec::new();
        for row in self.versions.range((key.as_bytes(), 0)..(key.as_bytes(), end.0))? {
            let (at, value) = row?;
            let version = at.value().1;
            let sealed_for: &[&[u8]] = &[key.as_bytes(), &version.to_le_bytes()];
            let stored =
                record::decode_version("versions", sealed_for, Version(version), value.value());
            superseded.push(stored.map_err(TakeError::Row)?);
        }
        for stored in superseded {
            self.versions.remove((key.as_bytes(), stored.version.0))?;
            match stored.change {
                StoredChange::Put { place, .. } => match place {
                    Place::Inline => {
                        let number = (stored.partition.0, stored.version.0);
                        self.bodies.remove(number)?;
                    }
                    Place::Staged(id) => {
                        self.blobs.remove(id.0)?;
                        released.push(id);
                    }
                },
                StoredChange::Delete => {}
            }
        }
        Ok(())
    }
}
