//! What a node is started with.

use crate::{Journal, Offload, OffloadConfig};
use ashlar_vr::{Configuration, Options, Promise, Restored, Service};
use std::net::SocketAddr;

/// A node: one socket and its groups.
pub struct NodeConfig {
    /// Where the socket is bound, and the name of this node's replicas among members.
    pub address: SocketAddr,
    /// Names the cluster in every frame.
    pub cluster: u64,
    /// The longest datagram that is sent, in bytes without UDP's header: longer ones would be cut by IP, and lost
    /// with any of their parts.
    pub datagram_bytes_max: usize,
    /// The processor that the thread stays on; none for any.
    pub cpu: Option<usize>,
    /// Where programs in the kernel can be kept; without it, none are used.
    pub offload: Option<OffloadConfig>,
    /// The groups that this node has a replica of.
    pub groups: Vec<GroupConfig>,
}

/// A replica of one group.
pub struct GroupConfig {
    /// Names the group within the cluster.
    pub group: u32,
    /// How the group runs; the same at all members.
    pub options: Options,
    /// What it begins from.
    pub beginning: Beginning,
    /// Where it keeps what must survive; without one, nothing does: such a replica must never start again with the
    /// same address while its group lives.
    pub journal: Option<Box<dyn Journal>>,
    /// What programs in the kernel do for it from the start, if they can be had; none if they never shall: a group that uses them
    /// takes memory of the kernel.
    pub offload: Option<Offload>,
    /// What is replicated, empty.
    pub service: Box<dyn Service + Send>,
}

/// What a replica begins from.
pub enum Beginning {
    /// All members begin a new group.
    New(Configuration),
    /// The group will be told, by an operation, that this replica is a member.
    Join,
    /// A volatile group's replica was here before.
    Lost(Promise),
    /// A durable group's replica was here before.
    Restored(Restored),
}
