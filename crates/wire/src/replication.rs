//! Frames of replicated groups, in UDP datagrams: what replicas tell each other, and what clients ask them.
//!
//! A frame is a [`Header`] of 64 bytes, little-endian, and a body. `docs/replication.md` says what each kind has in which
//! field. A frame that is longer than a datagram travels in [fragments](Fragments). Decoding parses a frame
//! whole or refuses it: a checksum, the cluster's name, and a bound for everything.

mod body;
mod decode;
mod encode;
mod entry;
mod fragment;
#[cfg(test)]
mod tests;

pub use ashlar_fastpath::replication::{HEADER_BYTES, Header};
pub use decode::{DecodeError, decode, take_frame};
pub use encode::encode;
pub use fragment::{Fragments, Reassembly};

use ashlar_vr::{Message, OPERATION_BYTES_MAX, RESULT_BYTES_MAX, Reply, Request, View};
use bytes::Bytes;
use core::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64;

/// The most bytes of a frame: a message with one operation of the largest size, or many small ones.
pub const FRAME_BYTES_MAX: usize = OPERATION_BYTES_MAX + (64 << 10);
const _: () = assert!(HEADER_BYTES + RESULT_BYTES_MAX <= FRAME_BYTES_MAX);

/// Who a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Names the cluster.
    pub cluster: u64,
    /// Names the group within it.
    pub group: u32,
}

/// What names a cluster in its frames.
pub fn cluster_number(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// A frame, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Between replicas.
    Replica(Message),
    /// A client asks for an operation.
    Request(Request),
    /// A replica answers it.
    Reply(Reply),
    /// A client reads.
    Read(Read),
    /// A replica answers it.
    Found(Found),
    /// A client asks who the members are.
    GetMembers,
    /// A replica answers it.
    Members(Epoch),
}

/// A question that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The client's name for it.
    pub id: u64,
    /// How old the answer may be, in microseconds; without it, it knows everything that was acknowledged before.
    pub age_us: Option<u64>,
    /// The question.
    pub question: Bytes,
}

/// The answer to a [`Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The client's name for the question.
    pub id: u64,
    /// The view of who answers.
    pub view: View,
    /// The answer.
    pub answer: ReadAnswer,
}

/// An epoch, as clients need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The view of who tells: its epoch counts.
    pub view: View,
    /// The members, in their order; one at least.
    pub members: Vec<SocketAddr>,
}

/// As [`ashlar_vr::ReadAnswer`].
pub use ashlar_vr::ReadAnswer;

/// Kinds of frames, as they are sent.
mod kind {
    pub(super) use ashlar_fastpath::replication::kind::{PREPARE, PREPARE_OK};
    pub(super) const FRAGMENT: u8 = 1;
    pub(super) const MISSING: u8 = 4;
    pub(super) const COMMIT: u8 = 5;
    pub(super) const COMMIT_OK: u8 = 6;
    pub(super) const START_VIEW_CHANGE: u8 = 7;
    pub(super) const DO_VIEW_CHANGE: u8 = 8;
    pub(super) const START_VIEW: u8 = 9;
    pub(super) const GET_STATE: u8 = 10;
    pub(super) const NEW_STATE: u8 = 11;
    pub(super) const GET_SNAPSHOT: u8 = 12;
    pub(super) const SNAPSHOT: u8 = 13;
    pub(super) const RECOVERY: u8 = 14;
    pub(super) const RECOVERY_RESPONSE: u8 = 15;
    pub(super) const START_EPOCH: u8 = 16;
    pub(super) const EPOCH_STARTED: u8 = 17;
    pub(super) const REQUEST: u8 = 32;
    pub(super) const REPLY: u8 = 33;
    pub(super) const READ: u8 = 34;
    pub(super) const FOUND: u8 = 35;
    pub(super) const GET_MEMBERS: u8 = 36;
    pub(super) const MEMBERS: u8 = 37;
}

/// Details of answers.
mod answer {
    pub(super) const ANSWERED: u8 = 1;
    pub(super) const NO_SESSION: u8 = 2;
    /// The body names the leader, if it is known.
    pub(super) const NOT_LEADER: u8 = 3;
    pub(super) const TOO_OLD: u8 = 4;
}

/// A detail of `Read` and of a recovery's answer: there is more than nothing.
const PRESENT: u8 = 1;

/// Bytes of an address in a body: family, port, 16 bytes of an address.
const ADDRESS_BYTES: usize = 20;

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    let (family, octets) = match address {
        SocketAddr::V4(v4) => (4_u16, v4.ip().to_ipv6_mapped().octets()),
        SocketAddr::V6(v6) => (6, v6.ip().octets()),
    };
    out.extend_from_slice(&family.to_le_bytes());
    out.extend_from_slice(&address.port().to_le_bytes());
    out.extend_from_slice(&octets);
}
