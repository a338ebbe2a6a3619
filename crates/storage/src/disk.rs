//! The engine that keeps objects on a local disk.

use crate::{
    Batch, Blob, Engine, Snapshot, StageWriter, StorageError,
    blob::{BlobFile, StagedFile},
    directory::{Directory, sync_directory},
    journal::Journal,
    metadata::{self, Durability, Metadata, Update},
    step::{self, PartitionMarks, Step},
};
use ashlar_object::{
    Key, PartitionIndex, StageId,
    chain::{Newest, Recovered},
};
use redb::{StorageBackend, backends::FileBackend};
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

/// How many releases left undone are repeated in one go after a crash.
const RELEASES_MAX: usize = 1000;

/// Bounds of a [`DiskEngine`].
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Memory for pages of the key-value store, in bytes.
    pub cache_bytes: usize,
    /// Length of the journal, in bytes: how much is written between two syncs of the key-value
    /// store, and how much a start after a crash has to read. Only grows for a directory.
    pub journal_bytes: u64,
    /// New objects are refused while less than this is free, in bytes, and writes that were already
    /// numbered while less than half of it is. That half must leave room for the journal and for
    /// what the key-value store keeps in memory meanwhile: `journal_bytes` and half of `cache_bytes`.
    pub reserve_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20, journal_bytes: 32 << 20, reserve_bytes: 256 << 20 }
    }
}

/// Keeps objects in one directory of a local file system.
#[derive(Debug)]
pub struct DiskEngine {
    /// What only [`Engine::apply`] uses.
    writer: Mutex<Writer>,
    metadata: Metadata,
    /// Held while large bodies come to be named, and while one that is not named is removed.
    naming: Mutex<()>,
    /// Dropped last: it holds the lock.
    directory: Arc<Directory>,
}

/// The state of the one thread that writes.
#[derive(Debug)]
struct Writer {
    journal: Journal,
    /// The number of the next batch.
    next: u64,
    /// How far the partitions have come.
    marks: PartitionMarks,
    /// A write failed and it is not known what the disk holds: only a new start tells.
    failed: bool,
}

/// The two files that hold the metadata; simulated ones in tests.
pub(crate) struct Files<F> {
    /// The key-value store; a new one is made if it is empty.
    pub(crate) metadata: F,
    /// The journal.
    pub(crate) journal: F,
}

/// Opens the data directory `dir`, or makes a new one, and cleans up after a crash.
///
/// # Errors
/// When the directory is in use, not ours, damaged, or cannot be read or written.
pub fn open_disk(dir: &Path, options: DiskOptions) -> Result<DiskEngine, StorageError> {
    let engine = DiskEngine::inspect(dir, options, false)?;
    engine.clean_up()?;
    Ok(engine)
}

impl DiskEngine {
    /// Opens `dir` and replays its journal, and leaves everything else as it is. `verify` reads
    /// all of the key-value store and compares the checksums of its pages.
    pub(crate) fn inspect(
        dir: &Path,
        options: DiskOptions,
        verify: bool,
    ) -> Result<Self, StorageError> {
        let directory = Directory::open(dir, options.reserve_bytes)?;
        let files = open_files(&directory, options)?;
        Self::start(directory, files, options, verify)
    }

    /// Starts on open files.
    pub(crate) fn start<F: StorageBackend>(
        directory: Directory,
        files: Files<F>,
        options: DiskOptions,
        verify: bool,
    ) -> Result<Self, StorageError> {
        let metadata =
            Metadata::open(files.metadata, directory.metadata_path(), options.cache_bytes, verify)?;
        let mut writer = Writer {
            journal: Journal::open(
                Box::new(files.journal),
                directory.journal_path(),
                options.journal_bytes,
            )?,
            next: metadata.journal_number()? + 1,
            marks: metadata.marks()?,
            failed: false,
        };
        writer.replay(&metadata)?;
        Ok(Self {
            writer: Mutex::new(writer),
            metadata,
            naming: Mutex::default(),
            directory: Arc::new(directory),
        })
    }

    /// Removes what a crash left behind: bodies half received, bodies that no version names, and
    /// versions whose release was not written.
    pub(crate) fn clean_up(&self) -> Result<(), StorageError> {
        self.directory.wipe_staging()?;
        self.repeat_releases()?;
        let mut removed = 0u64;
        self.directory.visit_blobs(&mut |id| {
            if self.metadata.names_blob(id)? {
                return Ok(());
            }
            removed += 1;
            self.directory.remove_blob(id)
        })?;
        if removed > 0 {
            tracing::info!(removed, "removed bodies that no object names");
        }
        Ok(())
    }

    fn repeat_releases(&self) -> Result<(), StorageError> {
        let mut writer = self.writer.lock().expect("nobody else writes yet");
        loop {
            let steps = self.metadata.undone_releases(&writer.marks, RELEASES_MAX)?;
            if steps.is_empty() {
                return Ok(());
            }
            let marks = step::advance(&writer.marks, &steps)?;
            let released = writer.apply(&self.metadata, &steps, marks)?;
            self.remove_blobs(&released);
        }
    }

    /// Removes bodies that no version names any more. What cannot be removed now is removed at the
    /// next start.
    fn remove_blobs(&self, ids: &[StageId]) {
        for id in ids {
            if let Err(error) = self.directory.remove_blob(*id) {
                tracing::warn!(%error, "a released body stays for now");
            }
        }
    }

    /// Makes sure that a batch can be taken: there is space, and its large bodies are here.
    fn check(&self, steps: &[Step]) -> Result<(), StorageError> {
        if steps.iter().any(Step::stores_an_object) {
            self.directory.check_space_for_numbered()?;
        }
        for id in steps.iter().filter_map(Step::stage) {
            if !self.has_stage(id)? {
                let what = self.directory.blob_path(id).display().to_string();
                return Err(StorageError::corrupt(what, "missing"));
            }
        }
        Ok(())
    }

    /// The data directory.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The key-value store.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Engine for DiskEngine {
    fn recover(&self, partition: PartitionIndex) -> Result<Recovered, StorageError> {
        self.metadata.recover(partition)
    }

    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            // A panic in the middle of a write: the writer knows that it failed.
            Err(TryLockError::Poisoned(writer)) => writer.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("two threads apply batches"),
        };
        if batch.items.is_empty() {
            return Ok(());
        }
        let steps = Step::of_batch(batch);
        let marks = match step::advance(&writer.marks, &steps) {
            Ok(marks) => marks,
            Err(broken) => panic!("a batch breaks its rules: {broken}"),
        };
        let naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&steps)?;
        let released = writer.apply(&self.metadata, &steps, marks)?;
        drop(naming);
        self.remove_blobs(&released);
        Ok(())
    }

    fn has_space(&self) -> Result<bool, StorageError> {
        self.directory.has_space()
    }

    fn newest(&self, key: &Key) -> Result<Option<Newest>, StorageError> {
        self.metadata.view()?.newest(key)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        Ok(Box::new(self.metadata.view()?))
    }

    fn stage(&self, id: StageId) -> Result<Box<dyn StageWriter>, StorageError> {
        let file = StagedFile::create(self.directory.clone(), id)?;
        Ok(Box::new(file))
    }

    fn has_stage(&self, id: StageId) -> Result<bool, StorageError> {
        self.directory.is_published(id)
    }

    fn open_stage(&self, id: StageId) -> Result<Box<dyn Blob>, StorageError> {
        let file = BlobFile::open(self.directory.blob_path(id), id)?;
        Ok(Box::new(file))
    }

    fn discard_stage(&self, id: StageId) -> Result<(), StorageError> {
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if self.metadata.names_blob(id)? {
            return Ok(());
        }
        self.directory.remove_blob(id)
    }

    fn unnamed_stages(
        &self,
        slice: u8,
        age: Duration,
        count_max: usize,
    ) -> Result<Vec<StageId>, StorageError> {
        let mut unnamed = Vec::new();
        self.directory.visit_old_blobs(slice, age, &mut |id| {
            if unnamed.len() < count_max && !self.metadata.names_blob(id)? {
                unnamed.push(id);
            }
            Ok(())
        })?;
        Ok(unnamed)
    }
}

impl Writer {
    /// Takes in the batches that the key-value store does not hold yet, and syncs it.
    fn replay(&mut self, metadata: &Metadata) -> Result<(), StorageError> {
        let mut update: Option<Update> = None;
        let mut number = self.next;
        let next = self.journal.replay(self.next, &mut |steps| {
            let moved = step::advance(&self.marks, &steps)?;
            let update = match &mut update {
                Some(update) => update,
                None => update.insert(metadata.update()?),
            };
            update.take(number, &steps, &moved)?;
            self.marks.extend(moved);
            number += 1;
            Ok(())
        })?;
        if let Some(update) = update {
            tracing::info!(batches = next - self.next, "replayed the journal");
            // Bodies that nothing names any more are removed with those of the last process.
            update.commit(Durability::Synced)?;
        }
        self.next = next;
        Ok(())
    }

    /// Makes steps durable and visible; `moved` are the marks of their partitions afterwards.
    /// Returns the large bodies that no version names any more.
    fn apply(
        &mut self,
        metadata: &Metadata,
        steps: &[Step],
        moved: PartitionMarks,
    ) -> Result<Vec<StageId>, StorageError> {
        if self.failed {
            return Err(StorageError::failed_before(metadata.path()));
        }
        let mut update = metadata.update()?;
        update.take(self.next, steps, &moved)?;
        let fits = self.journal.prepare(self.next, steps);
        if fits {
            self.journal.write()?;
        }
        self.failed = true;
        let released = if fits {
            self.journal.sync()?;
            update.commit(Durability::Journalled)?
        } else {
            let released = update.commit(Durability::Synced)?;
            self.journal.restart();
            released
        };
        self.next += 1;
        self.marks.extend(moved);
        self.failed = false;
        Ok(released)
    }
}

/// Opens the files of the metadata, or makes them.
fn open_files(
    directory: &Directory,
    options: DiskOptions,
) -> Result<Files<FileBackend>, StorageError> {
    let (metadata, journal) = (directory.metadata_path(), directory.journal_path());
    let is_new = !metadata.exists();
    if is_new {
        directory.visit_blobs(&mut |id| {
            let detail = format!("missing, but there are large bodies such as {id}");
            Err(StorageError::corrupt(metadata.display().to_string(), detail))
        })?;
        // The journal first: a key-value store without one has lost what was in it.
        open_file(&journal, true)?;
        let fresh = directory.root().join("metadata.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(&fresh, error));
            }
            _ => {}
        }
        let file = open_file(&fresh, true)?;
        drop(Metadata::open(file, fresh.clone(), options.cache_bytes, false)?);
        sync_directory(directory.root())?;
        fs::rename(&fresh, &metadata).map_err(|error| StorageError::io(&metadata, error))?;
        sync_directory(directory.root())?;
    }
    Ok(Files { metadata: open_file(&metadata, false)?, journal: open_file(&journal, false)? })
}

pub(crate) fn open_file(path: &Path, create: bool) -> Result<FileBackend, StorageError> {
    let file: io::Result<File> =
        OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StorageError::corrupt(path.display().to_string(), "missing"),
        _ => StorageError::io(path, error),
    })?;
    FileBackend::new(file).map_err(|error| metadata::failure(path, error))
}
