//! A disk that stands still.
//!
//! A leader needs its own disk only to forget what a checkpoint has: the others commit without it, until its log is as
//! long as it may be. If a quorum of them has every entry, they can go on, and it cannot: it gives its view up.
//! Where they lag as well, nobody would be better off, and it leads on.

use super::{Replica, has_room};
use crate::{Mode, Service};

/// The first write that was found to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// The last write that was persistent then.
    persisted: u64,
    /// When it was found, in microseconds.
    since_us: u64,
}

impl<S: Service> Replica<S> {
    /// Whether nothing has become persistent for as long as a leader may be silent, though something waits. Only those
    /// who look now and then see it.
    pub(super) fn is_stalled(&mut self, now_us: u64) -> bool {
        let found = self.outputs.waits_behind().map(|persisted| match self.waits {
            Some(waits) if waits.persisted == persisted => waits,
            _ => Waits { persisted, since_us: now_us },
        });
        self.waits = found;
        found.is_some_and(|waits| now_us >= waits.since_us + self.options.suspect_us)
    }

    /// Whether the others could go on without this leader, and it keeps them from it.
    pub(super) fn holds_others_up(&mut self, now_us: u64) -> bool {
        let is_stalled = self.is_stalled(now_us);
        let is_full = self.options.mode == Mode::Durable && !has_room(&self.log, &self.options);
        // One that may not say yet that it leads is silent, and missed, anyway.
        is_stalled && is_full && self.is_leader() && self.others_have_everything()
    }

    /// Whether a quorum without this leader has all of its log.
    fn others_have_everything(&self) -> bool {
        let head_op = self.log.head_op();
        let count = self.leading.as_ref().map_or(0, |leading| {
            let others =
                leading.acked().enumerate().filter(|(place, _)| Some(*place) != self.place);
            others.filter(|(_, acked)| *acked == Some(head_op)).count()
        });
        count >= self.configuration.quorum()
    }

    /// Gives its view up. It has left alone, as a leader that ended would have: the others leave when they miss it, and
    /// whoever leads then finds it again.
    pub(super) fn give_up(&mut self, now_us: u64) {
        self.leave_for(now_us, self.view.next());
    }
}
