//! How long moves take, and how they end.

use crate::metrics::{Counter, Registry};
use prometheus_client::metrics::{family::Family, histogram::Histogram};
use std::time::Duration;

/// The shortest time that is told apart, in seconds.
const FIRST_BOUND_S: f64 = 1e-6;
/// Each bound is this much higher than the one before: a percentile is known to a quarter.
const BOUND_RATIO: f64 = 1.25;
/// Up to a second.
const BOUNDS: usize = 62;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// What is measured and counted of moves.
#[derive(Clone)]
pub(crate) struct Stages {
    /// Until everything written has been sent.
    pub(super) flush: Stage,
    /// The filter and repair mode.
    pub(super) freeze: Stage,
    /// Reading the socket's state, and encoding it.
    pub(super) export: Stage,
    /// From the offer until the exporter knows that the importer serves.
    pub(super) offer: Stage,
    /// All of it, at the exporter.
    total: Stage,
    /// At the importer: decoding, and making the socket.
    pub(super) import: Stage,
    /// At the importer: from there to steering's answer to its claim.
    pub(super) claim: Stage,
    /// At the importer: leaving repair mode.
    pub(super) leave_repair: Stage,
    moved: Counter,
    ended: Counter,
    not_arrived: Counter,
    late: Counter,
    kept: Family<Label, Counter>,
}

/// Durations of one stage.
#[derive(Clone)]
pub(crate) struct Stage(Histogram);

impl Stage {
    pub(super) fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

impl Stages {
    /// Registers everything.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let stages = Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            let bound = |place| FIRST_BOUND_S * BOUND_RATIO.powi(place as i32);
            Histogram::new((0..BOUNDS).map(bound))
        });
        registry.register(
            "hand_off_stage_seconds",
            "Duration of each stage of a connection's move",
            stages.clone(),
        );
        let kept = Family::default();
        registry.register(
            "hand_offs_kept",
            "Connections that could not move and went on here, by reason",
            kept.clone(),
        );
        let mut counter = |name, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let stage = |name| Stage(stages.get_or_create(&[("stage", name)]).clone());
        Self {
            flush: stage("flush"),
            freeze: stage("freeze"),
            export: stage("export"),
            offer: stage("offer"),
            claim: stage("claim"),
            leave_repair: stage("leave_repair"),
            total: stage("total"),
            import: stage("import"),
            moved: counter("hand_offs_moved", "Connections that moved to another node"),
            ended: counter("hand_offs_lost", "Connections that were lost on their move"),
            not_arrived: counter("hand_offs_not_arrived", "Connections offered and not taken"),
            late: counter(
                "hand_offs_late",
                "Times that bytes of a connection came to its old owner after it had moved here",
            ),
            kept,
        }
    }

    pub(super) fn moved(&self, total: Duration) {
        self.total.observe(total);
        self.moved.add(1);
    }

    pub(super) fn ended(&self) {
        self.ended.add(1);
    }

    pub(super) fn not_arrived(&self) {
        self.not_arrived.add(1);
    }

    pub(super) fn late(&self) {
        self.late.add(1);
    }

    pub(super) fn kept(&self, reason: &'static str) {
        self.kept.get_or_create(&[("reason", reason)]).add(1);
    }
}
