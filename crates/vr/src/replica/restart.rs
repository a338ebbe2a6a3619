//! How a replica begins.

use super::{Replica, Snapshot, Status, Timers, Write, output::Outputs, recovery::Recovering};
use crate::{
    Configuration, Entry, EpochStart, Log, Members, Mode, Options, Promise, Service, Sessions, View,
};
use bytes::Bytes;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

/// What a replica begins from.
#[derive(Clone, Debug)]
pub enum Start {
    /// A new group: all of its members begin like this, once.
    New(Configuration),
    /// A group that this replica will become a member of: one of its members will say so.
    Join,
    /// Volatile mode: its promises are what is left.
    Lost {
        /// What was persisted last.
        promise: Promise,
        /// Drawn at random.
        nonce: u64,
    },
    /// Durable mode: what its disk has.
    Restored(Restored),
}

/// What a disk has.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last promises.
    pub promise: Promise,
    /// The last checkpoint.
    pub checkpoint: Option<Bytes>,
    /// The entries behind the checkpoint, contiguous; none in place of one that the disk has lost.
    pub entries: Vec<Option<Entry>>,
}

/// Why a replica cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The checkpoint, without which the log means nothing.
    #[error("the checkpoint cannot be read: replace this replica")]
    Checkpoint,
    /// The promises.
    #[error("the promises name no group: replace this replica")]
    Promise,
}

impl<S: Service> Replica<S> {
    /// Begins.
    ///
    /// # Errors
    /// When what the disk has is no beginning.
    ///
    /// # Panics
    /// When the options do not go together.
    pub fn new(
        now_us: u64,
        address: SocketAddr,
        options: Options,
        seed: u64,
        start: Start,
        service: S,
    ) -> Result<Self, StartError> {
        assert!(options.is_consistent(), "{options:?}");
        let mut replica = Self::empty(now_us, address, options, seed, service);
        match start {
            Start::New(configuration) => replica.begin_new(now_us, configuration),
            Start::Join => {}
            Start::Lost { promise, nonce } => replica.begin_lost(now_us, &promise, nonce)?,
            Start::Restored(restored) => replica.begin_restored(now_us, restored)?,
        }
        Ok(replica)
    }

    fn empty(now_us: u64, address: SocketAddr, options: Options, seed: u64, service: S) -> Self {
        let alone = Configuration::new(0, vec![address]).expect("one member is a group");
        // No members: it is not in an epoch yet, and a promise made so far says that.
        let epoch = EpochStart { view: View::default(), op: 0, digest: 0, members: Vec::new() };
        Self {
            options,
            address,
            configuration: Arc::new(alone),
            epoch,
            previous: None,
            started: Members::NONE,
            is_settled: true,
            place: None,
            status: Status::Joining,
            view: View::default(),
            last_normal: View::default(),
            log: Log::behind(0, 0),
            commit: 0,
            executed: 0,
            service,
            sessions: Sessions::new(options.sessions_max),
            time_ms: 0,
            leading: None,
            ahead: Default::default(),
            changing: None,
            recovering: None,
            fetch: None,
            incoming: None,
            outgoing: None,
            suspicions: Default::default(),
            current_us: None,
            now_us,
            promised_until_us: 0,
            timers: Timers::default(),
            // Zero is the one state that xorshift does not leave.
            random: seed | 1,
            outputs: Outputs::default(),
            unpersisted: VecDeque::new(),
            persisted_op: 0,
            owes_acknowledgement: false,
            missed_us: 0,
            waits: None,
            promise_write: 0,
            checkpoint: None,
            checkpoint_op: 0,
            unsaved_bytes: 0,
            divergence: None,
            silences: 0,
        }
    }

    fn begin_new(&mut self, now_us: u64, configuration: Configuration) {
        let view = View::new(configuration.epoch(), 0);
        let members = configuration.members().to_vec();
        self.place = configuration.place_of(self.address);
        self.configuration = Arc::new(configuration);
        self.epoch = EpochStart { view, op: 0, digest: 0, members };
        (self.view, self.last_normal) = (view, view);
        let promise = self.promise();
        self.promise_write = self.outputs.write(Write::Promise(promise));
        self.status = if self.place.is_some() { Status::Normal } else { Status::Joining };
        if self.leads() && self.status == Status::Normal {
            self.lead(now_us, true);
        } else if self.status == Status::Normal {
            self.timers.suspect = Some(self.suspect_at(now_us));
        }
    }

    fn take_promise(&mut self, now_us: u64, promise: &Promise) -> Result<(), StartError> {
        let members = promise.epoch.members.clone();
        let configuration = Configuration::new(promise.view.epoch(), members);
        self.configuration = Arc::new(configuration.map_err(|_| StartError::Promise)?);
        self.place = self.configuration.place_of(self.address);
        (self.view, self.last_normal) = (promise.view, promise.last_normal);
        self.epoch = promise.epoch.clone();
        // It may have heard its leader just before it ended.
        self.promised_until_us = now_us + self.options.promise_us();
        Ok(())
    }

    fn begin_lost(&mut self, now_us: u64, promise: &Promise, nonce: u64) -> Result<(), StartError> {
        assert!(self.options.mode == Mode::Volatile, "a disk keeps more than promises");
        if promise.epoch.members.is_empty() {
            return Ok(());
        }
        self.take_promise(now_us, promise)?;
        match self.place {
            None => {
                self.status = Status::Retired;
                self.teach_successors(now_us);
            }
            Some(_) if self.configuration.count() == 1 => {
                // What one memory had is gone, and nobody else ever had it.
                self.leave_for(now_us, self.view.next());
            }
            Some(_) => {
                self.status = Status::Recovering;
                self.recovering = Some(Recovering::new(nonce));
                self.ask_for_recovery(now_us);
            }
        }
        Ok(())
    }

    fn begin_restored(&mut self, now_us: u64, restored: Restored) -> Result<(), StartError> {
        assert!(self.options.mode == Mode::Durable, "only a disk has what is restored");
        let Restored { promise, checkpoint, entries } = restored;
        if let Some(bytes) = checkpoint {
            let snapshot = Snapshot::decode(&bytes).ok_or(StartError::Checkpoint)?;
            if !self.restore(&snapshot) {
                return Err(StartError::Checkpoint);
            }
            self.log = Log::behind(snapshot.op, snapshot.digest);
            self.checkpoint_op = snapshot.op;
        }
        for entry in entries {
            match entry {
                Some(entry) => self.log.append(entry),
                None => self.log.append_hole(),
            }
        }
        self.persisted_op = self.log.whole_op();
        if promise.epoch.members.is_empty() {
            return Ok(());
        }
        self.take_promise(now_us, &promise)?;
        self.status = Status::ViewChange;
        // Its epoch would not have begun if what ended the last one were not committed.
        self.advance(now_us, self.epoch.op.min(self.log.whole_op()));
        if self.place.is_none() {
            self.status = Status::Retired;
            self.teach_successors(now_us);
        } else if self.last_normal < self.view || self.leads() {
            // A leader does not remember what it had told whom.
            let view = if self.leads() && self.last_normal == self.view {
                self.view.next()
            } else {
                self.view
            };
            if view > self.view {
                self.leave_for(now_us, view);
            } else {
                self.status = Status::ViewChange;
                self.changing = Some(Default::default());
                self.timers.suspect = Some(self.suspect_at(now_us));
                self.timers.repeat = Some(now_us + self.options.heartbeat_us);
            }
        } else {
            self.status = Status::Normal;
            self.timers.suspect = Some(self.suspect_at(now_us));
        }
        Ok(())
    }
}
