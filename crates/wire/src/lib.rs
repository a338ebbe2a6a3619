//! Frames that Ashlar's nodes exchange.
//!
//! A frame is a fixed little-endian header ([`FrameHeader`]) and a payload. Decoding parses a frame
//! whole or refuses it: nothing that a peer sends is trusted before its checksum and its bounds are
//! checked.

pub mod peer;
pub mod replication;
pub mod steering;

pub use peer::{Frame, FrameError, FrameHeader, Hello, HelloAnswer, Purpose};
