//! One measurement under load, its metrics, and its entry in the report.

use super::moves::{LoneMovesEntry, Moves, MovesEntry};
use super::{BreakEvenEntry, Case, Outcome, Scheme};
use crate::histogram::Quantiles;
use crate::load::{Failures, LoadReport, TlsFacts};
use crate::units::ByteSize;
use ashlar_lab::{CLIENT, FRONT_END};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The unit of the throughput and CPU metrics: a gigabyte is 10^9 bytes.
const GIGABYTE: f64 = 1e9;
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Processor time by host, in seconds within the measured window.
pub type HostCpu = BTreeMap<String, f64>;

/// What one trial measured.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    /// The generator's report.
    pub(crate) load: LoadReport,
    /// What every host used; absent where it cannot be known.
    pub(crate) cpu: Option<HostCpu>,
    /// How connections moved, where they can.
    pub(crate) moves: Option<Moves>,
}

impl Measurement {
    /// Median latency in milliseconds.
    pub(crate) fn p50_ms(&self) -> Option<f64> {
        Some(self.load.latency_ns?.p50 as f64 / NANOSECONDS_PER_MILLISECOND)
    }

    /// 99th percentile of latency in milliseconds.
    pub(crate) fn p99_ms(&self) -> Option<f64> {
        Some(self.load.latency_ns?.p99 as f64 / NANOSECONDS_PER_MILLISECOND)
    }

    /// Processor time of the front end for each request answered, in microseconds.
    pub(crate) fn frontend_cpu_us_per_request(&self) -> Option<f64> {
        self.us_per_request(self.frontend_cpu_seconds()?)
    }

    /// Processor time of the front end for each gigabyte of bodies, in seconds.
    pub(crate) fn frontend_cpu_seconds_per_gb(&self) -> Option<f64> {
        self.seconds_per_gb(self.frontend_cpu_seconds()?)
    }

    /// Processor time of all storage nodes for each request answered, in microseconds.
    pub(crate) fn storage_cpu_us_per_request(&self) -> Option<f64> {
        self.us_per_request(self.storage_cpu_seconds()?)
    }

    /// Processor time of all storage nodes for each gigabyte of bodies, in seconds.
    pub(crate) fn storage_cpu_seconds_per_gb(&self) -> Option<f64> {
        self.seconds_per_gb(self.storage_cpu_seconds()?)
    }

    /// Moves for each request answered.
    pub(crate) fn moves_per_request(&self) -> Option<f64> {
        let rate = self.load.rate_per_second;
        (rate > 0.0).then_some(self.moves.as_ref()?.per_second() / rate)
    }

    fn frontend_cpu_seconds(&self) -> Option<f64> {
        self.cpu.as_ref()?.get(FRONT_END).copied()
    }

    fn storage_cpu_seconds(&self) -> Option<f64> {
        let hosts = self.cpu.as_ref()?.iter();
        let storage = hosts.filter(|(host, _)| ![FRONT_END, CLIENT].contains(&host.as_str()));
        Some(storage.map(|(_, seconds)| seconds).sum())
    }

    fn us_per_request(&self, seconds: f64) -> Option<f64> {
        (self.load.requests > 0).then(|| seconds * 1e6 / self.load.requests as f64)
    }

    fn seconds_per_gb(&self, seconds: f64) -> Option<f64> {
        let gigabytes = self.load.body_bytes as f64 / GIGABYTE;
        (gigabytes > 0.0).then(|| seconds / gigabytes)
    }
}

/// An entry of the report's series.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A measurement under load.
    Load(Box<LoadEntry>),
    /// A measurement of memory.
    Memory(MemoryEntry),
    /// The moves of a single connection.
    LoneMoves(LoneMovesEntry),
    /// From which size on hand-off pays.
    BreakEven(BreakEvenEntry),
}

/// A measurement under load.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LoadEntry {
    /// What was measured, such as `relay`, or the peer's name.
    pub subject: String,
    /// How the generator connected.
    pub scheme: Scheme,
    /// Bytes of each object.
    pub size_bytes: ByteSize,
    /// The round, from 1.
    pub round: usize,
    /// Connections of the generator.
    pub connections: usize,
    /// Length of the measured window.
    pub elapsed_seconds: f64,
    /// Requests answered within it.
    pub requests: u64,
    /// The same, each second.
    pub rate_per_second: f64,
    /// Body bytes each second.
    pub bytes_per_second: f64,
    /// Latencies in nanoseconds; absent if no request that counts was answered.
    pub latency_ns: Option<Quantiles>,
    /// Failures by kind.
    pub failures: Failures,
    /// Open loop: requests that were due and not sent.
    pub unsent: u64,
    /// What TLS negotiated.
    pub tls: Option<TlsFacts>,
    /// Processor time of every host within the window, in seconds.
    pub cpu_seconds: Option<HostCpu>,
    /// Processor time of the front end, in microseconds a request.
    pub frontend_cpu_us_per_request: Option<f64>,
    /// Processor time of the front end, in seconds for 10^9 body bytes.
    pub frontend_cpu_seconds_per_gb: Option<f64>,
    /// Processor time of all storage nodes, in microseconds a request.
    pub storage_cpu_us_per_request: Option<f64>,
    /// Processor time of all storage nodes, in seconds for 10^9 body bytes.
    pub storage_cpu_seconds_per_gb: Option<f64>,
    /// How connections moved; absent for what cannot move any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<MovesEntry>,
}

/// A measurement of memory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MemoryEntry {
    /// `relay` or the peer's name.
    pub subject: String,
    /// How the generator connected.
    pub scheme: Scheme,
    /// The round, from 1.
    pub round: usize,
    /// Idle connections, each of which was answered once.
    pub connections: usize,
    /// Memory of the front end's processes without connections, in bytes.
    pub resident_bytes_before: u64,
    /// The same with the connections open.
    pub resident_bytes: u64,
}

/// The series of a run.
pub(crate) fn entries(outcome: &Outcome) -> Vec<Entry> {
    let load = outcome.samples.iter().map(|sample| {
        let subject = outcome.subjects[sample.trial.subject];
        let case = outcome.cases[sample.trial.case];
        Entry::Load(Box::new(load_entry(subject, case, sample.trial.round, &sample.measured)))
    });
    let memory = outcome.memory.iter().map(|sample| {
        Entry::Memory(MemoryEntry {
            subject: sample.trial.subject.name().to_owned(),
            scheme: sample.trial.scheme,
            round: sample.trial.round + 1,
            connections: sample.connections,
            resident_bytes_before: sample.resident_bytes_before,
            resident_bytes: sample.resident_bytes,
        })
    });
    let break_even = outcome.break_even.iter().cloned().map(Entry::BreakEven);
    let lone = outcome.lone.iter().map(|sample| Entry::LoneMoves(sample.into()));
    load.chain(memory).chain(lone).chain(break_even).collect()
}

fn load_entry(subject: &str, case: Case, round: usize, measured: &Measurement) -> LoadEntry {
    let load = &measured.load;
    LoadEntry {
        subject: subject.to_owned(),
        scheme: case.scheme,
        size_bytes: case.size,
        round: round + 1,
        connections: load.connections,
        elapsed_seconds: load.elapsed_seconds,
        requests: load.requests,
        rate_per_second: load.rate_per_second,
        bytes_per_second: load.bytes_per_second,
        latency_ns: load.latency_ns,
        failures: load.failures.clone(),
        unsent: load.unsent,
        tls: load.tls.clone(),
        cpu_seconds: measured.cpu.clone(),
        frontend_cpu_us_per_request: measured.frontend_cpu_us_per_request(),
        frontend_cpu_seconds_per_gb: measured.frontend_cpu_seconds_per_gb(),
        storage_cpu_us_per_request: measured.storage_cpu_us_per_request(),
        storage_cpu_seconds_per_gb: measured.storage_cpu_seconds_per_gb(),
        moves: measured.moves.as_ref().map(MovesEntry::from),
    }
}
