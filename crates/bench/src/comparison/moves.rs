//! What nodes count of moving connections: read from their metrics, as differences over a window.

use super::{Case, Scheme};
use crate::units::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What every metric of nodes begins with.
const PREFIX: &str = "ashlar_hand_off";
const NANOSECONDS_PER_SECOND: f64 = 1e9;
const NANOSECONDS_PER_MICROSECOND: f64 = 1e3;

/// A stage of a move, and what the published system took for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    /// Its name in the metrics.
    pub(crate) name: &'static str,
    /// The published time in microseconds, where there is a counterpart.
    pub(crate) published_us: Option<f64>,
}

/// The stages in their order. `import`, `claim` and `leave_repair` are parts of `offer`, at the importer. The published
/// system blocks (22 µs), serializes (14), sends (51), deserializes (123) and points (22).
pub(crate) const STAGES: [Stage; 8] = [
    Stage { name: "flush", published_us: None },
    Stage { name: "freeze", published_us: Some(22.0) },
    Stage { name: "export", published_us: Some(14.0) },
    Stage { name: "offer", published_us: Some(51.0 + 123.0 + 22.0) },
    Stage { name: "import", published_us: Some(123.0) },
    Stage { name: "claim", published_us: Some(22.0) },
    Stage { name: "leave_repair", published_us: None },
    Stage { name: "total", published_us: Some(232.0) },
];

/// What was counted, at one moment or over a window, on one host or on several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MoveCounts {
    /// Connections that moved.
    pub(crate) moved: u64,
    /// Connections that were lost on their move.
    pub(crate) lost: u64,
    /// Connections that stayed, by reason.
    pub(crate) kept: BTreeMap<String, u64>,
    /// Durations by stage.
    stages: BTreeMap<String, Durations>,
}

/// How many durations were at most so long, by the bound in nanoseconds. The same bounds on every
/// host; the last one is `u64::MAX`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Durations(BTreeMap<u64, u64>);

impl MoveCounts {
    /// Reads a node's metrics in their text format. What it does not know it passes over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines().filter(|line| line.starts_with(PREFIX)) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<u64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "ashlar_hand_offs_moved_total" => counts.moved += value,
                "ashlar_hand_offs_lost_total" => counts.lost += value,
                "ashlar_hand_offs_kept_total" => {
                    if let Some(reason) = label(labels, "reason") {
                        *counts.kept.entry(reason.to_owned()).or_default() += value;
                    }
                }
                "ashlar_hand_off_stage_seconds_bucket" => {
                    let bound = label(labels, "le").and_then(bound_ns);
                    if let (Some(stage), Some(bound)) = (label(labels, "stage"), bound) {
                        let durations = counts.stages.entry(stage.to_owned()).or_default();
                        *durations.0.entry(bound).or_default() += value;
                    }
                }
                _ => {}
            }
        }
        counts
    }

    /// Adds what was counted on another host or in another window.
    pub(crate) fn add(&mut self, other: &Self) {
        self.moved += other.moved;
        self.lost += other.lost;
        for (reason, count) in &other.kept {
            *self.kept.entry(reason.clone()).or_default() += count;
        }
        for (stage, durations) in &other.stages {
            let mine = self.stages.entry(stage.clone()).or_default();
            for (bound, count) in &durations.0 {
                *mine.0.entry(*bound).or_default() += count;
            }
        }
    }

    /// What was counted after `earlier`.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        self.moved = self.moved.saturating_sub(earlier.moved);
        self.lost = self.lost.saturating_sub(earlier.lost);
        for (reason, count) in &mut self.kept {
            *count = count.saturating_sub(earlier.kept.get(reason).copied().unwrap_or(0));
        }
        self.kept.retain(|_, count| *count > 0);
        for (stage, durations) in &mut self.stages {
            let Some(before) = earlier.stages.get(stage) else { continue };
            for (bound, count) in &mut durations.0 {
                *count = count.saturating_sub(before.0.get(bound).copied().unwrap_or(0));
            }
        }
        self
    }

    /// Median and 99th percentile of a stage in microseconds; `None` if it was never passed.
    pub(crate) fn stage(&self, name: &str) -> Option<StageEntry> {
        let durations = self.stages.get(name)?;
        let microseconds = |percentile| {
            durations.percentile_ns(percentile).map(|ns| ns / NANOSECONDS_PER_MICROSECOND)
        };
        Some(StageEntry {
            count: durations.count(),
            p50_us: microseconds(50.0)?,
            p99_us: microseconds(99.0)?,
        })
    }
}

impl Durations {
    fn count(&self) -> u64 {
        self.0.get(&u64::MAX).copied().unwrap_or(0)
    }

    /// The duration in nanoseconds that `percentile` (0 to 100) of all did not exceed, interpolated
    /// between two bounds; what is beyond the last bound counts as the last bound.
    fn percentile_ns(&self, percentile: f64) -> Option<f64> {
        let rank = self.count() as f64 * percentile / 100.0;
        if rank <= 0.0 {
            return None;
        }
        let (mut lower, mut below) = (0, 0);
        for (bound, count) in &self.0 {
            if *count as f64 >= rank {
                if *bound == u64::MAX {
                    break;
                }
                let share = (rank - below as f64) / (count - below) as f64;
                return Some(lower as f64 + share * (bound - lower) as f64);
            }
            (lower, below) = (*bound, *count);
        }
        Some(lower as f64)
    }
}

/// The value of a label; ours hold neither quotes nor commas.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.trim_end_matches('}').split(',').find_map(|label| {
        let (key, value) = label.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// A bound, given in seconds, in nanoseconds.
fn bound_ns(seconds: &str) -> Option<u64> {
    if seconds == "+Inf" {
        return Some(u64::MAX);
    }
    let seconds: f64 = seconds.parse().ok()?;
    Some((seconds * NANOSECONDS_PER_SECOND).round() as u64)
}

/// What was counted on all hosts in a measurement's window.
#[derive(Clone, Debug)]
pub(crate) struct Moves {
    pub(crate) counts: MoveCounts,
    /// Between the two moments at which it was read.
    pub(crate) elapsed_seconds: f64,
}

impl Moves {
    /// Connections that moved, each second.
    pub(crate) fn per_second(&self) -> f64 {
        if self.elapsed_seconds > 0.0 {
            self.counts.moved as f64 / self.elapsed_seconds
        } else {
            0.0
        }
    }
}

/// Moves in the report.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MovesEntry {
    /// Connections that moved, each second.
    pub moved_per_second: f64,
    /// Connections that were lost on their move.
    pub lost: u64,
    /// Connections that could not move and stayed, by reason.
    pub kept: BTreeMap<String, u64>,
    /// How long the stages took.
    pub stages: BTreeMap<String, StageEntry>,
}

/// Moves of a single connection, which waits for nobody but itself.
#[derive(Clone, Debug)]
pub(crate) struct LoneSample {
    /// The round, from 0.
    pub(crate) round: usize,
    /// How it connected, and what it asked for.
    pub(crate) case: Case,
    /// How it moved.
    pub(crate) moves: Moves,
}

/// Moves of a single connection in the report.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LoneMovesEntry {
    /// How the generator connected.
    pub scheme: Scheme,
    /// Bytes of each object.
    pub size_bytes: ByteSize,
    /// The round, from 1.
    pub round: usize,
    /// How it moved.
    pub moves: MovesEntry,
}

impl From<&LoneSample> for LoneMovesEntry {
    fn from(sample: &LoneSample) -> Self {
        Self {
            scheme: sample.case.scheme,
            size_bytes: sample.case.size,
            round: sample.round + 1,
            moves: MovesEntry::from(&sample.moves),
        }
    }
}

/// Durations of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct StageEntry {
    /// How often it was passed.
    pub count: u64,
    /// Median in microseconds.
    pub p50_us: f64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
}

impl From<&Moves> for MovesEntry {
    fn from(moves: &Moves) -> Self {
        let stages = STAGES
            .iter()
            .filter_map(|stage| Some((stage.name.to_owned(), moves.counts.stage(stage.name)?)));
        Self {
            moved_per_second: moves.per_second(),
            lost: moves.counts.lost,
            kept: moves.counts.kept.clone(),
            stages: stages.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Metrics of a node on which `fast` moves took up to 1 µs to freeze and `slow` ones up to 2 µs.
    fn metrics(fast: u64, slow: u64) -> MoveCounts {
        let all = fast + slow;
        MoveCounts::parse(&format!(
            "# TYPE ashlar_hand_off_stage_seconds histogram
ashlar_hand_off_stage_seconds_sum{{stage=\"freeze\"}} 0.5
ashlar_hand_off_stage_seconds_count{{stage=\"freeze\"}} {all}
ashlar_hand_off_stage_seconds_bucket{{le=\"0.000001\",stage=\"freeze\"}} {fast}
ashlar_hand_off_stage_seconds_bucket{{le=\"2e-6\",stage=\"freeze\"}} {all}
ashlar_hand_off_stage_seconds_bucket{{le=\"+Inf\",stage=\"freeze\"}} {all}
ashlar_hand_offs_moved_total {all}
ashlar_hand_offs_kept_total{{reason=\"refused\"}} {slow}
ashlar_hand_offs_lost_total 0
ashlar_requests_total 99
"
        ))
    }

    #[test]
    fn a_window_counts_what_came_in_it_on_every_host() {
        let mut window = metrics(10, 4).since(&metrics(6, 1));
        window.add(&metrics(1, 0));
        assert_eq!((window.moved, window.lost), (8, 0));
        assert_eq!(window.kept["refused"], 3);
        assert_eq!(window.stage("freeze").unwrap().count, 8);
    }

    #[test]
    fn percentiles_lie_between_the_bounds_of_their_bucket() {
        let stage = metrics(50, 50).stage("freeze").unwrap();
        assert_eq!((stage.count, stage.p50_us), (100, 1.0));
        assert!((stage.p99_us - 1.98).abs() < 1e-9);
        let early = metrics(100, 0).stage("freeze").unwrap();
        assert_eq!(early.p50_us, 0.5);
    }

    #[test]
    fn what_lies_beyond_the_last_bound_counts_as_that_bound() {
        let text = "ashlar_hand_off_stage_seconds_bucket{stage=\"leave_repair\",le=\"1.0\"} 0
ashlar_hand_off_stage_seconds_bucket{stage=\"leave_repair\",le=\"+Inf\"} 3";
        assert_eq!(MoveCounts::parse(text).stage("leave_repair").unwrap().p50_us, 1e6);
    }

    #[test]
    fn a_stage_that_was_never_passed_has_no_percentiles() {
        assert_eq!(metrics(0, 0).stage("freeze"), None);
        assert_eq!(metrics(1, 0).stage("total"), None);
    }

    #[test]
    fn moves_are_counted_over_the_time_between_two_looks() {
        let moves = Moves { counts: metrics(5, 5), elapsed_seconds: 2.0 };
        assert_eq!(moves.per_second(), 5.0);
        let entry = MovesEntry::from(&moves);
        assert_eq!(entry.stages.keys().collect::<Vec<_>>(), ["freeze"]);
    }

    #[test]
    fn the_published_stages_add_up_to_the_published_total() {
        let of = |name: &str| STAGES.iter().find(|stage| stage.name == name).unwrap().published_us;
        let parts: f64 = ["freeze", "export", "offer"].map(|name| of(name).unwrap()).iter().sum();
        assert_eq!(of("total"), Some(parts));
    }
}
