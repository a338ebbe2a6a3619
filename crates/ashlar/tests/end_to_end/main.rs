//! Tests of the real binary, from outside: curl, raw sockets, signals, `kill -9`.
//!
//! Every test runs stores of its own on loopback, waits for states and never for times, and ends
//! what it started. [`harness`] starts and stops; each other module is one subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod cluster;
mod command_line;
mod command_line_faults;
mod conditions;
mod configuration;
mod documentation;
mod drain;
mod durability;
mod format;
mod listings;
mod memory;
mod objects;
mod protocol;
mod ranges;
mod scrub;
mod tls;
