//! Metrics that cost next to nothing on a request's path.
//!
//! Handles are looked up once, at the start; a count is one addition to a cell that only one thread
//! writes. Everything is registered under the prefix `ashlar_`.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Names and metrics of a process; filled at the start, then only read.
pub(crate) use prometheus_client::registry::Registry;

/// The media type of [`text`].
pub(crate) const TEXT_MEDIA_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An empty registry.
pub(crate) fn registry() -> Registry {
    Registry::with_prefix("ashlar")
}

/// All metrics in the text format that Prometheus reads.
pub(crate) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string fails only if an encoder of ours does.
    prometheus_client::encoding::text::encode(&mut text, registry).expect("metrics encode");
    join_families(&text)
}

/// Puts the samples of each name together: the roles of one process register the same names under
/// different labels, and the format wants each name described once.
fn join_families(text: &str) -> String {
    const DESCRIPTION: &str = "# HELP ";
    let mut families: Vec<(&str, String)> = Vec::new();
    for block in text.trim_end_matches("# EOF\n").split(DESCRIPTION).filter(|b| !b.is_empty()) {
        let name = block.split(' ').next().unwrap_or_default();
        let samples = block.lines().skip_while(|line| !line.starts_with("# TYPE")).skip(1);
        match families.iter_mut().find(|family| family.0 == name) {
            Some((_, family)) => samples.for_each(|line| *family += &format!("{line}\n")),
            None => families.push((name, format!("{DESCRIPTION}{block}"))),
        }
    }
    families.into_iter().map(|family| family.1).collect::<String>() + "# EOF\n"
}

/// Cells of a counter: threads beyond this number share.
const SHARDS: usize = 16;

/// A cell with a cache line (and its prefetched neighbour) of its own, so that threads that count
/// do not slow each other down.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// This thread's cell in every counter.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    }
    SHARD.with(Cell::get)
}

/// A number that only grows. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<[Padded<AtomicU64>; SHARDS]>);

impl Counter {
    /// Adds `amount`.
    pub(crate) fn add(&self, amount: u64) {
        self.0[shard()].0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    pub(crate) fn value(&self) -> u64 {
        let values = self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed));
        values.fold(0, u64::wrapping_add)
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, u64, u64>(&self.value(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Upper bounds of [`Durations`]' buckets in microseconds: half a decade apart, from a request that
/// a cache answers to one that waits for a time-out.
const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// A histogram of durations. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Durations(Arc<[Padded<DurationCells>; SHARDS]>);

#[derive(Default)]
struct DurationCells {
    /// One for each bound, and one for what is longer than all.
    counts: [AtomicU64; BUCKETS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub(crate) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        let cells = &self.0[shard()].0;
        cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // 2^64 ns are 584 years of requests.
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        cells.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn buckets(&self) -> [u64; BUCKETS_US.len() + 1] {
        std::array::from_fn(|bucket| {
            let cells = self.0.iter();
            cells.map(|cell| cell.0.counts[bucket].load(Ordering::Relaxed)).sum()
        })
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.buckets();
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let sums = self.0.iter().map(|cell| cell.0.sum_ns.load(Ordering::Relaxed));
        let sum_s = sums.sum::<u64>() as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum_s, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Counter({})", self.value())
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Durations({:?})", self.buckets())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..100).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.value(), 2 * 100 * 2 * SHARDS as u64);
    }

    #[test]
    fn a_name_under_several_labels_is_described_once() {
        let mut registry = registry();
        for node in ["a", "b"] {
            let labelled = registry.sub_registry_with_label(("node".into(), node.into()));
            labelled.register("things", "Things counted", Counter::default());
            labelled.register("others", "Others counted", Counter::default());
        }
        let text = text(&registry);
        assert_eq!(text.matches("# HELP").count(), 2, "{text}");
        let things = "ashlar_things_total{node=\"a\"} 0\nashlar_things_total{node=\"b\"} 0\n";
        assert!(text.contains(things), "{text}");
        assert!(text.ends_with("} 0\n# EOF\n"), "{text}");
    }

    #[test]
    fn metrics_appear_in_the_text_under_their_prefix() {
        let mut registry = registry();
        let (counter, durations) = (Counter::default(), Durations::default());
        registry.register("things", "Things counted", counter.clone());
        registry.register("wait_seconds", "Waiting", durations.clone());
        counter.add(3);
        for us in [100, 101, 60_000_000] {
            durations.observe(Duration::from_micros(us));
        }
        let text = text(&registry);
        for line in [
            "ashlar_things_total 3\n",
            "ashlar_wait_seconds_bucket{le=\"0.0001\"} 1\n",
            "ashlar_wait_seconds_bucket{le=\"0.00025\"} 2\n",
            "ashlar_wait_seconds_bucket{le=\"30.0\"} 2\n",
            "ashlar_wait_seconds_bucket{le=\"+Inf\"} 3\n",
            "ashlar_wait_seconds_count 3\n",
            "ashlar_wait_seconds_sum 60.000201\n",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
