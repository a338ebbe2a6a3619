//! What a backup does: follows its leader.

use super::{Replica, Status, Write, has_room};
use crate::{Entry, Message, Mode, Service, View};
use std::{collections::BTreeMap, net::SocketAddr};

/// Messages that came before their predecessors and are kept.
const AHEAD_MAX: usize = 64;

/// Entries that came before their predecessors, by their first place.
pub(super) type Ahead = BTreeMap<u64, Vec<Entry>>;

impl<S: Service> Replica<S> {
    /// Whether a message of `view` is from the leader that this replica follows.
    fn is_followed(&self, from: SocketAddr, view: View) -> bool {
        let is_backup = self.status == Status::Normal && self.leading.is_none();
        is_backup
            && view == self.view
            && self.place_of(from) == Some(self.configuration.leader_of(view))
    }

    /// The leader was heard: nobody else shall lead for a while.
    pub(super) fn heard(&mut self, now_us: u64) {
        self.promised_until_us = self.promised_until_us.max(now_us + self.options.promise_us());
        self.timers.suspect = Some(self.suspect_at(now_us));
        self.forget_unused_snapshot(now_us);
        self.trusts();
    }

    /// The leader gives entries their places.
    pub(super) fn on_prepare(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        commit: u64,
        entries: Vec<Entry>,
    ) {
        if !self.is_followed(from, view) {
            return self.teach(from, view);
        }
        let Some(first_op) = entries.first().map(|entry| entry.op) else { return };
        self.heard(now_us);
        self.owes_acknowledgement = true;
        if first_op > self.log.head_op() + 1 {
            if self.ahead.len() < AHEAD_MAX {
                self.ahead.insert(first_op, entries);
            }
            self.miss(now_us);
        } else {
            self.take(entries);
            self.take_early();
        }
        self.follow_commit(now_us, commit);
    }

    /// Takes what came too early and follows the log by now.
    pub(super) fn take_early(&mut self) {
        while let Some(next) = self.ahead.first_entry()
            && *next.key() <= self.log.head_op() + 1
        {
            let entries = next.remove();
            self.take(entries);
            self.owes_acknowledgement = true;
        }
    }

    /// Takes the leader's entries as far as they are new.
    fn take(&mut self, entries: Vec<Entry>) {
        let mut appended = Vec::new();
        let mut repaired = Vec::new();
        let is_durable = self.options.mode == Mode::Durable;
        let head_op = self.log.head_op();
        for entry in entries {
            if entry.op <= self.log.head_op() {
                let lost = self.log.holes().contains(&entry.op).then(|| entry.clone());
                if lost.is_some() && self.log.fill(entry) {
                    repaired.extend(lost);
                }
            } else if !has_room(&self.log, &self.options) {
                // It is sent again when there is.
                break;
            } else if self.log.head_digest().is_some_and(|previous| entry.follows(previous))
                && entry.op == self.log.head_op() + 1
            {
                if is_durable {
                    appended.push(entry.clone());
                }
                self.log.append(entry);
            } else {
                // It belongs behind what is missing here, or to no log of this view.
                break;
            }
        }
        if let Some(first) = repaired.first() {
            // What was certain behind it was so only behind a hole.
            let before = first.op - 1;
            self.persisted_op = self.persisted_op.min(before);
            self.unpersisted.iter_mut().for_each(|(_, op)| *op = before.min(*op));
            let number = self.outputs.write(Write::Repair(repaired));
            self.unpersisted.push_back((number, self.log.whole_op().min(head_op)));
        }
        if !appended.is_empty() {
            let number = self.outputs.write(Write::Append(appended));
            self.unpersisted.push_back((number, self.log.head_op()));
        }
    }

    /// The leader lives.
    pub(super) fn on_commit(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        commit: u64,
        (head_op, head_digest): (u64, u64),
        round: u64,
    ) {
        if !self.is_followed(from, view) {
            return self.teach(from, view);
        }
        self.heard(now_us);
        let place = self.configuration.leader_of(view);
        self.send(place, Message::CommitOk { view, round });
        if self.log.whole_op() < head_op {
            self.miss(now_us);
        } else if self.log.digest_at(head_op).is_some_and(|own| own != head_digest) {
            // Somebody's disk is not what it was: what follows from here on means nothing.
            self.divergence = Some(head_op);
            return;
        }
        self.follow_commit(now_us, commit);
    }

    /// Asks the leader for what is missing, not too often.
    fn miss(&mut self, now_us: u64) {
        if now_us < self.missed_us + self.options.resend_us {
            return;
        }
        self.missed_us = now_us;
        let (view, op) = (self.view, self.log.whole_op());
        let place = self.configuration.leader_of(view);
        self.send(place, Message::Missing { view, op });
    }

    /// Everything up to `commit` is committed, as far as it is here.
    pub(super) fn follow_commit(&mut self, now_us: u64, commit: u64) {
        self.advance(now_us, commit.min(self.log.whole_op()));
        if self.executed >= commit {
            self.current_us = Some(now_us);
        }
    }

    /// Tells the leader how far the log is here.
    pub(super) fn acknowledge_owed(&mut self) {
        let is_backup = self.status == Status::Normal && self.leading.is_none();
        if !self.owes_acknowledgement || !is_backup || !self.may_speak() {
            return;
        }
        self.owes_acknowledgement = false;
        let (view, op) = (self.view, self.certain_op());
        let Some(digest) = self.log.digest_at(op) else { return };
        let place = self.configuration.leader_of(view);
        self.send(place, Message::PrepareOk { view, op, digest });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::{Configuration, Message, Options, Replica, Start, View, kv::KeyValue};

    #[test]
    fn a_log_that_differs_from_its_leaders_is_told() {
        let members = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|it| it.parse().unwrap());
        let configuration = Configuration::new(0, members.to_vec()).unwrap();
        let start = Start::New(configuration);
        let service = KeyValue::default();
        let mut backup =
            Replica::new(0, members[1], Options::default(), 1, start, service).unwrap();
        let says = |head_digest| Message::Commit {
            view: View::new(0, 0),
            commit: 0,
            head_op: 0,
            head_digest,
            round: 1,
        };
        let own_digest = backup.log().digest_at(0).unwrap();
        backup.handle_message(1, members[0], says(own_digest));
        assert_eq!(backup.divergence(), None);
        backup.handle_message(2, members[0], says(own_digest + 1));
        assert_eq!(backup.divergence(), Some(0));
    }
}
