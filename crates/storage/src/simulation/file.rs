//! A file on a disk that loses power.
//!
//! What was synced stays. Of what was written since, the disk may have kept any part: each write
//! wholly, not at all, or some sectors of it.

use super::UNPOISONED;
use rand::RngExt as _;
use rand_pcg::Pcg64;
use redb::StorageBackend;
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The disk's supply: after so many operations the power goes.
#[derive(Clone, Debug)]
pub(crate) struct Power(Arc<AtomicI64>);

/// A file; clones are the same file.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedFile {
    power: Power,
    /// Whether writes find no space.
    full: Arc<AtomicBool>,
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    /// What a process sees.
    seen: Vec<u8>,
    /// What stays whatever happens.
    synced: Vec<u8>,
    /// What was done since, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Power {
    pub(crate) fn for_operations(count: i64) -> Self {
        Self(Arc::new(AtomicI64::new(count)))
    }

    /// Changes after how many operations the power goes.
    #[cfg(test)]
    pub(crate) fn leave(&self, count: i64) {
        self.0.store(count, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }

    pub(crate) fn draw(&self) -> io::Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("the power is lost"));
        }
        Ok(())
    }
}

impl SimulatedFile {
    pub(crate) fn new(power: Power) -> Self {
        Self { power, full: Arc::default(), contents: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// The file as it is found after the power was lost.
    pub(crate) fn after_power_loss(&self, random: &mut Pcg64, power: Power) -> Self {
        let contents = self.contents.lock().expect(UNPOISONED);
        let mut seen = contents.synced.clone();
        // Some losses keep all, some nothing, most a part.
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
        for change in &contents.unsynced {
            match change {
                Change::Length(length) if random.random_bool(kept) => seen.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    let torn = random.random_bool(0.2);
                    let whole = random.random_bool(kept);
                    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        let at = offset + index * SECTOR_BYTES;
                        let lands = if torn { random.random() } else { whole };
                        if lands && at + sector.len() <= seen.len() {
                            seen[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        let synced = seen.clone();
        let unsynced = Vec::new();
        let contents = Contents { seen, synced, unsynced };
        Self { power, full: Arc::default(), contents: Arc::new(Mutex::new(contents)) }
    }
}

impl StorageBackend for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.lock().expect(UNPOISONED).seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let contents = self.contents.lock().expect(UNPOISONED);
        let at = offset as usize;
        let bytes = contents.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.power.draw()?;
        let mut contents = self.contents.lock().expect(UNPOISONED);
        contents.seen.resize(len as usize, 0);
        contents.unsynced.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.draw()?;
        let mut contents = self.contents.lock().expect(UNPOISONED);
        let contents = &mut *contents;
        for change in contents.unsynced.drain(..) {
            match change {
                Change::Length(length) => contents.synced.resize(length, 0),
                Change::Write { offset, bytes } => {
                    contents.synced[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        assert!(contents.synced == contents.seen);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut contents = self.contents.lock().expect(UNPOISONED);
        let offset = offset as usize;
        let bytes = data.to_vec();
        if contents.seen.len() < offset + data.len() {
            // As a file: a write behind the end extends it.
            contents.seen.resize(offset + data.len(), 0);
            contents.unsynced.push(Change::Length(offset + data.len()));
        }
        let power = self.power.draw();
        if power.is_ok() {
            contents.seen[offset..offset + data.len()].copy_from_slice(data);
        }
        // The write that the power failed under may have landed in part.
        contents.unsynced.push(Change::Write { offset, bytes });
        power
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn what_is_synced_stays_and_what_is_not_may_go() {
        let file = SimulatedFile::new(Power::for_operations(100));
        file.set_len(2048).unwrap();
        file.write(0, &[1; 1024]).unwrap();
        file.sync_data().unwrap();
        file.write(1024, &[2; 1024]).unwrap();
        let mut random = Pcg64::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let after = file.after_power_loss(&mut random, Power::for_operations(1));
            let mut bytes = vec![0; 2048];
            after.read(0, &mut bytes).unwrap();
            assert_eq!(bytes[..1024], [1; 1024]);
            seen.insert((bytes[1024], bytes[2047]));
        }
        assert_eq!(seen.len(), 4, "nothing, either sector, both");
    }
}
