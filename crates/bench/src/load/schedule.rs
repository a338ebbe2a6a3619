//! When the requests of an open loop are due: at a fixed rate, whatever the answers do.

use std::time::Duration;

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// The arrivals of one of several generator threads. Arrival `i` of the whole generator is due at
/// `i / rate`; the threads take them in turn, so that together they keep the rate and its even
/// spacing.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The time between arrivals of all threads together; computed once, so that every thread
    /// multiplies the same number and no error adds up.
    interval_ns: f64,
    /// The number, among all arrivals, of this thread's next one.
    next: u64,
    /// How many threads take turns.
    threads: u64,
}

impl Schedule {
    /// The schedule of `thread` (counted from 0) out of `threads`, for `rate_per_second` in all.
    /// The rate is positive and finite.
    pub fn new(rate_per_second: f64, thread: usize, threads: usize) -> Self {
        assert!(rate_per_second > 0.0 && rate_per_second.is_finite(), "a rate is positive");
        assert!(thread < threads, "threads are counted from 0");
        Self {
            interval_ns: NANOSECONDS_PER_SECOND / rate_per_second,
            next: thread as u64,
            threads: threads as u64,
        }
    }

    /// Takes the next arrival: when it is due, from the start of the run.
    pub fn next_due(&mut self) -> Duration {
        let due = self.due(self.next);
        self.next += self.threads;
        due
    }

    /// How many arrivals of this thread that nobody has taken are due before `end`.
    pub fn remaining_before(&self, end: Duration) -> u64 {
        let mut number = self.next;
        let mut remaining = 0;
        while self.due(number) < end {
            remaining += 1;
            number += self.threads;
        }
        remaining
    }

    fn due(&self, number: u64) -> Duration {
        // Exact to a nanosecond for months of arrivals: 2^53 ns are 104 days.
        Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(count: usize, mut schedule: Schedule) -> Vec<u128> {
        (0..count).map(|_| schedule.next_due().as_micros()).collect()
    }

    #[test]
    fn arrivals_are_evenly_spaced() {
        assert_eq!(first(4, Schedule::new(1000.0, 0, 1)), [0, 1000, 2000, 3000]);
    }

    #[test]
    fn threads_take_turns() {
        assert_eq!(first(3, Schedule::new(1000.0, 0, 2)), [0, 2000, 4000]);
        assert_eq!(first(3, Schedule::new(1000.0, 1, 2)), [1000, 3000, 5000]);
    }

    #[test]
    fn no_error_adds_up_over_an_hour_at_an_awkward_rate() {
        let mut schedule = Schedule::new(7000.0, 0, 1);
        let hour = Duration::from_secs(3600);
        let due =
            std::iter::repeat_with(|| schedule.next_due()).take_while(|due| *due < hour).count();
        assert_eq!(due, 7000 * 3600);
    }

    #[test]
    fn arrivals_that_nobody_took_are_counted() {
        let mut schedule = Schedule::new(100.0, 0, 1);
        for _ in 0..30 {
            schedule.next_due();
        }
        assert_eq!(schedule.remaining_before(Duration::from_secs(1)), 70);
        assert_eq!(schedule.remaining_before(Duration::from_millis(100)), 0);
    }
}
