//! What an owner's process does with a connection: reads requests, answers them, or gives them away.

use super::{
    host::Node,
    oracle::{requests, undisturbed},
    request::Request,
    tcp::{End, State},
    world::{Checked, Event, World},
};

/// The most requests that are looked at without a pause.
const STEPS_MAX: usize = 64;
/// A connection without requests for so long is closed.
const IDLE_US: u64 = 15_000_000;
/// How long the last packets of a connection may be under way.
const FORGET_DELAY_US: u64 = 5_000_000;

/// A connection, as the process that serves it knows it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(super) connection: usize,
    /// What was read and not processed.
    pub(super) received: Vec<u8>,
    /// An earlier owner has received the client's FIN.
    pub(super) finished: bool,
    /// What an earlier owner has received too late, and this one while it gave the connection away.
    pub(super) late: Option<(u32, Vec<u8>)>,
    /// The answer that is being written, and how far.
    pub(super) responding: Option<(Request, u32)>,
    /// The flow's epoch at steering.
    pub(super) epoch: u64,
    pub(super) moves: u32,
    /// The request at hand stays here: it could not be given away.
    pub(super) relays: bool,
    /// It must not be introduced to steering any more, and so does not move.
    pub(super) stays: bool,
    /// Steering may have an entry of its flow although it has not moved.
    pub(super) is_introduced: bool,
    /// A step is due already.
    scheduled: bool,
    last_active_us: u64,
}

/// What comes next.
enum Step {
    /// Nothing, until something happens to the socket.
    Wait,
    Again,
    /// The connection has left.
    Left,
}

impl Served {
    pub(super) fn new(connection: usize, epoch: u64) -> Self {
        Self {
            connection,
            received: Vec::new(),
            finished: false,
            late: None,
            responding: None,
            epoch,
            moves: 0,
            relays: false,
            stays: false,
            is_introduced: false,
            scheduled: false,
            last_active_us: epoch,
        }
    }
}

impl World {
    /// The process takes a look at a connection soon.
    pub(super) fn wake_served(&mut self, node: usize, flow: usize) {
        let Node { served, incarnation, .. } = &mut self.nodes[node];
        let Some(served) = served.get_mut(&flow).filter(|served| !served.scheduled) else {
            return;
        };
        served.scheduled = true;
        let (incarnation, connection) = (*incarnation, served.connection);
        let delay_us = self.random.below(self.plan.service_us);
        let event = Event::ServedWakes { node, incarnation, flow, connection };
        self.queue.push_after(delay_us, event);
    }

    /// The process looks at a connection.
    pub(super) fn served_wakes(&mut self, node: usize, flow: usize, connection: usize) -> Checked {
        let now_us = self.now_us();
        let Some(served) = self.nodes[node].served.get_mut(&flow) else { return Ok(()) };
        if served.connection != connection {
            return Ok(());
        }
        served.scheduled = false;
        served.last_active_us = now_us;
        let incarnation = self.nodes[node].incarnation;
        let event = Event::ServedIdles { node, incarnation, flow, connection };
        self.queue.push_after(IDLE_US, event);
        for _ in 0..STEPS_MAX {
            match self.serve(node, flow)? {
                Step::Again => {}
                Step::Wait => return self.after_socket_quietly(node, flow),
                // What was written before it left is sent.
                Step::Left => return self.after_socket(node, flow),
            }
        }
        self.after_socket(node, flow)
    }

    /// As `after_socket`, without another look at the connection.
    fn after_socket_quietly(&mut self, node: usize, flow: usize) -> Checked {
        if let Some(served) = self.nodes[node].served.get_mut(&flow) {
            served.scheduled = true;
        }
        let checked = self.after_socket(node, flow);
        if let Some(served) = self.nodes[node].served.get_mut(&flow) {
            served.scheduled = false;
        }
        checked
    }

    /// One step of serving.
    fn serve(
        &mut self,
        node: usize,
        flow: usize,
    ) -> Result<Step, Box<crate::violation::Violation>> {
        let now_us = self.now_us();
        let Node { served, sockets, .. } = &mut self.nodes[node];
        let state = served.get_mut(&flow).expect("it is served");
        let Some(socket) = sockets.get_mut(&flow).filter(|s| s.connection == state.connection)
        else {
            self.ended(node, flow);
            return Ok(Step::Left);
        };
        if let Some((request, written)) = state.responding {
            let room = socket.tcp.room().min((request.response_bytes - written) as usize) as u32;
            let bytes: Vec<u8> =
                (written..written + room).map(|offset| request.response_byte(offset)).collect();
            assert_eq!(socket.tcp.write(now_us, &bytes), bytes.len(), "there was room");
            let written = written + room;
            let is_whole = written == request.response_bytes;
            state.responding = (!is_whole).then_some((request, written));
            state.relays &= !is_whole;
            return Ok(if is_whole { Step::Again } else { Step::Wait });
        }
        let begun = Request::decode(&state.received);
        let place = |text| format!("n{node}, c{flow}: {text}");
        let request = match begun {
            Ok(request) => request,
            Err(text) => {
                return self.judge_clients(requests::NAME, Err(place(text))).map(|()| Step::Wait);
            }
        };
        if let Some(request) = request {
            if request.owner != node && !state.relays && !state.stays {
                return self.give_away(node, flow, request.owner);
            }
            if state.received.len() >= request.length() {
                let bytes: Vec<u8> = state.received.drain(..request.length()).collect();
                return self.take_request(node, flow, request, &bytes);
            }
        }
        let is_drained = self.nodes[node].draining_until_us > now_us && node != 0;
        if is_drained && self.nodes[node].served[&flow].moves < u32::MAX {
            let state = self.nodes[node].served.get_mut(&flow).expect("it is served");
            if !state.relays && !state.stays {
                return self.give_away(node, flow, 0);
            }
        }
        self.read_more(node, flow)
    }

    fn read_more(
        &mut self,
        node: usize,
        flow: usize,
    ) -> Result<Step, Box<crate::violation::Violation>> {
        let now_us = self.now_us();
        let piece = 1 + self.random.index(self.plan.read_bytes_max);
        let Node { served, sockets, .. } = &mut self.nodes[node];
        let (state, socket) = (served.get_mut(&flow), sockets.get_mut(&flow));
        let (state, socket) = (state.expect("it is served"), socket.expect("it has a socket"));
        if socket.tcp.readable_bytes() > 0 {
            state.received.extend(socket.tcp.read(piece));
            return Ok(Step::Again);
        }
        if socket.tcp.peer_finished || state.finished {
            let rest = state.received.len();
            socket.tcp.finish(now_us);
            self.ended(node, flow);
            self.orphan(node, flow);
            let finding = match rest {
                0 => Ok(()),
                rest => Err(format!("n{node}, c{flow}: {rest} bytes of a request, then its end")),
            };
            self.judge_clients(requests::NAME, finding)?;
            self.after_socket(node, flow)?;
            return Ok(Step::Left);
        }
        Ok(Step::Wait)
    }

    fn take_request(
        &mut self,
        node: usize,
        flow: usize,
        request: Request,
        bytes: &[u8],
    ) -> Result<Step, Box<crate::violation::Violation>> {
        self.note(|| format!("n{node} answers request {} of c{flow}", request.number));
        let state = self.nodes[node].served.get_mut(&flow).expect("it is served");
        state.responding = Some((request, 0));
        let (connection, moves) = (state.connection, state.moves);
        let finding = self.oracles.requests.take(connection, flow, &request, bytes);
        self.judge_clients(requests::NAME, finding)?;
        if request.owner == node {
            self.coverage.requests_at_their_owner += 1;
            self.coverage.requests_after_moves += u64::from(moves > 1);
        } else {
            self.coverage.requests_relayed += 1;
            let excused = !self.plan.is_calm || self.oracles.undisturbed.is_excused(flow);
            let finding = if excused {
                Ok(())
            } else {
                let (number, owner) = (request.number, request.owner);
                Err(format!("n{node} answers request {number}, which n{owner} owns"))
            };
            self.judge(undisturbed::NAME, finding)?;
        }
        Ok(Step::Again)
    }

    /// Gives a connection to another node, or serves it here if there is no way.
    fn give_away(
        &mut self,
        node: usize,
        flow: usize,
        target: usize,
    ) -> Result<Step, Box<crate::violation::Violation>> {
        let session = self.nodes[node].peers.get(&target).copied();
        let socket = &self.nodes[node].sockets[&flow];
        let is_open = socket.tcp.state == State::Open;
        let Some(session) = session.filter(|_| is_open) else {
            self.coverage.moves_without_channel += 1;
            self.nodes[node].served.get_mut(&flow).expect("it is served").relays = true;
            return Ok(Step::Again);
        };
        let served = self.nodes[node].served.remove(&flow).expect("it is served");
        self.depart(node, flow, served, target, session)?;
        Ok(Step::Left)
    }

    /// The process has nothing to do with a connection any more.
    pub(super) fn ended(&mut self, node: usize, flow: usize) {
        let Some(served) = self.nodes[node].served.remove(&flow) else { return };
        if served.moves > 0 || served.is_introduced {
            self.forget_later(node, flow, served.epoch);
        }
    }

    /// Steering shall forget a flow when its last packets have arrived.
    pub(super) fn forget_later(&mut self, node: usize, flow: usize, epoch: u64) {
        let incarnation = self.nodes[node].incarnation;
        let event = Event::Forgets { node, incarnation, flow, epoch };
        self.queue.push_after(FORGET_DELAY_US, event);
    }

    /// A connection may have been idle for too long.
    pub(super) fn served_idles(&mut self, node: usize, flow: usize, connection: usize) -> Checked {
        let now_us = self.now_us();
        let Node { served, sockets, .. } = &mut self.nodes[node];
        let Some(state) = served.get(&flow) else { return Ok(()) };
        let is_idle = state.last_active_us + IDLE_US <= now_us;
        if state.connection != connection || !is_idle {
            return Ok(());
        }
        self.coverage.connections_closed_for_idleness += 1;
        let reset = sockets.remove(&flow).filter(|socket| socket.connection == connection);
        if let Some(mut socket) = reset
            && socket.tcp.state != State::Gone(End::Reset)
        {
            let segment = socket.tcp.abort();
            self.send_to_client(node, &segment);
        }
        self.ended(node, flow);
        Ok(())
    }

    /// Everything idle goes home.
    pub(super) fn drain(&mut self, node: usize) {
        let flows: Vec<usize> = self.nodes[node].served.keys().copied().collect();
        for flow in flows {
            self.wake_served(node, flow);
        }
    }
}
