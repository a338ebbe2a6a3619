//! Benchmarks that compare: load generation, alternating rounds beside a peer, and reports.
//!
//! Read in this order:
//! - [`load`]: the generator (closed and open loop, HTTP and HTTPS) and its [`load::LoadReport`];
//! - [`experiment`]: rounds that alternate between subjects, and the ratios between them;
//! - [`peers`]: the proxies that are measured beside ours, and their configurations;
//! - [`comparison`]: one lab in which front ends are exchanged and measured, made of the three;
//! - [`object`] and [`handoff`]: `ashlar bench object` and `ashlar bench handoff`, which use it;
//! - [`vr`]: `ashlar bench vr`, replicated groups on this machine;
//! - [`report`]: the machine-readable result, the table and the page with plots.
//!
//! Absolute figures of a small shared machine mean little. What counts is the ratio between two
//! subjects that were measured in turn, round by round, in one run.

pub mod comparison;
pub mod experiment;
pub mod handoff;
pub mod histogram;
pub mod load;
pub mod object;
pub mod peers;
pub mod report;
pub mod statistics;
pub mod units;
pub mod vr;
