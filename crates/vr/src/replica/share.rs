//! What programs beside a replica may decide for it (Electrode, NSDI 2023, without its ways to lose what was acknowledged).

use super::{Replica, Status, execute::Reconfiguration, has_room};
use crate::{Entry, Mode, Service, View};

/// What programs may decide for a replica until its next input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Nothing.
    #[default]
    Nothing,
    /// They may take entries of the leader that follow the log, keep them for [`Replica::handle_accepted`], and acknowledge them.
    Follow {
        /// The replica's view.
        view: View,
        /// The place of the view's leader.
        leader: usize,
        /// The replica's place.
        place: usize,
        /// The last place of its log.
        op: u64,
        /// The digest there.
        digest: u64,
    },
    /// They may keep what backups acknowledge, and say nothing until a quorum has more than is committed.
    Lead {
        /// The view that the replica leads.
        view: View,
        /// The replica's place.
        place: usize,
        /// So many backups make a quorum with it.
        needed: usize,
        /// Everything up to here is committed.
        commit: u64,
    },
}

impl Share {
    /// Whether the same is shared, wherever the log ends and however much is committed.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let kind = |share: &Self| match *share {
            Self::Nothing => None,
            Self::Follow { view, leader, place, .. } => Some((view, leader, place, 0)),
            Self::Lead { view, place, needed, .. } => Some((view, place, place, needed)),
        };
        kind(self) == kind(other)
    }
}

impl<S: Service> Replica<S> {
    /// What programs may decide from now on: as soon as anything else is put in, they may not.
    ///
    /// A backup shares its log only in volatile mode: programs cannot wait for a disk. It does not when an entry waits to be executed
    /// that ends the epoch: executing it ends the view.
    pub fn share(&self) -> Share {
        let Some(place) = self.place.filter(|_| self.is_settled && self.may_speak()) else {
            return Share::Nothing;
        };
        let view = self.view;
        if self.leading.is_some() {
            let needed = self.configuration.quorum() - 1;
            let lead = Share::Lead { view, place, needed, commit: self.commit };
            return if needed > 0 { lead } else { Share::Nothing };
        }
        let mut waiting = self.log.from(self.executed + 1);
        let is_open = self.status == Status::Normal
            && self.options.mode == Mode::Volatile
            && self.divergence.is_none()
            && self.log.holes().is_empty()
            && has_room(&self.log, &self.options)
            && !waiting.any(ends_epoch);
        let digest = self.log.head_digest().filter(|_| is_open);
        digest.map_or(Share::Nothing, |digest| Share::Follow {
            view,
            leader: self.configuration.leader_of(view),
            place,
            op: self.log.head_op(),
            digest,
        })
    }

    /// Programs have taken and acknowledged these entries of the leader, in the view and behind the log that were shared.
    ///
    /// What does not follow the log shows that the leader's differs: see [`Replica::divergence`].
    pub fn handle_accepted(&mut self, now_us: u64, commit: u64, entries: Vec<Entry>) {
        assert!(
            self.status == Status::Normal && self.leading.is_none(),
            "only who follows shares its log"
        );
        self.now_us = now_us;
        self.heard(now_us);
        for entry in entries {
            let next_op = self.log.head_op() + 1;
            let follows = self.log.head_digest().is_some_and(|previous| entry.follows(previous));
            if entry.op != next_op || !follows {
                self.divergence = Some(next_op);
                return;
            }
            self.log.append(entry);
        }
        self.follow_commit(now_us, commit);
    }

    /// What programs have acknowledged cannot be read: this replica has lost it.
    pub fn handle_unreadable(&mut self) {
        self.divergence = Some(self.log.head_op() + 1);
    }

    /// Whether something that came too early follows the log by now. Taking it in is an input like any other.
    pub fn has_come_early(&self) -> bool {
        self.ahead.first_key_value().is_some_and(|(op, _)| *op <= self.log.head_op() + 1)
    }

    /// Takes in what came too early.
    pub fn handle_early(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.take_early();
    }
}

/// Whether executing an entry may end the epoch.
pub(crate) fn ends_epoch(entry: &Entry) -> bool {
    Reconfiguration::of(&entry.request).is_some()
}
