//! HTTP to storage nodes.
//!
//! A thin client for exactly what storage nodes speak: responses whose length is known, over
//! connections that are kept. It runs inside the task of the client's connection: no task, channel
//! or lock stands between the two sockets.

mod body;
mod buffers;
mod connection;
mod head;
mod outgoing;
mod pool;

#[cfg(feature = "fuzzing")]
pub(crate) use head::fuzz_response_head;

pub(crate) use body::UpstreamBody;
pub(crate) use connection::Timeouts;
pub(crate) use head::ResponseHead;
pub(crate) use outgoing::{Content, Outgoing};

use super::metrics::UpstreamMetrics;
use crate::body::BodyError;
use ashlar_object::NodeIndex;
use connection::Connection;
use pool::{NodePool, Occupied};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a connection to a storage node may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks for connections that have been idle for too long.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The storage nodes as the front end reaches them.
pub(crate) struct Upstream {
    /// By node.
    addresses: Vec<SocketAddr>,
    /// By thread, then by node.
    pools: Vec<Vec<Arc<NodePool>>>,
    metrics: UpstreamMetrics,
}

/// A storage node's response.
pub(crate) struct UpstreamResponse {
    /// Its head.
    pub(crate) head: ResponseHead,
    /// Its body.
    pub(crate) body: UpstreamBody,
}

/// Why a storage node gave no response, or not all of it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened.
    pub(crate) kind: FailureKind,
    /// More about it, in one line.
    message: String,
}

/// What happened instead of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The node cannot be connected to.
    Unreachable,
    /// The node closed the connection.
    Closed,
    /// The node was silent for too long, be it to a connection or to a request.
    TimedOut,
    /// The node sent something that is no proper response.
    Protocol,
    /// The client did not deliver the request's body. The node is not at fault.
    Client,
}

impl Upstream {
    /// Nodes at these addresses, used by that many threads.
    pub(crate) fn new(
        addresses: Vec<SocketAddr>,
        threads: usize,
        metrics: UpstreamMetrics,
    ) -> Self {
        let nodes = 0..u16::try_from(addresses.len()).expect("the map bounds the nodes");
        let pool = |node| Arc::new(NodePool::new(NodeIndex(node)));
        let pools = (0..threads).map(|_| nodes.clone().map(pool).collect()).collect();
        Self { addresses, pools, metrics }
    }

    /// Requests that `thread` has under way at `node`.
    pub(crate) fn outstanding(&self, thread: usize, node: NodeIndex) -> usize {
        self.pool(thread, node).outstanding()
    }

    /// Sends a request to `node` and gives its response when the head is there.
    ///
    /// A connection that was used before may turn out to be closed: then the request is sent once
    /// more over a new one, if it can have had no effect or is harmless to repeat.
    pub(crate) async fn send(
        &self,
        thread: usize,
        node: NodeIndex,
        outgoing: &mut Outgoing<'_>,
        timeouts: Timeouts,
    ) -> Result<UpstreamResponse, Failure> {
        let occupied = self.pool(thread, node).occupy();
        let sent = match occupied.take_idle(!outgoing.repeatable) {
            Some(connection) => {
                match self.exchange(connection, occupied, outgoing, timeouts).await {
                    Err(failure)
                        if failure.kind == FailureKind::Closed && outgoing.can_restart() =>
                    {
                        self.metrics.reconnected(node);
                        outgoing.restart();
                        let occupied = self.pool(thread, node).occupy();
                        self.send_afresh(occupied, outgoing, timeouts).await
                    }
                    sent => sent,
                }
            }
            None => self.send_afresh(occupied, outgoing, timeouts).await,
        };
        if let Err(failure) = &sent {
            self.metrics.failed(node, failure.kind);
        }
        sent
    }

    /// Closes all idle connections to `node`: it is gone.
    pub(crate) fn disconnect(&self, node: NodeIndex) {
        self.pools.iter().for_each(|nodes| nodes[usize::from(node.0)].clear());
    }

    /// Closes the connections of `thread` that have been idle for too long; to be called every
    /// [`SWEEP_INTERVAL`].
    pub(crate) fn sweep(&self, thread: usize) {
        self.pools[thread].iter().for_each(|pool| pool.sweep());
    }

    async fn send_afresh(
        &self,
        occupied: Occupied,
        outgoing: &mut Outgoing<'_>,
        timeouts: Timeouts,
    ) -> Result<UpstreamResponse, Failure> {
        let address = self.addresses[usize::from(occupied.node().0)];
        let connection = timeout(CONNECT_TIMEOUT, Connection::open(address))
            .await
            .map_err(|_| Failure::new(FailureKind::TimedOut, "connecting took too long"))?
            .map_err(|error| Failure::new(FailureKind::Unreachable, error))?;
        self.exchange(connection, occupied, outgoing, timeouts).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        occupied: Occupied,
        outgoing: &mut Outgoing<'_>,
        timeouts: Timeouts,
    ) -> Result<UpstreamResponse, Failure> {
        let mut answer = connection.exchange(outgoing, timeouts).await?;
        let (sent, stall) = (outgoing.is_sent(), timeouts.stall);
        let body = UpstreamBody::new(&mut answer, connection, occupied, sent, stall)?;
        Ok(UpstreamResponse { head: answer.head, body })
    }

    fn pool(&self, thread: usize, node: NodeIndex) -> &Arc<NodePool> {
        &self.pools[thread][usize::from(node.0)]
    }
}

impl Failure {
    fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    fn closed(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Closed, message)
    }

    fn client(error: BodyError) -> Self {
        Self::new(FailureKind::Client, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FailureKind::Unreachable => "unreachable",
            FailureKind::Closed => "the connection broke",
            FailureKind::TimedOut => "timed out",
            FailureKind::Protocol => "not understood",
            FailureKind::Client => "the client failed",
        };
        write!(formatter, "{what}: {}", self.message)
    }
}
