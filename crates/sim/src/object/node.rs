//! A storage node: a process with its replicas, its disk, and the shell's duties towards both.

use super::{
    Sabotage,
    batch::Batches,
    bodies::AfterSync,
    oracle::{commitment, prefix, standing, window},
    read::Read,
    space::Full,
    storage::{Bodies, Database, FileWrite, Item},
    world::{Checked, Event, Incarnation, World},
};
use crate::disk::{Disk, Survivors};
use ashlar_object::{
    Entry, StageId, Version,
    chain::{Options, Output, Replica, Standing},
};
use std::collections::BTreeMap;

/// A storage node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Whether its process runs.
    pub(super) up: bool,
    /// Counts its processes.
    pub(super) incarnation: Incarnation,
    /// Until then the process stands still.
    pub(super) paused_until_us: u64,
    /// Until then its disk is slow.
    pub(super) slow_until_us: u64,
    /// Its disk is full.
    pub(super) full: Option<Full>,
    pub(super) database: Disk<Database>,
    pub(super) bodies: Disk<Bodies>,
    /// The replicas by partition; none where the node has no part or does not run.
    pub(super) slots: Vec<Option<Slot>>,
    pub(super) batches: Batches,
    /// What waits for a body to be synced.
    pub(super) staging: BTreeMap<StageId, Vec<AfterSync>>,
    /// Reads under way.
    pub(super) reads: BTreeMap<u64, Read>,
}

/// A replica with what the shell and the oracles keep beside it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) replica: Replica,
    /// Its place in the chain.
    pub(super) position: usize,
    /// When an `Event::Timeout` is scheduled.
    timeout_at_us: Option<u64>,
    /// The highest version handed out to be persisted.
    pub(super) accepted: Version,
    pub(super) window: window::Window,
    pub(super) commitment: commitment::Commitment,
    /// How it stood when last looked at.
    standing: Standing,
}

impl Node {
    /// A node with an empty disk that does not run yet.
    pub(crate) fn new(partitions: usize) -> Self {
        Self {
            up: false,
            incarnation: 0,
            paused_until_us: 0,
            slow_until_us: 0,
            full: None,
            database: Disk::new(Survivors::Prefix),
            bodies: Disk::new(Survivors::Any),
            slots: (0..partitions).map(|_| None).collect(),
            batches: Batches::default(),
            staging: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.batches.is_idle() && self.staging.is_empty()
    }

    /// The process is gone, and with it all that was only in memory.
    pub(super) fn forget(&mut self) {
        self.up = false;
        self.paused_until_us = 0;
        self.slots.fill_with(|| None);
        self.batches = Batches::default();
        self.staging.clear();
        self.reads.clear();
    }
}

impl World {
    /// A process starts with what its disk holds.
    pub(super) fn start(&mut self, node: usize) -> Checked {
        if self.nodes[node].up {
            return Ok(());
        }
        self.coverage.starts += 1;
        self.note(|| format!("n{node} starts"));
        let partitions: Vec<_> = (0..self.chains.len())
            .filter(|partition| self.chains[*partition].contains(&node))
            .collect();
        self.sync_what_a_former_process_left(node, &partitions);
        self.compare_disk(node)?;
        self.nodes[node].up = true;
        self.nodes[node].incarnation += 1;
        for partition in &partitions {
            self.open_replica(node, *partition);
        }
        for partition in partitions {
            self.drain(node, partition)?;
        }
        Ok(())
    }

    fn sync_what_a_former_process_left(&mut self, node: usize, partitions: &[usize]) {
        if !self.is_sabotaged(Sabotage::StartUnsynced) {
            self.nodes[node].database.sync_all();
        }
        if self.is_sabotaged(Sabotage::ForgetWindow) {
            let forget = partitions.iter().map(|partition| Item::Forget(*partition));
            let database = &mut self.nodes[node].database;
            database.write(forget.collect());
            database.sync_all();
        }
        // A body that no entry names belongs to a write that was never numbered here.
        let Node { database, bodies, .. } = &mut self.nodes[node];
        let orphans: Vec<_> =
            bodies.current().iter().filter(|stage| !database.current().names(*stage)).collect();
        self.coverage.bodies_orphaned += orphans.len() as u64;
        for stage in orphans {
            bodies.write(FileWrite::Remove(stage));
        }
        bodies.sync_all();
    }

    fn open_replica(&mut self, node: usize, partition: usize) {
        let chain = &self.chains[partition];
        let position = chain.iter().position(|member| *member == node);
        let position = position.expect("the node is a member of the chain");
        let options = Options {
            has_predecessor: position > 0,
            has_successor: position + 1 < chain.len(),
            window_entries_max: self.plan.window_entries_max,
            window_bytes_max: self.plan.window_bytes_max,
            retry_ms: self.plan.retry_ms,
        };
        let recovered = self.nodes[node].database.current().partition(partition).recovered();
        self.coverage.entries_recovered += recovered.window.len() as u64;
        let mut window = window::Window::default();
        recovered.window.iter().for_each(|entry| window.keep(entry));
        let accepted = recovered.applied;
        let mut replica = Replica::new(options, recovered);
        replica.handle_space(self.has_space(node));
        let slot = Slot {
            standing: replica.standing(),
            replica,
            position,
            timeout_at_us: None,
            accepted,
            window,
            commitment: commitment::Commitment::default(),
        };
        self.nodes[node].slots[partition] = Some(slot);
    }

    /// The replica, if the node's process runs and has a part in the chain.
    pub(super) fn slot(&mut self, node: usize, partition: usize) -> Option<&mut Slot> {
        self.nodes[node].slots[partition].as_mut()
    }

    /// Does all that the replica wants done, and looks at it afterwards.
    pub(super) fn drain(&mut self, node: usize, partition: usize) -> Checked {
        while let Some(output) = self.slot(node, partition).and_then(|s| s.replica.poll_output()) {
            self.perform(node, partition, output)?;
        }
        self.look_at(node, partition)?;
        self.schedule_timeout(node, partition);
        self.schedule_batch(node);
        Ok(())
    }

    fn perform(&mut self, node: usize, partition: usize, output: Output) -> Checked {
        match output {
            Output::Persist(entry) => self.persist(node, partition, entry)?,
            Output::PersistJoined => self.nodes[node].batches.wait(Item::Joined(partition)),
            Output::Release(entry) => {
                let item = Item::Release(partition, entry);
                self.nodes[node].batches.wait(item);
            }
            Output::Send(to, message) => self.send(node, partition, to, &message),
            Output::SendBody(entry) => self.send_body(node, partition, &entry)?,
            Output::Reply(ticket, outcome) => self.replied(node, partition, ticket, outcome)?,
        }
        Ok(())
    }

    fn persist(&mut self, node: usize, partition: usize, entry: Entry) -> Checked {
        let slot = self.slot(node, partition).expect("the replica runs");
        slot.accepted = entry.version;
        slot.window.keep(&entry);
        let finding = self.oracles.refused.persisted(&entry);
        self.nodes[node].batches.wait(Item::Persist(partition, entry));
        self.judge(super::oracle::refused::NAME, finding)
    }

    /// What must hold after every input.
    fn look_at(&mut self, node: usize, partition: usize) -> Checked {
        let tail = self.chains[partition].len() - 1;
        let Some(slot) = self.nodes[node].slots[partition].as_mut() else {
            return Ok(());
        };
        let (committed, position) = (slot.replica.committed(), slot.position);
        let bounds =
            slot.window.check(committed, self.plan.window_entries_max, self.plan.window_bytes_max);
        let tail_applied = self.oracles.prefix.applied_ever(partition, tail);
        let commitment = slot.commitment.check(committed, tail_applied);
        let before = std::mem::replace(&mut slot.standing, slot.replica.standing());
        let standing = slot.standing;
        let place = || format!("p{partition} at n{node}: ");
        self.judge(window::NAME, bounds.map_err(|text| place() + &text))?;
        self.judge(commitment::NAME, commitment.map_err(|text| place() + &text))?;
        if before == standing {
            return Ok(());
        }
        self.note(|| format!("p{partition} at n{node} is {standing:?}"));
        self.coverage.replicas_lost += u64::from(standing == Standing::Lost);
        let finding = standing::check(standing, self.wiped.is_some());
        self.judge(standing::NAME, finding.map_err(|text| place() + &text))?;
        if standing == Standing::Joined {
            let finding = self.oracles.prefix.joined(partition, position);
            self.judge(prefix::NAME, finding.map_err(|text| place() + &text))?;
        }
        Ok(())
    }

    fn schedule_timeout(&mut self, node: usize, partition: usize) {
        let now_us = self.now_us();
        let Node { slots, incarnation, .. } = &mut self.nodes[node];
        let Some(slot) = slots[partition].as_mut() else {
            return;
        };
        let Some(at_ms) = slot.replica.poll_timeout() else {
            return;
        };
        let at_us = (at_ms * 1000).max(now_us);
        if slot.timeout_at_us.is_none_or(|scheduled| at_us < scheduled) {
            slot.timeout_at_us = Some(at_us);
            let event = Event::Timeout { node, incarnation: *incarnation, partition };
            self.queue.push_at(at_us, event);
        }
    }

    /// A scheduled timeout comes; the replica may have changed its mind.
    pub(super) fn timeout(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        partition: usize,
    ) -> Checked {
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        let now_ms = self.now_ms();
        let slot = self.slot(node, partition).expect("the replica runs");
        slot.timeout_at_us = None;
        slot.replica.handle_timeout(now_ms);
        self.drain(node, partition)
    }
}
