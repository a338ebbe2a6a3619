//! Disks that fill, for a while: others' files take their space, so that a replica's disk may be the
//! only full one of its chain.
//!
//! As in the storage engine, a full disk has a reserve. No object is to be numbered any more, and
//! the reserve takes those that were numbered before their heads heard of it. When it is used up,
//! the node cannot write its batch, and everything that it has to do waits behind. Objects have one
//! size, but one that replaces another is larger by as much: only deletions make room.

use super::{
    Sabotage,
    oracle::space,
    storage::Item,
    world::{Checked, Event, Incarnation, World},
};
use crate::violation::Violation;

/// Between two attempts to write to a disk without room.
const RETRY_US: u64 = 10_000;
/// How much longer than another fault a disk is full.
const LASTS_FACTOR: u64 = 50;
/// How many windows of every partition the reserve takes. One is what is under way; words that are
/// repeated or overtaken let more through.
const RESERVE_WINDOWS: usize = 3;

/// The state of a full disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Full {
    /// Objects written since it is.
    written: usize,
    /// Objects removed since then.
    removed: usize,
}

impl Full {
    /// Counts what a batch does.
    pub(super) fn count(&mut self, items: &[Item]) {
        self.written += items.iter().filter(|item| item.stores_an_object()).count();
        self.removed += items.iter().filter(|item| item.removes_an_object()).count();
    }
}

impl World {
    /// Others' files fill the node's disk.
    pub(super) fn fill_disk(&mut self, node: usize, lasts_us: u64) {
        if self.nodes[node].full.is_some() {
            return;
        }
        self.coverage.full_disks += 1;
        self.note(|| format!("the disk of n{node} is full"));
        self.nodes[node].full = Some(Full::default());
        self.check_space_soon(node);
        self.queue.push_after(LASTS_FACTOR * lasts_us, Event::DiskFreed { node });
    }

    /// The space comes back, unless it is to be missed until the liveness phase gives it back.
    pub(super) fn disk_freed(&mut self, node: usize) {
        if self.stage.is_none() {
            self.free_disk(node);
        }
    }

    /// The space comes back.
    pub(super) fn free_disk(&mut self, node: usize) {
        if self.nodes[node].full.take().is_some() {
            self.note(|| format!("the disk of n{node} has space again"));
            self.check_space_soon(node);
        }
    }

    fn check_space_soon(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation;
        self.queue.push_after(0, Event::SpaceChecked { node, incarnation });
    }

    /// Whether the shell finds room for new objects.
    pub(super) fn has_space(&self, node: usize) -> bool {
        self.nodes[node].full.is_none_or(|full| full.written < full.removed)
            || self.is_sabotaged(Sabotage::HideFullDisk)
    }

    /// The shell looks at the disk's space, and tells its replicas.
    pub(super) fn space_checked(&mut self, node: usize, incarnation: Incarnation) -> Checked {
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        let has_space = self.has_space(node);
        for partition in 0..self.chains.len() {
            if let Some(slot) = self.slot(node, partition) {
                slot.replica.handle_space(has_space);
                self.drain(node, partition)?;
            }
        }
        Ok(())
    }

    /// Whether the disk has room for a batch. If not, the batch is tried again later.
    pub(super) fn has_room(&mut self, node: usize, items: &[Item]) -> Result<bool, Box<Violation>> {
        let Some(full) = self.nodes[node].full else { return Ok(true) };
        let reserve = RESERVE_WINDOWS * self.plan.window_entries_max * self.plan.partitions;
        let new = items.iter().filter(|item| item.stores_an_object()).count();
        if new == 0 || full.written + new <= full.removed + reserve {
            self.coverage.objects_into_reserve += new as u64;
            return Ok(true);
        }
        self.note(|| format!("n{node} finds no room for its batch"));
        let finding = Err(format!("n{node} has no room for {new} objects that were numbered"));
        self.judge(space::NAME, finding)?;
        Ok(false)
    }

    /// The batch of that node is tried again later.
    pub(super) fn retry_batch(&mut self, node: usize) -> u64 {
        let (at_us, incarnation) = (self.now_us() + RETRY_US, self.nodes[node].incarnation);
        self.queue.push_at(at_us, Event::BatchBegins { node, incarnation });
        at_us
    }
}
