//! Group commit: what the replicas of a node want written goes to its disk in batches, each synced
//! once.

use super::{
    Sabotage,
    oracle::prefix,
    storage::{FileWrite, Item},
    world::{Checked, Event, Incarnation, World},
};
use crate::disk::WriteId;
use ashlar_object::{StageId, Version};
use std::collections::VecDeque;

/// The batches of one node.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// What waits for the next batch.
    waiting: VecDeque<Item>,
    /// When the next batch begins.
    begins_at_us: Option<u64>,
    /// The batch that is being synced.
    current: Option<Batch>,
    /// Bodies that no version names once that write is durable.
    superseded: Vec<(WriteId, StageId)>,
}

#[derive(Debug)]
struct Batch {
    write: WriteId,
    /// For each partition in the batch the highest version persisted.
    persisted: Vec<(usize, Version)>,
}

impl Batches {
    /// Adds to what waits.
    pub(super) fn wait(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// Whether nothing waits and nothing is being synced.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// Whether an entry waits: releases alone are in no hurry.
    fn is_urgent(&self) -> bool {
        self.waiting.iter().any(|item| matches!(item, Item::Persist(..)))
    }

    /// What was taken is to be tried again at that time.
    fn put_back(&mut self, items: Vec<Item>, at_us: u64) {
        for item in items.into_iter().rev() {
            self.waiting.push_front(item);
        }
        self.begins_at_us = Some(at_us);
    }

    fn take(&mut self, items_max: usize) -> Vec<Item> {
        let count = self.waiting.len().min(items_max);
        self.waiting.drain(..count).collect()
    }
}

impl World {
    /// Schedules a batch if something waits and the disk is free.
    pub(super) fn schedule_batch(&mut self, node: usize) {
        let now_us = self.now_us();
        let incarnation = self.nodes[node].incarnation;
        let batches = &mut self.nodes[node].batches;
        if batches.waiting.is_empty() || batches.current.is_some() {
            return;
        }
        let urgent = batches.is_urgent();
        let delay_us = if urgent { self.plan.gather_us } else { self.plan.release_us };
        if batches.begins_at_us.is_some_and(|at_us| !urgent || at_us <= now_us + delay_us) {
            return;
        }
        let at_us = now_us + self.random.below(delay_us);
        batches.begins_at_us = Some(at_us);
        self.queue.push_at(at_us, Event::BatchBegins { node, incarnation });
    }

    /// Writes what waits as one atomic change, and syncs it.
    pub(super) fn batch_begins(&mut self, node: usize, incarnation: Incarnation) -> Checked {
        let now_us = self.now_us();
        // Another event may have been scheduled for an earlier moment.
        let due = self.nodes[node].batches.begins_at_us.is_some_and(|at_us| at_us <= now_us);
        if !self.lives(node, incarnation) || !due {
            return Ok(());
        }
        let batches = &mut self.nodes[node].batches;
        batches.begins_at_us = None;
        let mut items = batches.take(self.plan.batch_items_max);
        if !self.has_room(node, &items)? {
            let at_us = self.retry_batch(node);
            self.nodes[node].batches.put_back(items, at_us);
            return Ok(());
        }
        if self.is_sabotaged(Sabotage::MarkAhead) {
            self.mark_ahead(node, &mut items);
        }
        let persisted = highest(&items);
        let entries = items.iter().filter(|item| matches!(item, Item::Persist(..))).count();
        self.coverage.syncs_shared += u64::from(entries > 1);
        let superseded = self.superseded(node, &items);
        let this = &mut self.nodes[node];
        this.full.iter_mut().for_each(|full| full.count(&items));
        let write = this.database.write(items);
        this.batches.superseded.extend(superseded.into_iter().map(|stage| (write, stage)));
        if persisted.is_empty() && self.plan.lazy_release {
            self.schedule_batch(node);
            return Ok(());
        }
        this.batches.current = Some(Batch { write, persisted });
        let delay_us = self.sync_time_us(node);
        self.queue.push_after(delay_us, Event::BatchSynced { node, incarnation });
        if self.is_sabotaged(Sabotage::AckBeforeSync) {
            self.report_persisted(node)?;
        }
        Ok(())
    }

    /// The batch is durable.
    pub(super) fn batch_synced(&mut self, node: usize, incarnation: Incarnation) -> Checked {
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        self.coverage.syncs += 1;
        let this = &mut self.nodes[node];
        let write = this.batches.current.as_ref().expect("a batch is being synced").write;
        this.database.sync_through(write);
        // Only now: a body must not go before it is certain that no version names it.
        for (_, stage) in this.batches.superseded.extract_if(.., |(at, _)| *at <= write) {
            self.coverage.bodies_released += 1;
            this.bodies.write(FileWrite::Remove(stage));
            this.bodies.sync_all();
        }
        self.report_persisted(node)?;
        if self.nodes[node].full.is_some() {
            self.space_checked(node, incarnation)?;
        }
        self.nodes[node].batches.current = None;
        self.schedule_batch(node);
        Ok(())
    }

    /// How long the node's next sync takes.
    pub(super) fn sync_time_us(&mut self, node: usize) -> u64 {
        let slow = self.nodes[node].slow_until_us > self.now_us();
        self.plan.sync.draw_us(slow, &mut self.random)
    }

    /// Tells the replicas how far they are persisted.
    fn report_persisted(&mut self, node: usize) -> Checked {
        let batch = self.nodes[node].batches.current.as_mut();
        let persisted = std::mem::take(&mut batch.expect("a batch is being synced").persisted);
        for (partition, through) in persisted {
            self.note(|| format!("p{partition} at n{node} has persisted up to {through}"));
            let now_ms = self.now_ms();
            let slot = self.slot(node, partition).expect("the replica runs");
            slot.replica.handle_persisted(now_ms, through);
            let position = slot.position;
            let disk = self.nodes[node].database.current().partition(partition);
            let finding = self.oracles.prefix.applied(partition, position, disk, through);
            self.judge(prefix::NAME, finding)?;
            if self.is_sabotaged(Sabotage::CommitAtHead) {
                self.answer_at_head(node, partition, through)?;
            }
            self.drain(node, partition)?;
        }
        Ok(())
    }

    /// The staged bodies of the versions that the releases among `items` drop. What a release drops
    /// was persisted by an earlier batch.
    fn superseded(&self, node: usize, items: &[Item]) -> Vec<StageId> {
        let database = self.nodes[node].database.current();
        let mut stages = Vec::new();
        for item in items {
            if let Item::Release(partition, entry) = item {
                let versions = database.partition(*partition).versions(&entry.operation.key);
                let below = versions.iter().filter(|stored| stored.version < entry.version);
                stages.extend(below.filter_map(|stored| stored.stage()));
            }
        }
        stages
    }

    /// The defect of a shell that persists `committed()` and performs releases later.
    fn mark_ahead(&mut self, node: usize, items: &mut Vec<Item>) {
        let this = &mut self.nodes[node];
        if items.iter().any(|item| matches!(item, Item::Persist(..))) {
            let releases = items.extract_if(.., |item| matches!(item, Item::Release(..)));
            this.batches.waiting.extend(releases);
        }
        for (partition, slot) in this.slots.iter().enumerate() {
            let committed = slot.as_ref().map(|slot| slot.replica.committed());
            items.extend(committed.map(|committed| Item::Mark(partition, committed)));
        }
    }
}

/// For each partition the highest version among `items`.
fn highest(items: &[Item]) -> Vec<(usize, Version)> {
    let mut highest: Vec<(usize, Version)> = Vec::new();
    for item in items {
        if let Item::Persist(partition, entry) = item {
            match highest.iter_mut().find(|(at, _)| at == partition) {
                Some((_, through)) => *through = entry.version,
                None => highest.push((*partition, entry.version)),
            }
        }
    }
    highest
}
