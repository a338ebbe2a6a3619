//! The second phase: no more faults, and everything must come to its end.

use super::{
    oracle::{leftovers, liveness as oracle},
    request::Request,
    world::{Checked, Event, World},
};
use ashlar_handoff::protocol::Timeouts;

/// How often the world is looked at.
const TICK_US: u64 = 20_000;
/// How long the first and the third step may take. The longest wait in a plan is a client's patience.
const STEP_US_MAX: u64 = 60_000_000;
/// How long it may take until nothing is left: entries without frames are the last to go.
const REST_US_MAX: u64 = 120_000_000;
/// Answers of the requests at the end.
const RESPONSE_BYTES: u32 = 3_000;

/// A step of the liveness phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What was begun comes to its end.
    Settle,
    /// Nothing is left of it.
    Rest,
    /// Every client is answered by every node.
    Serve,
    /// Nothing is left of that.
    RestAgain,
}

/// How far the liveness phase has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    step: Step,
    since_us: u64,
}

impl Stage {
    /// Whether whatever clients do now was begun without faults.
    pub(super) fn is_fresh(self) -> bool {
        self.step == Step::Serve
    }
}

impl World {
    /// Ends all faults.
    pub(super) fn safety_ends(&mut self) {
        self.note(|| "the faults end".to_owned());
        self.network.end_faults();
        (self.plan.busy, self.plan.shell_failure, self.plan.aborts) = (0.0, 0.0, 0.0);
        // Nothing takes longer than the protocol's real deadlines allow any more.
        self.plan.timeouts = Timeouts::default();
        self.plan.import_us = 1_000;
        for node in 0..self.plan.nodes {
            (self.nodes[node].draining_until_us, self.nodes[node].paused_until_us) = (0, 0);
            self.queue.push_after(0, Event::Start { node });
        }
        for client in &mut self.clients {
            client.connections_left = 0;
        }
        self.stage = Some(Stage { step: Step::Settle, since_us: self.now_us() });
        self.queue.push_after(TICK_US, Event::LivenessTick);
    }

    /// Goes on to the next step if this one is done.
    pub(super) fn liveness_tick(&mut self) -> Checked {
        self.queue.push_after(TICK_US, Event::LivenessTick);
        let stage = self.stage.expect("the liveness phase has begun");
        let elapsed_us = self.now_us() - stage.since_us;
        let (name, waits_for, most_us) = match stage.step {
            Step::Settle | Step::Serve => (oracle::NAME, self.busy_client(), STEP_US_MAX),
            Step::Rest | Step::RestAgain => (leftovers::NAME, self.leftover(), REST_US_MAX),
        };
        if let Some(waits_for) = waits_for {
            let finding = match elapsed_us > most_us {
                true => Err(format!("{:?} does not end: {waits_for}", stage.step)),
                false => Ok(()),
            };
            return self.judge_clients(name, finding);
        }
        // What was sent before may still arrive.
        if elapsed_us < self.plan.network.latency_us_max() {
            return Ok(());
        }
        let next = match stage.step {
            Step::Settle => Step::Rest,
            Step::Rest => Step::Serve,
            Step::Serve => Step::RestAgain,
            Step::RestAgain => {
                self.done = true;
                return Ok(());
            }
        };
        self.note(|| format!("liveness: {next:?}"));
        self.stage = Some(Stage { step: next, since_us: self.now_us() });
        if next == Step::Serve {
            self.ask_everybody();
        }
        self.check_answers(stage)
    }

    fn busy_client(&self) -> Option<String> {
        let busy = self.clients.iter().position(|client| !client.is_idle);
        busy.map(|client| format!("c{client} waits"))
    }

    fn leftover(&self) -> Option<String> {
        let client = self.clients.iter().position(|client| !client.has_rested());
        let client = client.map(|client| format!("c{client} has a socket"));
        let entries = self.steering.table.len();
        let entries = (entries > 0).then(|| format!("steering has {entries} entries"));
        let mut nodes = self.nodes.iter().enumerate();
        let node = nodes.find_map(|(place, node)| leftovers::at_node(place, node));
        client.or(node).or(entries)
    }

    fn ask_everybody(&mut self) {
        for client in 0..self.plan.clients {
            let request = |owner| {
                let (body_bytes, response_bytes) = (10, RESPONSE_BYTES);
                Request { number: 0, owner, body_bytes, response_bytes }
            };
            let script = (0..self.plan.nodes).map(request).collect();
            self.client_begins(client, script);
        }
    }

    fn check_answers(&mut self, done: Stage) -> Checked {
        if done.step != Step::Serve {
            return Ok(());
        }
        self.coverage.answers_after_healing += (self.plan.clients * self.plan.nodes) as u64;
        let has_failed = |client: &usize| {
            !self.clients[*client].succeeded && !self.oracles.undisturbed.is_cut(*client)
        };
        let failed = (0..self.plan.clients).find(has_failed);
        let finding = match failed {
            Some(client) => Err(format!("c{client} is not answered although all is well")),
            None => Ok(()),
        };
        self.judge_clients(oracle::NAME, finding)
    }
}
