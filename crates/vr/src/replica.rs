//! One member of a group.

mod backup;
mod epoch;
mod execute;
mod fetch;
mod leader;
mod output;
mod reads;
mod recovery;
mod restart;
mod share;
mod snapshot;
mod staged;
mod stall;
mod view_change;

pub use output::{Answer, Output, Promise, ReadAnswer, ReadId, Reply, Write};
pub use restart::{Restored, Start, StartError};
pub use share::Share;
pub(crate) use share::ends_epoch;
pub use snapshot::Snapshot;

use crate::{
    Configuration, EpochStart, Log, Members, Message, Mode, Options, Request, Service, Sessions,
    View,
};
use backup::Ahead;
use fetch::Fetch;
use leader::Leading;
use output::Outputs;
use recovery::Recovering;
use snapshot::{Incoming, Outgoing};
use stall::Waits;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};
use view_change::{Changing, Suspicions};

/// What a replica does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It takes part in its view.
    Normal,
    /// It has left all earlier views, and its view has not begun here.
    ViewChange,
    /// It has lost its memory, and votes for nothing.
    Recovering,
    /// It has never been a member.
    Joining,
    /// It is a member no more.
    Retired,
}

/// One member of a group.
#[derive(Debug)]
pub struct Replica<S> {
    options: Options,
    /// Its name among members.
    address: SocketAddr,
    configuration: Arc<Configuration>,
    /// How the present epoch began.
    epoch: EpochStart,
    /// The epoch before, until this replica has taken up what it is in the present one.
    previous: Option<Arc<Configuration>>,
    /// Members that are known to be in the epoch: a former member waits for them.
    started: Members,
    /// It has taken up what it is in its epoch.
    is_settled: bool,
    /// Its place in the configuration; none if it is not (or no more) a member.
    place: Option<usize>,
    status: Status,
    /// It acknowledges nothing in earlier views.
    view: View,
    /// The last view whose log it had (VR Revisited, section 4.2's v', not the view of its last entry).
    last_normal: View,
    log: Log,
    /// Everything up to here is committed.
    commit: u64,
    /// Everything up to here is executed.
    executed: u64,
    service: S,
    sessions: Sessions,
    /// The time of the last entry that was executed.
    time_ms: u64,
    /// What only a leader knows.
    leading: Option<Leading>,
    /// What came too early.
    ahead: Ahead,
    /// What only a replica between two views knows.
    changing: Option<Changing>,
    recovering: Option<Recovering>,
    /// A log on its way here.
    fetch: Option<Fetch>,
    /// How often in a row nothing came of a log or a snapshot that was asked for.
    silences: u32,
    /// A snapshot on its way here.
    incoming: Option<Incoming>,
    /// A snapshot that others take from here.
    outgoing: Option<Outgoing>,
    suspicions: Suspicions,
    /// When everything was last executed that the leader said to be committed, in microseconds; none before it said anything.
    current_us: Option<u64>,
    /// The present moment, in microseconds.
    now_us: u64,
    /// Joins no view change before.
    promised_until_us: u64,
    /// When to do what comes by itself.
    timers: Timers,
    /// Drawn from for chances.
    random: u64,
    outputs: Outputs,
    /// Appended and not persisted yet: the number of the write, and the place it goes up to.
    unpersisted: VecDeque<(u64, u64)>,
    /// The log is sure to be here up to this place.
    persisted_op: u64,
    /// The leader is to hear how far the log is here.
    owes_acknowledgement: bool,
    /// When something missing was last asked for, in microseconds.
    missed_us: u64,
    /// Its disk, if something was found to wait for it.
    waits: Option<Waits>,
    /// The number of the last write that must be persisted before anything is said in this view.
    promise_write: u64,
    /// A checkpoint that is on its way to the disk: its write and its place.
    checkpoint: Option<(u64, u64)>,
    /// The log up to here is on disk as a checkpoint.
    checkpoint_op: u64,
    /// Bytes of the entries that were executed since the last checkpoint was written.
    unsaved_bytes: usize,
    /// Where this log differs from the leader's, if it does.
    divergence: Option<u64>,
}

/// When to do what comes by itself, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Timers {
    /// A leader speaks.
    heartbeat: Option<u64>,
    /// A leader looks for what was not answered.
    resend: Option<u64>,
    /// A replica gives up on its leader.
    suspect: Option<u64>,
    /// A replica says again what it says between views, or without memory.
    repeat: Option<u64>,
    /// A source of a log or a snapshot was silent for too long.
    fetch: Option<u64>,
}

/// A replica whose disk lags takes no more entries when its log has grown to so many times what it should keep:
/// others commit without it, and what is not in a checkpoint cannot be forgotten.
const LOG_FACTOR_MAX: usize = 2;

/// Whether a log may become longer.
fn has_room(log: &Log, options: &Options) -> bool {
    log.bytes() < LOG_FACTOR_MAX * options.log_bytes_max
}

impl Timers {
    fn next(&self) -> Option<u64> {
        [self.heartbeat, self.resend, self.suspect, self.repeat, self.fetch]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Whether the moment of a timer has come; it is off then.
fn is_due(timer: &mut Option<u64>, now_us: u64) -> bool {
    timer.take_if(|at_us| *at_us <= now_us).is_some()
}

impl<S: Service> Replica<S> {
    /// Its status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its view.
    pub fn view(&self) -> View {
        self.view
    }

    /// The last view whose log it had.
    pub fn last_normal(&self) -> View {
        self.last_normal
    }

    /// The members of its epoch.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything up to here is committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Everything up to here is executed.
    pub fn executed(&self) -> u64 {
        self.executed
    }

    /// Where a leader says that this log differs from its own: one of the two disks is not what it was. Such a replica must be
    /// stopped.
    pub fn divergence(&self) -> Option<u64> {
        self.divergence
    }

    /// The client table.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Whether it leads its view, and may say so.
    pub fn is_leader(&self) -> bool {
        self.leading.is_some() && self.may_speak()
    }

    /// Where requests should go, as far as it knows; none while nobody leads.
    pub fn leader(&self) -> Option<SocketAddr> {
        (self.status == Status::Normal)
            .then(|| self.configuration.members()[self.configuration.leader_of(self.view)])
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.flush();
            self.acknowledge_owed();
        }
        self.outputs.pop()
    }

    /// When to call [`Replica::handle_timeout`], in microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// A client asks for something. What cannot be taken is dropped: clients repeat.
    pub fn handle_request(&mut self, now_us: u64, time_ms: u64, request: Request) {
        self.request(now_us, time_ms, request);
    }

    /// A message has come from the replica at `from`.
    pub fn handle_message(&mut self, now_us: u64, from: SocketAddr, message: Message) {
        self.now_us = now_us;
        match message {
            Message::Prepare { view, commit, entries, .. } => {
                self.on_prepare(now_us, from, view, commit, entries);
            }
            Message::PrepareOk { view, op, digest } => {
                self.on_prepare_ok(now_us, from, view, op, digest)
            }
            Message::Missing { view, op } => self.on_missing(now_us, from, view, op),
            Message::Commit { view, commit, head_op, head_digest, round } => {
                self.on_commit(now_us, from, view, commit, (head_op, head_digest), round);
            }
            Message::CommitOk { view, round } => self.on_commit_ok(now_us, from, view, round),
            Message::StartViewChange { view, present } => {
                self.on_start_view_change(now_us, from, view, present);
            }
            Message::DoViewChange(vote) => self.on_do_view_change(now_us, from, vote),
            Message::StartView { view, commit, head_op, head_digest } => {
                self.on_start_view(now_us, from, view, commit, (head_op, head_digest));
            }
            Message::GetState { first_op, last_op } => {
                self.on_get_state(now_us, from, first_op, last_op)
            }
            Message::NewState { entries } => self.on_new_state(now_us, from, entries),
            Message::GetSnapshot { op, offset } => self.on_get_snapshot(now_us, from, op, offset),
            Message::Snapshot(part) => self.on_snapshot(now_us, from, &part),
            Message::Recovery { nonce, view } => self.on_recovery(now_us, from, nonce, view),
            Message::RecoveryResponse { view, nonce, leader } => {
                self.on_recovery_response(now_us, from, view, nonce, leader);
            }
            Message::StartEpoch(epoch) => self.on_start_epoch(now_us, from, epoch),
            Message::EpochStarted { view } => self.on_epoch_started(from, view),
        }
    }

    /// Everything up to the write of this number is persistent.
    pub fn handle_persisted(&mut self, now_us: u64, write: u64) {
        self.now_us = now_us;
        assert!(write <= self.outputs.written(), "nothing is persisted that was not written");
        self.outputs.persisted(write);
        while let Some((at, op)) = self.unpersisted.front().copied()
            && at <= write
        {
            self.unpersisted.pop_front();
            self.persisted_op = self.persisted_op.max(op);
        }
        if let Some((at, op)) = self.checkpoint
            && at <= write
        {
            (self.checkpoint, self.checkpoint_op) = (None, op);
            self.release();
            if self.log.bytes() > self.options.log_bytes_max {
                // What came meanwhile is too much already, and perhaps nothing more comes before it is less.
                self.checkpoint();
            }
        }
        self.tell_former_members();
        match self.status {
            Status::Normal if self.leading.is_some() => self.acknowledged_by_itself(now_us),
            Status::Normal => self.owes_acknowledgement = true,
            Status::ViewChange => self.vote(now_us),
            Status::Recovering | Status::Joining | Status::Retired => {}
        }
    }

    /// The time that [`Replica::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now_us: u64) {
        self.now_us = now_us;
        if is_due(&mut self.timers.heartbeat, now_us) {
            self.heartbeat(now_us);
        }
        if is_due(&mut self.timers.resend, now_us) {
            match self.holds_others_up(now_us) {
                true => self.give_up(now_us),
                false => self.resend(now_us),
            }
        }
        if is_due(&mut self.timers.suspect, now_us) {
            self.suspect(now_us);
        }
        if is_due(&mut self.timers.repeat, now_us) {
            self.repeat(now_us);
        }
        if is_due(&mut self.timers.fetch, now_us) {
            self.fetch_timed_out(now_us);
        }
    }

    /// The place of a member; none for anybody else.
    fn place_of(&self, from: SocketAddr) -> Option<usize> {
        self.configuration.place_of(from)
    }

    fn others(&self) -> Members {
        match self.place {
            Some(place) => self.configuration.others(place),
            None => Members::first(self.configuration.count()),
        }
    }

    fn send(&mut self, place: usize, message: Message) {
        let to = self.configuration.members()[place];
        self.outputs.push(Output::Send { to, message });
    }

    fn broadcast(&mut self, message: Message) {
        let to = self.others();
        self.multicast(to, message);
    }

    fn multicast(&mut self, to: Members, message: Message) {
        if !to.is_empty() {
            let members = Arc::clone(&self.configuration);
            self.outputs.push(Output::Multicast { members, to, message });
        }
    }

    /// Whether the last promise of this replica would survive a power loss: before, it says nothing that rests
    /// on it.
    fn may_speak(&self) -> bool {
        self.outputs.is_persisted(self.promise_write)
    }

    /// The place up to which this replica may acknowledge.
    fn certain_op(&self) -> u64 {
        match self.options.mode {
            Mode::Volatile => self.log.head_op(),
            Mode::Durable => self.persisted_op.min(self.log.whole_op()),
        }
    }

    /// A number below `bound`: xorshift, for jitter only.
    fn chance(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    /// A time-out with its part of chance.
    fn suspect_at(&mut self, now_us: u64) -> u64 {
        let jitter_us = self.chance(self.options.suspect_us / 2);
        now_us + self.options.suspect_us + jitter_us
    }
}
