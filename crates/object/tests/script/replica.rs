//! A process with its replica and its disk.

use super::{name, text};
use ashlar_object::{
    Entry, Key, Operation, StageId, Version,
    chain::{Metadata, Newest, Options, Output, Recovered, Replica, Standing},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
};

/// A process; without a replica it does not run.
pub(crate) struct Process {
    at: usize,
    options: Options,
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: Disk,
    pub(crate) bodies: BTreeSet<StageId>,
    /// Whether the disk has room for new objects.
    pub(crate) has_space: bool,
    /// What the disk has yet to do.
    pub(crate) waiting: Vec<Output>,
    /// As last said.
    standing: Option<Standing>,
}

/// What survives a crash.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) applied: Version,
    pub(crate) released: Version,
    joined: bool,
    /// All versions that are not superseded.
    entries: BTreeMap<Version, Arc<Operation>>,
}

impl Process {
    pub(crate) fn new(at: usize, options: Options) -> Self {
        Self {
            at,
            options,
            replica: None,
            disk: Disk::default(),
            bodies: BTreeSet::new(),
            has_space: true,
            waiting: Vec::new(),
            standing: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let recovered = self.disk.recovered();
        let replica = self.replica.insert(Replica::new(self.options, recovered));
        replica.handle_space(self.has_space);
    }

    pub(crate) fn crash(&mut self) {
        self.replica = None;
        self.waiting.clear();
        self.standing = None;
    }

    pub(crate) fn replace_disk(&mut self) {
        assert!(self.replica.is_none(), "a disk is replaced while nobody uses it");
        self.disk = Disk::default();
        self.bodies.clear();
    }

    /// The disk does all that waits.
    pub(crate) fn write_all(&mut self) {
        for output in self.waiting.drain(..) {
            match output {
                Output::Persist(entry) => self.disk.persist(entry),
                Output::Release(entry) => self.disk.release(&entry),
                Output::PersistJoined => self.disk.joined = true,
                other => unreachable!("not for the disk: {other:?}"),
            }
        }
    }

    /// Says how the replica stands if that has changed.
    pub(crate) fn look_at_standing(&mut self) -> Option<String> {
        let standing = self.replica.as_ref()?.standing();
        let before = self.standing.replace(standing);
        (before != Some(standing))
            .then(|| format!("{} is {}", name(self.at), text::standing(standing)))
    }

    pub(crate) fn name(&self) -> char {
        name(self.at)
    }
}

impl Disk {
    /// The versions of `key`, ascending.
    pub(crate) fn versions(&self, key: &str) -> Vec<Version> {
        let of_key = self.entries.iter().filter(|(_, operation)| operation.key.as_str() == key);
        of_key.map(|(version, _)| *version).collect()
    }

    pub(crate) fn text(&self, version: Version) -> String {
        let operation = Arc::clone(&self.entries[&version]);
        text::entry(&Entry { version, operation })
    }

    fn recovered(&self) -> Recovered {
        let entry = |(version, operation): (&Version, &Arc<Operation>)| Entry {
            version: *version,
            operation: Arc::clone(operation),
        };
        Recovered {
            applied: self.applied,
            committed: self.released,
            window: self.entries.range(self.released.next()..).map(entry).collect(),
            joined: self.joined,
        }
    }

    fn persist(&mut self, entry: Entry) {
        assert_eq!(entry.version, self.applied.next(), "entries are persisted in order");
        self.applied = entry.version;
        self.entries.insert(entry.version, entry.operation);
    }

    fn release(&mut self, entry: &Entry) {
        self.released = self.released.max(entry.version);
        let deletes = entry.operation.change.meta().is_none();
        self.entries.retain(|version, operation| {
            operation.key != entry.operation.key
                || *version > entry.version
                || (*version == entry.version && !deletes)
        });
    }
}

impl Metadata for Disk {
    type Error = Infallible;

    fn newest(&self, key: &Key) -> Result<Option<Newest>, Infallible> {
        let newest = self.entries.iter().rev().find(|(_, operation)| operation.key == *key);
        Ok(newest.map(|(version, operation)| Newest {
            version: *version,
            meta: operation.change.meta().cloned(),
        }))
    }
}
