//! A host: a clock, a disk, and at times a process with a replica.

use super::{
    journal::Journal,
    kernel::{Memory, Shared},
    sabotage::Sabotage,
    world::{Checked, Event, Incarnation, World},
};
use crate::{
    disk::{Contents, Disk, Survivors, WriteId},
    violation::Violation,
};
use ashlar_vr::{
    Accelerated, Allowed, Entry, Message, Mode, Output, Promise, Replica, Restored, Snapshot,
    Start, Status, Write, kv::KeyValue,
};
use bytes::Bytes;
use std::{collections::BTreeMap, net::SocketAddr};

/// What a disk holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) promise: Option<Promise>,
    pub(super) checkpoint: Option<(u64, Bytes)>,
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl Contents for Stored {
    type Write = Write;

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Promise(promise) => self.promise = Some(promise.clone()),
            Write::Append(entries) | Write::Repair(entries) => self.put(entries),
            Write::Install { after, entries, promise } => {
                self.entries.split_off(&(after + 1));
                self.put(entries);
                self.promise = Some(promise.clone());
            }
            Write::Checkpoint { op, bytes, replaces, promise, .. } => {
                self.checkpoint = Some((*op, bytes.clone()));
                self.entries =
                    if *replaces { BTreeMap::new() } else { self.entries.split_off(&(op + 1)) };
                self.promise = Some(promise.clone());
            }
        }
    }
}

impl Stored {
    /// What a journal has kept.
    fn of(restored: &Restored) -> Self {
        let checkpoint = restored.checkpoint.as_ref();
        let base_op = checkpoint.and_then(|bytes| postcard::from_bytes::<Snapshot>(bytes).ok());
        let base_op = base_op.map_or(0, |snapshot| snapshot.op);
        let places = (base_op + 1..).zip(&restored.entries);
        Self {
            promise: Some(restored.promise.clone()),
            checkpoint: checkpoint.map(|bytes| (base_op, bytes.clone())),
            entries: places.filter_map(|(op, entry)| Some((op, entry.clone()?))).collect(),
        }
    }

    fn put(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.entries.insert(entry.op, entry.clone());
        }
    }

    /// The place before the first entry.
    fn base_op(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |(op, _)| *op)
    }

    /// The last place.
    fn head_op(&self) -> u64 {
        self.entries.last_key_value().map_or(self.base_op(), |(op, _)| *op)
    }
}

/// What runs on a host.
pub(super) type Process = Accelerated<KeyValue, Memory>;

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: SocketAddr,
    /// Present while it lives.
    pub(super) process: Option<Process>,
    /// Present if programs in it may decide for the replica.
    pub(super) kernel: Option<Shared>,
    /// What they may do.
    pub(super) allowed: Allowed,
    /// When its process has last begun to do something, by its clock, in microseconds.
    pub(super) seen_us: u64,
    /// Counts its processes.
    pub(super) incarnation: Incarnation,
    pub(super) disk: Disk<Stored>,
    /// What really keeps it, where that is part of the world; `disk` then says what should be there.
    pub(super) journal: Option<Journal>,
    /// Places whose entries the disk has lost.
    pub(super) damaged: Vec<u64>,
    /// How much faster its clock is than true time, in parts of a million.
    drift_ppm: i64,
    /// It stands still until then, in microseconds.
    pub(super) paused_until_us: u64,
    /// Its disk is slow until then, in microseconds.
    pub(super) slow_until_us: u64,
    /// When the last write will be synced, in microseconds: syncs are done in order.
    synced_us: u64,
    /// For when a timeout is waited for, in microseconds of true time.
    timeout_us: Option<u64>,
    /// Its process has begun without memory, and has not recovered.
    is_recovering: bool,
    /// For a defect: the promise that the first process made.
    pub(super) first_promise: Option<Promise>,
}

impl Host {
    pub(super) fn new(address: SocketAddr, drift_ppm: i64, has_journal: bool) -> Self {
        Self {
            address,
            process: None,
            kernel: None,
            allowed: Allowed::default(),
            seen_us: 0,
            incarnation: 0,
            disk: Disk::new(Survivors::Prefix),
            journal: has_journal.then(Journal::default),
            damaged: Vec::new(),
            drift_ppm,
            paused_until_us: 0,
            slow_until_us: 0,
            synced_us: 0,
            timeout_us: None,
            is_recovering: false,
            first_promise: None,
        }
    }

    /// Its replica, while its process lives.
    pub(super) fn replica(&self) -> Option<&Replica<KeyValue>> {
        self.process.as_ref().map(Process::replica)
    }

    /// What its clock shows.
    pub(super) fn local_us(&self, now_us: u64) -> u64 {
        let scaled = i128::from(now_us) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        u64::try_from(scaled).expect("time is positive")
    }

    /// When its clock will show `local_us`.
    fn true_us(&self, local_us: u64) -> u64 {
        let scaled = i128::from(local_us) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm);
        u64::try_from(scaled).expect("time is positive") + 1
    }

    /// What its disk gives a process that starts.
    fn restored(&self, promise: Promise) -> Restored {
        let stored = self.disk.current();
        let places = stored.base_op() + 1..=stored.head_op();
        let entry = |op| stored.entries.get(&op).filter(|_| !self.damaged.contains(&op)).cloned();
        let checkpoint = stored.checkpoint.as_ref().map(|(_, bytes)| bytes.clone());
        Restored { promise, checkpoint, entries: places.map(entry).collect() }
    }
}

impl World {
    /// Starts the process of a host, if it has none.
    pub(super) fn start(&mut self, host: usize) -> Checked {
        if self.hosts[host].process.is_some() {
            return Ok(());
        }
        self.adopt_kernel(host)?;
        let local_us = self.hosts[host].local_us(self.queue.now_us());
        let seed = self.random.below(u64::MAX);
        let mut options = self.plan.options;
        let at = &mut self.hosts[host];
        at.incarnation += 1;
        let kept = self.open_journal(host, seed)?;
        let at = &mut self.hosts[host];
        let mut promise = at.disk.current().promise.clone();
        if self.sabotage == Some(Sabotage::ForgetPromise) && at.first_promise.is_some() {
            promise.clone_from(&at.first_promise);
        }
        if self.sabotage == Some(Sabotage::ForgetMembers)
            && let Some(promise) = promise.as_mut().filter(|it| !it.epoch.members.is_empty())
        {
            promise.epoch.members = self.first_configuration.members().to_vec();
        }
        if self.sabotage == Some(Sabotage::DifferentBounds) {
            options.sessions_max = options.sessions_max.saturating_sub(host).max(1);
        }
        let start = match promise {
            _ if self.sabotage == Some(Sabotage::RestartEmpty)
                && at.incarnation > 1
                && host < self.plan.members =>
            {
                Start::New(self.first_configuration.clone())
            }
            None if host < self.plan.members => Start::New(self.first_configuration.clone()),
            None => Start::Join,
            Some(promise) if options.mode == Mode::Durable => {
                let mut restored = kept.unwrap_or_else(|| at.restored(promise));
                if self.sabotage == Some(Sabotage::GiveUpHoles) {
                    let whole = restored.entries.iter().take_while(|entry| entry.is_some()).count();
                    restored.entries.truncate(whole);
                }
                Start::Restored(restored)
            }
            Some(promise) => Start::Lost { promise, nonce: seed },
        };
        at.timeout_us = None;
        let replica = Replica::new(local_us, at.address, options, seed, start, KeyValue::default());
        let replica = replica.map_err(|error| self.violation("restart", error.to_string()))?;
        let (head_op, holes) = (replica.log().head_op(), replica.log().holes().clone());
        let (status, view) = (replica.status(), replica.view());
        self.record(|| {
            format!("host {host} starts as {status:?} in {view}, head {head_op}, without {holes:?}")
        });
        let at = &mut self.hosts[host];
        (at.process, at.seen_us) = (Some(Process::new(replica)), local_us);
        self.accelerate(host);
        self.oracles.started(host);
        self.settle(host)
    }

    /// The journal of a host is opened, if it has one: what it has kept is what is there.
    fn open_journal(&mut self, host: usize, seed: u64) -> Result<Option<Restored>, Box<Violation>> {
        let Some(journal) = &mut self.hosts[host].journal else { return Ok(None) };
        let kept =
            journal.open(seed).map_err(|error| self.violation("journal", error.to_string()))?;
        let stored = kept.as_ref().map(Stored::of).unwrap_or_default();
        self.hosts[host].disk = Disk::holding(Survivors::Prefix, stored);
        self.coverage.journals_opened += 1;
        Ok(kept)
    }

    /// Ends the process of a host. With `power`, what was not synced may be lost.
    pub(super) fn stop(&mut self, host: usize, power: bool) {
        self.record(|| format!("host {host} {}", if power { "loses power" } else { "is killed" }));
        let at = &mut self.hosts[host];
        at.process = None;
        at.paused_until_us = 0;
        at.incarnation += 1;
        if power {
            let (_, lost) = at.disk.lose_power(&mut self.random);
            self.coverage.power_losses += 1;
            self.coverage.writes_lost += lost as u64;
        } else {
            // The page cache survives its process, and a process that starts syncs what it finds.
            at.disk.sync_all();
            self.coverage.kills += 1;
        }
        if self.hosts[host].journal.is_some() {
            let seed = power.then(|| self.random.below(u64::MAX));
            self.hosts[host].journal.iter_mut().for_each(|journal| journal.close(seed));
        }
        self.leave_kernel(host, power);
    }

    /// The process of a host, and what its clock shows.
    fn process(&mut self, host: usize) -> Option<(&mut Process, u64)> {
        let local_us = self.hosts[host].local_us(self.queue.now_us());
        self.hosts[host].process.as_mut().map(|process| (process, local_us))
    }

    /// The process of a host that has woken, and what its clock shows.
    pub(super) fn wake(&mut self, host: usize) -> Option<(&mut Process, u64)> {
        self.begin_work(host);
        self.hosts[host].seen_us = self.hosts[host].local_us(self.queue.now_us());
        let (process, local_us) = self.process(host)?;
        process.look(local_us);
        Some((process, local_us))
    }

    /// The replicas that are or were members, whose processes live.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Replica<KeyValue>> {
        let live = self.hosts.iter().filter_map(Host::replica);
        live.filter(|replica| replica.status() != Status::Joining)
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) -> Checked {
        let source = self.hosts[from].address;
        let extra = self.misreceive(from, to, &message);
        let Some((process, local_us)) = self.wake(to) else { return Ok(()) };
        for (source, message) in std::iter::once((source, message)).chain(extra) {
            process.input(local_us, |replica| replica.handle_message(local_us, source, message));
        }
        self.settle(to)
    }

    /// A process is woken by what programs have done.
    pub(super) fn woken(&mut self, host: usize) -> Checked {
        let _ = self.wake(host);
        self.settle(host)
    }

    /// A write is synced.
    pub(super) fn synced(
        &mut self,
        host: usize,
        incarnation: Incarnation,
        number: u64,
        write: WriteId,
    ) -> Checked {
        if self.hosts[host].incarnation != incarnation {
            return Ok(());
        }
        let at = &mut self.hosts[host];
        at.disk.sync_through(write);
        let rests = at.disk.is_synced();
        let skips = self.sabotage == Some(Sabotage::SkipSync);
        let journal = at.journal.as_mut().filter(|_| !skips);
        let synced = journal.map_or(Ok(()), |journal| journal.sync(rests));
        synced.map_err(|error| self.violation("journal", error.to_string()))?;
        let Some((process, local_us)) = self.wake(host) else { return Ok(()) };
        process.input(local_us, |replica| replica.handle_persisted(local_us, number));
        self.settle(host)
    }

    /// A timeout may be due.
    pub(super) fn timeout(&mut self, host: usize, incarnation: Incarnation) -> Checked {
        if self.hosts[host].incarnation != incarnation {
            return Ok(());
        }
        let now_us = self.queue.now_us();
        if self.hosts[host].timeout_us.is_some_and(|at_us| at_us <= now_us) {
            self.hosts[host].timeout_us = None;
        }
        let Some((process, local_us)) = self.wake(host) else { return Ok(()) };
        if process.poll_timeout().is_some_and(|at_us| at_us <= local_us) {
            process.handle_timeout(local_us);
        }
        self.settle(host)
    }

    /// Does what a replica wants done, lets programs go on, and lets the oracles look at both.
    pub(super) fn settle(&mut self, host: usize) -> Checked {
        self.perform(host)?;
        if let Some((process, local_us)) = self.process(host) {
            process.settle(local_us);
        }
        // What programs had taken may leave something to be done.
        self.perform(host)?;
        self.end_work(host);
        self.look(host)?;
        self.spring_ambush(host);
        let at = &mut self.hosts[host];
        let Some(process) = &at.process else { return Ok(()) };
        let replica = process.replica();
        let is_recovering = replica.status() == Status::Recovering;
        let was_recovering = std::mem::replace(&mut at.is_recovering, is_recovering);
        let has_recovered = was_recovering && replica.status() == Status::Normal;
        let epoch = u64::from(replica.configuration().epoch());
        self.coverage.epochs_begun = self.coverage.epochs_begun.max(epoch);
        let due_us = process.poll_timeout().map(|local_us| at.true_us(local_us));
        if has_recovered {
            self.recovered(host);
        }
        let Some(due_us) = due_us else { return Ok(()) };
        let at = &mut self.hosts[host];
        if at.timeout_us.is_none_or(|at_us| due_us < at_us) {
            let incarnation = at.incarnation;
            self.hosts[host].timeout_us = Some(due_us);
            self.queue.push_at(due_us, Event::Timeout { host, incarnation });
        }
        Ok(())
    }

    /// Does what a replica wants done, until its process dies.
    fn perform(&mut self, host: usize) -> Checked {
        while !self.dies(host)?
            && let Some((process, _)) = self.process(host)
            && let Some(output) = process.poll_output()
        {
            match output {
                Output::Send { to, message } => self.send(host, to, message),
                Output::Multicast { members, to, message } => {
                    for place in to.iter() {
                        self.send(host, members.members()[place], message.clone());
                    }
                }
                Output::Reply(reply) => self.send_reply(host, &reply),
                Output::Read { id, answer } => self.send_read(host, id, &answer),
                Output::Persist { number, write } => self.write(host, number, write)?,
            }
            if let Some(violation) = self.broken.take() {
                return Err(violation);
            }
        }
        let replica = self.hosts[host].replica();
        let divergence = replica.and_then(Replica::divergence);
        assert_eq!(divergence, None, "no disk changes what it has");
        Ok(())
    }

    /// Whether the process dies, or has died, at its work; the program of its host may run.
    fn dies(&mut self, host: usize) -> Result<bool, Box<Violation>> {
        let Some(mut kernel) = self.kernel(host) else { return Ok(false) };
        kernel.point();
        let is_dead = kernel.is_process_dead();
        drop(kernel);
        self.flush_kernel(host)?;
        if is_dead && self.hosts[host].process.is_some() {
            self.coverage.killed_at_work += 1;
            self.bring_down(host, false);
        }
        Ok(is_dead)
    }

    fn write(&mut self, host: usize, number: u64, write: Write) -> Checked {
        if let Write::Checkpoint { .. } = &write {
            self.coverage.checkpoints_written += 1;
        }
        if let Write::Repair(entries) = &write {
            let repaired: Vec<u64> = entries.iter().map(|entry| entry.op).collect();
            self.hosts[host].damaged.retain(|op| !repaired.contains(op));
        }
        let now_us = self.queue.now_us();
        let is_slow = now_us < self.hosts[host].slow_until_us;
        let sync_us = self.plan.sync.draw_us(is_slow, &mut self.random);
        let at = &mut self.hosts[host];
        if let Write::Promise(promise) = &write
            && at.first_promise.is_none()
        {
            at.first_promise = Some(promise.clone());
        }
        let write = match write {
            Write::Install { after, entries, promise }
                if self.sabotage == Some(Sabotage::TearInstall) =>
            {
                at.disk.write(Write::Install { after, entries: Vec::new(), promise });
                Write::Append(entries)
            }
            write => write,
        };
        let taken = at.journal.as_mut().map_or(Ok(()), |journal| journal.append(&write));
        let (id, incarnation) = (at.disk.write(write), at.incarnation);
        at.synced_us = at.synced_us.max(now_us) + sync_us;
        let synced_us = at.synced_us;
        if self.sabotage == Some(Sabotage::SpeakBeforeSync) {
            let local_us = at.local_us(now_us);
            if let Some(process) = at.process.as_mut() {
                process.input(local_us, |replica| replica.handle_persisted(local_us, number));
            }
        }
        self.queue.push_at(synced_us, Event::Synced { host, incarnation, number, write: id });
        taken.map_err(|error| self.violation("journal", error.to_string()))
    }

    /// Sends a message to a replica, as a host does that may have a defect.
    pub(super) fn send(&mut self, from: usize, to: SocketAddr, mut message: Message) {
        self.distort(from, &mut message);
        self.count(&message);
        if let Err(violation) = self.oracles_hear(from, &message) {
            self.broken.get_or_insert(violation);
        }
        self.transmit(from, to, &message);
    }

    /// A message is on its way to a replica.
    pub(super) fn transmit(&mut self, from: usize, to: SocketAddr, message: &Message) {
        let Some(to) = self.hosts.iter().position(|host| host.address == to) else { return };
        let now_us = self.queue.now_us();
        self.record(|| format!("{from} > {to}: {}", brief(message)));
        for at_us in self.network.send(now_us, from, to, &mut self.random).iter() {
            let message = Box::new(message.clone());
            self.queue.push_at(at_us, Event::Message { from, to, message });
        }
    }

    fn count(&mut self, message: &Message) {
        let coverage = &mut self.coverage;
        match message {
            Message::DoViewChange(vote) => {
                coverage.votes_sent += 1;
                coverage.votes_with_holes += u64::from(!vote.holes.is_empty());
            }
            Message::Missing { .. } => coverage.gaps_noticed += 1,
            Message::NewState { .. } => coverage.states_sent += 1,
            Message::Snapshot(_) => coverage.snapshot_parts_sent += 1,
            _ => {}
        }
    }

    /// Whether a process may be killed at this moment, for all that the group is to survive.
    pub(super) fn may_kill(&self, host: usize) -> bool {
        self.plan.options.mode == Mode::Durable || self.may_lose_memory(host)
    }

    /// Whether so few of the members are without what they acknowledged that one more may lose it.
    pub(super) fn may_lose_memory(&self, host: usize) -> bool {
        let mut groups: Vec<_> =
            self.replicas().map(|replica| replica.configuration().clone()).collect();
        groups.sort_unstable_by_key(|group| group.epoch());
        groups.dedup();
        groups.iter().all(|group| {
            let is_inside = |replica: &Replica<KeyValue>| {
                let status = replica.status();
                replica.configuration().epoch() >= group.epoch()
                    && !matches!(status, Status::Recovering | Status::Joining)
            };
            let has_log = |at: &Host| at.replica().is_some_and(is_inside);
            let members = group.members().iter();
            let lost = members.filter(|member| {
                let index = self.hosts.iter().position(|at| at.address == **member);
                index.is_none_or(|index| index == host || !has_log(&self.hosts[index]))
            });
            lost.count() <= super::plan::Plan::failures_max(group.count())
        })
    }
}

/// A message in a line.
fn brief(message: &Message) -> String {
    match message {
        Message::Prepare { view, commit, entries, .. } => {
            let (first, last) =
                (entries.first().map_or(0, |e| e.op), entries.last().map_or(0, |e| e.op));
            format!("Prepare {view}, {first}..={last}, commit {commit}")
        }
        Message::NewState { entries } => {
            let (first, last) =
                (entries.first().map_or(0, |e| e.op), entries.last().map_or(0, |e| e.op));
            format!("NewState {first}..={last}, {} entries", entries.len())
        }
        Message::Snapshot(part) => {
            format!("Snapshot {}, {} of {}", part.op, part.offset, part.total_bytes)
        }
        other => format!("{other:?}"),
    }
}
