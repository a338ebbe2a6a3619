//! The second phase: no more faults, and everything must come to its end.

use super::{
    client::{Request, Response, State},
    node::Node,
    oracle::{converged, linearizable, liveness as oracle},
    world::{Checked, Event, World},
};
use crate::linearizability::register::Condition;
use ashlar_object::chain::{Outcome, Refusal, Standing};

/// How often the world is looked at.
const TICK_US: u64 = 5_000;
/// How long each stage may take. The longest wait in a plan is a client's timeout of two seconds.
const STAGE_US_MAX: u64 = 20_000_000;
/// No client waits longer than a stage.
const PATIENCE_US: u64 = 2 * STAGE_US_MAX;

/// A stage of the liveness phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was begun comes to its end.
    Settle,
    /// While disks are full, writes are refused, at the latest when some have been done.
    Fill,
    /// While disks are full, a deletion of each key succeeds at the first attempt.
    Delete,
    /// When all disks have space, everybody hears of it.
    Free,
    /// A write to each key succeeds at the first attempt.
    Write,
    /// A read of each key at each replica is answered.
    Read,
    /// All replicas hold the same.
    Converge,
}

/// How far the liveness phase has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    step: Step,
    /// When the step began.
    since_us: u64,
    /// The first of the step's operations.
    first: usize,
}

impl World {
    /// Ends all faults.
    pub(super) fn safety_ends(&mut self) {
        if self.stage.is_some() {
            return;
        }
        self.note(|| "the faults end".to_owned());
        self.network.end_faults();
        self.operations_left = 0;
        for node in 0..self.nodes.len() {
            self.nodes[node].slow_until_us = 0;
            self.queue.push_after(0, Event::Start { node });
        }
        self.stage = Some(Stage { step: Step::Settle, since_us: self.now_us(), first: 0 });
        self.queue.push_after(TICK_US, Event::LivenessTick);
    }

    /// Goes on to the next step if this one is done.
    pub(super) fn liveness_tick(&mut self) -> Checked {
        let stage = self.stage.expect("the liveness phase has begun");
        let waits_for = match stage.step {
            // What was sent before may still arrive, and may unsettle what has settled.
            Step::Settle | Step::Free
                if self.now_us() < stage.since_us + self.plan.network.latency_us_max() =>
            {
                self.queue.push_after(TICK_US, Event::LivenessTick);
                return Ok(());
            }
            Step::Settle | Step::Converge => self.unsettled(),
            Step::Free => self.unsettled().or_else(|| self.no_space()),
            Step::Fill | Step::Delete | Step::Write | Step::Read => self.unanswered(stage.first),
        };
        if let Some(waits_for) = waits_for {
            let late = self.now_us() > stage.since_us + STAGE_US_MAX;
            let finding = if late {
                Err(format!("{:?} does not end: {waits_for}", stage.step))
            } else {
                Ok(())
            };
            self.queue.push_after(TICK_US, Event::LivenessTick);
            return self.judge_clients(oracle::NAME, finding, Vec::new());
        }
        let next = match stage.step {
            Step::Settle if self.nodes.iter().any(|node| node.full.is_some()) => Step::Fill,
            Step::Fill if self.still_fills(stage) => Step::Fill,
            Step::Fill => Step::Delete,
            Step::Settle | Step::Delete => Step::Free,
            Step::Free => Step::Write,
            Step::Write => Step::Read,
            Step::Read => Step::Converge,
            Step::Converge => {
                self.done = true;
                return self.check_contents();
            }
        };
        self.check_answers(stage)?;
        if stage.step == Step::Delete {
            let operations = stage.first..self.operations.len();
            let count = operations.filter(|operation| self.is_done(*operation)).count();
            self.coverage.deletions_on_full_disks += count as u64;
        }
        if stage.step == Step::Settle {
            // Before the writes of the next step supersede what should not be there.
            self.check_contents()?;
        }
        self.stage =
            Some(Stage { step: next, since_us: self.now_us(), first: self.operations.len() });
        self.note(|| format!("liveness: {next:?}"));
        match next {
            Step::Delete => self.write_everywhere(false),
            Step::Free => (0..self.nodes.len()).for_each(|node| self.free_disk(node)),
            Step::Fill | Step::Write => self.write_everywhere(true),
            Step::Read => self.read_everywhere(),
            Step::Settle | Step::Converge => {}
        }
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
    }

    /// What has not come to rest, if anything.
    fn unsettled(&mut self) -> Option<String> {
        if let Some(unanswered) = self.unanswered(0) {
            return Some(unanswered);
        }
        let now_us = self.now_us();
        let rests = |node: &Node| node.up && node.is_idle() && node.paused_until_us <= now_us;
        if let Some(node) = self.nodes.iter().position(|node| !rests(node)) {
            return Some(format!("n{node} is not idle"));
        }
        let connected = |link: usize| {
            let session = self.links[link].session();
            session.is_some_and(|session| self.connects(link, session))
        };
        if !(0..self.links.len()).all(connected) {
            return Some("a link is down".to_owned());
        }
        (0..self.chains.len()).find_map(|partition| self.unsettled_chain(partition))
    }

    fn unsettled_chain(&self, partition: usize) -> Option<String> {
        let replicas = || {
            self.chains[partition].iter().map(|node| {
                let slot = self.nodes[*node].slots[partition].as_ref();
                (*node, &slot.expect("all processes run").replica)
            })
        };
        for (node, replica) in replicas() {
            let standing = replica.standing();
            let excused = match standing {
                Standing::Joined => true,
                Standing::Lost => self.wiped == Some(node),
                // It waits for the word of the replica that is lost.
                Standing::Fresh => self.is_broken(partition),
            };
            if !excused {
                return Some(format!("p{partition} at n{node} is {standing:?}"));
            }
        }
        if self.is_broken(partition) {
            return None;
        }
        let (_, head) = replicas().next().expect("a chain has a head");
        if !head.writable() {
            return Some(format!("p{partition} is not writable"));
        }
        let open = self.oracles.replies.open_at(self.head(partition), partition);
        if let Some(operation) = open {
            return Some(format!("operation {operation} is never answered"));
        }
        replicas().find_map(|(node, replica)| {
            let (applied, committed) = (replica.applied(), replica.committed());
            (applied != head.applied() || committed != applied).then(|| {
                let head = head.applied();
                format!(
                    "p{partition} at n{node}: applied {applied}, committed {committed} of {head}"
                )
            })
        })
    }

    /// Whether a replica of the chain is lost, so that it waits for an operator.
    fn is_broken(&self, partition: usize) -> bool {
        self.chains[partition].iter().any(|node| {
            let slot = self.nodes[*node].slots[partition].as_ref();
            slot.is_some_and(|slot| slot.replica.standing() == Standing::Lost)
        })
    }

    fn unanswered(&self, first: usize) -> Option<String> {
        let open = |operation: &usize| self.operations[*operation].state == State::Open;
        let operation = (first..self.operations.len()).find(open)?;
        Some(format!("operation {operation} is not answered"))
    }

    /// Whether a chain with a full disk has taken an object.
    fn still_fills(&self, stage: Stage) -> bool {
        (stage.first..self.operations.len()).any(|operation| {
            let chain = &self.chains[self.partition_of(operation)];
            self.is_done(operation) && chain.iter().any(|node| self.nodes[*node].full.is_some())
        })
    }

    /// Whether a write was done.
    fn is_done(&self, operation: usize) -> bool {
        let state = self.operations[operation].state;
        let State::Answered(_, response) = state else { return false };
        matches!(response, Response::Write(Outcome::Committed { .. }))
    }

    /// A chain whose head does not know that there is space again, if any.
    fn no_space(&self) -> Option<String> {
        let knows = |partition: &usize| {
            let slot = self.nodes[self.head(*partition)].slots[*partition].as_ref();
            slot.is_some_and(|slot| slot.replica.has_space())
        };
        let mut partitions = (0..self.chains.len()).filter(|p| !self.is_broken(*p));
        let waits = partitions.find(|partition| !knows(partition))?;
        Some(format!("the head of p{waits} does not hear of space"))
    }

    /// Puts or removes each key.
    fn write_everywhere(&mut self, puts: bool) {
        for key in 0..self.keys.len() {
            let partition = self.keys[key].1;
            if !self.is_broken(partition) {
                let request = self.write_request(puts, Condition::Always);
                let client = key % self.plan.clients;
                self.begin_operation(client, key, self.head(partition), request, PATIENCE_US);
            }
        }
    }

    fn read_everywhere(&mut self) {
        for key in 0..self.keys.len() {
            let partition = self.keys[key].1;
            for place in 0..self.chains[partition].len() {
                if !self.is_broken(partition) {
                    let node = self.chains[partition][place];
                    let client = place % self.plan.clients;
                    self.begin_operation(client, key, node, Request::Read, PATIENCE_US);
                }
            }
        }
    }

    /// The step's operations must have succeeded.
    fn check_answers(&self, stage: Stage) -> Checked {
        if matches!(stage.step, Step::Settle | Step::Free) {
            return Ok(());
        }
        for (place, operation) in self.operations[stage.first..].iter().enumerate() {
            let finding = match operation.state {
                State::Answered(_, Response::Write(Outcome::Refused(refusal))) => {
                    // Writes of one partition may come all at once.
                    match refusal {
                        Refusal::WindowFull => Ok(()),
                        Refusal::NoSpace if stage.step == Step::Fill => Ok(()),
                        other => Err(format!("{other:?}")),
                    }
                }
                State::Answered(_, Response::Unavailable) => Err("unavailable".to_owned()),
                _ => Ok(()),
            };
            let operation = stage.first + place;
            let finding = finding.map_err(|text| format!("operation {operation}: {text}"));
            self.judge_clients(oracle::NAME, finding, Vec::new())?;
        }
        Ok(())
    }

    /// All replicas of a chain must hold the same, and nothing superseded.
    fn check_contents(&self) -> Checked {
        for (partition, chain) in self.chains.iter().enumerate() {
            if self.is_broken(partition) {
                continue;
            }
            let nodes = chain.iter().map(|node| (*node, &self.nodes[*node]));
            let finding = converged::check(partition, nodes);
            self.judge(converged::NAME, finding)?;
        }
        Ok(())
    }

    /// What clients saw must have an explanation.
    pub(super) fn check_histories(&mut self) -> Checked {
        for key in 0..self.keys.len() {
            let history = linearizable::history(key, &self.operations);
            let (finding, context) = linearizable::check(&self.keys[key].0, &history);
            match &finding {
                Ok(true) => self.coverage.histories_linearizable += 1,
                Ok(false) => self.coverage.histories_undecided += 1,
                Err(_) => {}
            }
            self.judge_clients(linearizable::NAME, finding.map(|_| ()), context)?;
        }
        Ok(())
    }
}
