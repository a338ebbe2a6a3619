//! Reads without an entry in the log.
//!
//! A leader answers alone while it holds its lease: a quorum has heard a round of it that was sent at most
//! [`Options::lease_us`](crate::Options::lease_us) ago, and has promised to join no view change for longer
//! than that. Without a lease it begins a round, and answers when a quorum has heard it: nobody else led when
//! the round began. Either way it must have executed everything from earlier views first (VR Revisited,
//! section 4.4, and Raft's dissertation, section 6.4).

use super::{Output, ReadAnswer, ReadId, Replica, Status};
use crate::{Message, RESULT_BYTES_MAX, Service, View};
use bytes::Bytes;
use std::{collections::VecDeque, net::SocketAddr};

/// Rounds that may be waited for at one time.
const ROUNDS_MAX: usize = 256;
/// How long a round is remembered at least, in microseconds: its answers also tell that a quorum follows.
const ROUND_KEPT_US: u64 = 1_000_000;
/// Reads that may wait; beyond, a client asks again.
const WAITING_MAX: usize = 8_192;

/// What a leader knows of its rounds.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The number of the last round.
    round: u64,
    /// When rounds were sent, by number, in microseconds.
    sent: VecDeque<(u64, u64)>,
    /// The last round that each member has heard, by place.
    heard: Vec<u64>,
    /// The last round that a quorum has heard.
    confirmed: u64,
    /// When a quorum last heard one, in microseconds.
    confirmed_us: u64,
    /// The leader may answer alone until then, in microseconds.
    lease_until_us: u64,
    /// What waits for a round to be heard, and for a place to be executed.
    waiting: VecDeque<Waiting>,
    /// Bytes of their questions.
    waiting_bytes: usize,
}

/// A read that waits.
#[derive(Debug)]
struct Waiting {
    id: ReadId,
    question: Bytes,
    round: u64,
    op: u64,
}

impl Reads {
    /// What nobody will answer any more.
    pub(super) fn drain(self) -> impl Iterator<Item = ReadId> {
        self.waiting.into_iter().map(|read| read.id)
    }
}

impl<S: Service> Replica<S> {
    /// Somebody reads, and must see everything that was acknowledged to anybody before.
    pub fn handle_read(&mut self, now_us: u64, id: ReadId, question: Bytes) {
        self.now_us = now_us;
        let commit = self.commit;
        let leader = self.leader();
        let Some(leading) = self.leading.as_mut() else {
            return self.read(id, ReadAnswer::NotLeader(leader));
        };
        let reads = &mut leading.reads;
        if now_us < reads.lease_until_us && self.executed >= leading.start_op {
            return self.read_here(id, &question);
        }
        let bytes = reads.waiting_bytes + question.len();
        let fits = reads.waiting.is_empty() || bytes <= self.options.queue_bytes_max;
        if reads.waiting.len() >= WAITING_MAX || !fits {
            return self.read(id, ReadAnswer::NotLeader(leader));
        }
        reads.waiting_bytes = bytes;
        // A round that is on its way may have been heard before this read began.
        let (round, op) = (reads.round + 1, commit.max(leading.start_op));
        reads.waiting.push_back(Waiting { id, question, round, op });
        // Those that come while a round is on its way share the next one.
        if reads.confirmed == reads.round {
            self.heartbeat(now_us);
        }
    }

    /// Somebody reads, and is content with everything that was committed `age_us` ago. The age counts from when
    /// the leader's word came: what it was on its way adds to it.
    pub fn handle_stale_read(&mut self, now_us: u64, id: ReadId, question: &Bytes, age_us: u64) {
        self.now_us = now_us;
        let is_young = |current_us: u64| now_us <= current_us.saturating_add(age_us);
        let is_fresh = self.status == Status::Normal && self.current_us.is_some_and(is_young);
        if self.leading.is_some() {
            return self.handle_read(now_us, id, question.clone());
        }
        if is_fresh {
            return self.read_here(id, question);
        }
        self.read(id, ReadAnswer::TooOld);
    }

    fn read_here(&mut self, id: ReadId, question: &[u8]) {
        let (op, bytes) = (self.executed, self.service.read(question));
        assert!(bytes.len() <= RESULT_BYTES_MAX, "an answer of {} bytes", bytes.len());
        self.read(id, ReadAnswer::Answered { op, bytes });
    }

    pub(super) fn read(&mut self, id: ReadId, answer: ReadAnswer) {
        self.outputs.push(Output::Read { id, answer });
    }

    /// Whether it leads, and a quorum has heard it lately.
    pub(super) fn is_followed_by_quorum(&self, now_us: u64) -> bool {
        let heard = |reads: &Reads| now_us < reads.confirmed_us + self.options.suspect_us;
        self.leading.as_ref().is_some_and(|leading| heard(&leading.reads))
    }

    /// A leader says that it lives.
    pub(super) fn heartbeat(&mut self, now_us: u64) {
        self.forget_unused_snapshot(now_us);
        let is_certain = self.may_speak();
        let lease_us = self.options.lease_us;
        let Some(leading) = self.leading.as_mut() else { return };
        self.timers.heartbeat = Some(now_us + self.options.heartbeat_us);
        if !is_certain {
            return;
        }
        let reads = &mut leading.reads;
        reads.round += 1;
        reads.sent.push_back((reads.round, now_us));
        // Older rounds give no lease any more.
        while reads.sent.len() > ROUNDS_MAX
            || reads
                .sent
                .front()
                .is_some_and(|(_, sent_us)| now_us > sent_us + lease_us.max(ROUND_KEPT_US))
        {
            reads.sent.pop_front();
        }
        let round = reads.round;
        let (head_op, head_digest) = self.head();
        let (view, commit) = (self.view, self.commit);
        self.broadcast(Message::Commit { view, commit, head_op, head_digest, round });
        self.confirm(now_us);
    }

    /// A backup has heard a round.
    pub(super) fn on_commit_ok(&mut self, now_us: u64, from: SocketAddr, view: View, round: u64) {
        let Some(place) = self.backup_of(from, view) else { return };
        let leading = self.leading.as_mut().expect("only a leader has backups");
        let reads = &mut leading.reads;
        if round > reads.round {
            return;
        }
        if reads.heard.len() <= place {
            reads.heard.resize(place + 1, 0);
        }
        reads.heard[place] = reads.heard[place].max(round);
        self.confirm(now_us);
    }

    /// Finds out which round a quorum has heard.
    fn confirm(&mut self, now_us: u64) {
        let (quorum, place, lease_us) =
            (self.configuration.quorum(), self.place, self.options.lease_us);
        let Some(leading) = self.leading.as_mut() else { return };
        let reads = &mut leading.reads;
        let others = reads.heard.iter().enumerate().filter(|(at, _)| Some(*at) != place);
        let mut heard: Vec<u64> = others.map(|(_, round)| *round).collect();
        heard.push(reads.round);
        heard.sort_unstable_by(|one, other| other.cmp(one));
        let Some(confirmed) = heard.get(quorum - 1).copied() else { return };
        if confirmed > reads.confirmed {
            (reads.confirmed, reads.confirmed_us) = (confirmed, now_us);
            while let Some((round, sent_us)) = reads.sent.front().copied()
                && round <= confirmed
            {
                if round == confirmed && lease_us > 0 {
                    reads.lease_until_us = reads.lease_until_us.max(sent_us + lease_us);
                }
                reads.sent.pop_front();
            }
        }
        let is_new = confirmed > 0 && reads.confirmed_us == now_us;
        let is_next_wanted = reads.confirmed == reads.round
            && reads.waiting.back().is_some_and(|last| last.round > reads.round);
        if is_new {
            self.trusts();
        }
        self.answer_reads();
        if is_next_wanted {
            self.heartbeat(now_us);
        }
    }

    /// Answers the reads that have waited for long enough.
    pub(super) fn answer_reads(&mut self) {
        while let Some(leading) = self.leading.as_mut()
            && let Some(first) = leading.reads.waiting.front()
            && first.round <= leading.reads.confirmed
            && first.op <= self.executed
        {
            let Waiting { id, question, .. } =
                leading.reads.waiting.pop_front().expect("it is there");
            leading.reads.waiting_bytes -= question.len();
            self.read_here(id, &question);
        }
    }
}
