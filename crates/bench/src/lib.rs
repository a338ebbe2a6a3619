//! Benchmarks that compare: load generation, alternating rounds beside a peer, and reports.
//!
//! Read in this order: [`load`], the generator (closed and open loop, HTTP and HTTPS), then
//! [`statistics`].
//!
//! Absolute figures of a small shared machine mean little. What counts is the ratio between two
//! subjects that were measured in turn, round by round, in one run.

pub mod histogram;
pub mod load;
pub mod statistics;
pub mod units;
