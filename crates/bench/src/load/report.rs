//! What a run of the generator measured.

use super::failure::Failures;
use super::recorder::Totals;
use super::target::TlsFacts;
use crate::histogram::{Latencies, Quantiles};
use serde::{Deserialize, Serialize};

/// Above this share of a processor for each thread the generator, not the target, may have been
/// what was measured.
const GENERATOR_BUSY_MAX: f64 = 0.9;

/// The result of [`super::run`]. All rates are over the measured window.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LoadReport {
    /// `closed`, or `open` with a fixed arrival rate.
    pub mode: Mode,
    /// Connections in all.
    pub connections: usize,
    /// Generator threads.
    pub threads: usize,
    /// Length of the measured window.
    pub elapsed_seconds: f64,
    /// Requests that were answered within the window.
    pub requests: u64,
    /// `requests` over `elapsed_seconds`.
    pub rate_per_second: f64,
    /// Body bytes, sent and received, within the window.
    pub body_bytes: u64,
    /// `body_bytes` over `elapsed_seconds`.
    pub bytes_per_second: f64,
    /// In the open loop counted from when the request was due, not from when it was sent. Absent
    /// if not one of the requests that count was answered.
    pub latency_ns: Option<Quantiles>,
    /// The whole histogram: values in nanoseconds, each with its count.
    pub latency_buckets_ns: Vec<(u64, u64)>,
    /// Answered requests of the whole run, warm-up and last answers included.
    pub requests_in_all: u64,
    /// Failures of the whole run, by kind.
    pub failures: Failures,
    /// Open loop: requests due in the window that were never sent, because every connection was
    /// still waiting. Above 0 the target does not keep up with the rate.
    pub unsent: u64,
    /// How often the server closed a connection after an answer.
    pub reconnects: u64,
    /// What was negotiated, over HTTPS.
    pub tls: Option<TlsFacts>,
    /// Processor time of the generator itself within the window.
    pub generator_cpu_seconds: f64,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every connection sends its next request when the last one is answered.
    Closed,
    /// Requests are due at a fixed rate.
    Open,
}

impl LoadReport {
    pub(super) fn new(
        mode: Mode,
        connections: usize,
        threads: usize,
        tls: Option<TlsFacts>,
        totals: Totals,
    ) -> Self {
        let elapsed_seconds = totals.elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if elapsed_seconds > 0.0 { count as f64 / elapsed_seconds } else { 0.0 }
        };
        Self {
            mode,
            connections,
            threads,
            elapsed_seconds,
            requests: totals.requests,
            rate_per_second: per_second(totals.requests),
            body_bytes: totals.body_bytes,
            bytes_per_second: per_second(totals.body_bytes),
            latency_ns: totals.latencies.quantiles(),
            latency_buckets_ns: totals.latencies.buckets(),
            requests_in_all: totals.requests_in_all,
            failures: totals.failures,
            unsent: totals.unsent,
            reconnects: totals.reconnects,
            tls,
            generator_cpu_seconds: totals.processor_time.as_secs_f64(),
        }
    }

    /// The histogram.
    pub fn latencies(&self) -> Latencies {
        Latencies::from_buckets(&self.latency_buckets_ns)
    }

    /// What makes the figures doubtful, one line each; empty for a clean run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let failed = self.failures.total();
        if failed > 0 {
            let summary = self.failures.summary();
            warnings.push(format!("{failed} requests FAILED: {summary}"));
        }
        if self.unsent > 0 {
            let unsent = self.unsent;
            warnings.push(format!(
                "{unsent} requests were due and NOT SENT: the target does not keep up"
            ));
        }
        let busy = self.generator_cpu_seconds / self.elapsed_seconds / self.threads as f64;
        if busy > GENERATOR_BUSY_MAX {
            warnings.push(format!(
                "the generator used {:.0} % of its threads: it may be the limit",
                busy * 100.0
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::failure::Failure;
    use super::*;
    use std::time::Duration;

    fn report(change: impl FnOnce(&mut Totals)) -> LoadReport {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(2));
        let mut totals = Totals {
            elapsed: Duration::from_secs(2),
            processor_time: Duration::from_secs(1),
            latencies,
            requests: 10,
            body_bytes: 4096,
            requests_in_all: 12,
            reconnects: 0,
            unsent: 0,
            failures: Failures::default(),
        };
        change(&mut totals);
        LoadReport::new(Mode::Closed, 4, 1, None, totals)
    }

    #[test]
    fn rates_are_over_the_window() {
        let report = report(|_| {});
        assert_eq!((report.rate_per_second, report.bytes_per_second), (5.0, 2048.0));
        assert!(report.warnings().is_empty());
    }

    #[test]
    fn a_report_survives_the_way_to_another_process() {
        let report = report(|totals| totals.failures.add(&Failure::Timeout));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<LoadReport>(&text).unwrap(), report);
        assert_eq!(report.latencies().count(), 1);
    }

    #[test]
    fn doubtful_runs_say_so() {
        let failed = report(|totals| totals.failures.add(&Failure::Status(503)));
        assert!(failed.warnings()[0].contains("1 requests FAILED: 1 status_503"));
        let unsent = report(|totals| totals.unsent = 9);
        assert!(unsent.warnings()[0].starts_with("9 requests were due and NOT SENT"));
        let busy = report(|totals| totals.processor_time = Duration::from_millis(1900));
        assert!(busy.warnings()[0].contains("used 95 %"));
    }

    #[test]
    fn a_run_without_a_window_has_no_rates() {
        let empty = report(|totals| totals.elapsed = Duration::ZERO);
        assert_eq!(empty.rate_per_second, 0.0);
    }
}
