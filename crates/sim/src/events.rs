//! Virtual time: events in the order of their moments.

use std::{cmp::Ordering, collections::BinaryHeap};

/// The most events that may wait: beyond, a world feeds on itself.
const EVENTS_MAX: usize = 1 << 20;

/// Events that wait for their moment, in microseconds of virtual time.
///
/// Events of the same moment come in the order in which they were put in.
#[derive(Debug)]
pub struct EventQueue<E> {
    waiting: BinaryHeap<Scheduled<E>>,
    /// How many events were ever put in; breaks ties.
    inserted: u64,
    now_us: u64,
}

#[derive(Debug)]
struct Scheduled<E> {
    at_us: u64,
    sequence: u64,
    event: E,
}

impl<E> EventQueue<E> {
    /// An empty queue at moment zero.
    pub fn new() -> Self {
        Self { waiting: BinaryHeap::new(), inserted: 0, now_us: 0 }
    }

    /// The moment of the last event taken out.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts `event` in for the moment `at_us`, or for now if that has passed.
    ///
    /// # Panics
    /// When more than a million events wait: a bug in the world.
    pub fn push_at(&mut self, at_us: u64, event: E) {
        assert!(self.waiting.len() < EVENTS_MAX, "too many events wait");
        self.inserted += 1;
        self.waiting.push(Scheduled {
            at_us: at_us.max(self.now_us),
            sequence: self.inserted,
            event,
        });
    }

    /// Puts `event` in for `delay_us` from now.
    pub fn push_after(&mut self, delay_us: u64, event: E) {
        self.push_at(self.now_us + delay_us, event);
    }

    /// Takes the next event out and moves time on to it.
    pub fn pop(&mut self) -> Option<E> {
        let next = self.waiting.pop()?;
        self.now_us = next.at_us;
        Some(next.event)
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Scheduled<E> {
    /// Reversed: the heap gives out its greatest element first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_moments_then_of_their_insertion() {
        let mut queue = EventQueue::new();
        for (at_us, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push_at(at_us, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
        assert_eq!(queue.now_us(), 5);
    }

    #[test]
    fn time_never_goes_back() {
        let mut queue = EventQueue::new();
        queue.push_at(9, 'a');
        assert_eq!(queue.pop(), Some('a'));
        queue.push_at(1, 'b');
        queue.push_after(1, 'c');
        assert_eq!((queue.pop(), queue.now_us(), queue.len()), (Some('b'), 9, 1));
    }
}
