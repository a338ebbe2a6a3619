//! Clients: what they ask for, how long they wait, and what they remember.

use super::{
    oracle::refused,
    world::{Checked, Event, World},
};
use crate::linearizability::register::{Condition, Value};
use ashlar_object::chain::Outcome;

/// The probability that a client repeats, elsewhere, what was not answered or refused.
const REPEAT: f64 = 0.6;

/// A client: one operation at a time.
#[derive(Debug)]
pub(crate) struct Client {
    /// For each key what the client saw last.
    seen: Vec<Option<Value>>,
    /// The key and kind of an operation to repeat.
    repeat: Option<(usize, Kind)>,
}

/// The kinds of operations, in the order of [`super::plan::Mix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Put,
    PutIfAbsent,
    PutIfMatch,
    PutIfDiffers,
    Delete,
    DeleteIfMatch,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The key's value.
    Read,
    /// A change.
    Write {
        /// The value to put, or none to delete.
        put: Option<Value>,
        /// Under which condition.
        condition: Condition,
        /// Whether the body is staged.
        staged: bool,
        /// The length of an inline body.
        inline_bytes: usize,
    },
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// The value read.
    Read(Option<Value>),
    /// How a write came out.
    Write(Outcome),
    /// The node does not serve reads of the key.
    Unavailable,
}

/// How far an operation has come, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The client waits.
    Open,
    /// The client was told this at that stamp.
    Answered(u64, Response),
    /// The client waits no longer.
    GivenUp,
}

/// One operation of a client.
#[derive(Debug)]
pub(crate) struct ClientOperation {
    pub(super) client: usize,
    /// The place of the key in the world's list.
    pub(super) key: usize,
    /// The node asked.
    pub(super) node: usize,
    pub(super) request: Request,
    /// When it began, by the histories' clock.
    pub(super) invoked: u64,
    pub(super) state: State,
}

impl Client {
    /// A client that has seen nothing yet.
    pub(crate) fn new(keys: usize) -> Self {
        Self { seen: vec![None; keys], repeat: None }
    }
}

impl World {
    /// The partition of an operation's key.
    pub(super) fn partition_of(&self, operation: usize) -> usize {
        self.keys[self.operations[operation].key].1
    }

    /// A client begins its next operation.
    pub(super) fn client_begins(&mut self, client: usize) {
        if self.operations_left == 0 {
            self.client_is_done();
            return;
        }
        self.operations_left -= 1;
        let (key, kind) = match self.clients[client].repeat.take() {
            Some(repeat) => repeat,
            None => (self.draw_key(), self.draw_kind()),
        };
        let request = self.draw_request(client, key, kind);
        let partition = self.keys[key].1;
        let astray = self.plan.astray;
        let node = match request {
            Request::Write { .. } if self.random.chance(astray) => {
                self.random.index(self.plan.nodes)
            }
            Request::Write { .. } => self.head(partition),
            Request::Read => *self.random.pick(&self.chains[partition]),
        };
        self.begin_operation(client, key, node, request, self.plan.client_timeout_us);
    }

    /// When all clients are done, the safety phase ends soon.
    fn client_is_done(&mut self) {
        self.clients_done += 1;
        if self.clients_done == self.plan.clients {
            let delay_us = self.random.range(self.plan.fault_us.clone());
            self.queue.push_after(delay_us, Event::SafetyEnds);
        }
    }

    /// Sends a client's request on its way.
    pub(super) fn begin_operation(
        &mut self,
        client: usize,
        key: usize,
        node: usize,
        request: Request,
        timeout_us: u64,
    ) {
        let operation = self.operations.len();
        let invoked = self.stamp();
        self.operations.push(ClientOperation {
            client,
            key,
            node,
            request,
            invoked,
            state: State::Open,
        });
        self.trace_begin(operation);
        let (now_us, host) = (self.now_us(), self.plan.nodes + client);
        let arrivals = self.network.send(now_us, host, node, &mut self.random);
        // HTTP does not repeat a request by itself.
        if let Some(at_us) = arrivals.iter().next() {
            self.queue.push_at(at_us, Event::Request { operation });
        }
        self.queue.push_after(timeout_us, Event::ClientTimeout { operation });
    }

    fn trace_begin(&mut self, operation: usize) {
        let ClientOperation { client, key, node, request, .. } = self.operations[operation];
        let key = self.keys[key].0.clone();
        self.note(|| format!("c{client} asks n{node}, operation {operation}: {key} {request:?}"));
    }

    fn draw_key(&mut self) -> usize {
        let hot = self.plan.hot;
        if self.random.chance(hot) {
            return 0;
        }
        self.random.index(self.keys.len())
    }

    fn draw_kind(&mut self) -> Kind {
        let mix = self.plan.mix;
        let weights = [
            (mix.read, Kind::Read),
            (mix.put, Kind::Put),
            (mix.put_if_absent, Kind::PutIfAbsent),
            (mix.put_if_match, Kind::PutIfMatch),
            (mix.put_if_differs, Kind::PutIfDiffers),
            (mix.delete, Kind::Delete),
            (mix.delete_if_match, Kind::DeleteIfMatch),
        ];
        weights[self.random.weighted(&weights.map(|(weight, _)| weight))].1
    }

    fn draw_request(&mut self, client: usize, key: usize, kind: Kind) -> Request {
        let seen = self.clients[client].seen[key];
        let equals = seen.map_or(Condition::Present, Condition::Equals);
        let condition = match kind {
            Kind::Read => return Request::Read,
            Kind::Put | Kind::Delete => Condition::Always,
            Kind::PutIfAbsent => Condition::Absent,
            Kind::PutIfMatch | Kind::DeleteIfMatch => equals,
            Kind::PutIfDiffers => seen.map_or(Condition::Absent, Condition::Differs),
        };
        let deletes = matches!(kind, Kind::Delete | Kind::DeleteIfMatch);
        self.write_request(!deletes, condition)
    }

    /// A write of a value that no other operation writes.
    pub(super) fn write_request(&mut self, puts: bool, condition: Condition) -> Request {
        let staged = self.plan.staged;
        Request::Write {
            put: puts.then_some(self.operations.len() as Value + 1),
            condition,
            staged: puts && self.random.chance(staged),
            inline_bytes: self.random.index(self.plan.inline_bytes_max + 1),
        }
    }

    /// An answer arrives at a client, which may wait no longer.
    pub(super) fn response(&mut self, operation: usize, response: Response) -> Checked {
        if self.operations[operation].state != State::Open {
            return Ok(());
        }
        let stamp = self.stamp();
        let this = &mut self.operations[operation];
        this.state = State::Answered(stamp, response);
        let (client, key, request) = (this.client, this.key, this.request);
        self.note(|| format!("c{client} is answered, operation {operation}: {response:?}"));
        match (response, request) {
            (Response::Read(value), _) => {
                self.clients[client].seen[key] = value;
                let finding = self.oracles.refused.seen(value);
                self.judge_clients(refused::NAME, finding, Vec::new())?;
            }
            (Response::Write(Outcome::Committed { .. }), Request::Write { put, .. }) => {
                self.clients[client].seen[key] = put;
            }
            (Response::Unavailable | Response::Write(Outcome::Refused(_)), _) => {
                self.repeat_later(operation);
            }
            _ => {}
        }
        self.client_rests(client);
        Ok(())
    }

    /// A client's patience ends.
    pub(super) fn client_timeout(&mut self, operation: usize) {
        let this = &mut self.operations[operation];
        if this.state != State::Open {
            return;
        }
        this.state = State::GivenUp;
        let (client, request) = (this.client, this.request);
        self.note(|| format!("c{client} gives operation {operation} up"));
        match request {
            Request::Read => self.coverage.reads_unanswered += 1,
            Request::Write { .. } => self.coverage.writes_unknown += 1,
        }
        self.repeat_later(operation);
        self.client_rests(client);
    }

    fn repeat_later(&mut self, operation: usize) {
        let ClientOperation { client, key, request, .. } = self.operations[operation];
        if !self.random.chance(REPEAT) {
            return;
        }
        let kind = match request {
            Request::Read => Kind::Read,
            Request::Write { put: Some(_), condition: Condition::Absent, .. } => Kind::PutIfAbsent,
            Request::Write { put: Some(_), .. } => Kind::Put,
            Request::Write { put: None, .. } => Kind::Delete,
        };
        self.clients[client].repeat = Some((key, kind));
    }

    fn client_rests(&mut self, client: usize) {
        let delay_us = self.random.below(self.plan.think_us);
        self.queue.push_after(delay_us, Event::ClientBegins { client });
    }
}
