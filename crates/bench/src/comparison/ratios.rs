//! Ratios between subjects, and their names. docs/benchmarks.md lists them.

use super::measurement::Measurement;
use super::memory::MemorySample;
use super::{Case, Outcome, Scheme};
use crate::experiment;
use crate::load::Arrival;
use crate::statistics::Summary;
use crate::units::ByteSize;
use std::collections::BTreeMap;

/// From this size on bytes are what costs, and throughput and CPU are quoted by them; below, it
/// is requests.
const LARGE: ByteSize = ByteSize(64 * 1024);

/// A figure of a measurement, with its name in ratios.
pub(crate) type Metric = (&'static str, fn(&Measurement) -> Option<f64>);

/// What is quoted of a case.
pub(crate) struct Metrics {
    /// Requests or bytes each second; none with a fixed arrival rate, which gives it.
    pub(crate) rate: Option<Metric>,
    /// Latencies.
    pub(crate) latency: [Metric; 2],
    /// Processor time of the front end.
    pub(crate) frontend_cpu: Metric,
}

/// What is quoted for objects of `size`.
pub(crate) fn metrics(size: ByteSize, arrival: &Arrival) -> Metrics {
    let (rate, frontend_cpu): (Metric, Metric) = if size >= LARGE {
        (
            ("throughput", |measured| Some(measured.load.bytes_per_second)),
            ("frontend_cpu_per_GB", Measurement::frontend_cpu_seconds_per_gb),
        )
    } else {
        (
            ("rate", |measured| Some(measured.load.rate_per_second)),
            ("frontend_cpu_per_request", Measurement::frontend_cpu_us_per_request),
        )
    };
    Metrics {
        rate: (*arrival == Arrival::Closed).then_some(rate),
        latency: [("p50", Measurement::p50_ms), ("p99", Measurement::p99_ms)],
        frontend_cpu,
    }
}

/// The ratios of one subject's figures to another's, under every case, with names of `name`'s
/// making. What was not measured has no ratio.
pub(crate) fn of_pair(
    outcome: &Outcome,
    (numerator, denominator): (&str, &str),
    quoted: impl Fn(Case) -> Vec<Metric>,
    name: impl Fn(Case, &str) -> String,
) -> BTreeMap<String, Summary> {
    let place = |wanted: &str| outcome.subjects.iter().position(|subject| *subject == wanted);
    let (Some(numerator), Some(denominator)) = (place(numerator), place(denominator)) else {
        return BTreeMap::new();
    };
    let mut ratios = BTreeMap::new();
    for (index, case) in outcome.cases.iter().enumerate() {
        for (metric, figure) in quoted(*case) {
            let pair = (numerator, denominator);
            if let Some(ratio) = experiment::ratio(&outcome.samples, pair, index, figure) {
                ratios.insert(name(*case, metric), ratio);
            }
        }
    }
    ratios
}

/// The memory of `ours` over each other's: `relay_over_nginx_resident_bytes_1000_connections`.
pub(crate) fn of_memory(
    ours: &str,
    subjects: &[&'static str],
    samples: &[MemorySample],
) -> BTreeMap<String, Summary> {
    let mut ratios = BTreeMap::new();
    for name in subjects.iter().filter(|name| **name != ours) {
        for scheme in [Scheme::Http, Scheme::Https] {
            let of = |subject: &str| -> Vec<&MemorySample> {
                let mine = samples.iter().filter(|sample| {
                    sample.trial.subject.name() == subject && sample.trial.scheme == scheme
                });
                mine.collect()
            };
            let (mine, theirs) = (of(ours), of(name));
            let pairs = mine.iter().zip(&theirs);
            let values: Vec<f64> = pairs
                .map(|(mine, theirs)| mine.resident_bytes as f64 / theirs.resident_bytes as f64)
                .collect();
            let (Some(summary), Some(first)) = (Summary::of(&values), mine.first()) else {
                continue;
            };
            let connections = first.connections;
            let infix = match scheme {
                Scheme::Http => "",
                Scheme::Https => "https_",
            };
            let name =
                format!("{ours}_over_{name}_{infix}resident_bytes_{connections}_connections");
            ratios.insert(name, summary);
        }
    }
    ratios
}
