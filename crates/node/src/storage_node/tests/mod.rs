//! Storage nodes from outside: chains on loopback, over disks that can be told to fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod conditions;
mod disk;
mod listing;
mod peers;
mod space;
mod uploads;

use cluster::Cluster;
use disk::Fate;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition that must come true.
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}
