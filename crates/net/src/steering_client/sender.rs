//! A node as steering sees it: a number, the cluster's key, and counters that are never used twice.

use crate::channel_identity::SteeringKey;
use ashlar_wire::steering::{ControlKey, Operation, Request, WINDOW_COUNTERS};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many requests of a node may be under way: half of what steering remembers, so that one that was overtaken is still new.
pub const OUTSTANDING_MAX: usize = WINDOW_COUNTERS as usize / 2;

/// One per process: two with the same number would take each other's counters.
pub struct SteeringSender {
    id: u16,
    key: ControlKey,
    /// The next request's. Starts from the wall clock in nanoseconds: no node makes requests that fast, so it lies behind the
    /// clock when the next process of this node starts from it.
    next_counter: AtomicU64,
    /// Bounds the requests that are under way.
    turns: Semaphore,
}

impl fmt::Debug for SteeringSender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SteeringSender").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SteeringSender {
    /// The sender of the node with this number; no two nodes of a cluster have the same.
    pub fn new(id: u16, key: &SteeringKey) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Fits for some 500 years. 0 is no counter.
        let start = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX >> 1).max(1);
        Self {
            id,
            key: ControlKey::new(*key.as_bytes()),
            next_counter: AtomicU64::new(start),
            turns: Semaphore::new(OUTSTANDING_MAX),
        }
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn key(&self) -> &ControlKey {
        &self.key
    }

    /// A request with a counter of its own.
    pub(super) fn request(&self, incarnation: u64, operation: Operation) -> Request {
        let counter = self.next_counter.fetch_add(1, Ordering::Relaxed);
        Request { sender: self.id, counter, incarnation, operation }
    }

    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::channel_identity::ClusterKey;
    use ashlar_wire::steering::FlowKey;

    #[test]
    fn a_restarted_node_counts_on_from_where_it_was() {
        let key = ClusterKey::from_bytes([1; 32]).steering_key();
        let address = "192.0.2.1:80".parse().unwrap();
        let query = Operation::Query { flow: FlowKey::new(address, address) };
        let mut last = 0;
        for _ in 0..10 {
            let sender = SteeringSender::new(7, &key);
            for _ in 0..100 {
                let counter = sender.request(0, query).counter;
                assert!(counter > last);
                last = counter;
            }
        }
    }
}
