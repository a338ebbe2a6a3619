//! What a storage node keeps on its disk: a model of the storage engine.

use crate::disk::Contents;
use ashlar_object::{
    Entry, Key, Operation, StageId, Version,
    chain::{Metadata, Newest, Recovered},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
};

/// One change of the metadata.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Add an entry.
    Persist(usize, Entry),
    /// Drop what a committed entry supersedes, and note that it is committed.
    Release(usize, Entry),
    /// Note that the replica has joined.
    Joined(usize),
    /// Only for sabotage: set the committed mark.
    Mark(usize, Version),
    /// Only for sabotage: drop all entries above the committed mark.
    Forget(usize),
}

impl Item {
    /// Whether it needs room that nothing gives back.
    pub(crate) fn stores_an_object(&self) -> bool {
        matches!(self, Self::Persist(_, entry) if entry.operation.change.meta().is_some())
    }

    /// Whether it gives room back.
    pub(crate) fn removes_an_object(&self) -> bool {
        matches!(self, Self::Release(_, entry) if entry.operation.change.meta().is_none())
    }
}

/// The metadata of all partitions of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    partitions: Vec<Partition>,
}

/// The metadata of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    /// The highest version persisted.
    pub(crate) applied: Version,
    /// The highest version released: the committed mark. It must not run ahead of the releases, or
    /// a crash between mark and release would leave superseded versions for ever.
    pub(crate) released: Version,
    /// The entries above `released`.
    pub(crate) window: VecDeque<Entry>,
    /// For each key its versions, ascending.
    pub(crate) keys: BTreeMap<Key, Vec<Stored>>,
    /// Whether the replica once joined.
    pub(crate) joined: bool,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its number.
    pub(crate) version: Version,
    /// What it is.
    pub(crate) operation: Arc<Operation>,
}

impl Stored {
    /// The identifier of its staged body, if it has one.
    pub(crate) fn stage(&self) -> Option<StageId> {
        self.operation.change.stage()
    }
}

impl Database {
    /// The metadata of `partition`.
    pub(crate) fn partition(&self, partition: usize) -> &Partition {
        static EMPTY: Partition = Partition {
            applied: Version::NONE,
            released: Version::NONE,
            window: VecDeque::new(),
            keys: BTreeMap::new(),
            joined: false,
        };
        self.partitions.get(partition).unwrap_or(&EMPTY)
    }

    /// Whether any version of any key names the body.
    pub(crate) fn names(&self, stage: StageId) -> bool {
        let versions =
            self.partitions.iter().flat_map(|partition| partition.keys.values().flatten());
        versions.into_iter().any(|stored| stored.stage() == Some(stage))
    }

    fn partition_mut(&mut self, partition: usize) -> &mut Partition {
        if self.partitions.len() <= partition {
            self.partitions.resize_with(partition + 1, Partition::default);
        }
        &mut self.partitions[partition]
    }
}

impl Contents for Database {
    type Write = Vec<Item>;

    fn apply(&mut self, items: &Vec<Item>) {
        for item in items {
            match item {
                Item::Persist(partition, entry) => self.partition_mut(*partition).persist(entry),
                Item::Release(partition, entry) => self.partition_mut(*partition).release(entry),
                Item::Joined(partition) => self.partition_mut(*partition).joined = true,
                Item::Mark(partition, version) => self.partition_mut(*partition).mark(*version),
                Item::Forget(partition) => self.partition_mut(*partition).forget(),
            }
        }
    }
}

impl Partition {
    /// What a replica starts with.
    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            applied: self.applied,
            committed: self.released,
            window: self.window.iter().cloned().collect(),
            joined: self.joined,
        }
    }

    /// The versions of `key`, ascending.
    pub(crate) fn versions(&self, key: &Key) -> &[Stored] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    fn persist(&mut self, entry: &Entry) {
        assert_eq!(entry.version, self.applied.next(), "entries are persisted in order");
        self.applied = entry.version;
        self.window.push_back(entry.clone());
        let stored = Stored { version: entry.version, operation: Arc::clone(&entry.operation) };
        let key = &entry.operation.key;
        match self.keys.get_mut(key) {
            Some(versions) => versions.push(stored),
            None => {
                self.keys.insert(key.clone(), vec![stored]);
            }
        }
    }

    fn release(&mut self, entry: &Entry) {
        let version = entry.version;
        self.mark(version);
        let key = &entry.operation.key;
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        let deletes = entry.operation.change.meta().is_none();
        versions
            .retain(|stored| stored.version > version || (stored.version == version && !deletes));
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    fn mark(&mut self, version: Version) {
        self.released = self.released.max(version);
        while self.window.front().is_some_and(|entry| entry.version <= self.released) {
            self.window.pop_front();
        }
    }

    fn forget(&mut self) {
        let released = self.released;
        self.applied = released;
        self.window.clear();
        self.keys.retain(|_, versions| {
            versions.retain(|stored| stored.version <= released);
            !versions.is_empty()
        });
    }
}

impl Metadata for Partition {
    type Error = Infallible;

    fn newest(&self, key: &Key) -> Result<Option<Newest>, Infallible> {
        Ok(self.versions(key).last().map(|stored| Newest {
            version: stored.version,
            meta: stored.operation.change.meta().cloned(),
        }))
    }
}

/// The staged bodies of a node: whole files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    files: BTreeSet<StageId>,
}

/// One change of a node's staged bodies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileWrite {
    /// Write a body.
    Add(StageId),
    /// Remove a body.
    Remove(StageId),
}

impl Bodies {
    /// Whether the body is there.
    pub(crate) fn contains(&self, stage: StageId) -> bool {
        self.files.contains(&stage)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = StageId> {
        self.files.iter().copied()
    }
}

impl Contents for Bodies {
    type Write = FileWrite;

    fn apply(&mut self, write: &FileWrite) {
        match write {
            FileWrite::Add(stage) => self.files.insert(*stage),
            FileWrite::Remove(stage) => self.files.remove(stage),
        };
    }
}
