//! Idle connections to storage nodes, and how busy each node is; one pool for each thread.

use super::connection::Connection;
use ashlar_object::NodeIndex;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Idle connections that a thread keeps to one node.
const IDLE_MAX: usize = 64;
/// How many sweeps a connection may be idle for: less time than a storage node waits for the next
/// request, so that a request does not meet a connection that closes.
const IDLE_SWEEPS_MAX: u64 = 6;

/// What a thread knows of one storage node.
pub(super) struct NodePool {
    pub(super) node: NodeIndex,
    /// The most recently used last. Only this pool's thread takes the lock, and the sweep.
    idle: Mutex<Vec<Connection>>,
    /// Requests under way.
    outstanding: AtomicUsize,
    /// Sweeps so far: the pool's clock, which costs nothing to read.
    sweeps: AtomicU64,
}

impl NodePool {
    pub(super) fn new(node: NodeIndex) -> Self {
        Self {
            node,
            idle: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            sweeps: AtomicU64::new(0),
        }
    }

    /// Requests of this thread that the node has not answered to the end.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Relaxed)
    }

    /// Starts to use the node.
    pub(super) fn occupy(self: &Arc<Self>) -> Occupied {
        self.outstanding.fetch_add(1, Relaxed);
        Occupied(Arc::clone(self))
    }

    /// Closes connections that have been idle for too long; to be called at regular intervals.
    pub(super) fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Relaxed) + 1;
        self.idle().retain(|connection| now - connection.last_used <= IDLE_SWEEPS_MAX);
    }

    /// Closes all idle connections: the node is gone.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that uses a node, until it is dropped.
pub(super) struct Occupied(Arc<NodePool>);

impl Occupied {
    pub(super) fn node(&self) -> NodeIndex {
        self.0.node
    }

    /// A connection that was used before and is still good, which a request that cannot be sent
    /// twice must know for `certain`.
    pub(super) fn take_idle(&self, certain: bool) -> Option<Connection> {
        let mut idle = self.0.idle();
        while let Some(connection) = idle.pop() {
            let is_idle = if certain { connection.is_idle_now() } else { connection.is_idle() };
            if is_idle {
                return Some(connection);
            }
        }
        None
    }

    /// Ends the use and keeps the connection for the next.
    pub(super) fn give_back(self, mut connection: Connection) {
        connection.last_used = self.0.sweeps.load(Relaxed);
        let mut idle = self.0.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Relaxed);
    }
}
