//! A write that was answered is durable at every replica, and stays.

use crate::object::{storage::Partition, world::World};
use ashlar_object::Version;

/// The oracle's name.
pub(crate) const NAME: &str = "acknowledged";

/// What was acknowledged.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// For each partition the newest version.
    newest: Vec<Version>,
}

impl Acknowledged {
    /// Nothing yet.
    pub(crate) fn new(partitions: usize) -> Self {
        Self { newest: vec![Version::NONE; partitions] }
    }

    /// Checks what a disk kept, unless it was replaced.
    pub(crate) fn kept(
        &self,
        partition: usize,
        disk: &Partition,
        excused: bool,
    ) -> Result<(), String> {
        let newest = self.newest[partition];
        if excused || disk.applied >= newest {
            return Ok(());
        }
        let applied = disk.applied;
        Err(format!("{newest} is acknowledged, the disk holds {applied}"))
    }
}

impl World {
    /// A client is told that the write of that version is done.
    pub(in crate::object) fn acknowledge(
        &mut self,
        partition: usize,
        version: Version,
    ) -> Result<(), String> {
        let newest = &mut self.oracles.acknowledged.newest[partition];
        *newest = version.max(*newest);
        for (position, node) in self.chains[partition].iter().enumerate() {
            let disk = self.nodes[*node].database.durable().partition(partition);
            let excused = self.oracles.prefix.is_excused(partition, position);
            let finding = self.oracles.acknowledged.kept(partition, disk, excused);
            finding.map_err(|text| format!("p{partition} at n{node}: {text}"))?;
        }
        Ok(())
    }
}
