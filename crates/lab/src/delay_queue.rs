//! When each frame of a delayed link leaves. Pure: time and seed come from outside.

use crate::fault::{Delay, Probability};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The most frames that wait in one direction.
const FRAMES_MAX: usize = 65_536;
/// The most bytes that wait in one direction: ten seconds of 50 Mbit/s, or 50 ms of 10 Gbit/s.
const BYTES_MAX: usize = 64 << 20;

/// The frames under way in one direction of a link.
///
/// Times are durations since an instant of the caller's choice and never go back.
#[derive(Debug)]
pub(crate) struct DelayQueue {
    delay: Delay,
    random: Pcg64Mcg,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// The bytes of all frames that wait.
    bytes: usize,
    /// When the latest frame that keeps its place leaves: no later one may leave before it.
    last_due: Duration,
    /// The number of the next frame: decides between frames that leave at the same time.
    next_number: u64,
    /// Frames refused because the queue was full.
    overflowed: u64,
}

/// A frame under way. Ordered by its time, then by its number; the numbers of two frames differ.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Duration,
    number: u64,
    frame: Box<[u8]>,
}

impl DelayQueue {
    /// An empty queue. `direction` gives each direction of a link a random sequence of its own.
    pub(crate) fn new(delay: Delay, direction: u64) -> Self {
        Self {
            delay,
            random: Pcg64Mcg::seed_from_u64(delay.seed ^ direction.rotate_right(1)),
            waiting: BinaryHeap::new(),
            bytes: 0,
            last_due: Duration::ZERO,
            next_number: 0,
            overflowed: 0,
        }
    }

    /// Takes a frame that arrived at `now`. A frame that finds the queue full is lost and counted.
    pub(crate) fn push(&mut self, now: Duration, frame: &[u8]) {
        // Drawn for lost frames too, so that the sequence depends on the arrivals only.
        let due = self.draw_due(now);
        if self.waiting.len() >= FRAMES_MAX || self.bytes + frame.len() > BYTES_MAX {
            self.overflowed += 1;
            return;
        }
        self.bytes += frame.len();
        self.waiting.push(Reverse(Waiting { due, number: self.next_number, frame: frame.into() }));
        self.next_number += 1;
    }

    /// The next frame that is due at `now`.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Box<[u8]>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(Waiting { frame, .. }) = self.waiting.pop()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// When the next frame is due; `None` when none waits.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }

    /// Frames lost because the queue was full.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn draw_due(&mut self, now: Duration) -> Duration {
        let overtakes = self.random.random_range(0..Probability::PPM) < self.delay.reorder.ppm();
        let jitter_nanoseconds = self.delay.jitter.as_nanos() as u64;
        let varied = Duration::from_nanos(self.random.random_range(0..=2 * jitter_nanoseconds));
        if overtakes {
            return now;
        }
        // The jitter is at most the delay, so this cannot go below zero.
        let due = now + (self.delay.delay - self.delay.jitter) + varied;
        self.last_due = self.last_due.max(due);
        self.last_due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn delay(delay_ms: u64, jitter_ms: u64, reorder: &str) -> Delay {
        Delay {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::from_millis(jitter_ms),
            reorder: reorder.parse().unwrap(),
            seed: 42,
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Pushes `count` frames, one each millisecond, and returns when each left, in the order of leaving.
    fn run(delay: Delay, count: u16) -> Vec<(Duration, u16)> {
        let mut queue = DelayQueue::new(delay, 0);
        for number in 0..count {
            queue.push(ms(u64::from(number)), &number.to_be_bytes());
        }
        let mut left = Vec::new();
        while let Some(due) = queue.next_due() {
            let frame = queue.pop(due).unwrap();
            left.push((due, u16::from_be_bytes((*frame).try_into().unwrap())));
        }
        left
    }

    #[test]
    fn a_frame_leaves_exactly_when_its_delay_is_over() {
        let mut queue = DelayQueue::new(delay(10, 0, "0%"), 0);
        queue.push(ms(5), b"frame");
        assert_eq!(queue.next_due(), Some(ms(15)));
        assert_eq!(queue.pop(ms(15) - Duration::from_nanos(1)), None);
        assert_eq!(queue.pop(ms(15)).as_deref(), Some(&b"frame"[..]));
        assert_eq!(queue.pop(ms(99)), None);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn frames_of_the_same_instant_keep_their_order() {
        let mut queue = DelayQueue::new(delay(1, 0, "0%"), 0);
        for number in 0..100_u8 {
            queue.push(ms(0), &[number]);
        }
        let order: Vec<u8> =
            std::iter::from_fn(|| queue.pop(ms(1))).map(|frame| frame[0]).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn jitter_varies_the_delay_within_its_bounds_and_keeps_the_order() {
        let left = run(delay(10, 4, "0%"), 2_000);
        assert!(left.is_sorted());
        let delays: Vec<Duration> =
            left.iter().map(|&(at, number)| at - ms(u64::from(number))).collect();
        assert!(delays.iter().all(|&delay| delay >= ms(6) && delay <= ms(14)), "out of bounds");
        assert!(
            delays.iter().any(|&delay| delay < ms(9)) && delays.iter().any(|&delay| delay > ms(13))
        );
        assert!(left.iter().map(|&(_, number)| number).is_sorted());
    }

    #[test]
    fn reordered_frames_skip_the_delay_as_often_as_asked() {
        let left = run(delay(10, 0, "10%"), 10_000);
        let early = left.iter().filter(|&&(at, number)| at == ms(u64::from(number))).count();
        assert!((800..1_200).contains(&early), "{early} of 10,000 at 10 %");
        assert!(!left.iter().map(|&(_, number)| number).is_sorted());
    }

    #[test]
    fn one_seed_decides_everything() {
        let (one, other) = (delay(10, 5, "3%"), Delay { seed: 43, ..delay(10, 5, "3%") });
        assert_eq!(run(one, 1_000), run(one, 1_000));
        assert_ne!(run(one, 1_000), run(other, 1_000));
    }

    #[test]
    fn a_full_queue_loses_and_counts_what_does_not_fit() {
        let mut queue = DelayQueue::new(delay(10, 0, "0%"), 0);
        let frame = vec![0; 1_514];
        let fits = (BYTES_MAX / frame.len()).min(FRAMES_MAX);
        for _ in 0..fits + 3 {
            queue.push(ms(0), &frame);
        }
        assert_eq!(queue.overflowed(), 3);
        assert!(queue.pop(ms(10)).is_some());
        queue.push(ms(10), &frame);
        assert_eq!(queue.overflowed(), 3);
    }

    proptest! {
        /// Whatever arrives, everything leaves once, nothing leaves before its time, and time does not go back.
        #[test]
        fn every_frame_leaves_once(
            gaps_ms in proptest::collection::vec(0_u64..20, 1..200),
            delay_ms in 1_u64..50,
            reorder in 0_u32..=100,
            seed: u64,
        ) {
            let settings = Delay { seed, ..delay(delay_ms, delay_ms / 2, &format!("{reorder}%")) };
            let mut queue = DelayQueue::new(settings, 1);
            let (mut now, mut left) = (Duration::ZERO, Vec::new());
            for (number, gap) in gaps_ms.iter().enumerate() {
                now += ms(*gap);
                while let Some(frame) = queue.pop(now) {
                    left.push(frame);
                }
                queue.push(now, &number.to_be_bytes());
                prop_assert!(queue.next_due().unwrap() <= now + settings.delay + settings.jitter);
            }
            while let Some(frame) = queue.pop(now + settings.delay + settings.jitter) {
                left.push(frame);
            }
            left.sort();
            let all: Vec<Box<[u8]>> = (0..gaps_ms.len()).map(|number| number.to_be_bytes().into()).collect();
            prop_assert_eq!(left, all);
        }
    }
}
