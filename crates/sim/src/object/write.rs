//! How a node takes a client's write: the body first, then the chain, then the answer.

use super::{
    Sabotage,
    bodies::AfterSync,
    client::{ClientOperation, Request, Response},
    node::Node,
    oracle::{acknowledged, refused, replies},
    storage::FileWrite,
    world::{Checked, Event, World},
};
use crate::linearizability::register::{Condition, Value};
use ashlar_object::{
    Body, Change, ETag, ObjectMeta, Operation, StageId, Version,
    chain::{Outcome, Refusal, Ticket, Write},
    condition::{Conditions, Tag, TagList},
};
use bytes::Bytes;

/// The longest inline body.
pub(super) const INLINE_BYTES_MAX: usize = 256;

impl World {
    /// A request arrives at a node; if nothing runs there, nothing happens.
    pub(super) fn request(&mut self, operation: usize) -> Checked {
        let ClientOperation { node, request, .. } = self.operations[operation];
        if !self.nodes[node].up {
            return Ok(());
        }
        self.note(|| format!("n{node} takes operation {operation} in"));
        let partition = self.partition_of(operation);
        match request {
            Request::Read => self.begin_read(node, operation),
            Request::Write { .. } if self.slot(node, partition).is_none() => {
                self.coverage.writes_astray += 1;
                let outcome = Outcome::Refused(Refusal::NotHead);
                self.respond(node, operation, Response::Write(outcome));
                Ok(())
            }
            Request::Write { put: Some(value), staged: true, .. } => {
                let (stage, ship_ahead) = (StageId(u128::from(value)), self.plan.ship_ahead);
                if self.random.chance(ship_ahead) {
                    self.ship_body(node, partition, stage, None);
                }
                self.store_body(node, stage, AfterSync::Submit(operation))
            }
            Request::Write { .. } => self.submit(node, operation),
        }
    }

    /// Hands a client's write to the replica.
    pub(super) fn submit(&mut self, node: usize, operation: usize) -> Checked {
        let now_ms = self.now_ms();
        let partition = self.partition_of(operation);
        let write = self.write_of(operation, now_ms);
        let ticket = self.oracles.replies.open(node, partition, operation);
        let Node { slots, database, .. } = &mut self.nodes[node];
        let view =
            if self.plan.visible_before_sync { database.current() } else { database.durable() };
        let slot = slots[partition].as_mut().expect("the replica runs");
        let accepted = slot.accepted;
        let Ok(()) = slot.replica.handle_write(now_ms, ticket, write, view.partition(partition));
        self.drain(node, partition)?;
        let slot = self.slot(node, partition).expect("the replica runs");
        let numbered = (slot.accepted > accepted).then_some(slot.accepted);
        self.oracles.replies.numbered(ticket, numbered);
        if numbered.is_none() && self.oracles.replies.is_open(ticket) {
            self.coverage.failures_deferred += 1;
            if self.is_sabotaged(Sabotage::EarlyFailure) {
                self.oracles.replies.answer_early(ticket);
                let outcome = self.failure_of(operation);
                self.respond(node, operation, Response::Write(outcome));
            }
        }
        Ok(())
    }

    fn write_of(&self, operation: usize, now_ms: u64) -> Write {
        let ClientOperation { key, request, .. } = self.operations[operation];
        let Request::Write { put, condition, staged, inline_bytes } = request else {
            unreachable!("a read is not handed to the chain");
        };
        let change = put.map_or(Change::Delete, |value| {
            let body = if staged {
                Body::Staged(StageId(u128::from(value)))
            } else {
                static ZEROS: [u8; INLINE_BYTES_MAX] = [0; INLINE_BYTES_MAX];
                Body::Inline(Bytes::from_static(&ZEROS[..inline_bytes]))
            };
            Change::Put {
                meta: ObjectMeta {
                    size_bytes: inline_bytes as u64,
                    etag: etag_of(value),
                    modified_ms: now_ms,
                    content_type: None,
                    user: Vec::new(),
                },
                body,
            }
        });
        let key = self.keys[key].0.clone();
        Write { operation: Operation { key, change }, conditions: conditions_of(condition) }
    }

    /// How a write fails whose failure is certain but not yet committed.
    fn failure_of(&self, operation: usize) -> Outcome {
        match self.operations[operation].request {
            Request::Write { put: None, condition: Condition::Always, .. } => Outcome::NotFound,
            _ => Outcome::PreconditionFailed,
        }
    }

    /// The replica answers a write.
    pub(super) fn replied(
        &mut self,
        node: usize,
        partition: usize,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Checked {
        let (finding, asked) = self.oracles.replies.answer(node, partition, ticket);
        self.judge(replies::NAME, finding)?;
        let Some(operation) = asked else {
            return Ok(());
        };
        if self.oracles.replies.was_answered_early(ticket) {
            return Ok(());
        }
        self.note(|| format!("p{partition} at n{node} answers operation {operation}: {outcome:?}"));
        self.check_outcome(node, partition, operation, outcome)?;
        self.respond(node, operation, Response::Write(outcome));
        Ok(())
    }

    fn check_outcome(
        &mut self,
        node: usize,
        partition: usize,
        operation: usize,
        outcome: Outcome,
    ) -> Checked {
        match outcome {
            Outcome::Committed { version, .. } => {
                self.coverage.writes_committed += 1;
                self.coverage.writes_after_healing += u64::from(self.stage.is_some());
                let finding = self.acknowledge(partition, version);
                return self.judge(acknowledged::NAME, finding);
            }
            Outcome::PreconditionFailed | Outcome::NotFound => self.coverage.writes_failed += 1,
            Outcome::Refused(refusal) => {
                let count = match refusal {
                    Refusal::NotHead => &mut self.coverage.writes_astray,
                    Refusal::ChainBroken => &mut self.coverage.writes_refused_chain_broken,
                    Refusal::WindowFull => &mut self.coverage.writes_refused_window_full,
                    Refusal::NoSpace => &mut self.coverage.writes_refused_no_space,
                    Refusal::DataLost => &mut self.coverage.writes_refused_data_lost,
                };
                *count += 1;
            }
        }
        let Request::Write { put, staged, .. } = self.operations[operation].request else {
            unreachable!("only writes are answered by the chain");
        };
        let Some(value) = put else {
            return Ok(());
        };
        if staged {
            let bodies = &mut self.nodes[node].bodies;
            bodies.write(FileWrite::Remove(StageId(u128::from(value))));
            bodies.sync_all();
        }
        let finding = self.oracles.refused.refused(value);
        self.judge(refused::NAME, finding)
    }

    /// The sabotage of a head that answers for the whole chain.
    pub(super) fn answer_at_head(
        &mut self,
        node: usize,
        partition: usize,
        through: Version,
    ) -> Checked {
        for (ticket, operation, version) in self.oracles.replies.numbered_up_to(node, through) {
            if self.partition_of(operation) != partition {
                continue;
            }
            self.oracles.replies.answer_early(ticket);
            let key = &self.keys[self.operations[operation].key].0;
            let versions = self.nodes[node].database.current().partition(partition);
            let versions = versions.versions(key).iter().rev();
            let mut before = versions.skip_while(|stored| stored.version >= version);
            let replaced =
                before.next().is_some_and(|stored| stored.operation.change.meta().is_some());
            let outcome = Outcome::Committed { version, replaced };
            self.check_outcome(node, partition, operation, outcome)?;
            self.respond(node, operation, Response::Write(outcome));
        }
        Ok(())
    }

    /// Sends an answer on its way to the client.
    pub(super) fn respond(&mut self, node: usize, operation: usize, response: Response) {
        let client = self.operations[operation].client;
        let (now_us, host) = (self.now_us(), self.plan.nodes + client);
        let arrivals = self.network.send(now_us, node, host, &mut self.random);
        if let Some(at_us) = arrivals.iter().next() {
            let event = Event::Response { operation, response };
            self.queue.push_at(at_us, event);
        }
    }
}

/// The entity tag that stands for a value.
fn etag_of(value: Value) -> ETag {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    ETag(bytes)
}

/// The value that a change puts.
pub(crate) fn value_of(change: &Change) -> Option<Value> {
    let bytes = change.meta()?.etag.0;
    let first = bytes.first_chunk().expect("a tag has sixteen bytes");
    Some(Value::from_le_bytes(*first))
}

fn conditions_of(condition: Condition) -> Conditions {
    let tag = |value| {
        let tag = Tag { weak: false, etag: Some(etag_of(value)) };
        Some(TagList::Tags(vec![tag]))
    };
    let (if_match, if_none_match) = match condition {
        Condition::Always => (None, None),
        Condition::Absent => (None, Some(TagList::Any)),
        Condition::Present => (Some(TagList::Any), None),
        Condition::Equals(value) => (tag(value), None),
        Condition::Differs(value) => (None, tag(value)),
    };
    Conditions { if_match, if_none_match, ..Conditions::default() }
}
