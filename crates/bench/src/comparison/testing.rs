//! What tests of benchmarks share: a load, and reports of a made-up machine.

use super::{LabPlace, LoadShape};
use crate::histogram::Latencies;
use crate::load::{Arrival, Failures, LoadReport, Mode};
use crate::peers::Peer;
use crate::units::ByteSize;
use std::time::Duration;

pub(crate) const SMALL: ByteSize = ByteSize(1024);
pub(crate) const LARGE: ByteSize = ByteSize(1 << 20);

/// A load of 100 connections, for so many seconds.
pub(crate) fn load_shape(seconds: u64) -> LoadShape {
    LoadShape {
        connections: 100,
        threads: 1,
        arrival: Arrival::Closed,
        mix: None,
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(seconds),
        timeout: Duration::from_secs(10),
        verify_content: false,
        seed: 1,
    }
}

/// A laboratory with nginx for a peer.
pub(crate) fn lab_place(storage_nodes: u8) -> LabPlace {
    LabPlace {
        name: "test".parse().expect("it is a name"),
        storage_nodes,
        server_quota: None,
        server_threads: 1,
        peers: vec![Peer::Nginx],
    }
}

/// Two seconds of `rate` requests of `size` a second.
pub(crate) fn load_report(rate: f64, size: ByteSize) -> LoadReport {
    let mut latencies = Latencies::new();
    latencies.record(Duration::from_micros(500));
    let requests = (2.0 * rate) as u64;
    LoadReport {
        mode: Mode::Closed,
        connections: 100,
        threads: 1,
        elapsed_seconds: 2.0,
        requests,
        rate_per_second: rate,
        body_bytes: requests * size.bytes(),
        bytes_per_second: rate * size.bytes() as f64,
        latency_ns: latencies.quantiles(),
        latency_buckets_ns: latencies.buckets(),
        requests_in_all: requests,
        failures: Failures::default(),
        unsent: 0,
        reconnects: 0,
        tls: None,
        generator_cpu_seconds: 0.1,
    }
}
