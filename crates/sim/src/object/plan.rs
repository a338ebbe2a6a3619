//! What a seed decides before its run begins: sizes, times and the mix of faults.
//!
//! Each run has its own mix (swarm testing; Groce and others, ISSTA 2012): a run in which every
//! fault is possible seldom shows what only happens without some of them.

use super::write::INLINE_BYTES_MAX;
use crate::{
    disk::SyncTime,
    network::Conditions,
    random::Random,
    shrink::{Shrink, with_fewer_weights, with_less},
};
use ashlar_object::{
    ClusterMap, Key,
    map::{MapError, Member},
};
use std::{fmt, ops::Range};

/// The most nodes of a simulated cluster.
const NODES_MAX: u64 = 7;
/// The most replicas of a chain.
const REPLICAS_MAX: usize = 5;
/// The most partitions.
const PARTITIONS_MAX: u64 = 4;
/// The most clients.
const CLIENTS_MAX: u64 = 6;
/// Names are tried until each partition has its keys; far more than that takes.
const NAMES_MAX: usize = 4096;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process is killed; what it wrote stays in the page cache.
    Kill,
    /// A host loses power.
    PowerLoss,
    /// All hosts lose power at once.
    Blackout,
    /// A host loses power, perhaps with all others, and its disk is replaced by an empty one; once
    /// in a run.
    Wipe,
    /// A node stands still for a while.
    Pause,
    /// A connection between two replicas breaks.
    LinkBreak,
    /// The hosts fall into two halves.
    Split,
    /// A host cannot be reached, or cannot reach others, or both.
    Isolate,
    /// One direction between two hosts is cut.
    CutOneWay,
    /// All cuts are mended.
    Heal,
    /// A disk is slow for a while.
    SlowDisk,
    /// A disk is full for a while.
    FullDisk,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Blackout,
        Self::Wipe,
        Self::Pause,
        Self::LinkBreak,
        Self::Split,
        Self::Isolate,
        Self::CutOneWay,
        Self::Heal,
        Self::SlowDisk,
        Self::FullDisk,
    ];
}

/// How often clients do what, as weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) read: u64,
    pub(crate) put: u64,
    pub(crate) put_if_absent: u64,
    pub(crate) put_if_match: u64,
    pub(crate) put_if_differs: u64,
    pub(crate) delete: u64,
    pub(crate) delete_if_match: u64,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) replicas: usize,
    pub(crate) partitions: usize,
    pub(crate) clients: usize,
    /// How many operations the clients begin in the safety phase.
    pub(crate) operations: usize,
    /// Keys of each partition, 1 to 3.
    pub(crate) keys_per_partition: usize,
    /// How long the safety phase lasts at most.
    pub(crate) safety_us: u64,
    pub(crate) window_entries_max: usize,
    pub(crate) window_bytes_max: usize,
    pub(crate) inline_bytes_max: usize,
    pub(crate) retry_ms: u64,
    pub(crate) network: Conditions,
    pub(crate) sync: SyncTime,
    /// How long the shell gathers writes before a sync.
    pub(crate) gather_us: u64,
    /// The most items in one batch.
    pub(crate) batch_items_max: usize,
    /// How long releases wait for other writes to share a sync with.
    pub(crate) release_us: u64,
    /// Whether readers see a batch before it is synced.
    pub(crate) visible_before_sync: bool,
    /// Whether a batch without entries is written without a sync.
    pub(crate) lazy_release: bool,
    /// Whether readers take the committed mark before the snapshot, which is as good.
    pub(crate) mark_first: bool,
    /// How long a read takes between its steps, at most.
    pub(crate) read_step_us: u64,
    /// How soon a broken connection is noticed.
    pub(crate) detection_us: Range<u64>,
    pub(crate) mix: Mix,
    /// The probability that an operation is on the first key.
    pub(crate) hot: f64,
    /// The probability that a body is staged.
    pub(crate) staged: f64,
    /// The probability that a staged body is shipped ahead of its write.
    pub(crate) ship_ahead: f64,
    /// The probability that a write goes to a node that is not the head.
    pub(crate) astray: f64,
    /// How long clients pause between operations, at most.
    pub(crate) think_us: u64,
    /// When clients give up on an answer.
    pub(crate) client_timeout_us: u64,
    /// The weights of [`Fault::ALL`]; all zero in a run without faults.
    pub(crate) faults: [u64; Fault::ALL.len()],
    /// The mean time between faults.
    pub(crate) fault_interval_us: u64,
    /// How long nodes stay down, pause, and disks are slow or full.
    pub(crate) fault_us: Range<u64>,
}

impl Plan {
    /// Draws a plan.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let nodes = random.range(1..NODES_MAX + 1) as usize;
        let inline_bytes_max = random.magnitude(1..INLINE_BYTES_MAX as u64 + 1) as usize;
        Self {
            nodes,
            replicas: 1 + random.index(nodes.min(REPLICAS_MAX)),
            partitions: random.range(1..PARTITIONS_MAX + 1) as usize,
            clients: random.range(1..CLIENTS_MAX + 1) as usize,
            operations: random.magnitude(3..200) as usize,
            keys_per_partition: random.range(1..4) as usize,
            safety_us: 10_000_000,
            window_entries_max: random.magnitude(1..33) as usize,
            window_bytes_max: inline_bytes_max * random.magnitude(1..33) as usize,
            inline_bytes_max,
            retry_ms: random.magnitude(5..400),
            network: conditions(random),
            sync: SyncTime {
                usual_us: 50..random.magnitude(51..20_000),
                slow_factor: random.magnitude(2..100),
            },
            gather_us: random.magnitude(1..3000),
            batch_items_max: random.magnitude(1..65) as usize,
            release_us: random.magnitude(1..1_000_000),
            visible_before_sync: random.chance(0.5),
            lazy_release: random.chance(0.5),
            mark_first: random.chance(0.3),
            read_step_us: random.magnitude(1..20_000),
            detection_us: 1..random.magnitude(2..300_000),
            mix: mix(random),
            hot: *random.pick(&[0.0, 0.3, 0.8]),
            staged: *random.pick(&[0.0, 0.1, 0.5, 1.0]),
            ship_ahead: *random.pick(&[0.0, 0.8, 1.0]),
            astray: *random.pick(&[0.0, 0.05]),
            think_us: random.magnitude(1..50_000),
            client_timeout_us: random.magnitude(20_000..2_000_000),
            faults: faults(random),
            fault_interval_us: random.magnitude(10_000..2_000_000),
            fault_us: 100..random.magnitude(1000..1_000_000),
        }
    }

    /// The cluster's map.
    pub(crate) fn map(&self) -> Result<ClusterMap, MapError> {
        let members =
            (0..self.nodes).map(|node| Member { name: format!("n{node}"), weight: 1 }).collect();
        ClusterMap::new("simulated", members, self.replicas, self.partitions)
    }

    /// Keys such that each partition has the same number of them, with their partitions.
    pub(crate) fn keys(&self, map: &ClusterMap) -> Vec<(Key, usize)> {
        let mut left = vec![self.keys_per_partition; self.partitions];
        let mut keys = Vec::new();
        for name in 0..NAMES_MAX {
            let key = Key::new(&format!("k{name}")).expect("the name is short and not empty");
            let partition = usize::from(map.partition_of(&key).0);
            if left[partition] > 0 {
                left[partition] -= 1;
                keys.push((key, partition));
            }
        }
        assert!(left.iter().all(|left| *left == 0), "a partition has no keys");
        keys
    }
}

impl Shrink for Plan {
    fn smaller(&self) -> Vec<Self> {
        let mut smaller =
            with_fewer_weights(self, &self.faults, |plan, place| plan.faults[place] = 0);
        let operations = self.operations as u64;
        smaller.extend(with_less(self, operations, 1, |plan, count| {
            plan.operations = count as usize;
        }));
        smaller.extend(with_less(self, self.clients as u64, 1, |plan, count| {
            plan.clients = count as usize;
        }));
        smaller.extend(with_less(self, self.partitions as u64, 1, |plan, count| {
            plan.partitions = count as usize;
        }));
        smaller.extend(with_less(self, self.replicas as u64, 1, |plan, count| {
            plan.replicas = count as usize;
        }));
        let replicas = self.replicas as u64;
        smaller.extend(with_less(self, self.nodes as u64, replicas, |plan, count| {
            plan.nodes = count as usize;
        }));
        smaller.extend(with_less(self, self.keys_per_partition as u64, 1, |plan, count| {
            plan.keys_per_partition = count as usize;
        }));
        let better = self.network.better().into_iter();
        smaller.extend(better.map(|network| Self { network, ..self.clone() }));
        smaller
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

fn conditions(random: &mut Random) -> Conditions {
    // As over TCP, where only a broken connection loses messages, or as the contract allows.
    let faulty = random.chance(0.6);
    let mut rate = |most: f64| {
        if faulty && random.chance(0.6) { most * random.range(1..101) as f64 / 100.0 } else { 0.0 }
    };
    let (loss, duplication, reordering) = (rate(0.3), rate(0.3), rate(0.5));
    Conditions { latency_us: 20..random.magnitude(21..10_000), loss, duplication, reordering }
}

fn mix(random: &mut Random) -> Mix {
    let mut weight = |probability: f64, most: u64| {
        if random.chance(probability) { random.range(1..most + 1) } else { 0 }
    };
    Mix {
        read: weight(0.95, 30),
        // Never zero: a run must do something.
        put: 1 + weight(0.9, 10),
        put_if_absent: weight(0.6, 8),
        put_if_match: weight(0.6, 8),
        put_if_differs: weight(0.3, 4),
        delete: weight(0.6, 8),
        delete_if_match: weight(0.3, 4),
    }
}

fn faults(random: &mut Random) -> [u64; Fault::ALL.len()] {
    let calm = random.chance(0.1);
    std::array::from_fn(|_| if calm || random.chance(0.5) { 0 } else { random.range(1..10) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_differ_and_each_partition_has_its_keys() {
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw(&mut Random::new(seed));
            let map = plan.map().expect("the plan keeps to the map's bounds");
            assert_eq!(plan.keys(&map).len(), plan.keys_per_partition * plan.partitions);
            sizes.insert((plan.nodes, plan.replicas));
        }
        // All pairs of 1 to 7 nodes and 1 to 5 replicas of them.
        assert_eq!(sizes.len(), 25);
    }
}
