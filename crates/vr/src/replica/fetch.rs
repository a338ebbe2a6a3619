//! Fetching a log before it is taken: what a replica has stays as it is until all of the other log is here.
//!
//! VR Revisited, section 5.2, lets a replica truncate its log and then ask for the rest. If it fails in
//! between, entries that it had acknowledged are gone. Here the fetched entries wait beside the log, are
//! checked by their digests up to the last one, and are taken in one step.

use super::{LOG_FACTOR_MAX, Output, Replica, Status, Write, staged::Staged};
use crate::{
    BURST_MESSAGES, ENTRY_HEADER_BYTES, Entry, EpochStart, Message, Mode, OPERATION_BYTES_MAX,
    Promise, Service, View,
    replica::leader::{BACKOFF_MAX, piece},
};
use core::net::SocketAddr;

/// Messages with entries or parts of snapshots that may wait to be sent before questions for more are not heard.
pub(super) const BULK_MAX: usize = 4 * BURST_MESSAGES;

/// What a log is fetched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To lead the view.
    Lead,
    /// To follow the leader of a view.
    Follow(View),
    /// To enter an epoch.
    Epoch(EpochStart),
}

/// A log on its way here.
#[derive(Debug)]
pub(super) struct Fetch {
    purpose: Purpose,
    /// Everything up to here is committed.
    commit: u64,
    /// The digest at its last place, if it is known.
    target_digest: Option<u64>,
    /// Who has it.
    sources: Vec<SocketAddr>,
    /// Who is asked.
    turn: usize,
    staged: Staged,
}

impl Fetch {
    /// Whether it is for an epoch later than that of a view.
    pub(super) fn is_for_epoch_after(&self, view: View) -> bool {
        matches!(&self.purpose, Purpose::Epoch(epoch) if epoch.view > view)
    }

    /// Whether what is on its way serves the same purpose. The log of a view only grows: an earlier end of
    /// it does, and one that moved with each word of a busy leader would never be reached.
    fn serves(&self, other: &Self) -> bool {
        let is_same = self.staged.target_op() == other.staged.target_op()
            && self.target_digest == other.target_digest;
        self.purpose == other.purpose && (is_same || matches!(self.purpose, Purpose::Follow(_)))
    }
}

impl<S: Service> Replica<S> {
    /// Fetches the log up to a place from replicas that have it, for a purpose; at once if it is here.
    pub(super) fn start_fetch(
        &mut self,
        now_us: u64,
        purpose: Purpose,
        commit: u64,
        (target_op, target_digest): (u64, Option<u64>),
        sources: Vec<SocketAddr>,
    ) {
        let is_here = target_digest.is_some() && self.log.digest_at(target_op) == target_digest;
        let whole_op = self.log.whole_op();
        let have_op = if is_here && whole_op >= target_op { target_op } else { 0 };
        self.fetch_behind(
            now_us,
            have_op,
            Fetch {
                purpose,
                commit,
                target_digest,
                sources,
                turn: 0,
                staged: Staged::new(1, target_op),
            },
        );
    }

    /// Fetches the log that a view begins with, to lead it. Up to `have_op` this replica has it.
    pub(super) fn fetch_to_lead(
        &mut self,
        now_us: u64,
        commit: u64,
        (target_op, have_op): (u64, u64),
        sources: Vec<SocketAddr>,
    ) {
        self.fetch_behind(
            now_us,
            have_op,
            Fetch {
                purpose: Purpose::Lead,
                commit,
                target_digest: None,
                sources,
                turn: 0,
                staged: Staged::new(1, target_op),
            },
        );
    }

    fn fetch_behind(&mut self, now_us: u64, have_op: u64, fetch: Fetch) {
        if let Some(present) = self.fetch.as_mut()
            && present.serves(&fetch)
        {
            let new = fetch.sources.into_iter().filter(|source| !present.sources.contains(source));
            let new: Vec<_> = new.collect();
            present.sources.extend(new);
            return;
        }
        // Mostly this replica's log is the beginning of the other one; the first entry behind it will tell.
        let whole_op = self.log.whole_op();
        let target_op = fetch.staged.target_op();
        let may_begin = fetch.purpose != Purpose::Lead && whole_op < target_op;
        let likely_op = if may_begin { whole_op } else { 0 };
        let first_op = have_op.max(self.common_op()).max(likely_op) + 1;
        self.fetch = Some(Fetch { staged: Staged::new(first_op, target_op), ..fetch });
        self.silences = 0;
        self.go_on_fetching(now_us);
    }

    /// Up to what is committed all logs are the same.
    fn common_op(&self) -> u64 {
        self.commit.min(self.log.whole_op()).max(self.log.base_op())
    }

    /// Asks for what is missing next, or takes the log if nothing is.
    fn go_on_fetching(&mut self, now_us: u64) {
        let (wait_us, range_bytes) = (self.fetch_wait_us(), self.options.burst_bytes());
        let Some(fetch) = self.fetch.as_mut() else { return };
        if fetch.staged.is_whole() {
            return self.finish_fetch(now_us);
        }
        let Some(to) = fetch.sources.get(fetch.turn % fetch.sources.len().max(1)).copied() else {
            return;
        };
        self.timers.fetch = Some(now_us + wait_us);
        while let Some((first_op, last_op)) = fetch.staged.next_range(range_bytes) {
            let message = Message::GetState { first_op, last_op };
            self.outputs.push(Output::Send { to, message });
        }
    }

    /// How long a source may be silent: longer each time, for it may be far away, or have much to do.
    pub(super) fn fetch_wait_us(&self) -> u64 {
        let wait_us = (4 * self.options.resend_us) << self.silences.min(BACKOFF_MAX);
        wait_us.min(self.options.suspect_us)
    }

    /// A source was silent, or something was lost.
    pub(super) fn fetch_timed_out(&mut self, now_us: u64) {
        self.silences += 1;
        self.ask_for_parts_again(now_us);
        if let Some(fetch) = self.fetch.as_mut() {
            fetch.turn += 1;
            fetch.staged.ask_again();
            self.go_on_fetching(now_us);
        }
    }

    /// Somebody asks for entries.
    pub(super) fn on_get_state(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        first_op: u64,
        last_op: u64,
    ) {
        if first_op <= self.log.base_op() {
            if self.executed >= first_op {
                self.offer_snapshot(now_us, from);
            }
            return;
        }
        if self.outputs.bulk() >= BULK_MAX {
            // Somebody asks faster than answers leave; the question is repeated.
            return;
        }
        let last_op = last_op.min(self.log.head_op());
        let (entries_max, bytes_max) =
            (self.options.batch_entries_max, self.options.batch_bytes_max);
        let (mut next_op, mut sent_bytes) = (first_op, 0);
        while next_op <= last_op && sent_bytes < self.options.burst_bytes() {
            let present = (next_op..=last_op).filter_map(|op| self.log.get(op));
            let (entries, bytes) = piece(present, entries_max, bytes_max);
            let Some(last) = entries.last() else { return };
            (next_op, sent_bytes) = (last.op + 1, sent_bytes + bytes);
            self.outputs.push(Output::Send { to: from, message: Message::NewState { entries } });
        }
    }

    /// Entries have come that were asked for.
    pub(super) fn on_new_state(&mut self, now_us: u64, from: SocketAddr, entries: Vec<Entry>) {
        // A log may have twice what is kept and one entry more, and another one of that length in front of it.
        let log_bytes_max = LOG_FACTOR_MAX * self.options.log_bytes_max;
        let bytes_max = 2 * (log_bytes_max + ENTRY_HEADER_BYTES + OPERATION_BYTES_MAX);
        let common_op = self.common_op();
        let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.sources.contains(&from)) else {
            return;
        };
        let first_op = fetch.staged.first_op();
        let before = self.log.digest_at((first_op - 1).min(self.log.head_op()));
        let is_other = |entry: &Entry| {
            entry.op == first_op && !before.is_some_and(|before| entry.follows(before))
        };
        if first_op > common_op + 1 && entries.iter().any(is_other) {
            // The logs differ before that.
            fetch.staged.begin_again(common_op + 1);
            return self.go_on_fetching(now_us);
        }
        let mut is_new = false;
        for entry in entries {
            is_new |= fetch.staged.take(entry);
        }
        if fetch.staged.bytes() > bytes_max {
            // Longer than anybody's log: somebody is wrong.
            fetch.turn += 1;
            fetch.staged.begin_again(first_op);
            return;
        }
        if is_new {
            self.silences = 0;
            self.go_on_fetching(now_us);
        }
    }

    /// A snapshot has taken the place of some entries.
    pub(super) fn snapshot_installed(&mut self, now_us: u64) {
        let executed = self.executed;
        if let Some(fetch) = self.fetch.as_mut() {
            let covered_op = executed.min(fetch.staged.target_op());
            fetch.staged.begin_later(covered_op + 1);
            fetch.staged.ask_again();
            self.go_on_fetching(now_us);
        } else {
            self.owes_acknowledgement = true;
        }
    }

    /// Everything is here: checks it, and takes it.
    fn finish_fetch(&mut self, now_us: u64) {
        let common_op = self.common_op();
        let fetch = self.fetch.as_mut().expect("it has just come to its end");
        // More may have been committed here meanwhile.
        fetch.staged.begin_later(common_op + 1);
        let after = fetch.staged.first_op() - 1;
        let mut digest = self.log.digest_at(after.min(self.log.head_op()));
        let mut is_one_log = digest.is_some();
        for entry in fetch.staged.entries() {
            is_one_log &= digest.is_some_and(|previous| entry.follows(previous));
            digest = Some(entry.digest);
        }
        let is_target = fetch.staged.bytes() == 0
            || fetch.target_digest.is_none_or(|target| digest == Some(target));
        if !is_one_log || !is_target {
            // Of several logs: asked for anew, from somebody else.
            fetch.staged.begin_again(common_op + 1);
            fetch.turn += 1;
            self.timers.fetch = Some(now_us + self.fetch_wait_us());
            return;
        }
        let fetch = self.fetch.take().expect("it is there");
        self.timers.fetch = None;
        let entries: Vec<Entry> = fetch.staged.into_entries();
        match fetch.purpose {
            Purpose::Lead => {
                self.install(self.view, after, entries);
                self.advance(now_us, fetch.commit.min(self.log.head_op()));
                // What was executed may have begun an epoch.
                if self.status == Status::Normal && self.leading.is_none() && self.leads() {
                    self.lead(now_us, false);
                }
            }
            Purpose::Follow(view) => {
                self.install(view, after, entries);
                self.heard(now_us);
                self.owes_acknowledgement = true;
                self.advance(now_us, fetch.commit.min(self.log.head_op()));
            }
            Purpose::Epoch(epoch) => {
                // What ended the last epoch is committed, and executing it begins the new one.
                let (view, status) = (self.last_normal, self.status);
                self.replace_log(after, entries, view);
                self.status = status;
                self.advance(now_us, epoch.op);
            }
        }
    }

    /// Whether this replica is the leader of its view.
    pub(super) fn leads(&self) -> bool {
        self.place == Some(self.configuration.leader_of(self.view))
    }

    /// Has the log of a view: takes part in it from now on.
    fn install(&mut self, view: View, after: u64, entries: Vec<Entry>) {
        assert!(view >= self.view, "views never go back");
        self.view = view;
        self.replace_log(after, entries, view);
        self.status = Status::Normal;
        (self.changing, self.recovering, self.leading) = (None, None, None);
        self.timers.repeat = None;
        self.trusts();
    }

    /// Replaces what is behind a place, in one step.
    fn replace_log(&mut self, after: u64, entries: Vec<Entry>, last_normal: View) {
        self.ahead.clear();
        self.last_normal = last_normal;
        let after = after.min(self.log.head_op());
        assert!(after >= self.commit.min(self.log.whole_op()), "what is committed stays");
        self.log.truncate(after);
        let promise = self.promise();
        let is_durable = self.options.mode == Mode::Durable;
        let written = if is_durable { entries.clone() } else { Vec::new() };
        entries.into_iter().for_each(|entry| self.log.append(entry));
        if is_durable {
            let number = self.outputs.write(Write::Install { after, entries: written, promise });
            self.unpersisted.clear();
            self.persisted_op = self.persisted_op.min(after);
            self.unpersisted.push_back((number, self.log.head_op()));
            self.promise_write = number;
        } else {
            self.promise_write = self.outputs.write(Write::Promise(promise));
        }
    }

    /// What must be remembered whatever happens.
    pub(super) fn promise(&self) -> Promise {
        Promise { view: self.view, last_normal: self.last_normal, epoch: self.epoch.clone() }
    }
}
