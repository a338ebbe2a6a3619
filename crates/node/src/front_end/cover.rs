//! Which storage nodes to ask so that every partition is asked for exactly once.

use ashlar_object::{ClusterMap, NodeIndex, PartitionIndex};

/// A node and the partitions to ask it for, in ascending order.
pub(super) type Share = (NodeIndex, Vec<PartitionIndex>);

/// Spreads `partitions` over as few usable nodes as a greedy choice finds.
///
/// # Errors
/// With a partition that no usable node holds.
pub(super) fn cover(
    map: &ClusterMap,
    partitions: &[PartitionIndex],
    usable: impl Fn(NodeIndex, PartitionIndex) -> bool,
) -> Result<Vec<Share>, PartitionIndex> {
    let mut rest = partitions.to_vec();
    let mut shares = Vec::new();
    while let Some(first) = rest.first().copied() {
        let holds = |node: NodeIndex, partition: PartitionIndex| {
            map.chain(partition).contains(&node) && usable(node, partition)
        };
        let candidates = map.chain(first).iter().copied().filter(|node| holds(*node, first));
        let reach = |node: &NodeIndex| rest.iter().filter(|p| holds(*node, **p)).count();
        let node = candidates.max_by_key(reach).ok_or(first)?;
        let (share, others) = rest.into_iter().partition(|partition| holds(node, *partition));
        shares.push((node, share));
        rest = others;
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::map::Member;
    use proptest::prelude::*;

    fn map(nodes: usize, replicas: usize) -> ClusterMap {
        let member = |index| Member { name: format!("s{index}"), weight: 1 };
        ClusterMap::new("test", (0..nodes).map(member).collect(), replicas, 32).unwrap()
    }

    proptest! {
        #[test]
        fn every_partition_is_asked_for_once_at_a_usable_holder(
            nodes in 1usize..8,
            replicas in 1usize..4,
            down in proptest::collection::btree_set(0u16..8, 0..4),
        ) {
            let map = map(nodes, replicas.min(nodes));
            let all: Vec<_> = map.partitions().collect();
            let usable = |node: NodeIndex, _| !down.contains(&node.0);
            match cover(&map, &all, usable) {
                Ok(shares) => {
                    let mut asked = Vec::new();
                    for (node, share) in shares {
                        prop_assert!(usable(node, share[0]));
                        prop_assert!(share.is_sorted());
                        prop_assert!(share.iter().all(|p| map.chain(*p).contains(&node)));
                        asked.extend(share);
                    }
                    asked.sort();
                    prop_assert_eq!(asked, all);
                }
                Err(lost) => prop_assert!(map.chain(lost).iter().all(|node| !usable(*node, lost))),
            }
        }
    }

    #[test]
    fn a_node_that_holds_everything_is_asked_alone() {
        let map = map(3, 3);
        let all: Vec<_> = map.partitions().collect();
        let shares = cover(&map, &all, |node, _| node == NodeIndex(1)).unwrap();
        assert_eq!(shares, [(NodeIndex(1), all)]);
    }
}
