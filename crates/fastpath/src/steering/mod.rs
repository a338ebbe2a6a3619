//! Steering: frames of a flow go to the host that owns the connection.
//!
//! A flow is the full four of addresses and ports, seen in one direction only: from the client to the service. The table says which
//! host owns it; a frame of a flow in the table gets that host's Ethernet address, and nothing else of it changes. The programs look
//! at frames in two [`Place`]s: where they arrive, at an interface that they leave by again, or where they pass, at a switch's port. Who may change the table says so in a [`ControlFrame`], which the same program reads and answers.
//!
//! [`Packet::parse`] reads headers, [`judge()`] decides about a client's frame, [`ControlFrame::check`] and [`decide`] about a control
//! frame. They depend on nothing but their arguments, time included.

mod answer;
mod config;
mod control;
mod counters;
mod flow;
mod judge;
mod operation;
mod packet;
mod request;
mod siphash;
mod window;

pub use answer::{
    IPV4_HEADER_BYTES, IPV6_ANSWER_OFFSET_BYTES, IPV6_HEADER_BYTES, answer_ipv4, answer_ipv6,
    udp_checksum,
};
pub use config::{Config, ControlAddresses, SCHEMA_VERSION};
pub use control::{
    CONTROL_FRAME_BYTES, CONTROL_FRAME_WORDS, ControlError, ControlFrame, ControlKey,
    OperationCode, ResultCode,
};
pub use counters::{Counter, Counters};
pub use flow::{Entry, EntryOrNone, FlowKey, MacAddress, Owner};
pub use judge::{Judgement, PassReason, TOUCH_INTERVAL_NS, Verdict, judge};
pub use operation::{Decision, Effect, decide};
pub use packet::{Class, Packet, Place, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, UDP_HEADER_BYTES};
pub use request::{FlowState, Operation, Reply, Request};
pub use siphash::SipHash;
pub use window::{Freshness, ReplayWindow, WINDOW_COUNTERS};

#[cfg(test)]
mod tests;
