//! What replicas count, as metrics.

use crate::metrics::Registry;
use ashlar_replica::{GroupStats, Node, NodeStats, Offload, Role};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Reads what a node's thread has written, when somebody asks.
#[derive(Debug)]
pub(super) struct Metrics {
    node: Arc<NodeStats>,
    groups: Vec<(String, Arc<GroupStats>)>,
    /// For what programs in the kernel have counted.
    running: Weak<Node>,
}

/// A count of a node: its name, what it says, and where it is.
type Count = (&'static str, &'static str, fn(&NodeStats) -> &AtomicU64);

const COUNTS: [Count; 8] = [
    ("replication_datagrams_received", "Datagrams that came", |node| &node.received),
    ("replication_datagrams_sent", "Datagrams that left", |node| &node.sent),
    ("replication_datagrams_refused", "Datagrams that the kernel did not take", |node| {
        &node.refused
    }),
    ("replication_datagrams_dropped", "Datagrams that found the socket's buffer full", |node| {
        &node.dropped
    }),
    ("replication_datagrams_foreign", "Datagrams that were no frames of this cluster", |node| {
        &node.foreign
    }),
    ("replication_frames_unknown_group", "Frames for groups that are not here", |node| {
        &node.unknown_group
    }),
    ("replication_journal_writes", "Writes to journals", |node| &node.writes),
    ("replication_journal_syncs", "Syncs of journals", |node| &node.syncs),
];

/// A gauge of a group.
type Gauge = (&'static str, &'static str, fn(&GroupStats) -> u64);

const GAUGES: [Gauge; 6] = [
    ("replication_view", "The view; its epoch is in the upper 24 bits", |group| {
        group.view.load(Relaxed)
    }),
    ("replication_committed", "Everything up to this place is committed", |group| {
        group.commit.load(Relaxed)
    }),
    ("replication_executed", "Everything up to this place is executed", |group| {
        group.executed.load(Relaxed)
    }),
    ("replication_log_head", "The last place of the log", |group| group.head.load(Relaxed)),
    ("replication_sessions", "Clients with a session", |group| group.sessions.load(Relaxed)),
    ("replication_leads", "Whether this replica leads its group", |group| {
        u64::from(group.role() == Role::Leader)
    }),
];

impl Metrics {
    pub(super) fn register(registry: &mut Registry, node: &Arc<Node>) {
        let groups = node.groups().iter();
        let groups = groups.map(|(group, stats)| (group.to_string(), Arc::clone(stats))).collect();
        let (stats, running) = (Arc::clone(node.stats()), Arc::downgrade(node));
        registry.register_collector(Box::new(Self { node: stats, groups, running }));
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, count) in COUNTS {
            let counter = ConstCounter::new(count(&self.node).load(Relaxed));
            let encoder = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(encoder)?;
        }
        for (name, help, value) in GAUGES {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
            for (group, stats) in &self.groups {
                let gauge = ConstGauge::new(value(stats) as i64);
                gauge.encode(encoder.encode_family(&[("group", group.as_str())])?)?;
            }
        }
        match self.running.upgrade() {
            Some(node) => encode_offloads(&node, &mut encoder),
            None => Ok(()),
        }
    }
}

/// What programs in the kernel do, and what became of the frames that they looked at.
fn encode_offloads(node: &Node, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let (name, help) = ("replication_offload", "Whether programs in the kernel do this");
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (group, offload) in node.offloads() {
        let group = group.to_string();
        for part in Offload::ALL.names() {
            let gauge = ConstGauge::new(i64::from(offload.names().any(|name| name == part)));
            let labels = [("group", group.as_str()), ("offload", part)];
            gauge.encode(family.encode_family(&labels)?)?;
        }
    }
    let Some(counters) = node.kernel_counters() else { return Ok(()) };
    let (name, help) = ("replication_kernel_frames", "What programs in the kernel did, and why");
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (counter, count) in counters.iter() {
        ConstCounter::new(count).encode(family.encode_family(&[("outcome", counter.name())])?)?;
    }
    Ok(())
}
