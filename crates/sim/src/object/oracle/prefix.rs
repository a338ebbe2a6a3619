//! What a replica has applied is a prefix of what its predecessor has, entry by entry.

use crate::object::storage::Partition;
use ashlar_object::{Operation, Version};
use std::sync::Arc;

/// The oracle's name.
pub(crate) const NAME: &str = "prefix";

/// What each replica of each chain has applied.
#[derive(Debug)]
pub(crate) struct Prefix {
    chains: Vec<Vec<History>>,
}

#[derive(Debug, Default)]
struct History {
    /// The operations of versions 1, 2, 3, …
    operations: Vec<Arc<Operation>>,
    /// The most that it ever held.
    applied_ever: Version,
    /// Whether its disk was replaced and it has not joined since.
    excused: bool,
}

impl Prefix {
    /// Nothing applied yet.
    pub(crate) fn new(chains: &[Vec<usize>]) -> Self {
        let histories = |chain: &Vec<usize>| chain.iter().map(|_| History::default()).collect();
        Self { chains: chains.iter().map(histories).collect() }
    }

    /// The highest version that the replica ever had applied.
    pub(crate) fn applied_ever(&self, partition: usize, position: usize) -> Version {
        self.chains[partition][position].applied_ever
    }

    /// Whether the replica's disk was replaced and it has not joined since.
    pub(crate) fn is_excused(&self, partition: usize, position: usize) -> bool {
        self.chains[partition][position].excused
    }

    /// The replica's disk is replaced by an empty one.
    pub(crate) fn wiped(&mut self, partition: usize, position: usize) {
        let history = &mut self.chains[partition][position];
        history.operations.clear();
        history.excused = true;
    }

    /// The replica takes everything up to `through` for persisted.
    pub(crate) fn applied(
        &mut self,
        partition: usize,
        position: usize,
        disk: &Partition,
        through: Version,
    ) -> Result<(), String> {
        let history = &mut self.chains[partition][position];
        let first = history.operations.len();
        let above = disk.window.iter().skip_while(|e| e.version.0 <= first as u64);
        let entries = above.take_while(|entry| entry.version <= through);
        history.operations.extend(entries.map(|e| Arc::clone(&e.operation)));
        let count = history.operations.len() as u64;
        if count != through.0 {
            return Err(format!("{through} is taken for persisted, the disk holds {count}"));
        }
        history.applied_ever = history.applied_ever.max(through);
        self.compare(partition, position, first)
    }

    /// The disk has lost or kept what was not synced: that is what the replica holds now.
    pub(crate) fn settled(
        &mut self,
        partition: usize,
        position: usize,
        disk: &Partition,
    ) -> Result<(), String> {
        let held = disk.applied.0 as usize;
        let history = &mut self.chains[partition][position];
        history.operations.truncate(held);
        if history.operations.len() < held {
            return self.applied(partition, position, disk, disk.applied);
        }
        // The successor must not hold what was lost here.
        if position + 1 < self.chains[partition].len() {
            return self.compare(partition, position + 1, held);
        }
        Ok(())
    }

    /// The replica has joined: from now on it answers for what it holds.
    pub(crate) fn joined(&mut self, partition: usize, position: usize) -> Result<(), String> {
        if std::mem::take(&mut self.chains[partition][position].excused) {
            self.compare(partition, position, 0)?;
            if position + 1 < self.chains[partition].len() {
                self.compare(partition, position + 1, 0)?;
            }
        }
        Ok(())
    }

    /// Compares a replica with its predecessor, from the entry after `first` on.
    fn compare(&self, partition: usize, position: usize, first: usize) -> Result<(), String> {
        let chain = &self.chains[partition];
        let Some(predecessor) = position.checked_sub(1).map(|before| &chain[before]) else {
            return Ok(());
        };
        let this = &chain[position];
        if this.excused || predecessor.excused {
            return Ok(());
        }
        for (place, operation) in this.operations.iter().enumerate().skip(first) {
            let version = place + 1;
            match predecessor.operations.get(place) {
                None => return Err(format!("the predecessor does not hold {version}")),
                Some(other) if !Arc::ptr_eq(operation, other) && operation != other => {
                    return Err(format!("{version} is not what the predecessor holds"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
