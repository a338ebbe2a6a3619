//! A directory on a disk that loses power.
//!
//! Files are [`SimulatedFile`]s. Of what was made, renamed and removed since the last sync of the directory,
//! any part may have been kept.

use super::{
    UNPOISONED,
    file::{Power, SimulatedFile},
};
use crate::{StorageError, replica_journal::folder::Folder};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use redb::StorageBackend;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

/// Why a copy can be written, and a file be damaged.
const POWERED: &str = "the power is not lost";
/// Why a file can be read.
const READABLE: &str = "it is in memory";
/// What a disk writes as a whole.
pub(crate) const SECTOR_BYTES: usize = 512;

type Files = BTreeMap<String, SimulatedFile>;

/// A directory; clones are the same directory.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedFolder {
    power: Power,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    /// What a process sees.
    seen: Files,
    /// What stays whatever happens.
    synced: Files,
    /// What was done since, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Make(String, SimulatedFile),
    Rename(String, String, SimulatedFile),
    Remove(String),
}

impl Change {
    fn apply(self, files: &mut Files) {
        match self {
            Self::Make(name, file) => drop(files.insert(name, file)),
            Self::Rename(from, to, file) => {
                files.remove(&from);
                files.insert(to, file);
            }
            Self::Remove(name) => drop(files.remove(&name)),
        }
    }
}

impl SimulatedFolder {
    pub(crate) fn new(power: Power) -> Self {
        Self { power, names: Arc::default() }
    }

    fn with_files(power: Power, files: Files) -> Self {
        let names = Names { seen: files.clone(), synced: files, unsynced: Vec::new() };
        Self { power, names: Arc::new(Mutex::new(names)) }
    }

    /// The directory as it is found after the power was lost.
    pub(crate) fn after_power_loss(&self, random: &mut Pcg64, power: Power) -> Self {
        let names = self.names.lock().expect(UNPOISONED);
        let mut files = names.synced.clone();
        let kept = [0.0, 0.5, 1.0][random.random_range(0..3)];
        for change in &names.unsynced {
            if random.random_bool(kept) {
                change.clone().apply(&mut files);
            }
        }
        let lose = |file: &mut SimulatedFile| *file = file.after_power_loss(random, power.clone());
        files.values_mut().for_each(lose);
        Self::with_files(power, files)
    }

    /// Another directory with the same files.
    pub(crate) fn copy(&self) -> Self {
        let power = Power::for_operations(i64::MAX);
        let copy = |name: &String| {
            let file = SimulatedFile::new(power.clone());
            file.write(0, &self.bytes(name)).expect(POWERED);
            file.sync_data().expect(POWERED);
            (name.clone(), file)
        };
        let files = self.names.lock().expect(UNPOISONED).seen.clone();
        Self::with_files(power.clone(), files.keys().map(copy).collect())
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let file = self.names.lock().expect(UNPOISONED).seen[name].clone();
        let mut bytes = vec![0; file.len().expect(READABLE) as usize];
        file.read(0, &mut bytes).expect(READABLE);
        bytes
    }

    /// Changes bytes of a file.
    pub(crate) fn damage(&self, name: &str, at: usize, bytes: &[u8]) {
        let file = self.names.lock().expect(UNPOISONED).seen[name].clone();
        file.write(at as u64, bytes).expect(POWERED);
    }

    fn change(&self, change: impl FnOnce(&Files) -> Change) -> Result<(), StorageError> {
        self.power.draw().map_err(|error| StorageError::io(self.path(), error))?;
        let names = &mut *self.names.lock().expect(UNPOISONED);
        let change = change(&names.seen);
        change.clone().apply(&mut names.seen);
        names.unsynced.push(change);
        Ok(())
    }
}

impl Folder for SimulatedFolder {
    fn path(&self) -> &Path {
        Path::new("journal")
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.names.lock().expect(UNPOISONED).seen.keys().cloned().collect())
    }

    fn open(&self, name: &str, is_new: bool) -> Result<Box<dyn StorageBackend>, StorageError> {
        if is_new {
            let file = SimulatedFile::new(self.power.clone());
            self.change(|_| Change::Make(name.into(), file))?;
        }
        Ok(Box::new(self.names.lock().expect(UNPOISONED).seen[name].clone()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.change(|files| Change::Rename(from.into(), to.into(), files[from].clone()))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.change(|_| Change::Remove(name.into()))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.power.draw().map_err(|error| StorageError::io(self.path(), error))?;
        let names = &mut *self.names.lock().expect(UNPOISONED);
        names.unsynced.clear();
        names.synced = names.seen.clone();
        Ok(())
    }
}
