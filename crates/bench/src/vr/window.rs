//! What is counted within a measured window.

use crate::histogram::{Latencies, Quantiles};
use std::time::{Duration, Instant};

/// Operations of a run, of which those that end within the window count.
#[derive(Debug)]
pub(super) struct Window {
    /// Before, operations warm up.
    pub(super) opens: Instant,
    /// No operation begins after it.
    pub(super) closes: Instant,
    latencies: Latencies,
    pub(super) failures: u64,
    /// Open loop: operations that were due and not begun.
    pub(super) unsent: u64,
}

/// What a window showed.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Operations that ended within the window.
    pub(super) operations: u64,
    /// The same each second.
    pub(super) rate_per_second: f64,
    /// Their latencies; none without operations.
    pub(super) latency_ns: Option<Quantiles>,
    /// All of them.
    pub(super) latencies: Latencies,
    /// Operations of the whole run that were not executed, or nobody knows.
    pub(super) failures: u64,
    /// Open loop: operations that were due and not begun.
    pub(super) unsent: u64,
}

impl Window {
    /// A window that opens after `warm_up`.
    pub(super) fn after(warm_up: Duration, length: Duration) -> Self {
        let opens = Instant::now() + warm_up;
        let closes = opens + length;
        Self { opens, closes, latencies: Latencies::new(), failures: 0, unsent: 0 }
    }

    /// Another one with the same bounds.
    pub(super) fn like(other: &Self) -> Self {
        let Self { opens, closes, .. } = *other;
        Self { opens, closes, latencies: Latencies::new(), failures: 0, unsent: 0 }
    }

    /// An operation has ended.
    pub(super) fn record(&mut self, began: Instant, ended: Instant) {
        if (self.opens..self.closes).contains(&ended) {
            self.latencies.record(ended.saturating_duration_since(began));
        }
    }

    /// Adds what was recorded elsewhere in the same window.
    pub(super) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.failures += other.failures;
        self.unsent += other.unsent;
    }

    /// What it showed.
    pub(super) fn load(self) -> Load {
        let operations = self.latencies.count();
        Load {
            operations,
            rate_per_second: operations as f64 / (self.closes - self.opens).as_secs_f64(),
            latency_ns: self.latencies.quantiles(),
            latencies: self.latencies,
            failures: self.failures,
            unsent: self.unsent,
        }
    }
}
