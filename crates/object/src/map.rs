//! From keys to partitions, from partitions to chains, by rendezvous hashing.
//!
//! Rendezvous (highest random weight) hashing moves only what it must: another partition count or
//! another node takes its share from all others, and nothing else moves. All arithmetic is on
//! integers, so that every host computes the same map.

use crate::Key;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The most replicas a chain can have.
pub const REPLICAS_MAX: usize = 7;
/// The most partitions a cluster can have.
pub const PARTITIONS_MAX: usize = 4096;
/// The most storage nodes a cluster can have.
pub const NODES_MAX: usize = 1024;
/// The largest weight of a node.
pub const WEIGHT_MAX: u32 = 1000;

/// A storage node's place in the cluster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

/// A partition: a slice of the key space, replicated by one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub u16);

/// A storage node as the map sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's name: its identity in the hash, so that the order of the list has no effect.
    pub name: String,
    /// Its share of the partitions relative to the others, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// Why a map cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No or too many nodes.
    #[error("a cluster has 1 to {NODES_MAX} storage nodes, not {0}")]
    Nodes(usize),
    /// Replicas out of bounds.
    #[error("replicas must be 1 to {max}, not {given}")]
    Replicas {
        /// What was asked for.
        given: usize,
        /// The lower of [`REPLICAS_MAX`] and the number of nodes.
        max: usize,
    },
    /// Partitions out of bounds.
    #[error("partitions must be 1 to {PARTITIONS_MAX}, not {0}")]
    Partitions(usize),
    /// A weight out of bounds.
    #[error("the weight of {name} must be 1 to {WEIGHT_MAX}, not {weight}")]
    Weight {
        /// The node.
        name: String,
        /// What was asked for.
        weight: u32,
    },
    /// Two nodes of one name.
    #[error("two storage nodes are named {0}")]
    Twice(String),
}

/// Which nodes replicate which keys; the same on every host that reads the same configuration.
#[derive(Clone, Debug)]
pub struct ClusterMap {
    /// The nodes in the order of the configuration.
    members: Vec<Member>,
    /// For each partition its chain, head first.
    chains: Vec<Vec<NodeIndex>>,
    /// Seeds of the partitions' scores, precomputed because every request needs them.
    partition_seeds: Vec<u64>,
    /// Identifies the map: nodes with different maps must not talk.
    fingerprint: u64,
}

impl ClusterMap {
    /// Computes the map of a cluster.
    ///
    /// # Errors
    /// When a number is out of bounds or a name stands twice.
    pub fn new(
        cluster_id: &str,
        members: Vec<Member>,
        replicas: usize,
        partitions: usize,
    ) -> Result<Self, MapError> {
        Self::check(&members, replicas, partitions)?;
        let node_seeds: Vec<u64> =
            members.iter().map(|member| xxh3_64(member.name.as_bytes())).collect();
        let chains: Vec<_> = (0..partitions as u64)
            .map(|partition| chain_of(partition, &members, &node_seeds, replicas))
            .collect();
        let partition_seeds = (0..partitions as u64).map(mix).collect();
        let fingerprint = fingerprint(cluster_id, &members, &chains);
        Ok(Self { members, chains, partition_seeds, fingerprint })
    }

    /// The map of a cluster without storage nodes: it has no partitions, and no key is in it.
    pub fn empty(cluster_id: &str) -> Self {
        let fingerprint = fingerprint(cluster_id, &[], &[]);
        Self { members: Vec::new(), chains: Vec::new(), partition_seeds: Vec::new(), fingerprint }
    }

    /// The partition of `key`: the one whose score for the key is highest.
    pub fn partition_of(&self, key: &Key) -> PartitionIndex {
        let hash = xxh3_64(key.as_bytes());
        let mut best = (0, 0);
        for (index, seed) in self.partition_seeds.iter().enumerate() {
            let score = mix(hash ^ seed);
            if score >= best.0 {
                best = (score, index);
            }
        }
        PartitionIndex(best.1 as u16)
    }

    /// The nodes that replicate `partition`, head first.
    pub fn chain(&self, partition: PartitionIndex) -> &[NodeIndex] {
        &self.chains[usize::from(partition.0)]
    }

    /// All partitions.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = PartitionIndex> + use<> {
        (0..self.chains.len() as u16).map(PartitionIndex)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeIndex> + use<> {
        (0..self.members.len() as u16).map(NodeIndex)
    }

    /// The member at `node`.
    pub fn member(&self, node: NodeIndex) -> &Member {
        &self.members[usize::from(node.0)]
    }

    /// The node of that name.
    pub fn node_named(&self, name: &str) -> Option<NodeIndex> {
        self.members.iter().position(|member| member.name == name).map(|i| NodeIndex(i as u16))
    }

    /// Identifies cluster and map: nodes compare it before they exchange anything else.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn check(members: &[Member], replicas: usize, partitions: usize) -> Result<(), MapError> {
        if members.is_empty() || members.len() > NODES_MAX {
            return Err(MapError::Nodes(members.len()));
        }
        let max = REPLICAS_MAX.min(members.len());
        if replicas == 0 || replicas > max {
            return Err(MapError::Replicas { given: replicas, max });
        }
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(MapError::Partitions(partitions));
        }
        for (index, member) in members.iter().enumerate() {
            if member.weight == 0 || member.weight > WEIGHT_MAX {
                let (name, weight) = (member.name.clone(), member.weight);
                return Err(MapError::Weight { name, weight });
            }
            if members[..index].iter().any(|other| other.name == member.name) {
                return Err(MapError::Twice(member.name.clone()));
            }
        }
        Ok(())
    }
}

/// The `replicas` nodes with the highest scores for `partition`, the highest first.
///
/// A node of weight w takes part w times; its best score counts. That is weighted rendezvous
/// hashing without logarithms, whose last bit differs between machines.
fn chain_of(partition: u64, members: &[Member], seeds: &[u64], replicas: usize) -> Vec<NodeIndex> {
    let mut scored: Vec<_> = members
        .iter()
        .zip(seeds)
        .enumerate()
        .map(|(index, (member, seed))| {
            let base = mix(seed ^ mix(partition));
            let best = (0..u64::from(member.weight)).map(|slot| mix(base ^ mix(slot))).max();
            (best, NodeIndex(index as u16))
        })
        .collect();
    scored.sort_unstable_by_key(|(score, node)| {
        (std::cmp::Reverse(*score), members[usize::from(node.0)].name.clone())
    });
    scored.into_iter().take(replicas).map(|(_, node)| node).collect()
}

/// A hash over everything that nodes must agree on.
fn fingerprint(cluster_id: &str, members: &[Member], chains: &[Vec<NodeIndex>]) -> u64 {
    let mut hash = xxh3_64(cluster_id.as_bytes());
    for chain in chains {
        hash = mix(hash);
        for node in chain {
            hash = xxh3_64_with_seed(members[usize::from(node.0)].name.as_bytes(), hash);
        }
    }
    hash
}

/// SplitMix64's finalizer: every input bit changes half of the output bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::collections::HashMap;

    fn members(weights: &[u32]) -> Vec<Member> {
        weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Member { name: format!("s{index}"), weight: *weight })
            .collect()
    }

    fn map(weights: &[u32], replicas: usize, partitions: usize) -> ClusterMap {
        ClusterMap::new("test", members(weights), replicas, partitions).unwrap()
    }

    fn keys(count: usize) -> impl Iterator<Item = Key> {
        (0..count).map(|index| Key::new(&format!("key-{index}")).unwrap())
    }

    #[test]
    fn keys_spread_evenly_over_partitions() {
        let map = map(&[1, 1, 1], 3, 16);
        let mut counts = HashMap::new();
        for key in keys(16_000) {
            *counts.entry(map.partition_of(&key)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 16);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn another_partition_takes_only_its_share() {
        let (before, after) = (map(&[1], 1, 16), map(&[1], 1, 17));
        let mut moved = 0;
        for key in keys(17_000) {
            let to = after.partition_of(&key);
            if to != before.partition_of(&key) {
                assert_eq!(to, PartitionIndex(16));
                moved += 1;
            }
        }
        assert!((800..1200).contains(&moved), "{moved}");
    }

    #[test]
    fn chains_have_distinct_nodes_and_follow_the_weights() {
        let map = map(&[1, 1, 2], 2, 4096);
        let mut heads = [0; 3];
        for partition in map.partitions() {
            let chain = map.chain(partition);
            assert_eq!(chain.len(), 2);
            assert_ne!(chain[0], chain[1]);
            heads[usize::from(chain[0].0)] += 1;
        }
        assert!((900..1150).contains(&heads[0]) && (1900..2200).contains(&heads[2]), "{heads:?}");
    }

    #[test]
    fn another_node_takes_only_its_share() {
        let (before, after) = (map(&[1; 4], 1, 4096), map(&[1; 5], 1, 4096));
        for partition in before.partitions() {
            let (old, new) = (before.chain(partition)[0], after.chain(partition)[0]);
            assert!(old == new || new == NodeIndex(4));
        }
    }

    #[test]
    fn the_order_of_the_list_has_no_effect() {
        let forward = map(&[1, 1, 1], 3, 64);
        let mut reversed = members(&[1, 1, 1]);
        reversed.reverse();
        let backward = ClusterMap::new("test", reversed, 3, 64).unwrap();
        assert_eq!(forward.fingerprint(), backward.fingerprint());
        let other = ClusterMap::new("other", members(&[1, 1, 1]), 3, 64).unwrap();
        assert_ne!(forward.fingerprint(), other.fingerprint());
    }

    #[test]
    fn the_map_is_the_same_on_every_machine_and_release() {
        let map = map(&[1, 2, 3], 2, 8);
        let chains: Vec<Vec<u16>> =
            map.partitions().map(|p| map.chain(p).iter().map(|n| n.0).collect()).collect();
        let places: Vec<u16> = keys(8).map(|key| map.partition_of(&key).0).collect();
        assert_eq!((chains, places), golden_map());
    }

    /// Changing this moves every object of every cluster: it must never change.
    fn golden_map() -> (Vec<Vec<u16>>, Vec<u16>) {
        let chains = [[2, 1], [2, 1], [0, 2], [0, 1], [2, 1], [2, 0], [2, 1], [0, 1]];
        (chains.map(Vec::from).to_vec(), vec![4, 3, 4, 3, 7, 1, 2, 4])
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        assert_eq!(ClusterMap::new("t", vec![], 1, 1).unwrap_err(), MapError::Nodes(0));
        let too_many = MapError::Replicas { given: 4, max: 3 };
        assert_eq!(ClusterMap::new("t", members(&[1; 3]), 4, 1).unwrap_err(), too_many);
        assert_eq!(ClusterMap::new("t", members(&[1]), 1, 0).unwrap_err(), MapError::Partitions(0));
        let weight = MapError::Weight { name: "s0".into(), weight: 0 };
        assert_eq!(ClusterMap::new("t", members(&[0]), 1, 1).unwrap_err(), weight);
        let twice = [members(&[1]), members(&[1])].concat();
        assert_eq!(ClusterMap::new("t", twice, 1, 1).unwrap_err(), MapError::Twice("s0".into()));
    }
}
