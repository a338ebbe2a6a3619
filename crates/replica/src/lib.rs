//! Runs members of replicated groups, and clients of groups: the shell around `ashlar-vr`.
//!
//! - [`Node`] is one thread that owns a UDP socket and any number of [groups](GroupConfig). It sleeps in one
//!   epoll, receives and sends in batches, and keeps the groups' timers. A second thread writes journals, so
//!   that no disk holds up the first.
//! - [`Clients`] is the other end: any number of sessions with one group over one socket.
//!
//! Neither uses an async runtime: between a datagram and its answer lie two system calls.

#![allow(unsafe_code, reason = "no safe wrapper knows recvmmsg and sendmmsg")]

mod call;
mod clients;
mod clock;
mod config;
mod dirty;
mod group;
mod io;
mod journal;
mod node;
mod offload;
mod panics;
mod stats;
mod switch;
mod timers;
mod udp;
mod writer;

pub use ashlar_kernel::chaos::XdpMode;
pub use ashlar_wire::replication::{HEADER_BYTES, cluster_number};
pub use clients::{Clients, Done, Outcome};
pub use config::{Beginning, GroupConfig, NodeConfig};
pub use journal::{Journal, JournalError};
pub use node::{Node, StartError};
pub use offload::{Offload, OffloadConfig, OffloadError, UnknownOffload};
pub use panics::AbortOnPanic;
pub use stats::{GroupStats, NodeStats, Role};
