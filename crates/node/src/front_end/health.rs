//! Which storage nodes can be used.
//!
//! Every node is asked a trivial question twice a second. Requests that find a node gone say so at
//! once; only a good answer to the question brings it back, and not soon after it kept a request
//! waiting.

use super::{
    metrics::UpstreamMetrics,
    upstream::{Failure, FailureKind, Outgoing, Timeouts, Upstream},
};
use crate::{admin::Health, config::Cluster};
use ashlar_object::{ClusterMap, NodeIndex};
use bytes::Bytes;
use http::StatusCode;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two checks of a node.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Checks in a row that must time out before a node counts as down: a busy node may miss one.
const TIMEOUTS_MAX: u32 = 2;
/// A storage node answers this with 204 as long as it serves.
const CHECK: &[u8] = b"GET / HTTP/1.1\r\nhost: storage\r\nx-ashlar-ping: 1\r\n\r\n";
/// How long a node stays down after it kept a request waiting: it may answer checks and nothing
/// else, and each trial costs a client seconds.
const HOLD_DOWN: Duration = Duration::from_secs(5);
/// Nodes that a reason names before it only counts.
const NAMED_MAX: usize = 8;

/// What is known of all storage nodes.
pub(crate) struct NodeStates {
    map: ClusterMap,
    /// By node.
    states: Vec<State>,
    started: Instant,
    metrics: UpstreamMetrics,
}

struct State {
    level: AtomicU8,
    /// The node stays down until then, in milliseconds after the start.
    held_until_ms: AtomicU64,
}

/// Not checked yet: worth a try, but nothing to rely on.
const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl NodeStates {
    /// Nothing is known yet.
    pub(crate) fn new(cluster: &Cluster, metrics: UpstreamMetrics) -> Self {
        let state = |_| State { level: AtomicU8::new(UNKNOWN), held_until_ms: AtomicU64::new(0) };
        let states = cluster.nodes.iter().map(state).collect();
        Self { map: cluster.map.clone(), states, started: Instant::now(), metrics }
    }

    /// Whether a request should try `node`.
    pub(crate) fn is_usable(&self, node: NodeIndex) -> bool {
        self.state(node).level.load(Relaxed) != DOWN
    }

    /// The node's name.
    pub(crate) fn name(&self, node: NodeIndex) -> &str {
        &self.map.member(node).name
    }

    /// Draws the conclusion from a failed request.
    pub(crate) fn failed(&self, node: NodeIndex, failure: &Failure) {
        match failure.kind {
            FailureKind::Unreachable => self.down(node, failure),
            FailureKind::TimedOut => {
                let until_ms = (self.started.elapsed() + HOLD_DOWN).as_millis() as u64;
                self.state(node).held_until_ms.store(until_ms, Relaxed);
                self.down(node, failure);
            }
            FailureKind::Closed | FailureKind::Protocol | FailureKind::Client => {}
        }
    }

    /// `node` cannot be used until a check succeeds.
    pub(super) fn down(&self, node: NodeIndex, reason: impl fmt::Display) {
        if self.state(node).level.swap(DOWN, Relaxed) != DOWN {
            tracing::warn!(node = self.name(node), %reason, "a storage node is down");
            self.count();
        }
    }

    /// `node` answered a check.
    pub(super) fn up(&self, node: NodeIndex) {
        let now_ms = self.started.elapsed().as_millis() as u64;
        if now_ms < self.state(node).held_until_ms.load(Relaxed) {
            return;
        }
        if self.state(node).level.swap(UP, Relaxed) != UP {
            tracing::info!(node = self.name(node), "a storage node is up");
            self.count();
        }
    }

    fn count(&self) {
        self.metrics.nodes_up(self.map.nodes().filter(|node| self.is_up(*node)).count());
    }

    fn is_up(&self, node: NodeIndex) -> bool {
        self.state(node).level.load(Relaxed) == UP
    }

    fn state(&self, node: NodeIndex) -> &State {
        &self.states[usize::from(node.0)]
    }
}

impl Health for NodeStates {
    /// Ready when every partition can be read.
    fn ready(&self) -> Result<(), String> {
        let is_lost = |chain: &[NodeIndex]| !chain.iter().any(|node| self.is_up(*node));
        let lost = self.map.partitions().filter(|p| is_lost(self.map.chain(*p))).count();
        if lost == 0 {
            return Ok(());
        }
        let missing: Vec<_> = self.map.nodes().filter(|node| !self.is_up(*node)).collect();
        let names: Vec<_> = missing.iter().take(NAMED_MAX).map(|node| self.name(*node)).collect();
        let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
        Err(format!(
            "no replica answers for {lost} of {} partitions; {} of {} storage nodes are missing: {}{more}",
            self.map.partitions().count(),
            missing.len(),
            self.states.len(),
            names.join(", "),
        ))
    }

    /// Complete when every storage node answers.
    fn complete(&self) -> Result<(), String> {
        match self.map.nodes().find(|node| !self.is_up(*node)) {
            Some(node) => Err(format!("{} does not answer", self.name(node))),
            None => Ok(()),
        }
    }
}

/// Checks `node` from `thread` for ever.
pub(crate) async fn watch(
    node: NodeIndex,
    thread: usize,
    upstream: Arc<Upstream>,
    states: Arc<NodeStates>,
) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut timeouts = 0;
    loop {
        ticks.tick().await;
        match check(node, thread, &upstream).await {
            Checked::Serves => {
                timeouts = 0;
                states.up(node);
                continue;
            }
            Checked::Silent => {
                timeouts += 1;
                if timeouts < TIMEOUTS_MAX {
                    continue;
                }
                states.down(node, "it does not answer");
            }
            Checked::Fails(reason) => states.down(node, reason),
        }
        upstream.disconnect(node);
    }
}

enum Checked {
    Serves,
    Silent,
    Fails(String),
}

async fn check(node: NodeIndex, thread: usize, upstream: &Upstream) -> Checked {
    let mut outgoing = Outgoing::read(Bytes::from_static(CHECK), false);
    let timeouts = Timeouts { response: CHECK_TIMEOUT, stall: CHECK_TIMEOUT };
    match timeout(CHECK_TIMEOUT, upstream.send(thread, node, &mut outgoing, timeouts)).await {
        Ok(Ok(response)) if response.head.status == StatusCode::NO_CONTENT => Checked::Serves,
        Ok(Ok(response)) => Checked::Fails(format!("it answers {}", response.head.status)),
        Ok(Err(failure)) if failure.kind == FailureKind::TimedOut => Checked::Silent,
        Ok(Err(failure)) => Checked::Fails(failure.to_string()),
        Err(_) => Checked::Silent,
    }
}
