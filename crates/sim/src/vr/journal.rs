//! The journal of a host: the real code, over a simulated disk.

use ashlar_storage::{Contents, Purpose, ReplicaJournal, StorageError, simulation::SimulatedDisk};
use ashlar_vr::{Restored, Write};

/// A disk, and what writes to it while its process lives.
#[derive(Debug, Default)]
pub(super) struct Journal {
    disk: SimulatedDisk,
    writer: Option<ReplicaJournal>,
    /// The operator has created it, before its host's first process.
    is_created: bool,
}

impl Journal {
    /// A process opens it; gives what it has kept, if anything.
    pub(super) fn open(&mut self, seed: u64) -> Result<Option<Restored>, StorageError> {
        self.writer = None;
        if !std::mem::replace(&mut self.is_created, true) {
            self.disk.create(Purpose::New, seed)?;
        }
        let (writer, contents) = self.disk.open(seed)?;
        self.writer = Some(writer);
        Ok(match contents {
            Contents::Created(_) => None,
            Contents::Kept(restored) => Some(restored),
        })
    }

    /// Takes a write.
    pub(super) fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.append(write))
    }

    /// Makes what was taken durable; one that rests says so on its disk.
    pub(super) fn sync(&mut self, rests: bool) -> Result<(), StorageError> {
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        writer.sync()?;
        if rests { writer.seal() } else { Ok(()) }
    }

    /// Its process ends, and with `power` the disk loses what was not synced, or some of it.
    pub(super) fn close(&mut self, power: Option<u64>) {
        self.writer = None;
        if let Some(seed) = power {
            self.disk.lose_power(seed);
        }
    }

    /// The disk damages some of what it holds, if anything else survives that; says whether.
    pub(super) fn damage(&mut self, seed: u64) -> bool {
        self.disk.damage(seed)
    }
}
