//! A disk that fails when it is told to.

use ashlar_object::{
    Change, Key, PartitionIndex, StageId,
    chain::{Newest, Recovered},
};
use ashlar_storage::{
    Batch, Blob, DiskEngine, DiskOptions, Engine, Item, Snapshot, StageWriter, StorageError,
    open_disk,
};
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tempfile::TempDir;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Works,
    /// There is no space for it.
    Fails,
    /// It waits until it is told otherwise.
    Waits,
}

/// Where calls learn their fate.
pub(super) struct Gate {
    fate: Mutex<Fate>,
    changed: Condvar,
    reached: AtomicUsize,
}

impl Gate {
    fn new() -> Self {
        let (fate, changed) = (Mutex::new(Fate::Works), Condvar::new());
        Self { fate, changed, reached: AtomicUsize::new(0) }
    }

    /// From now on this is the calls' fate, also of those that wait.
    pub(super) fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
        self.changed.notify_all();
    }

    /// How many calls have come this far.
    pub(super) fn reached(&self) -> usize {
        self.reached.load(SeqCst)
    }

    fn pass(&self) -> Result<(), StorageError> {
        self.reached.fetch_add(1, SeqCst);
        let fate = self.fate.lock().unwrap();
        let fate = self.changed.wait_while(fate, |fate| *fate == Fate::Waits).unwrap();
        match *fate {
            Fate::Fails => Err(StorageError::NoSpace { path: "a disk that fails".into() }),
            _ => Ok(()),
        }
    }
}

/// The real engine on a directory of its own, with faults.
pub(super) struct FaultyDisk {
    /// Before a large body is ended.
    pub(super) finish: Arc<Gate>,
    /// Before a batch is made durable.
    pub(super) apply: Gate,
    /// Objects that a full disk takes into its reserve, or none if it is not full.
    reserve: Mutex<Option<usize>>,
    disk: DiskEngine,
    dir: TempDir,
}

impl FaultyDisk {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The space of the machine that tests run on has no part in them.
        let options = DiskOptions { reserve_bytes: 0, ..DiskOptions::default() };
        let disk = open_disk(dir.path(), options).unwrap();
        Self {
            finish: Arc::new(Gate::new()),
            apply: Gate::new(),
            reserve: Mutex::new(None),
            disk,
            dir,
        }
    }

    /// Fills the disk but for a reserve of so many objects, or gives it space again.
    pub(super) fn set_reserve(&self, reserve: Option<usize>) {
        *self.reserve.lock().unwrap() = reserve;
    }

    /// The large bodies on the disk.
    pub(super) fn bodies(&self) -> Vec<PathBuf> {
        let files = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files(self.dir.path().join("blobs")).flat_map(files).collect()
    }
}

impl Engine for FaultyDisk {
    fn recover(&self, partition: PartitionIndex) -> Result<Recovered, StorageError> {
        self.disk.recover(partition)
    }

    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.apply.pass()?;
        let puts = |item: &&Item| match item {
            Item::Entry { entry, .. } => entry.operation.change != Change::Delete,
            _ => false,
        };
        if let Some(left) = &mut *self.reserve.lock().unwrap() {
            let objects = batch.items.iter().filter(puts).count();
            let full = || StorageError::NoSpace { path: "a full disk".into() };
            *left = left.checked_sub(objects).ok_or_else(full)?;
        }
        self.disk.apply(batch)
    }

    fn has_space(&self) -> Result<bool, StorageError> {
        Ok(self.reserve.lock().unwrap().is_none())
    }

    fn newest(&self, key: &Key) -> Result<Option<Newest>, StorageError> {
        self.disk.newest(key)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        self.disk.snapshot()
    }

    fn stage(&self, id: StageId) -> Result<Box<dyn StageWriter>, StorageError> {
        let writer = self.disk.stage(id)?;
        Ok(Box::new(FaultyWriter { writer, finish: self.finish.clone() }))
    }

    fn has_stage(&self, id: StageId) -> Result<bool, StorageError> {
        self.disk.has_stage(id)
    }

    fn open_stage(&self, id: StageId) -> Result<Box<dyn Blob>, StorageError> {
        self.disk.open_stage(id)
    }

    fn discard_stage(&self, id: StageId) -> Result<(), StorageError> {
        self.disk.discard_stage(id)
    }

    fn unnamed_stages(
        &self,
        slice: u8,
        age: Duration,
        count_max: usize,
    ) -> Result<Vec<StageId>, StorageError> {
        self.disk.unnamed_stages(slice, age, count_max)
    }
}

struct FaultyWriter {
    writer: Box<dyn StageWriter>,
    finish: Arc<Gate>,
}

impl StageWriter for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.writer.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<u64, StorageError> {
        self.finish.pass()?;
        self.writer.finish()
    }
}
