//! What one generator thread counts. All its connections share it; nothing crosses threads until
//! the run is over.

use super::failure::{Failure, Failures};
use crate::histogram::Latencies;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Where a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Requests are made but nothing is measured.
    WarmUp,
    /// The measured window.
    Measured,
    /// No new requests; those on the way finish.
    Over,
}

/// The counters of one thread.
#[derive(Debug)]
pub(super) struct Recorder {
    phase: Cell<Phase>,
    window_started: Cell<Option<Mark>>,
    window_ended: Cell<Option<Mark>>,
    /// Latencies of the requests of the measured window.
    latencies: RefCell<Latencies>,
    /// Requests that were answered within the measured window.
    requests: Cell<u64>,
    /// Body bytes, sent and received, within the measured window, whether or not their request
    /// ended in it: with few large objects this is far less grainy than whole requests.
    body_bytes: Cell<u64>,
    /// Answered requests of the whole run.
    requests_in_all: Cell<u64>,
    /// Connections that the server closed after an answer, as it may.
    reconnects: Cell<u64>,
    /// Failures of the whole run.
    failures: RefCell<Failures>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            phase: Cell::new(Phase::WarmUp),
            window_started: Cell::new(None),
            window_ended: Cell::new(None),
            latencies: RefCell::new(Latencies::new()),
            requests: Cell::new(0),
            body_bytes: Cell::new(0),
            requests_in_all: Cell::new(0),
            reconnects: Cell::new(0),
            failures: RefCell::new(Failures::default()),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Begins the measured window.
    pub(super) fn start_window(&self) {
        self.window_started.set(Some(Mark::now()));
        self.phase.set(Phase::Measured);
    }

    /// Ends the measured window.
    pub(super) fn end_window(&self) {
        self.window_ended.set(Some(Mark::now()));
        self.phase.set(Phase::Over);
    }

    /// Counts body bytes as they come or go.
    pub(super) fn add_body_bytes(&self, count: u64) {
        if self.phase.get() == Phase::Measured {
            self.body_bytes.set(self.body_bytes.get() + count);
        }
    }

    /// Counts an answered request. Its latency counts if the request was answered in the window
    /// (closed loop) or, with `due_in_window` given, if it was due in it (open loop).
    pub(super) fn answered(&self, latency: Duration, due_in_window: Option<bool>) {
        self.requests_in_all.set(self.requests_in_all.get() + 1);
        let in_window = self.phase.get() == Phase::Measured;
        if in_window {
            self.requests.set(self.requests.get() + 1);
        }
        if due_in_window.unwrap_or(in_window) {
            self.latencies.borrow_mut().record(latency);
        }
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.set(self.reconnects.get() + 1);
    }

    pub(super) fn failed(&self, failure: &Failure) {
        self.failures.borrow_mut().add(failure);
    }

    /// The counts, once the run is over.
    pub(super) fn totals(&self) -> Totals {
        let (elapsed, processor_time) = match (self.window_started.get(), self.window_ended.get()) {
            (Some(started), Some(ended)) => (
                ended.instant.duration_since(started.instant),
                ended.processor_time.saturating_sub(started.processor_time),
            ),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        Totals {
            elapsed,
            processor_time,
            latencies: self.latencies.borrow().clone(),
            requests: self.requests.get(),
            body_bytes: self.body_bytes.get(),
            requests_in_all: self.requests_in_all.get(),
            reconnects: self.reconnects.get(),
            unsent: 0,
            failures: self.failures.borrow().clone(),
        }
    }
}

/// An end of the measured window.
#[derive(Clone, Copy, Debug)]
struct Mark {
    instant: Instant,
    /// What this thread has used so far.
    processor_time: Duration,
}

impl Mark {
    fn now() -> Self {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Self {
            instant: Instant::now(),
            processor_time: Duration::try_from(used).unwrap_or_default(),
        }
    }
}

/// The counts of one thread, or of several together. See [`Recorder`] for their meaning.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    /// How long the measured window was in fact.
    pub(super) elapsed: Duration,
    /// Processor time that the generator used within the window.
    pub(super) processor_time: Duration,
    pub(super) latencies: Latencies,
    pub(super) requests: u64,
    pub(super) body_bytes: u64,
    pub(super) requests_in_all: u64,
    pub(super) reconnects: u64,
    /// Requests of an open loop that were due in the window and never sent.
    pub(super) unsent: u64,
    pub(super) failures: Failures,
}

impl Totals {
    /// Adds the counts of another thread that ran at the same time.
    pub(super) fn merge(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.processor_time += other.processor_time;
        self.latencies.merge(&other.latencies);
        self.requests += other.requests;
        self.body_bytes += other.body_bytes;
        self.requests_in_all += other.requests_in_all;
        self.reconnects += other.reconnects;
        self.unsent += other.unsent;
        self.failures.merge(&other.failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(1);

    #[test]
    fn a_closed_loop_counts_what_is_answered_in_the_window() {
        let recorder = Recorder::new();
        recorder.answered(LATENCY, None);
        recorder.add_body_bytes(5);
        recorder.start_window();
        recorder.answered(LATENCY, None);
        recorder.add_body_bytes(7);
        recorder.end_window();
        recorder.answered(LATENCY, None);
        recorder.add_body_bytes(9);
        let totals = recorder.totals();
        assert_eq!((totals.requests, totals.requests_in_all), (1, 3));
        assert_eq!((totals.body_bytes, totals.latencies.count()), (7, 1));
    }

    #[test]
    fn an_open_loop_times_what_was_due_in_the_window_however_late_the_answer() {
        let recorder = Recorder::new();
        recorder.start_window();
        recorder.answered(LATENCY, Some(false));
        recorder.answered(LATENCY, Some(true));
        recorder.end_window();
        recorder.answered(LATENCY, Some(true));
        let totals = recorder.totals();
        assert_eq!((totals.requests, totals.latencies.count()), (2, 2));
    }

    #[test]
    fn threads_add_up_but_their_windows_overlap() {
        let recorder = Recorder::new();
        recorder.start_window();
        recorder.answered(LATENCY, None);
        recorder.end_window();
        let mut totals = recorder.totals();
        totals.elapsed = Duration::from_secs(2);
        let mut other = totals.clone();
        other.elapsed = Duration::from_secs(3);
        other.unsent = 4;
        totals.merge(&other);
        assert_eq!((totals.requests, totals.unsent), (2, 4));
        assert_eq!(totals.latencies.count(), 2);
        assert_eq!(totals.elapsed, Duration::from_secs(3));
    }
}
