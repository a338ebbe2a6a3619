//! A replica and the programs that decide for it between its inputs.
//!
//! Programs in the kernel of a replica's host take and acknowledge what a leader sends, or count what backups acknowledge. Only
//! one of the two decides at a time: before anything is put into a replica that follows, the programs are shut out and what they
//! have taken is put in; afterwards they are let in again, with what the replica then shares. So what they acknowledge is always
//! part of what the replica says next, and nothing is acknowledged in a view that it has left. What a leader's programs do is a
//! hint: it looks at what they have kept before it believes anything, and at times without being told.

use crate::{
    Configuration, Entry, Message, Output, ReadId, Replica, Request, Service, Share, View,
    replica::ends_epoch,
};
use bytes::Bytes;

/// How long a backup leaves what programs have taken where it is, in microseconds: what comes together is executed together.
const LOOK_US: u64 = 500;
/// Messages that are put in at once while programs go on: whatever else comes waits for them.
const TAKEN_MAX: usize = 256;
/// How long nothing comes before a backup sleeps until it is woken, in microseconds.
const IDLE_US: u64 = 2_000;
/// How long a leader waits to be told that a quorum has more before it looks, in microseconds: a lost wake-up costs no more.
const COUNT_US: u64 = 1_000;

/// The memory that programs share with a replica.
pub trait FastPath {
    /// Shuts programs out: returns when none decides any more. They leave everything to the replica then.
    fn close(&mut self);

    /// Lets programs decide what is shared, by the log's end and in the view that are given; nothing they have kept for former shares
    /// counts. Called when they are shut out.
    fn open(&mut self, now_us: u64, share: &Share, configuration: &Configuration);

    /// Programs may go on for a while: without this, they stop. `commit` is what they need not tell any more.
    fn keep_open(&mut self, now_us: u64, commit: u64);

    /// What programs have taken next; none if that is all. Programs may go on meanwhile.
    fn take(&mut self) -> Option<Taken>;

    /// How far the backup at `place` has acknowledged in the view that is shared, and the digest there.
    fn acknowledged(&mut self, place: usize) -> Option<(u64, u64)>;

    /// Has the programs wake the replica's thread when they take something, or a quorum has more. False if they have taken something
    /// by now; what backups have acknowledged is for the replica to look at, after this.
    fn fall_asleep(&mut self) -> bool;

    /// Has them wake nobody: the replica will look.
    fn wake_up(&mut self);
}

/// A message that programs have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It gives entries their places.
    Prepare {
        /// Everything up to this place is committed.
        commit: u64,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// It cannot be read.
    Unreadable,
}

/// What programs may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// To take and acknowledge what a leader sends.
    pub early_acknowledgement: bool,
    /// To count what backups acknowledge.
    pub quorum: bool,
}

/// A replica, with programs or without.
///
/// The shell calls [`Accelerated::look`] whenever it wakes, puts in what has come, performs the outputs, and calls
/// [`Accelerated::settle`] before it sleeps.
#[derive(Debug)]
pub struct Accelerated<S, F> {
    replica: Replica<S>,
    fast_path: Option<F>,
    allowed: Allowed,
    /// What programs may decide; none while they are shut out.
    open: Option<Share>,
    /// The epoch whose members programs know.
    epoch: Option<u32>,
    /// What each backup was last seen to have acknowledged, by place, since the share began.
    seen: [Option<u64>; crate::MEMBERS_MAX],
    /// When to look at what programs have done; none if they say it, or do nothing.
    look_us: Option<u64>,
    /// When they were last seen to have done something.
    busy_us: u64,
    /// They had taken more than was put in at once.
    has_more: bool,
}

impl<S: Service, F: FastPath> Accelerated<S, F> {
    /// A replica without programs.
    pub fn new(replica: Replica<S>) -> Self {
        Self {
            replica,
            fast_path: None,
            allowed: Allowed::default(),
            open: Some(Share::Nothing),
            epoch: None,
            seen: Default::default(),
            look_us: None,
            busy_us: 0,
            has_more: false,
        }
    }

    /// The replica.
    pub fn replica(&self) -> &Replica<S> {
        &self.replica
    }

    /// What it shares with programs.
    pub fn fast_path(&self) -> Option<&F> {
        self.fast_path.as_ref()
    }

    /// The same, to change what is beside the sharing.
    pub fn fast_path_mut(&mut self) -> Option<&mut F> {
        self.fast_path.as_mut()
    }

    /// Whether programs know the members of an epoch.
    pub fn knows(&self, epoch: u32) -> bool {
        self.epoch == Some(epoch)
    }

    /// Gives programs a memory to share that nobody uses yet, and has them do what is allowed from the next
    /// [`Accelerated::settle`] on.
    pub fn accelerate(&mut self, fast_path: F, allowed: Allowed) {
        assert!(self.fast_path.is_none(), "a replica has one memory to share");
        (self.fast_path, self.allowed) = (Some(fast_path), allowed);
        (self.open, self.epoch) = (Some(Share::Nothing), None);
    }

    /// Allows programs more, or less, from the next [`Accelerated::settle`] on.
    pub fn allow(&mut self, allowed: Allowed) {
        self.allowed = allowed;
    }

    /// Takes the memory away again, after everything in it.
    pub fn decelerate(&mut self, now_us: u64) -> Option<F> {
        self.allowed = Allowed::default();
        self.settle(now_us);
        self.look_us = None;
        self.fast_path.take()
    }

    /// Puts something into the replica that may change its view or its log; not if what programs have taken shows that it must stop: it
    /// would speak without what they have acknowledged.
    pub fn input(&mut self, now_us: u64, input: impl FnOnce(&mut Replica<S>)) {
        if matches!(self.open, Some(Share::Follow { .. })) {
            self.close(now_us);
        }
        if self.replica.divergence().is_none() {
            input(&mut self.replica);
        }
    }

    /// A client asks for something. What a leader makes of it, programs need not know; others only answer.
    pub fn handle_request(&mut self, now_us: u64, time_ms: u64, request: Request) {
        self.replica.handle_request(now_us, time_ms, request);
    }

    /// A client reads.
    pub fn handle_read(&mut self, now_us: u64, id: ReadId, question: Bytes) {
        self.replica.handle_read(now_us, id, question);
    }

    /// A client reads what may be old.
    pub fn handle_stale_read(&mut self, now_us: u64, id: ReadId, question: &Bytes, age_us: u64) {
        self.replica.handle_stale_read(now_us, id, question, age_us);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.replica.poll_output()
    }

    /// When to call [`Accelerated::handle_timeout`], in microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.replica.poll_timeout().into_iter().chain(self.look_us).min()
    }

    /// The time that [`Accelerated::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now_us: u64) {
        self.look(now_us);
        if self.replica.poll_timeout().is_some_and(|at_us| at_us <= now_us) {
            self.input(now_us, |replica| replica.handle_timeout(now_us));
        }
    }

    /// Looks at what programs have done, without shutting them out.
    pub fn look(&mut self, now_us: u64) {
        match self.open {
            Some(Share::Follow { .. }) => self.has_more = !self.take(now_us),
            Some(Share::Lead { view, place, .. }) => {
                if let Some(fast_path) = &mut self.fast_path {
                    fast_path.wake_up();
                }
                self.count(now_us, view, place);
            }
            Some(Share::Nothing) | None => {}
        }
    }

    /// Lets programs decide what the replica shares by now. What it wants done must have been done, or be sure to be done.
    pub fn settle(&mut self, now_us: u64) {
        let Some(fast_path) = &mut self.fast_path else { return };
        let mut share = allowed(self.replica.share(), self.allowed);
        let is_current = self.epoch == Some(self.replica.configuration().epoch());
        if let Some(open) = &self.open
            && open.is_as(&share)
            && is_current
        {
            if share != Share::Nothing {
                fast_path.keep_open(now_us, self.replica.commit());
            }
        } else {
            if self.open.is_some() {
                self.close(now_us);
                // What was taken last may have changed what is shared.
                share = allowed(self.replica.share(), self.allowed);
            }
            let configuration = self.replica.configuration();
            let fast_path = self.fast_path.as_mut().expect("it is there");
            fast_path.open(now_us, &share, configuration);
            (self.open, self.epoch) = (Some(share), Some(configuration.epoch()));
            (self.seen, self.busy_us) = (Default::default(), now_us);
        }
        self.look_us = self.next_look(now_us);
    }

    /// When to look without being told.
    fn next_look(&mut self, now_us: u64) -> Option<u64> {
        match self.open? {
            Share::Nothing => None,
            Share::Lead { view, place, .. } => {
                let commit = self.replica.commit();
                if commit == self.replica.log().head_op() {
                    return None;
                }
                self.fast_path.as_mut()?.fall_asleep();
                // What was acknowledged before that has woken nobody.
                self.count(now_us, view, place);
                let is_further = self.replica.commit() > commit;
                Some(if is_further { now_us } else { now_us + COUNT_US })
            }
            Share::Follow { .. } if self.has_more => Some(now_us),
            Share::Follow { .. } => {
                let sleeps = now_us >= self.busy_us + IDLE_US
                    && self.fast_path.as_mut().is_some_and(FastPath::fall_asleep);
                (!sleeps).then_some(now_us + LOOK_US)
            }
        }
    }

    /// Shuts programs out, and puts in what they have taken.
    fn close(&mut self, now_us: u64) {
        self.shut_out();
        self.has_more = !self.take(now_us);
        if self.replica.has_come_early() {
            self.replica.handle_early(now_us);
        }
    }

    fn shut_out(&mut self) {
        if self.open.take().is_some()
            && let Some(fast_path) = &mut self.fast_path
        {
            fast_path.close();
        }
    }

    /// Puts in what programs have taken: while they go on, a bounded part of it. True if that was all. Once they are shut out, all of it
    /// goes in before anything else does.
    fn take(&mut self, now_us: u64) -> bool {
        let mut messages = 0;
        while self.replica.divergence().is_none() {
            if messages == TAKEN_MAX && self.open.is_some() {
                return false;
            }
            messages = TAKEN_MAX.min(messages + 1);
            let Some(taken) = self.fast_path.as_mut().and_then(FastPath::take) else { return true };
            self.busy_us = now_us;
            match taken {
                Taken::Unreadable => self.replica.handle_unreadable(),
                Taken::Prepare { commit, entries } => {
                    if entries.iter().any(ends_epoch) {
                        // Executing it ends the view.
                        self.shut_out();
                    }
                    self.replica.handle_accepted(now_us, commit, entries);
                }
            }
        }
        true
    }

    /// Puts in what backups have acknowledged, as far as it is new.
    fn count(&mut self, now_us: u64, view: View, own: usize) {
        let Some(fast_path) = &mut self.fast_path else { return };
        for place in (0..self.replica.configuration().count()).filter(|place| *place != own) {
            if self.replica.view() != view {
                // What was executed has ended the epoch: other members have these places.
                return;
            }
            let Some((op, digest)) = fast_path.acknowledged(place) else { continue };
            if self.seen[place].is_none_or(|seen| seen < op) {
                self.seen[place] = Some(op);
                let from = self.replica.configuration().members()[place];
                self.replica.handle_message(now_us, from, Message::PrepareOk { view, op, digest });
            }
        }
    }
}

/// What of a share is allowed.
fn allowed(share: Share, allowed: Allowed) -> Share {
    match share {
        Share::Follow { .. } if allowed.early_acknowledgement => share,
        Share::Lead { .. } if allowed.quorum => share,
        _ => Share::Nothing,
    }
}
