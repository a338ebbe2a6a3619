//! A replica's journal on a disk that loses power and damages what it holds, for simulations: the code is the real
//! one, and everything that happens follows from seeds.

pub(crate) mod file;
pub(crate) mod folder;

use crate::{
    Contents, Purpose, ReplicaJournal, StorageError,
    replica_journal::{folder::Folder as _, ids::Ids},
};
use file::Power;
use folder::{SECTOR_BYTES, SimulatedFolder};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

/// Segments are this long: short, so that short runs fill several.
const SEGMENT_BYTES: u64 = 96 << 10;
/// The most sectors that are damaged at once.
const DAMAGE_SECTORS_MAX: usize = 8;
/// Why a lock is had.
const UNPOISONED: &str = "nobody panics while it is held";

/// A disk with the journal of one replica.
#[derive(Debug)]
pub struct SimulatedDisk {
    folder: SimulatedFolder,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self { folder: SimulatedFolder::new(powered()) }
    }
}

impl SimulatedDisk {
    /// Creates the journal, as [`ReplicaJournal::create`].
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(&self, purpose: Purpose, seed: u64) -> Result<bool, StorageError> {
        let ids = Ids::Seeded(Pcg64::seed_from_u64(seed));
        ReplicaJournal::create_in(&self.folder, (purpose, "simulated"), ids)
    }

    /// Opens the journal, as [`ReplicaJournal::open`]. Any journal that was open must have been dropped: it would
    /// write to the same files.
    ///
    /// # Errors
    /// When it has lost more than entries.
    pub fn open(&self, seed: u64) -> Result<(ReplicaJournal, Contents), StorageError> {
        let ids = Ids::Seeded(Pcg64::seed_from_u64(seed));
        ReplicaJournal::open_in(Box::new(self.folder.clone()), SEGMENT_BYTES, ids)
    }

    /// Of what was not synced, any part is lost, torn at sectors.
    pub fn lose_power(&mut self, seed: u64) {
        self.folder = self.folder.after_power_loss(&mut Pcg64::seed_from_u64(seed), powered());
    }

    /// Damages a few sectors of a segment, unless the journal could not be opened then: such a replica must be
    /// replaced. Says whether it has.
    pub fn damage(&self, seed: u64) -> bool {
        let mut random = Pcg64::seed_from_u64(seed);
        let names = self.folder.names().unwrap_or_default();
        let segments: Vec<_> = names.iter().filter(|name| name.starts_with("segment-")).collect();
        let Some(name) = segments.get(random.random_range(0..segments.len().max(1))) else {
            return false;
        };
        let sectors = self.folder.bytes(name).len() / SECTOR_BYTES;
        let count = random.random_range(1..=DAMAGE_SECTORS_MAX).min(sectors);
        let at = SECTOR_BYTES * random.random_range(0..=sectors - count);
        let garbage: Vec<u8> = (0..count * SECTOR_BYTES).map(|_| random.random()).collect();
        let copy = self.folder.copy();
        copy.damage(name, at, &garbage);
        let can_open = Self { folder: copy }.open(seed).is_ok();
        if can_open {
            self.folder.damage(name, at, &garbage);
        }
        can_open
    }
}

/// The power is lost when [`SimulatedDisk::lose_power`] says so.
fn powered() -> Power {
    Power::for_operations(i64::MAX)
}
