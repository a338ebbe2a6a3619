//! Asking steering: at once if it is on this host, by datagrams otherwise.

use super::{
    steering::{KEY, flow_key},
    world::{Checked, Event, Incarnation, MoveKey, World},
};
use ashlar_fastpath::steering::{ControlFrame, Operation, Reply, Request, ResultCode};

/// The first pause before a request is repeated; it doubles up to the second.
const PAUSE_US: u64 = 2_000;
const PAUSE_US_MAX: u64 = 100_000;
/// How long an operation is repeated.
const DEADLINE_US: u64 = 400_000;

/// What waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A move, which asked with this epoch.
    Move { key: MoveKey, epoch: u64 },
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
    ) -> Option<Reply> {
        let now_us = self.now_us();
        if node == 0 && !self.plan.remote_steering {
            let is_busy = self.random.chance(self.plan.busy);
            let frame = self.steering.execute(operation, now_us, is_busy, &mut self.coverage);
            return Some(Reply::open(frame.bytes(), &KEY).expect("steering seals its answers"));
        }
        let end_us = now_us + DEADLINE_US;
        let ask = Ask { operation, purpose, counters: Vec::new(), pause_us: PAUSE_US, end_us };
        let node_state = &mut self.nodes[node];
        if let Purpose::Move { key, .. } = purpose {
            // Who asks again waits for the new answer only.
            node_state.asks.retain(|_, ask| !ask.is_of(key));
        }
        node_state.asks_made += 1;
        let number = node_state.asks_made;
        node_state.asks.insert(number, ask);
        let incarnation = node_state.incarnation;
        self.ask_again(node, incarnation, number);
        None
    }

    /// Sends one repetition, and decides when the next is due.
    pub(super) fn ask_again(&mut self, node: usize, incarnation: Incarnation, number: u64) {
        let now_us = self.now_us();
        if !self.lives(node, incarnation) {
            return;
        }
        let state = &mut self.nodes[node];
        let Some(ask) = state.asks.get_mut(&number) else { return };
        if now_us >= ask.end_us {
            state.asks.remove(&number);
            return;
        }
        // As from a clock: it grows over restarts, too.
        state.counter = (state.counter + 1).max(now_us);
        let (counter, known) = (state.counter, state.steering_incarnation);
        ask.counters.push(counter);
        let pause_us = ask.pause_us;
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
    }

    /// A control frame arrives at steering.
    pub(super) fn control_request(&mut self, node: usize, frame: ControlFrame) {
        let now_us = self.now_us();
        let is_reachable = self.plan.remote_steering || self.nodes[0].powered;
        if !self.steering.attached || !is_reachable {
            return;
        }
        let is_busy = self.random.chance(self.plan.busy);
        let Some(reply) = self.steering.control(frame, now_us, is_busy, &mut self.coverage) else {
            return;
        };
        let from = self.steering_host();
        for at_us in self.network.send(now_us, from, node, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::ControlReply { node, frame: Box::new(reply) });
        }
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
            ResultCode::WrongIncarnation if state.steering_incarnation != reply.incarnation => {
                state.steering_incarnation = reply.incarnation;
                let incarnation = state.incarnation;
                self.ask_again(node, incarnation, number);
                Ok(())
            }
            // It is repeated anyway.
            ResultCode::WrongIncarnation | ResultCode::Busy => Ok(()),
            _ => {
                state.asks.remove(&number);
                self.answered(node, purpose, &reply)
            }
        }
    }

    fn answered(&mut self, node: usize, purpose: Purpose, reply: &Reply) -> Checked {
        match purpose {
            Purpose::Move { key, epoch } => self.steered(node, key, epoch, reply),
            Purpose::Forget => {
                self.coverage.entries_forgotten += u64::from(reply.result == ResultCode::Applied);
                Ok(())
            }
        }
    }

    /// A connection has ended: steering need not remember it.
    pub(super) fn forget_flow(&mut self, node: usize, flow: usize, epoch: u64) -> Checked {
        let operation = Operation::Forget { flow: flow_key(flow), epoch };
        match self.ask(node, operation, Purpose::Forget) {
            Some(reply) => self.answered(node, Purpose::Forget, &reply),
            None => Ok(()),
        }
    }
}

impl Ask {
    fn is_of(&self, other: MoveKey) -> bool {
        matches!(self.purpose, Purpose::Move { key, .. } if key == other)
    }
}
