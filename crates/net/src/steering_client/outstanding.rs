//! Which replies somebody waits for.

use ashlar_wire::steering::{Operation, Reply};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// Of one operation, the replies to so many repetitions are waited for: the latest. One that is older than the longest pauses before
/// them is lost.
const REPETITIONS_MAX: usize = 8;

/// Requests by their counters.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// At most [`REPETITIONS_MAX`] for each operation under way.
    requests: Mutex<HashMap<u64, Waiting>>,
}

/// Who waits for a reply.
#[derive(Debug)]
struct Waiting {
    /// What a reply must be about.
    operation: Operation,
    reply_to: mpsc::Sender<Reply>,
}

impl Outstanding {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Gives a reply to whoever waits for it. `false`: nobody does.
    pub(super) fn answer(&self, reply: Reply) -> bool {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = requests.get(&reply.counter) else {
            return false;
        };
        let fits =
            reply.operation == waiting.operation.code() && reply.flow == waiting.operation.flow();
        if !fits {
            return false;
        }
        let waiting = requests.remove(&reply.counter);
        // A full channel holds the reply to another repetition: as good.
        waiting.is_some_and(|waiting| waiting.reply_to.try_send(reply).is_ok())
    }
}

/// The repetitions of one operation. Dropping it ends the wait for all of them.
pub(super) struct Attempts<'outstanding> {
    outstanding: &'outstanding Outstanding,
    operation: Operation,
    reply_to: mpsc::Sender<Reply>,
    /// The counters that are waited for, the latest last.
    counters: VecDeque<u64>,
    made: u32,
}

impl<'outstanding> Attempts<'outstanding> {
    pub(super) fn new(
        outstanding: &'outstanding Outstanding,
        operation: Operation,
        reply_to: mpsc::Sender<Reply>,
    ) -> Self {
        Self { outstanding, operation, reply_to, counters: VecDeque::new(), made: 0 }
    }

    /// Waits for the reply to one more repetition, before it is sent.
    pub(super) fn add(&mut self, counter: u64) {
        self.made += 1;
        let waiting = Waiting { operation: self.operation, reply_to: self.reply_to.clone() };
        let mut requests = self.outstanding.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if self.counters.len() == REPETITIONS_MAX
            && let Some(oldest) = self.counters.pop_front()
        {
            requests.remove(&oldest);
        }
        self.counters.push_back(counter);
        let before = requests.insert(counter, waiting);
        assert!(before.is_none(), "counter {counter} was used twice");
    }

    /// Whether the reply is to the latest of them.
    pub(super) fn is_latest(&self, reply: &Reply) -> bool {
        self.counters.back() == Some(&reply.counter)
    }

    /// How many repetitions there were.
    pub(super) fn made(&self) -> u32 {
        self.made
    }
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        let mut requests = self.outstanding.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for counter in &self.counters {
            requests.remove(counter);
        }
    }
}
