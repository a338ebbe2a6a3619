//! The state machine of one replica; [`crate::chain`] has the protocol and the shell's duties.

use super::{
    Message, Metadata, Neighbour, Options, Outcome, Output, Readiness, Recovered, Refusal,
    Standing, Ticket, Write, window::Window,
};
use crate::{Change, Entry, Version, condition::Verdict};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// One partition's replica.
#[derive(Debug)]
pub struct Replica {
    options: Options,
    /// The highest version taken in; those above `applied` are being persisted.
    accepted: Version,
    /// The highest version persisted.
    applied: Version,
    /// The highest version known to be persisted by the whole chain.
    committed: Version,
    /// The entries above `committed` up to `accepted`.
    window: Window,
    /// Clients whose write is in `window`, by its version.
    writers: BTreeMap<Version, (Ticket, bool)>,
    /// Answers that rest on an uncommitted version and wait for it.
    deferred: BTreeMap<Version, Vec<(Ticket, Outcome)>>,
    /// How many these are: bounded like the window.
    deferred_count: usize,
    /// Whether the replica holds what it must.
    standing: Standing,
    /// What a fresh replica must hold before it joins: what its predecessor held when it said so.
    required: Option<Version>,
    /// Whether the successor, in this life of the process, has named no more than what is held
    /// here, for itself and everybody behind it.
    successor_compared: bool,
    /// Whether the link to the successor is up.
    link_up: bool,
    /// The successor's last word on what the rest of the chain can take.
    successor: Readiness,
    /// What the predecessor was told last about that.
    told: Readiness,
    /// Whether this replica's disk has room for new objects.
    has_space: bool,
    /// A `Progress` is due; several causes share one.
    progress_due: bool,
    /// A `Resume` for a gap was sent at this point; it is not repeated before a retry.
    resume_asked: Option<Version>,
    /// When the successor is probed unless there is progress.
    retry_at_ms: Option<u64>,
    outputs: VecDeque<Output>,
}

impl Replica {
    /// Starts a replica with what its disk holds.
    ///
    /// # Panics
    /// When `recovered` breaks its own invariants: a bug in the storage.
    pub fn new(options: Options, recovered: Recovered) -> Self {
        assert!(options.window_entries_max > 0);
        assert!(recovered.committed <= recovered.applied);
        let mut expected = recovered.committed;
        for entry in &recovered.window {
            expected = expected.next();
            assert_eq!(entry.version, expected, "the recovered window has a gap");
        }
        assert_eq!(expected, recovered.applied, "the recovered window is cut short");
        let alone = !options.has_predecessor && !options.has_successor;
        let standing = if recovered.joined || alone { Standing::Joined } else { Standing::Fresh };
        let mut replica = Self {
            options,
            accepted: recovered.applied,
            applied: recovered.applied,
            committed: recovered.committed,
            window: Window::default(),
            writers: BTreeMap::new(),
            deferred: BTreeMap::new(),
            deferred_count: 0,
            standing,
            required: (!options.has_predecessor).then_some(Version::NONE),
            successor_compared: !options.has_successor,
            link_up: false,
            successor: Readiness { writable: !options.has_successor, has_space: true },
            told: Readiness { writable: false, has_space: true },
            has_space: true,
            progress_due: false,
            resume_asked: None,
            retry_at_ms: None,
            outputs: VecDeque::new(),
        };
        recovered.window.into_iter().for_each(|entry| replica.window.push(entry));
        if !options.has_successor {
            // What the tail has persisted is committed, whatever it knew before.
            replica.commit(replica.applied);
        }
        replica
    }

    /// Takes a client's write at the head. The answer comes as [`Output::Reply`].
    ///
    /// # Errors
    /// When the storage cannot be read; nothing has changed then.
    pub fn handle_write<M: Metadata>(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        write: Write,
        metadata: &M,
    ) -> Result<(), M::Error> {
        if let Some(refusal) = self.refusal(&write) {
            self.outputs.push_back(Output::Reply(ticket, Outcome::Refused(refusal)));
            return Ok(());
        }
        let newest = match self.window.newest(&write.operation.key) {
            Some(newest) => Some(newest.clone()),
            None => metadata.newest(&write.operation.key)?,
        };
        let seen = newest.as_ref().map_or(Version::NONE, |newest| newest.version);
        let current = newest.and_then(|newest| newest.meta);
        let deletes = write.operation.change == Change::Delete;
        if write.conditions.for_write(current.as_ref()) == Verdict::Failed {
            self.defer(seen, ticket, Outcome::PreconditionFailed);
        } else if deletes && current.is_none() {
            self.defer(seen, ticket, Outcome::NotFound);
        } else {
            let entry =
                Entry { version: self.accepted.next(), operation: Arc::new(write.operation) };
            self.writers.insert(entry.version, (ticket, current.is_some()));
            self.accept(now_ms, entry);
        }
        Ok(())
    }

    /// Takes in that everything up to `through` is persisted and synced.
    pub fn handle_persisted(&mut self, now_ms: u64, through: Version) {
        assert!(through <= self.accepted, "persisted {through} of {}", self.accepted);
        if through <= self.applied {
            return;
        }
        let first = self.applied;
        self.applied = through;
        if self.options.has_successor {
            self.send_entries_above(first);
            self.arm_retry(now_ms);
        } else {
            self.commit(through);
        }
        self.join_if_compared(now_ms);
    }

    /// Takes in a neighbour's message. `body_present` tells, for a `Prepare` with a staged body,
    /// whether that body is complete and synced here; it has no meaning otherwise.
    pub fn handle_message(
        &mut self,
        now_ms: u64,
        from: Neighbour,
        message: Message,
        body_present: bool,
    ) {
        let has_sender = match from {
            Neighbour::Predecessor => self.options.has_predecessor,
            Neighbour::Successor => self.options.has_successor,
        };
        if !has_sender || self.standing == Standing::Lost {
            return;
        }
        match (from, message) {
            (Neighbour::Predecessor, Message::Prepare(entry)) => {
                self.handle_prepare(now_ms, entry, body_present);
            }
            (Neighbour::Predecessor, Message::Probe { committed, holds }) => {
                self.handle_probe(now_ms, committed, holds);
            }
            (
                Neighbour::Successor,
                Message::Resume { accepted, committed, readiness, compared },
            ) => {
                self.handle_resume(now_ms, accepted, compared);
                self.handle_progress(now_ms, committed, readiness);
            }
            (Neighbour::Successor, Message::Progress { committed, readiness }) => {
                self.handle_progress(now_ms, committed, readiness);
            }
            (Neighbour::Successor, Message::BodyMissing { version }) => {
                let entry = self.applied_entry(version);
                let staged = entry.filter(|entry| entry.operation.change.stage().is_some());
                self.outputs.extend(staged.map(Output::SendBody));
            }
            // A message from the wrong side is a peer's bug and has no effect.
            _ => {}
        }
    }

    /// Takes in that the body asked for by [`Output::SendBody`] has arrived at the successor.
    pub fn handle_body_sent(&mut self, version: Version) {
        if let Some(entry) = self.applied_entry(version) {
            self.send(Neighbour::Successor, Message::Prepare(entry));
        }
    }

    /// Takes in that the link to the successor came up or went down.
    pub fn handle_link(&mut self, now_ms: u64, up: bool) {
        assert!(self.options.has_successor, "the tail has no successor");
        self.link_up = up;
        self.successor.writable = false;
        if up {
            self.probe(now_ms);
        } else {
            self.retry_at_ms = None;
        }
        self.tell_readiness();
    }

    /// Takes in whether this replica's disk has room for new objects.
    pub fn handle_space(&mut self, has_space: bool) {
        self.has_space = has_space;
        self.tell_readiness();
    }

    /// When [`Replica::handle_timeout`] wants to be called, if at all.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Takes in the time.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.retry_at_ms.is_some_and(|at| at <= now_ms) {
            self.probe(now_ms);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && self.progress_due {
            self.progress_due = false;
            self.told = self.readiness();
            let (committed, readiness) = (self.committed, self.told);
            self.send(Neighbour::Predecessor, Message::Progress { committed, readiness });
        }
        self.outputs.pop_front()
    }

    /// Everything up to here is committed.
    pub fn committed(&self) -> Version {
        self.committed
    }

    /// The highest version persisted here.
    pub fn applied(&self) -> Version {
        self.applied
    }

    /// Whether the replica holds what it must.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether this replica may answer reads.
    pub fn serves_reads(&self) -> bool {
        self.standing == Standing::Joined
    }

    /// Whether this replica and everything behind it can take writes.
    pub fn writable(&self) -> bool {
        self.standing == Standing::Joined && self.successor.writable
    }

    /// Whether this replica and everything behind it have room for new objects, as far as is known
    /// here.
    pub fn has_space(&self) -> bool {
        self.has_space && self.successor.has_space
    }

    fn readiness(&self) -> Readiness {
        Readiness { writable: self.writable(), has_space: self.has_space() }
    }

    fn refusal(&self, write: &Write) -> Option<Refusal> {
        if self.options.has_predecessor {
            Some(Refusal::NotHead)
        } else if self.standing == Standing::Lost {
            Some(Refusal::DataLost)
        } else if !self.writable() {
            Some(Refusal::ChainBroken)
        } else if !self.has_space() && write.operation.change != Change::Delete {
            Some(Refusal::NoSpace)
        } else if !self.window.has_room(&self.options, &write.operation) {
            Some(Refusal::WindowFull)
        } else {
            None
        }
    }

    fn handle_prepare(&mut self, now_ms: u64, entry: Entry, body_present: bool) {
        if entry.version <= self.accepted {
            // A repetition: perhaps our last word was lost.
            self.progress_due = true;
        } else if entry.version > self.accepted.next()
            || !self.window.has_room(&self.options, &entry.operation)
        {
            if self.resume_asked != Some(self.accepted) {
                self.send_resume();
            }
        } else if entry.operation.change.stage().is_some() && !body_present {
            let version = entry.version;
            self.send(Neighbour::Predecessor, Message::BodyMissing { version });
        } else {
            self.accept(now_ms, entry);
        }
    }

    fn handle_probe(&mut self, now_ms: u64, committed: Version, holds: Option<Version>) {
        if committed > self.accepted {
            // We acknowledged more than we hold: the disk was lost or rolled back.
            self.standing = Standing::Lost;
        } else {
            self.required = holds.or(self.required);
            self.join_if_compared(now_ms);
        }
        self.send_resume();
    }

    fn handle_resume(&mut self, now_ms: u64, accepted: Version, compared: bool) {
        if accepted > self.applied {
            // The successor holds what we passed on and no longer have.
            self.standing = Standing::Lost;
            self.tell_readiness();
            return;
        }
        if compared && !self.successor_compared {
            self.successor_compared = true;
            self.join_if_compared(now_ms);
            if self.standing == Standing::Fresh && self.options.has_predecessor {
                // A fresh predecessor waits for this word.
                self.send_resume();
            }
        }
        self.send_entries_above(accepted);
        self.arm_retry(now_ms);
    }

    fn handle_progress(&mut self, now_ms: u64, committed: Version, readiness: Readiness) {
        // A word from before a link broke must not make the chain writable again.
        let writable = readiness.writable && self.link_up;
        self.successor = Readiness { writable, ..readiness };
        // The successor cannot have committed what we have not passed on.
        if committed > self.committed && committed <= self.applied {
            self.commit(committed);
            self.retry_at_ms = None;
        }
        self.arm_retry(now_ms);
        self.tell_readiness();
    }

    /// A fresh replica joins once it holds all that it could ever have acknowledged. A replica with
    /// a lost disk that joined earlier would answer reads from an empty storage.
    fn join_if_compared(&mut self, now_ms: u64) {
        let holds_all = self.required.is_some_and(|required| self.applied >= required);
        if self.standing == Standing::Fresh && holds_all && self.successor_compared {
            self.standing = Standing::Joined;
            self.outputs.push_back(Output::PersistJoined);
            self.tell_readiness();
            if self.options.has_successor && self.link_up {
                // A fresh successor waits for this word.
                self.probe(now_ms);
            }
        }
    }

    /// Takes an entry into the window and has it persisted.
    fn accept(&mut self, now_ms: u64, entry: Entry) {
        assert_eq!(entry.version, self.accepted.next());
        self.accepted = entry.version;
        self.resume_asked = None;
        self.outputs.push_back(Output::Persist(entry.clone()));
        self.window.push(entry);
        self.arm_retry(now_ms);
    }

    /// Everything up to `through` is committed: release it, answer, and tell the predecessor.
    fn commit(&mut self, through: Version) {
        assert!(through <= self.applied, "committed {through} of {}", self.applied);
        while let Some(entry) = self.window.pop_through(through) {
            if let Some((ticket, replaced)) = self.writers.remove(&entry.version) {
                let outcome = Outcome::Committed { version: entry.version, replaced };
                self.outputs.push_back(Output::Reply(ticket, outcome));
            }
            self.outputs.push_back(Output::Release(entry));
        }
        self.committed = self.committed.max(through);
        let later = self.deferred.split_off(&self.committed.next());
        for (ticket, outcome) in
            std::mem::replace(&mut self.deferred, later).into_values().flatten()
        {
            self.deferred_count -= 1;
            self.outputs.push_back(Output::Reply(ticket, outcome));
        }
        self.progress_due = self.options.has_predecessor;
    }

    /// Answers once `seen` is committed: an answer that shows an uncommitted version could be
    /// contradicted by a read elsewhere.
    fn defer(&mut self, seen: Version, ticket: Ticket, outcome: Outcome) {
        if seen <= self.committed {
            self.outputs.push_back(Output::Reply(ticket, outcome));
        } else if self.deferred_count >= self.options.window_entries_max {
            let refused = Outcome::Refused(Refusal::WindowFull);
            self.outputs.push_back(Output::Reply(ticket, refused));
        } else {
            self.deferred_count += 1;
            self.deferred.entry(seen).or_default().push((ticket, outcome));
        }
    }

    fn send(&mut self, to: Neighbour, message: Message) {
        self.outputs.push_back(Output::Send(to, message));
    }

    fn send_entries_above(&mut self, above: Version) {
        let entries = self.window.between(above, self.applied).cloned();
        self.outputs.extend(
            entries.map(|entry| Output::Send(Neighbour::Successor, Message::Prepare(entry))),
        );
    }

    fn send_resume(&mut self) {
        self.resume_asked = Some(self.accepted);
        self.progress_due = false;
        self.told = self.readiness();
        let message = Message::Resume {
            accepted: self.accepted,
            committed: self.committed,
            readiness: self.told,
            compared: self.standing == Standing::Joined || self.successor_compared,
        };
        self.send(Neighbour::Predecessor, message);
    }

    fn probe(&mut self, now_ms: u64) {
        let committed = self.committed;
        let holds = (self.standing == Standing::Joined).then_some(self.applied);
        self.send(Neighbour::Successor, Message::Probe { committed, holds });
        self.retry_at_ms = Some(now_ms + self.options.retry_ms);
    }

    /// Watches for progress while there is something to wait for.
    fn arm_retry(&mut self, now_ms: u64) {
        // Only a `Resume` compares, and it may be lost while a `Progress` arrives.
        let compared = self.successor_compared;
        // The word that the successor is ready again may be lost, too.
        let ready = self.successor.writable && self.successor.has_space;
        let waits = !self.window.is_empty() || !ready || !compared;
        if !self.options.has_successor || !self.link_up || !waits {
            self.retry_at_ms = None;
        } else if self.retry_at_ms.is_none() {
            self.retry_at_ms = Some(now_ms + self.options.retry_ms);
        }
    }

    fn tell_readiness(&mut self) {
        if self.options.has_predecessor && self.readiness() != self.told {
            self.progress_due = true;
        }
    }

    /// The entry of that version if it is persisted here and not yet released.
    fn applied_entry(&self, version: Version) -> Option<Entry> {
        self.window.get(version).filter(|entry| entry.version <= self.applied).cloned()
    }
}
