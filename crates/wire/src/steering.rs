//! Control frames of steering: who owns a connection's packets, told by UDP datagrams.
//!
//! A node makes a [`Request`], seals it with the cluster's [`ControlKey`], and sends the [`ControlFrame`]'s bytes to the control
//! address of the steering host, whose kernel answers with a [`Reply`]. Datagrams get lost: repeat a request *with a new counter*
//! until a reply to one of them comes, or a deadline passes. That is safe, because every [`Operation`] is absolute and numbered.
//!
//! The layout lives with the kernel program that reads it, in `ashlar_fastpath::steering`, because that code runs without the
//! standard library.

pub use ashlar_fastpath::steering::{
    CONTROL_FRAME_BYTES, ControlError, ControlFrame, ControlKey, FlowKey, FlowState, MacAddress,
    Operation, OperationCode, Owner, Reply, Request, ResultCode, WINDOW_COUNTERS,
};
