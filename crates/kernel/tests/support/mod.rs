//! Frames, ways to send them, and what the chaos programs should make of them.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod bridge;
pub(crate) mod frames;
pub(crate) mod interfaces;
pub(crate) mod packet_socket;
pub(crate) mod prediction;
pub(crate) mod steering;
pub(crate) mod steering_frames;
pub(crate) mod steering_model;
pub(crate) mod traffic;

use ashlar_kernel::probe::Feature;

/// What a test needs that attaches programs to the ends of a cable.
pub(crate) const REQUIREMENTS: [Feature; 6] = [
    Feature::KernelPrograms,
    Feature::Xdp,
    Feature::TrafficControl,
    Feature::Tcx,
    Feature::NetworkNamespaces,
    Feature::IpCommand,
];
