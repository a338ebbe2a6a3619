//! What both owners know of steering.

use super::Timeouts;

/// To whom steering delivers a flow's frames, as seen from a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The host that the connection leaves.
    Exporter,
    /// The host that it goes to.
    Importer,
    /// A third one.
    Other,
    /// Steering has no entry for the flow.
    Nobody,
}

/// Steering's answer: the flow's entry after a request, whether it was followed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steered {
    /// The epoch of the request that this answers.
    pub answers_epoch: u64,
    /// The entry's epoch; without an entry it means nothing.
    pub epoch: u64,
    /// The entry's owner.
    pub owner: Owner,
}

/// When a claim, or a look, is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Retry {
    pub(super) at_ms: u64,
    /// How long it was since the last one.
    pause_ms: u64,
}

impl Retry {
    pub(super) fn first(now_ms: u64, timeouts: &Timeouts) -> Self {
        let pause_ms = timeouts.claim_pause_ms;
        Self { at_ms: now_ms + pause_ms, pause_ms }
    }

    /// Whether to repeat it now; the next time is further away then.
    pub(super) fn is_due(&mut self, now_ms: u64, timeouts: &Timeouts) -> bool {
        let is_due = now_ms >= self.at_ms;
        if is_due {
            self.pause_ms = (2 * self.pause_ms).min(timeouts.claim_pause_max_ms);
            self.at_ms = now_ms + self.pause_ms;
        }
        is_due
    }
}
