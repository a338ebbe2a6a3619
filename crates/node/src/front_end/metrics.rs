//! What a front end counts of its storage nodes.

use super::upstream::FailureKind;
use crate::metrics::{Counter, Registry};
use ashlar_object::NodeIndex;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use std::sync::Arc;

/// The counts of a front end's traffic with storage nodes. Clones count together.
///
/// | Name | Meaning |
/// |---|---|
/// | `ashlar_front_end_upstream_failures_total{storage,kind}` | requests to a storage node that failed (`unreachable`, `closed`, `timed_out`, `protocol`, `client`, `refused` for a 503) |
/// | `ashlar_front_end_upstream_reconnects_total{storage}` | requests sent again because a kept connection was closed |
/// | `ashlar_front_end_read_retries_total{storage}` | reads tried at this node after another replica failed |
/// | `ashlar_front_end_bodies_resumed_total{storage}` | bodies continued from this node after another one broke off |
/// | `ashlar_front_end_storage_nodes_up` | storage nodes that answer |
#[derive(Clone)]
pub(crate) struct UpstreamMetrics(Arc<Counts>);

struct Counts {
    /// By node.
    nodes: Vec<NodeCounts>,
    nodes_up: Gauge,
}

struct NodeCounts {
    /// By the position in [`KINDS`].
    failures: [Counter; KINDS.len()],
    reconnects: Counter,
    read_retries: Counter,
    bodies_resumed: Counter,
}

const KINDS: [&str; 6] = ["unreachable", "closed", "timed_out", "protocol", "client", "refused"];
/// The position of the kind that is a response and no [`FailureKind`].
const REFUSED: usize = 5;

type PerNode = Family<[(&'static str, String); 1], Counter>;

impl UpstreamMetrics {
    /// Registers the counts for storage nodes of these names.
    pub(crate) fn new<'n>(registry: &mut Registry, names: impl Iterator<Item = &'n str>) -> Self {
        let registry = registry.sub_registry_with_prefix("front_end");
        let failures = Family::<[(&str, String); 2], Counter>::default();
        registry.register(
            "upstream_failures",
            "Requests to a storage node that failed",
            failures.clone(),
        );
        let mut per_node = |name: &str, help: &str| {
            let family = PerNode::default();
            registry.register(name, help, family.clone());
            family
        };
        let reconnects = per_node(
            "upstream_reconnects",
            "Requests sent again because a kept connection was closed",
        );
        let retries =
            per_node("read_retries", "Reads tried at this node after another replica failed");
        let resumed = per_node(
            "bodies_resumed",
            "Bodies continued from this node after another one broke off",
        );
        let nodes_up = Gauge::default();
        registry.register("storage_nodes_up", "Storage nodes that answer", nodes_up.clone());
        let one = |family: &PerNode, name: &str| {
            family.get_or_create(&[("storage", name.to_string())]).clone()
        };
        let node = |name: &str| NodeCounts {
            failures: KINDS.map(|kind| {
                let labels = [("storage", name.to_string()), ("kind", kind.to_string())];
                failures.get_or_create(&labels).clone()
            }),
            reconnects: one(&reconnects, name),
            read_retries: one(&retries, name),
            bodies_resumed: one(&resumed, name),
        };
        Self(Arc::new(Counts { nodes: names.map(node).collect(), nodes_up }))
    }

    /// A request to `node` failed.
    pub(crate) fn failed(&self, node: NodeIndex, kind: FailureKind) {
        self.node(node).failures[kind as usize].add(1);
    }

    /// `node` answered with 503.
    pub(crate) fn refused(&self, node: NodeIndex) {
        self.node(node).failures[REFUSED].add(1);
    }

    /// A request was sent again over a new connection.
    pub(crate) fn reconnected(&self, node: NodeIndex) {
        self.node(node).reconnects.add(1);
    }

    /// A read goes on to `node` because another replica failed.
    pub(crate) fn retried(&self, node: NodeIndex) {
        self.node(node).read_retries.add(1);
    }

    /// A body goes on from `node`.
    pub(crate) fn resumed(&self, node: NodeIndex) {
        self.node(node).bodies_resumed.add(1);
    }

    /// That many nodes answer.
    pub(crate) fn nodes_up(&self, count: usize) {
        self.0.nodes_up.set(i64::try_from(count).expect("the map bounds the nodes"));
    }

    fn node(&self, node: NodeIndex) -> &NodeCounts {
        &self.0.nodes[usize::from(node.0)]
    }
}
