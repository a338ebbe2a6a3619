//! What readers may know of the chains without asking the chain thread.

use crate::peer::Place;
use ashlar_object::{PartitionIndex, Version, chain::Replica};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The state of all partitions, written by the chain thread and read by everyone.
///
/// A reader loads `committed` after it took its snapshot of the storage
/// ([`ashlar_object::read`]); the chain thread stores it after the storage has synced.
#[derive(Debug)]
pub(crate) struct Views {
    partitions: Vec<View>,
}

#[derive(Debug, Default)]
struct View {
    /// Everything up to here is committed.
    committed: AtomicU64,
    /// The highest version persisted here.
    applied: AtomicU64,
    /// Whether this node may answer reads of the partition.
    serves_reads: AtomicBool,
    /// Whether this node is the head and the whole chain can take writes.
    takes_writes: AtomicBool,
    /// Whether this node and all behind it have room for new objects.
    has_space: AtomicBool,
    /// Whether this node is the tail: its word settles dirty reads.
    is_tail: AtomicBool,
}

impl Views {
    /// Views of that many partitions, none of which serves yet.
    pub(crate) fn new(partitions: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| View::default()).collect() }
    }

    /// Shows the state of a replica.
    pub(crate) fn publish(&self, partition: PartitionIndex, replica: &Replica, place: Place) {
        let view = self.view(partition);
        view.applied.store(replica.applied().0, Ordering::Release);
        view.committed.store(replica.committed().0, Ordering::Release);
        view.serves_reads.store(replica.serves_reads(), Ordering::Release);
        let takes_writes = place.predecessor.is_none() && replica.writable();
        view.takes_writes.store(takes_writes, Ordering::Release);
        view.has_space.store(replica.has_space(), Ordering::Release);
        view.is_tail.store(place.successor.is_none(), Ordering::Release);
    }

    /// The chain thread has ended or cannot write: no partition takes writes.
    pub(crate) fn stop_writes(&self) {
        for view in &self.partitions {
            view.takes_writes.store(false, Ordering::Release);
        }
    }

    /// How far this node knows the partition to be committed.
    pub(crate) fn committed(&self, partition: PartitionIndex) -> Version {
        Version(self.view(partition).committed.load(Ordering::Acquire))
    }

    /// Whether the partition holds entries that are not known to be committed.
    pub(crate) fn is_dirty(&self, partition: PartitionIndex) -> bool {
        let view = self.view(partition);
        view.applied.load(Ordering::Acquire) > view.committed.load(Ordering::Acquire)
    }

    /// Whether this node may answer reads of the partition.
    pub(crate) fn serves_reads(&self, partition: PartitionIndex) -> bool {
        self.view(partition).serves_reads.load(Ordering::Acquire)
    }

    /// Whether this node would take a write of the partition now.
    pub(crate) fn takes_writes(&self, partition: PartitionIndex) -> bool {
        self.view(partition).takes_writes.load(Ordering::Acquire)
    }

    /// Whether an object would find room on all disks of the chain, as far as is known here.
    pub(crate) fn has_space(&self, partition: PartitionIndex) -> bool {
        self.view(partition).has_space.load(Ordering::Acquire)
    }

    /// The tail's word on how far a partition is committed; none if this node is not its tail.
    pub(crate) fn tail_committed(&self, partition: PartitionIndex) -> Option<Version> {
        let view = self.partitions.get(usize::from(partition.0))?;
        let may_tell =
            view.is_tail.load(Ordering::Acquire) && view.serves_reads.load(Ordering::Acquire);
        may_tell.then(|| self.committed(partition))
    }

    fn view(&self, partition: PartitionIndex) -> &View {
        &self.partitions[usize::from(partition.0)]
    }
}
