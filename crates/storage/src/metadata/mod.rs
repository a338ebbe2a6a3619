//! The key-value store: metadata of all versions and the bodies of small objects.
//!
//! | table        | key                | value |
//! |--------------|--------------------|-------|
//! | `versions`   | key, version       | partition, metadata, where the bytes are |
//! | `bodies`     | partition, version | the bytes of a small object |
//! | `dirty`      | partition, version | the key; only while the version is not known to be committed |
//! | `partitions` | partition          | how far it has come |
//! | `blobs`      | identifier         | the key and the version that a large body belongs to |
//! | `state`      | name               | `journal`: the number of the last batch that the tables hold |
//!
//! All values are sealed ([`crate::record`]). A listing reads `versions` only.

mod update;
mod view;

pub(crate) use update::{Durability, Update};
pub(crate) use view::{VersionRow, View, parse_key};

use crate::{
    Place, Snapshot as _, StorageError, StoredChange,
    record::{self, BlobOwner, Marks},
    step::{PartitionMarks, Step},
};
use ashlar_object::{
    Body, Change, Entry, Key, Operation, PartitionIndex, StageId, Version, chain::Recovered,
};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The key and the version of a row of `versions`.
type VersionKey = (&'static [u8], u64);
/// The partition and the version of a row of `bodies` and `dirty`.
type NumberKey = (u16, u64);
/// A sealed value.
type Value = &'static [u8];

const VERSIONS: TableDefinition<'_, VersionKey, Value> = TableDefinition::new("versions");
const BODIES: TableDefinition<'_, NumberKey, Value> = TableDefinition::new("bodies");
const DIRTY: TableDefinition<'_, NumberKey, Value> = TableDefinition::new("dirty");
const PARTITIONS: TableDefinition<'_, u16, Value> = TableDefinition::new("partitions");
const BLOBS: TableDefinition<'_, u128, Value> = TableDefinition::new("blobs");
const STATE: TableDefinition<'_, &'static str, Value> = TableDefinition::new("state");
/// The row of `state` with the number of the last batch.
const JOURNAL_ROW: &str = "journal";

/// The key-value store of one data directory.
#[derive(Debug)]
pub(crate) struct Metadata {
    database: Database,
    /// The file, for messages.
    path: Arc<Path>,
}

impl Metadata {
    /// Opens the store in `file`, or makes one if the file is empty.
    ///
    /// `verify` reads all of it first and compares the checksums of its pages.
    pub(crate) fn open(
        file: impl StorageBackend,
        path: PathBuf,
        cache_bytes: usize,
        verify: bool,
    ) -> Result<Self, StorageError> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(verify)
            .create_with_backend(file)
            .map_err(|error| failure(&path, error))?;
        let path = path.into();
        let metadata = Self { database, path };
        let update = metadata.update()?;
        update.create_tables()?;
        update.commit(Durability::Synced)?;
        Ok(metadata)
    }

    /// Begins a change; one at a time.
    pub(crate) fn update(&self) -> Result<Update, StorageError> {
        Update::begin(&self.database, self.path.clone())
    }

    /// A consistent view of the versions and their bodies.
    pub(crate) fn view(&self) -> Result<View, StorageError> {
        self.view_of(&self.read()?)
    }

    /// The number of the last batch that the tables hold.
    pub(crate) fn journal_number(&self) -> Result<u64, StorageError> {
        let state = self.table(&self.read()?, STATE)?;
        match state.get(JOURNAL_ROW).map_err(self.failure())? {
            Some(value) => record::decode("state", &[JOURNAL_ROW.as_bytes()], value.value()),
            None => Ok(0),
        }
    }

    /// The marks of all partitions.
    pub(crate) fn marks(&self) -> Result<PartitionMarks, StorageError> {
        self.marks_of(&self.read()?)
    }

    fn marks_of(&self, transaction: &ReadTransaction) -> Result<PartitionMarks, StorageError> {
        let partitions = self.table(transaction, PARTITIONS)?;
        let mut marks = PartitionMarks::new();
        for row in partitions.iter().map_err(self.failure())? {
            let (partition, value) = row.map_err(self.failure())?;
            let partition = partition.value();
            let of_partition: Marks =
                record::decode("partitions", &[&partition.to_le_bytes()], value.value())?;
            marks.insert(partition, of_partition);
        }
        Ok(marks)
    }

    /// Releases that a crash may have left undone, at most `steps_max` of them: of versions that
    /// are committed and still marked as dirty.
    pub(crate) fn undone_releases(
        &self,
        marks: &PartitionMarks,
        steps_max: usize,
    ) -> Result<Vec<Step>, StorageError> {
        let transaction = self.read()?;
        let view = self.view_of(&transaction)?;
        let mut steps = Vec::new();
        for (&partition, marks) in marks {
            let versions = Version::NONE..=marks.committed;
            for (version, key) in self.dirty(&transaction, partition, versions, steps_max)? {
                let stored = view.version(&key, version)?;
                let deletes = stored.is_some_and(|stored| stored.change == StoredChange::Delete);
                steps.push(Step::Release { partition, version, key, deletes });
            }
            if steps.len() >= steps_max {
                break;
            }
        }
        Ok(steps)
    }

    /// What the tables hold of a partition.
    pub(crate) fn recover(&self, partition: PartitionIndex) -> Result<Recovered, StorageError> {
        let transaction = self.read()?;
        let marks = self.marks_of(&transaction)?.remove(&partition.0);
        let marks = marks.unwrap_or_default();
        let view = self.view_of(&transaction)?;
        let dirty = marks.committed.next()..=marks.applied;
        let dirty = self.dirty(&transaction, partition.0, dirty, usize::MAX)?;
        let mut window = Vec::with_capacity(dirty.len());
        let mut expected = marks.committed;
        for (version, key) in dirty {
            expected = expected.next();
            if version != expected {
                return Err(missing(partition, expected));
            }
            window.push(recovered_entry(&view, key, version)?);
        }
        if expected != marks.applied {
            return Err(missing(partition, expected.next()));
        }
        Ok(Recovered {
            applied: marks.applied,
            committed: marks.committed,
            window,
            joined: marks.joined,
        })
    }

    /// Whether a version names the large body `id`.
    pub(crate) fn names_blob(&self, id: StageId) -> Result<bool, StorageError> {
        let blobs = self.table(&self.read()?, BLOBS)?;
        Ok(blobs.get(id.0).map_err(self.failure())?.is_some())
    }

    /// Offers every large body that the tables know, and whether the version that it belongs to
    /// names it.
    pub(crate) fn visit_blobs(
        &self,
        visit: &mut dyn FnMut(StageId, Result<(BlobOwner, bool), StorageError>),
    ) -> Result<(), StorageError> {
        let transaction = self.read()?;
        let view = self.view_of(&transaction)?;
        let blobs = self.table(&transaction, BLOBS)?;
        for row in blobs.iter().map_err(self.failure())? {
            let (id, value) = row.map_err(self.failure())?;
            let id = StageId(id.value());
            let owner = record::decode("blobs", &[&id.0.to_le_bytes()], value.value());
            visit(
                id,
                owner.and_then(|owner: BlobOwner| {
                    let stored = view.version(&owner.key, owner.version)?;
                    let named = stored.is_some_and(|stored| stored.stage() == Some(id));
                    Ok((owner, named))
                }),
            );
        }
        Ok(())
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<ReadTransaction, StorageError> {
        self.database.begin_read().map_err(self.failure())
    }

    fn view_of(&self, transaction: &ReadTransaction) -> Result<View, StorageError> {
        Ok(View {
            versions: self.table(transaction, VERSIONS)?,
            bodies: self.table(transaction, BODIES)?,
            path: self.path.clone(),
        })
    }

    fn table<K: redb::Key, V: redb::Value>(
        &self,
        transaction: &ReadTransaction,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StorageError> {
        transaction.open_table(table).map_err(self.failure())
    }

    /// The versions of a partition that are marked as dirty, and their keys; at most `rows_max`.
    fn dirty(
        &self,
        transaction: &ReadTransaction,
        partition: u16,
        versions: RangeInclusive<Version>,
        rows_max: usize,
    ) -> Result<Vec<(Version, Key)>, StorageError> {
        let dirty = self.table(transaction, DIRTY)?;
        let range = (partition, versions.start().0)..=(partition, versions.end().0);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for row in dirty.range(range).map_err(self.failure())?.take(rows_max) {
            let (number, value) = row.map_err(self.failure())?;
            let (partition, version) = number.value();
            let sealed_for = number_bytes(partition, version);
            rows.push((Version(version), record::decode("dirty", &[&sealed_for], value.value())?));
        }
        Ok(rows)
    }

    fn failure<E: Into<redb::Error>>(&self) -> impl Fn(E) -> StorageError {
        |error| failure(&self.path, error)
    }
}

/// A write that was persisted and is not known to be committed, as it was handed in.
fn recovered_entry(view: &View, key: Key, version: Version) -> Result<Entry, StorageError> {
    let stored = view
        .version(&key, version)?
        .ok_or_else(|| StorageError::corrupt(format!("{key} version {version}"), "missing"))?;
    let change = match &stored.change {
        StoredChange::Put { meta, place } => {
            let body = match place {
                Place::Inline => Body::Inline(view.inline_body(&key, &stored)?),
                Place::Staged(id) => Body::Staged(*id),
            };
            let meta = meta.clone();
            Change::Put { meta, body }
        }
        StoredChange::Delete => Change::Delete,
    };
    Ok(Entry { version, operation: Arc::new(Operation { key, change }) })
}

fn missing(partition: PartitionIndex, version: Version) -> StorageError {
    let what = format!("partition {}", partition.0);
    StorageError::corrupt(what, format!("version {version} is missing"))
}

/// What a row under a partition and a version is sealed for.
fn number_bytes(partition: u16, version: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&partition.to_le_bytes());
    bytes[2..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// What the key-value store says, in our words.
///
/// A full disk is not [`StorageError::NoSpace`] here: after any failure the store must be opened
/// anew.
pub(crate) fn failure(path: &Path, error: impl Into<redb::Error>) -> StorageError {
    let path_of = path.to_path_buf();
    match error.into() {
        redb::Error::Io(source) => StorageError::Io { path: path_of, source },
        redb::Error::Corrupted(detail) => StorageError::corrupt(path.display().to_string(), detail),
        redb::Error::DatabaseAlreadyOpen => StorageError::Locked { path: path_of },
        other => StorageError::Io { path: path_of, source: io::Error::other(other) },
    }
}
