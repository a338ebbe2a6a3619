//! Traffic between storage nodes: framed connections ([`connection`]), the link to each successor
//! ([`link`]), the other end of both ([`acceptor`]), staged bodies ([`stage`]) and tail queries
//! ([`tail`]).

pub(crate) mod acceptor;
pub(crate) mod connection;
pub(crate) mod link;
pub(crate) mod stage;
pub(crate) mod tail;

use std::time::Duration;

/// How long a peer may take to accept a connection and to answer the hello.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A peer that says nothing for this long on a chain link is taken for dead. Pings go out four
/// times as often.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A peer that takes or gives no byte of a staged body for this long has failed it. Longer than a
/// slow sync.
pub(crate) const STAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a tail may take to answer one query.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// A peer that asks nothing for this long on a query connection may have gone without a word; one
/// that has not opens another when it wants to know something.
pub(crate) const QUERY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a reader waits for a tail's word, with the queries before its own and a connection that
/// has to be opened. Well below the time after which a front end takes a node for gone.
pub(crate) const TAIL_WORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that wait to be sent on a chain link; beyond, they are dropped and sent again when the
/// successor is probed.
pub(crate) const LINK_QUEUE_MAX: usize = 16 * 1024;

/// Who this node is, for the connections it opens and accepts.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The cluster, with all nodes' addresses.
    pub(crate) cluster: crate::config::Cluster,
    /// This node.
    pub(crate) node: ashlar_object::NodeIndex,
}

impl Identity {
    /// This node's name.
    pub(crate) fn name(&self) -> &str {
        &self.cluster.map.member(self.node).name
    }

    /// Where `node` listens for peers.
    pub(crate) fn peer_address(&self, node: ashlar_object::NodeIndex) -> std::net::SocketAddr {
        self.cluster.nodes[usize::from(node.0)].peer
    }

    /// The nodes before and after this one in the partition's chain; none if it is not in it.
    pub(crate) fn place_in(&self, partition: ashlar_object::PartitionIndex) -> Option<Place> {
        // A peer may name a partition that does not exist.
        if usize::from(partition.0) >= self.cluster.map.partitions().len() {
            return None;
        }
        let chain = self.cluster.map.chain(partition);
        let at = chain.iter().position(|node| *node == self.node)?;
        Some(Place {
            predecessor: at.checked_sub(1).map(|before| chain[before]),
            successor: chain.get(at + 1).copied(),
        })
    }
}

/// A node's neighbours in one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Who sends to it; none for the head.
    pub(crate) predecessor: Option<ashlar_object::NodeIndex>,
    /// Whom it sends to; none for the tail.
    pub(crate) successor: Option<ashlar_object::NodeIndex>,
}
