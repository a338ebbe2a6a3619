//! What each kernel program decides, as functions that run anywhere.
//!
//! One source serves three places: `kernel-programs/` compiles these functions for the kernel, user space falls back to them, and
//! tests and simulations run them to predict what the kernel will do. Hence the rules of this crate:
//!
//! - no allocation, no floating point, no panics on any input, no `unsafe`;
//! - headers, table entries and counters come in as values: only the thin shell in the kernel touches a packet's memory, because
//!   the verifier does not follow the length of a slice;
//! - what user space and kernel share in a map is `#[repr(C)]` without padding, and its size is asserted when it is compiled.
#![no_std]
#![forbid(unsafe_code)]

pub mod chaos;
pub mod frame;
pub mod replication;
pub mod steering;
