//! Latencies of a whole measured window, in an HDR histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Latencies below this are recorded as this.
const LATENCY_NS_MIN: u64 = 1;
/// Latencies above this are recorded as this: longer than any request time-out.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Three digits: a recorded value is off by at most one part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of latencies in nanoseconds, from 1 ns to 10 minutes, exact to 0.1 %.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// All recorders share its bounds, so that merging cannot fail.
    histogram: Histogram<u64>,
}

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that the histogram accepts");
        Self { histogram }
    }

    /// Counts one latency; one outside of the bounds counts as the nearest bound.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    /// Adds every latency of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
    }

    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency in nanoseconds which `percentile` (0 to 100) of the requests did not exceed;
    /// 0 without requests.
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        self.histogram.value_at_percentile(percentile)
    }

    /// The figures that reports quote; `None` without requests.
    pub fn quantiles(&self) -> Option<Quantiles> {
        (self.count() > 0).then(|| Quantiles {
            mean: self.histogram.mean(),
            p50: self.percentile_ns(50.0),
            p90: self.percentile_ns(90.0),
            p99: self.percentile_ns(99.0),
            p999: self.percentile_ns(99.9),
            max: self.percentile_ns(100.0),
        })
    }

    /// The recorded values with their counts, least value first: a form that travels as JSON.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()))
            .collect()
    }

    /// A histogram of what [`Self::buckets`] returned, there or in another process.
    pub fn from_buckets(buckets: &[(u64, u64)]) -> Self {
        let mut latencies = Self::new();
        for (value_ns, count) in buckets {
            latencies.record_ns(*value_ns, *count);
        }
        latencies
    }

    fn record_ns(&mut self, value_ns: u64, count: u64) {
        let clamped_ns = value_ns.clamp(LATENCY_NS_MIN, LATENCY_NS_MAX);
        self.histogram.record_n(clamped_ns, count).expect("the value was clamped to the bounds");
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Quoted latencies, all in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Quantiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The slowest request.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(milliseconds: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        for millisecond in milliseconds {
            latencies.record(Duration::from_millis(millisecond));
        }
        latencies
    }

    /// Whether `value_ns` is `milliseconds` as exactly as the histogram promises.
    fn is_about(value_ns: u64, milliseconds: u64) -> bool {
        value_ns.abs_diff(milliseconds * 1_000_000) <= milliseconds * 1_000
    }

    #[test]
    fn two_threads_merge_to_what_one_would_have_recorded() {
        let mut merged = latencies(1..=500);
        merged.merge(&latencies(501..=1000));
        assert_eq!(merged.buckets(), latencies(1..=1000).buckets());
        assert_eq!(merged.count(), 1000);
        assert!(is_about(merged.percentile_ns(50.0), 500));
        assert!(is_about(merged.percentile_ns(99.0), 990));
        assert!(is_about(merged.percentile_ns(100.0), 1000));
    }

    #[test]
    fn merging_an_empty_histogram_changes_nothing() {
        let mut merged = latencies([7, 7, 9]);
        merged.merge(&Latencies::new());
        assert_eq!(merged.buckets(), latencies([7, 7, 9]).buckets());
    }

    #[test]
    fn buckets_survive_the_way_to_another_process() {
        let original = latencies([1, 1, 2, 30_000]);
        let copy = Latencies::from_buckets(&original.buckets());
        assert_eq!(copy.buckets(), original.buckets());
        assert_eq!(copy.quantiles(), original.quantiles());
    }

    #[test]
    fn a_latency_outside_of_the_bounds_counts_as_the_bound() {
        let mut histogram = Latencies::new();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.percentile_ns(1.0), LATENCY_NS_MIN);
        assert!(histogram.percentile_ns(100.0) >= LATENCY_NS_MAX);
    }

    #[test]
    fn without_requests_there_is_nothing_to_quote() {
        assert_eq!(Latencies::new().quantiles(), None);
    }
}
