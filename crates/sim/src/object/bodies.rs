//! Staged bodies: shipped along the chain before the write that names them, and again if missing.

use super::{
    Sabotage,
    oracle::stored_bodies,
    storage::FileWrite,
    world::{Checked, Event, Incarnation, World},
};
use crate::disk::WriteId;
use ashlar_object::{Entry, StageId, Version};

/// A body on its way to a successor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyArrival {
    pub(super) link: usize,
    session: u32,
    partition: usize,
    stage: StageId,
    /// The entry for which the successor missed it; none if it is shipped ahead.
    missed_for: Option<Version>,
}

/// The word on its way back that a body which was missing is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyStored {
    pub(super) link: usize,
    session: u32,
    partition: usize,
    version: Version,
}

/// What to do when a body is synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AfterSync {
    /// Hand the client's write in.
    Submit(usize),
    /// Tell the predecessor.
    Tell(BodyStored),
    /// Nothing.
    Rest,
}

impl World {
    /// Whether the body is complete and synced at the node.
    pub(super) fn body_present(&self, node: usize, stage: StageId) -> bool {
        self.is_sabotaged(Sabotage::SkipBodyCheck)
            || self.nodes[node].bodies.durable().contains(stage)
    }

    /// Stores a body, syncs it, and goes on with `after`.
    pub(super) fn store_body(&mut self, node: usize, stage: StageId, after: AfterSync) -> Checked {
        if self.nodes[node].bodies.durable().contains(stage) {
            return self.body_rests(node, after);
        }
        let this = &mut self.nodes[node];
        let incarnation = this.incarnation;
        if let Some(waiting) = this.staging.get_mut(&stage) {
            waiting.push(after);
            return Ok(());
        }
        this.staging.insert(stage, vec![after]);
        let write = this.bodies.write(FileWrite::Add(stage));
        self.coverage.bodies_staged += 1;
        let delay_us = self.sync_time_us(node);
        let event = Event::BodySynced { node, incarnation, stage, write };
        self.queue.push_after(delay_us, event);
        Ok(())
    }

    /// A body is synced.
    pub(super) fn body_synced(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        stage: StageId,
        write: WriteId,
    ) -> Checked {
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        self.nodes[node].bodies.sync_only(write);
        let waiting = self.nodes[node].staging.remove(&stage).unwrap_or_default();
        for after in waiting {
            self.body_rests(node, after)?;
        }
        Ok(())
    }

    fn body_rests(&mut self, node: usize, after: AfterSync) -> Checked {
        match after {
            AfterSync::Submit(operation) => self.submit(node, operation),
            AfterSync::Tell(stored) => {
                self.tell_stored(node, stored);
                Ok(())
            }
            AfterSync::Rest => Ok(()),
        }
    }

    /// The replica wants a body shipped that its successor lacks.
    pub(super) fn send_body(&mut self, node: usize, partition: usize, entry: &Entry) -> Checked {
        let stage = entry.operation.change.stage().expect("the entry has a staged body");
        let finding = stored_bodies::check(&self.nodes[node], entry.version, stage);
        self.judge(stored_bodies::NAME, finding)?;
        self.coverage.bodies_shipped_again += 1;
        self.ship_body(node, partition, stage, Some(entry.version));
        Ok(())
    }

    /// Ships a body to the successor, if there is one and it can be reached.
    pub(super) fn ship_body(
        &mut self,
        node: usize,
        partition: usize,
        stage: StageId,
        missed_for: Option<Version>,
    ) {
        let position = self.slot(node, partition).expect("the replica runs").position;
        let Some(link) = self.links_of[partition].get(position).copied() else {
            return;
        };
        let Some(session) = self.links[link].session() else {
            return;
        };
        let successor = self.links[link].successor;
        let now_us = self.now_us();
        let arrivals = self.network.send(now_us, node, successor, &mut self.random);
        for at_us in arrivals.iter() {
            let arrival = BodyArrival { link, session, partition, stage, missed_for };
            self.queue.push_at(at_us, Event::BodyArrives(arrival));
        }
    }

    /// A body arrives at a successor.
    pub(super) fn body_arrives(&mut self, arrival: BodyArrival) -> Checked {
        let BodyArrival { link, session, partition, stage, missed_for } = arrival;
        if !self.connects(link, session) {
            return Ok(());
        }
        let node = self.links[link].successor;
        self.note(|| format!("p{partition} body {} arrives at n{node}", stage.0));
        let after = match missed_for {
            Some(version) => AfterSync::Tell(BodyStored { link, session, partition, version }),
            None => {
                self.ship_body(node, partition, stage, None);
                AfterSync::Rest
            }
        };
        self.store_body(node, stage, after)
    }

    fn tell_stored(&mut self, node: usize, stored: BodyStored) {
        let predecessor = self.links[stored.link].predecessor;
        let now_us = self.now_us();
        let arrivals = self.network.send(now_us, node, predecessor, &mut self.random);
        for at_us in arrivals.iter() {
            self.queue.push_at(at_us, Event::BodyStored(stored));
        }
    }

    /// The predecessor learns that a missing body is stored.
    pub(super) fn body_stored(&mut self, stored: BodyStored) -> Checked {
        let BodyStored { link, session, partition, version } = stored;
        if !self.connects(link, session) {
            return Ok(());
        }
        let node = self.links[link].predecessor;
        let slot = self.slot(node, partition).expect("the replica runs");
        slot.replica.handle_body_sent(version);
        self.drain(node, partition)
    }
}
