//! Asking steering: at once if it is on this host, by datagrams otherwise.

use super::{
    oracle::introduced,
    sabotage::Sabotage,
    steering::{KEY, flow_key},
    world::{Checked, Event, Incarnation, MoveKey, World},
};
use crate::violation::Violation;
use ashlar_fastpath::steering::{ControlFrame, FlowKey, Operation, Reply, Request, ResultCode};

/// The first pause before a request is repeated; it doubles up to the second.
const PAUSE_US: u64 = 2_000;
const PAUSE_US_MAX: u64 = 100_000;
/// How long an operation is repeated.
const DEADLINE_US: u64 = 400_000;

/// What waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A move's exporter, which introduces the flow with this epoch.
    Introduction { key: MoveKey, epoch: u64 },
    /// A move's exporter, which claims this epoch.
    Departure { key: MoveKey, epoch: u64 },
    /// A move's importer, which claims this epoch.
    Arrival { key: MoveKey, epoch: u64 },
    /// A connection that ended.
    Forget,
}

/// An operation that steering has not answered.
#[derive(Debug)]
pub(crate) struct Ask {
    operation: Operation,
    purpose: Purpose,
    /// Each repetition has its own.
    counters: Vec<u64>,
    /// The life of steering's table that each of them was for, as far as it was known.
    incarnations: Vec<u64>,
    pause_us: u64,
    end_us: u64,
}

impl World {
    /// Asks. The answer is there at once if steering belongs to the process.
    pub(super) fn ask(
        &mut self,
        node: usize,
        operation: Operation,
        purpose: Purpose,
    ) -> Result<Option<Reply>, Box<Violation>> {
        let now_us = self.now_us();
        if node == 0 && !self.plan.remote_steering {
            let is_busy = self.random.chance(self.plan.busy);
            let knew = self.steering.table.contains_key(&operation.flow());
            let frame = self.steering.execute(operation, now_us, is_busy, &mut self.coverage);
            self.check_entry(node, &operation.flow(), knew)?;
            let reply = Reply::open(frame.bytes(), &KEY).expect("steering seals its answers");
            return Ok(Some(reply));
        }
        let end_us = now_us + DEADLINE_US;
        let (counters, incarnations) = (Vec::new(), Vec::new());
        let pause_us = PAUSE_US;
        let ask = Ask { operation, purpose, counters, incarnations, pause_us, end_us };
        let node_state = &mut self.nodes[node];
        // Who asks again waits for the new answer only.
        node_state.asks.retain(|_, ask| !purpose.replaces(ask.purpose));
        node_state.asks_made += 1;
        let number = node_state.asks_made;
        node_state.asks.insert(number, ask);
        let incarnation = node_state.incarnation;
        self.ask_again(node, incarnation, number)?;
        Ok(None)
    }

    /// A second introduction could make an entry again that was claimed and forgotten.
    fn is_asked_once(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::Introduction { .. })
            && !self.is_sabotaged(Sabotage::IntroduceTwice)
    }

    /// Sends one repetition, and decides when the next is due.
    pub(super) fn ask_again(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        number: u64,
    ) -> Checked {
        let now_us = self.now_us();
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        let Some(ask) = self.nodes[node].asks.get(&number) else { return Ok(()) };
        let is_asked_once = self.is_asked_once(ask.purpose);
        let state = &mut self.nodes[node];
        let ask = state.asks.get_mut(&number).expect("it is there");
        if now_us >= ask.end_us {
            state.asks.remove(&number);
            return Ok(());
        }
        // As from a clock: it grows over restarts, too.
        state.counter = (state.counter + 1).max(now_us);
        let (counter, known) = (state.counter, state.steering_incarnation);
        ask.counters.push(counter);
        ask.incarnations.push(known);
        let finding = match ask.purpose {
            Purpose::Introduction { .. } => introduced::once(&ask.incarnations),
            _ => Ok(()),
        };
        let pause_us = if is_asked_once { DEADLINE_US } else { ask.pause_us };
        ask.pause_us = (2 * pause_us).min(PAUSE_US_MAX);
        let (sender, operation) = (node as u16, ask.operation);
        let request = Request { sender, counter, incarnation: known, operation };
        let frame = Box::new(request.seal(&KEY));
        self.coverage.control_requests += 1;
        let to = self.steering_host();
        for at_us in self.network.send(now_us, node, to, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::ControlRequest { node, frame: frame.clone() });
        }
        self.queue.push_after(pause_us, Event::AskedAgain { node, incarnation, number });
        self.judge(introduced::NAME, finding.map_err(|text| format!("n{node} {text}")))
    }

    /// A control frame arrives at steering.
    pub(super) fn control_request(&mut self, node: usize, frame: ControlFrame) -> Checked {
        let now_us = self.now_us();
        let is_reachable = self.plan.remote_steering || self.nodes[0].powered;
        if !self.steering.attached || !is_reachable {
            return Ok(());
        }
        let is_busy = self.random.chance(self.plan.busy);
        let flow = frame.flow();
        let knew = self.steering.table.contains_key(&flow);
        let Some(reply) = self.steering.control(frame, now_us, is_busy, &mut self.coverage) else {
            return Ok(());
        };
        self.check_entry(node, &flow, knew)?;
        let from = self.steering_host();
        for at_us in self.network.send(now_us, from, node, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::ControlReply { node, frame: Box::new(reply) });
        }
        Ok(())
    }

    /// A move is over: what it has introduced is not introduced any more, for there may be a newer
    /// connection of the flow.
    pub(super) fn forget_introduction(&mut self, node: usize, of: MoveKey) {
        let is_of = |purpose| matches!(purpose, Purpose::Introduction { key, .. } if key == of);
        self.nodes[node].asks.retain(|_, ask| !is_of(ask.purpose));
    }

    /// A node has asked steering; was an entry made, and might it be?
    fn check_entry(&self, node: usize, key: &FlowKey, knew: bool) -> Checked {
        if knew || !self.steering.table.contains_key(key) {
            return Ok(());
        }
        let flows = 0..self.plan.clients;
        let flow = flows.into_iter().find(|flow| flow_key(*flow) == *key);
        let flow = flow.expect("nodes ask about clients' flows");
        let is_frozen = self.nodes[node].sockets.get(&flow).is_some_and(|socket| socket.mute);
        let finding = introduced::entry(node, flow, is_frozen);
        self.judge(introduced::NAME, finding)
    }

    /// A reply arrives.
    pub(super) fn control_reply(&mut self, node: usize, frame: &ControlFrame) -> Checked {
        let Ok(reply) = Reply::open(frame.bytes(), &KEY) else {
            unreachable!("the network changes no bytes")
        };
        let state = &mut self.nodes[node];
        if !state.up {
            return Ok(());
        }
        let asked = state.asks.iter().find(|(_, ask)| ask.counters.contains(&reply.counter));
        let Some((number, purpose)) = asked.map(|(number, ask)| (*number, ask.purpose)) else {
            self.coverage.control_replies_unexpected += 1;
            return Ok(());
        };
        match reply.result {
            ResultCode::WrongIncarnation if state.asks[&number].may_repeat(&reply) => {
                state.steering_incarnation = reply.incarnation;
                let incarnation = state.incarnation;
                self.ask_again(node, incarnation, number)
            }
            // A claim is repeated anyway.
            ResultCode::WrongIncarnation | ResultCode::Busy => Ok(()),
            _ => {
                state.asks.remove(&number);
                self.answered(node, purpose, &reply)
            }
        }
    }

    fn answered(&mut self, node: usize, purpose: Purpose, reply: &Reply) -> Checked {
        match purpose {
            Purpose::Introduction { key, epoch } | Purpose::Departure { key, epoch } => {
                self.departure_steered(node, key, epoch, reply)
            }
            Purpose::Arrival { key, epoch } => self.arrival_steered(node, key, epoch, reply),
            Purpose::Forget => {
                self.coverage.entries_forgotten += u64::from(reply.result == ResultCode::Applied);
                Ok(())
            }
        }
    }

    /// A connection has ended: steering need not remember it.
    pub(super) fn forget_flow(&mut self, node: usize, flow: usize, epoch: u64) -> Checked {
        let operation = Operation::Forget { flow: flow_key(flow), epoch };
        match self.ask(node, operation, Purpose::Forget)? {
            Some(reply) => self.answered(node, Purpose::Forget, &reply),
            None => Ok(()),
        }
    }
}

impl Ask {
    /// Whether a request that was meant for another life of steering's table is sent again at once. It can
    /// never be followed any more, so that even an introduction may be.
    fn may_repeat(&self, reply: &Reply) -> bool {
        let is_last = self.counters.last() == Some(&reply.counter);
        match self.purpose {
            Purpose::Introduction { .. } => is_last,
            _ => self.incarnations.last() != Some(&reply.incarnation),
        }
    }
}

impl Purpose {
    /// Whether the answer to the other question is not waited for any more.
    fn replaces(self, other: Self) -> bool {
        match (self, other) {
            (Self::Departure { key, .. }, Self::Departure { key: of, .. })
            | (Self::Arrival { key, .. }, Self::Arrival { key: of, .. }) => key == of,
            _ => false,
        }
    }
}
