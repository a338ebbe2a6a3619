//! Frames, ways to send them, and what the chaos programs should make of them.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod bridge;
pub(crate) mod child;
pub(crate) mod frames;
pub(crate) mod interfaces;
pub(crate) mod marked;
pub(crate) mod packet_socket;
pub(crate) mod prediction;
pub(crate) mod replication;
pub(crate) mod replication_model;
pub(crate) mod steering;
pub(crate) mod steering_frames;
pub(crate) mod steering_model;
pub(crate) mod traffic;

use ashlar_kernel::probe::Feature;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that has to come. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a test needs that attaches programs to the ends of a cable.
pub(crate) const REQUIREMENTS: [Feature; 6] = [
    Feature::KernelPrograms,
    Feature::Xdp,
    Feature::TrafficControl,
    Feature::Tcx,
    Feature::NetworkNamespaces,
    Feature::IpCommand,
];

/// Looks until it is so; fails with `what` if it does not come.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in {PATIENCE:?} not: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}
