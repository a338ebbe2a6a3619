//! The names of ratios, and what each divides. docs/benchmarks.md lists them.

use super::OURS;
use super::measurement::Measurement;
use super::memory::MemorySample;
use super::spec::{Case, Scheme};
use crate::experiment::{self, Sample};
use crate::load::Arrival;
use crate::statistics::Summary;
use crate::units::ByteSize;
use std::collections::BTreeMap;

/// From this size on bytes are what costs, and throughput and CPU are quoted by them; below, it
/// is requests.
const LARGE: ByteSize = ByteSize(64 * 1024);

/// A figure of a measurement, with its name in ratios.
type Metric = (&'static str, fn(&Measurement) -> Option<f64>);

/// Our front end over each peer, under each case: `relay_over_nginx_http_1KiB_rate`.
pub(super) fn of_load(
    subjects: &[&'static str],
    cases: &[Case],
    samples: &[Sample<Measurement>],
    arrival: &Arrival,
) -> BTreeMap<String, Summary> {
    let mut ratios = BTreeMap::new();
    for (peer, name) in subjects.iter().enumerate().skip(1) {
        for (index, case) in cases.iter().enumerate() {
            for (metric, figure) in metrics(case.size, arrival) {
                if let Some(ratio) = experiment::ratio(samples, (0, peer), index, figure) {
                    ratios.insert(format!("{OURS}_over_{name}_{case}_{metric}"), ratio);
                }
            }
        }
    }
    ratios
}

/// Our front end over each peer: `relay_over_nginx_resident_bytes_1000_connections`.
pub(super) fn of_memory(
    subjects: &[&'static str],
    samples: &[MemorySample],
) -> BTreeMap<String, Summary> {
    let mut ratios = BTreeMap::new();
    for name in &subjects[1..] {
        for scheme in [Scheme::Http, Scheme::Https] {
            let of = |subject: &str| -> Vec<&MemorySample> {
                let mine = samples.iter().filter(|sample| {
                    sample.trial.subject.name() == subject && sample.trial.scheme == scheme
                });
                mine.collect()
            };
            let (ours, theirs) = (of(OURS), of(name));
            let pairs = ours.iter().zip(&theirs);
            let values: Vec<f64> = pairs
                .map(|(ours, theirs)| ours.resident_bytes as f64 / theirs.resident_bytes as f64)
                .collect();
            let (Some(summary), Some(first)) = (Summary::of(&values), ours.first()) else {
                continue;
            };
            let connections = first.connections;
            let infix = match scheme {
                Scheme::Http => "",
                Scheme::Https => "https_",
            };
            let name =
                format!("{OURS}_over_{name}_{infix}resident_bytes_{connections}_connections");
            ratios.insert(name, summary);
        }
    }
    ratios
}

/// What is quoted of a case. With a fixed arrival rate, rate and throughput are given.
fn metrics(size: ByteSize, arrival: &Arrival) -> Vec<Metric> {
    let large = size >= LARGE;
    let mut metrics: Vec<Metric> = vec![("p50", Measurement::p50_ms), ("p99", Measurement::p99_ms)];
    metrics.push(if large {
        ("frontend_cpu_per_GB", Measurement::frontend_cpu_seconds_per_gb)
    } else {
        ("frontend_cpu_per_request", Measurement::frontend_cpu_us_per_request)
    });
    if *arrival == Arrival::Closed {
        metrics.push(if large {
            ("throughput", |measured| Some(measured.load.bytes_per_second))
        } else {
            ("rate", |measured| Some(measured.load.rate_per_second))
        });
    }
    metrics
}
