//! Clients: one flow each, on which connection follows connection.

use super::{
    oracle::{liveness, responses, undisturbed},
    request::Request,
    steering::client_address,
    tcp::{End, Segment, State, Tcp, refusal},
    world::{Checked, Event, World},
};
use std::collections::VecDeque;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its end of the latest connection.
    tcp: Option<Tcp>,
    timer_us: Option<u64>,
    /// Which connection it is: what was meant for a former one is void.
    pub(super) generation: u64,
    /// Connections that it may still begin.
    pub(super) connections_left: usize,
    /// Nothing is under way.
    pub(super) is_idle: bool,
    first_sequence: u32,
    /// Requests not begun.
    script: VecDeque<Request>,
    /// Written, but not taken by TCP.
    unsent: VecDeque<u8>,
    /// Requests without their whole answer.
    waiting: VecDeque<Request>,
    /// How much of the first of these has come.
    offset: u32,
    pipelines: bool,
    half_closes: bool,
    reads_soon: bool,
    /// When something was last answered.
    progress_us: u64,
    /// How the last connection ended: with all answers, or not.
    pub(super) succeeded: bool,
}

impl Client {
    pub(super) fn new(connections: usize) -> Self {
        Self {
            tcp: None,
            timer_us: None,
            generation: 0,
            connections_left: connections,
            is_idle: true,
            first_sequence: 0,
            script: VecDeque::new(),
            unsent: VecDeque::new(),
            waiting: VecDeque::new(),
            offset: 0,
            pipelines: false,
            half_closes: false,
            reads_soon: false,
            progress_us: 0,
            succeeded: false,
        }
    }

    /// What was acknowledged on the connection that began with that number, if it is this client's
    /// present one.
    pub(super) fn acknowledged(&self, first_sequence: u32) -> Option<u32> {
        let tcp = self.tcp.as_ref().filter(|tcp| tcp.state == State::Open)?;
        (self.first_sequence == first_sequence).then(|| tcp.unacknowledged())
    }

    /// Whether no end of a connection is left.
    pub(super) fn has_rested(&self) -> bool {
        let state = self.tcp.as_ref().map(|tcp| tcp.state);
        self.is_idle && state.is_none_or(|state| matches!(state, State::Gone(_)))
    }
}

impl World {
    /// Everything that clients wait for.
    pub(super) fn handle_client(&mut self, event: Event) -> Checked {
        let (client, generation) = match event {
            Event::ClientConnects { client, generation }
            | Event::ClientThinks { client, generation }
            | Event::ClientReads { client, generation }
            | Event::ClientBreaksOff { client, generation }
            | Event::ClientTimer { client, generation }
            | Event::ClientImpatient { client, generation } => (client, generation),
            event => unreachable!("not a client's: {event:?}"),
        };
        if self.clients[client].generation != generation {
            return Ok(());
        }
        match event {
            Event::ClientConnects { .. } => {
                self.client_connects(client);
                Ok(())
            }
            Event::ClientThinks { .. } => {
                self.client_asks(client);
                self.after_client(client)
            }
            Event::ClientReads { .. } => self.client_reads(client),
            Event::ClientBreaksOff { .. } => self.client_breaks_off(client),
            Event::ClientTimer { .. } => {
                let now_us = self.now_us();
                let state = &mut self.clients[client];
                state.timer_us = None;
                if let Some(tcp) = &mut state.tcp {
                    tcp.timeout(now_us);
                }
                self.after_client(client)
            }
            _ => self.client_impatient(client),
        }
    }

    /// Begins the next connection, from the same port.
    fn client_connects(&mut self, client: usize) {
        let state = &mut self.clients[client];
        if state.connections_left == 0 {
            return;
        }
        state.connections_left -= 1;
        let count = self.random.magnitude(1..self.plan.requests_max + 1);
        let script = (0..count).map(|_| self.draw_request()).collect();
        self.client_begins(client, script);
        if self.random.chance(self.plan.aborts) {
            let delay_us = self.random.below(2 * self.plan.think_us + 50_000);
            let generation = self.clients[client].generation;
            self.queue.push_after(delay_us, Event::ClientBreaksOff { client, generation });
        }
    }

    fn draw_request(&mut self) -> Request {
        let at_home = self.random.chance(self.plan.home);
        let owner = if at_home { 0 } else { 1 + self.random.index(self.plan.nodes - 1) };
        let body_bytes = self.random.magnitude(1..self.plan.body_bytes_max + 1) as u32 - 1;
        let response_bytes = self.random.magnitude(1..self.plan.response_bytes_max + 1) as u32;
        Request { number: 0, owner, body_bytes, response_bytes }
    }

    /// Begins a connection with these requests.
    pub(super) fn client_begins(&mut self, client: usize, mut script: VecDeque<Request>) {
        let now_us = self.now_us();
        self.oracles.requests.issue(client, &mut script);
        self.coverage.client_connections += 1;
        let generation = self.clients[client].generation as usize + 1;
        let sequence = self.plan.sequence(client, generation);
        self.note(|| format!("c{client} connects from {}", client_address(client)));
        let tcp = Tcp::connect(now_us, client, sequence, self.plan.client_sizes);
        self.clients[client] = Client {
            tcp: Some(tcp),
            generation: generation as u64,
            is_idle: false,
            first_sequence: sequence,
            script,
            pipelines: self.random.chance(self.plan.pipelines),
            half_closes: self.random.chance(self.plan.half_closes),
            progress_us: now_us,
            ..Client::new(self.clients[client].connections_left)
        };
        let generation = generation as u64;
        let event = Event::ClientImpatient { client, generation };
        self.queue.push_after(self.patience_us(), event);
        self.client_asks(client);
        self.flush_client(client);
    }

    /// Without faults nobody has to lose patience.
    fn patience_us(&self) -> u64 {
        if self.stage.is_some() { 20_000_000 } else { self.plan.patience_us }
    }

    /// Writes the next request, or all.
    fn client_asks(&mut self, client: usize) {
        let now_us = self.now_us();
        let state = &mut self.clients[client];
        let count = if state.pipelines { state.script.len() } else { state.script.len().min(1) };
        for request in state.script.drain(..count) {
            state.unsent.extend(request.encode());
            state.waiting.push_back(request);
            state.progress_us = now_us;
        }
    }

    /// Hands TCP what it takes; closes when all is said.
    fn client_writes(&mut self, client: usize) {
        let now_us = self.now_us();
        let state = &mut self.clients[client];
        let Some(tcp) = state.tcp.as_mut().filter(|tcp| tcp.state == State::Open) else { return };
        if !state.unsent.is_empty() {
            let taken = tcp.write(now_us, state.unsent.make_contiguous());
            state.unsent.drain(..taken);
        }
        let all_said = state.unsent.is_empty() && state.script.is_empty();
        if all_said && (state.half_closes || state.waiting.is_empty()) {
            tcp.finish(now_us);
        }
    }

    /// A segment comes to a client's host.
    pub(super) fn segment_at_client(&mut self, segment: &Segment) -> Checked {
        let (client, now_us) = (segment.flow, self.now_us());
        self.note(|| format!("c{client} gets {segment}"));
        let state = &mut self.clients[client];
        match &mut state.tcp {
            Some(tcp) if !matches!(tcp.state, State::Gone(_)) => {
                tcp.receive(now_us, segment);
                self.after_client(client)
            }
            _ => {
                if let Some(reset) = refusal(segment) {
                    self.send_from_client(client, &reset);
                }
                Ok(())
            }
        }
    }

    fn after_client(&mut self, client: usize) -> Checked {
        self.client_writes(client);
        self.flush_client(client);
        let state = &mut self.clients[client];
        let Some(tcp) = &state.tcp else { return Ok(()) };
        if (tcp.readable_bytes() > 0 || tcp.peer_finished) && !state.reads_soon && !state.is_idle {
            state.reads_soon = true;
            let generation = state.generation;
            let delay_us = self.random.below(self.plan.client_read_us);
            self.queue.push_after(delay_us, Event::ClientReads { client, generation });
        }
        match self.clients[client].tcp.as_ref().map(|tcp| tcp.state) {
            Some(State::Gone(End::Reset)) => self.client_ends(client, "is reset"),
            Some(State::Gone(End::Abandoned)) => self.client_ends(client, "hears nothing"),
            _ => Ok(()),
        }
    }

    fn flush_client(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let Some(tcp) = &mut state.tcp else { return };
        let segments = tcp.take_outbox();
        let timer_us = tcp.timer_us();
        let is_set = matches!((state.timer_us, timer_us), (Some(set), Some(due)) if set <= due);
        if !is_set && let Some(at_us) = timer_us {
            state.timer_us = Some(at_us);
            let generation = state.generation;
            self.queue.push_at(at_us, Event::ClientTimer { client, generation });
        }
        for segment in segments {
            self.send_from_client(client, &segment);
        }
    }

    fn send_from_client(&mut self, client: usize, segment: &Segment) {
        self.note(|| format!("c{client} sends {segment}"));
        let (now_us, from, to) = (self.now_us(), self.client_host(client), self.steering_host());
        for at_us in self.network.send(now_us, from, to, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::Ingress { segment: segment.clone() });
        }
    }

    /// The client's program reads, and compares every byte.
    fn client_reads(&mut self, client: usize) -> Checked {
        let now_us = self.now_us();
        let state = &mut self.clients[client];
        state.reads_soon = false;
        let Some(tcp) = &mut state.tcp else { return Ok(()) };
        let bytes = tcp.read(usize::MAX);
        let mut answered = 0;
        for byte in &bytes {
            let finding = responses::check(state.waiting.front(), state.offset, *byte);
            if let Err(text) = finding {
                return self.judge_clients(responses::NAME, Err(format!("c{client}: {text}")));
            }
            state.offset += 1;
            if state.waiting.front().is_some_and(|first| first.response_bytes == state.offset) {
                (state.offset, state.progress_us) = (0, now_us);
                state.waiting.pop_front();
                answered += 1;
            }
        }
        self.coverage.answers += answered;
        if answered > 0 && !state.script.is_empty() && state.waiting.is_empty() {
            let generation = state.generation;
            let delay_us = self.random.below(self.plan.think_us);
            self.queue.push_after(delay_us, Event::ClientThinks { client, generation });
        }
        let state = &self.clients[client];
        let has_ended = state.tcp.as_ref().is_some_and(|tcp| tcp.peer_finished);
        if has_ended {
            let all = state.waiting.is_empty() && state.script.is_empty();
            self.clients[client].succeeded = all;
            return if all {
                self.client_is_done(client)
            } else {
                self.client_ends(client, "is told the end too soon")
            };
        }
        self.after_client(client)
    }

    /// All answers are there, and the end.
    fn client_is_done(&mut self, client: usize) -> Checked {
        self.coverage.client_connections_done += 1;
        let now_us = self.now_us();
        if let Some(tcp) = &mut self.clients[client].tcp
            && tcp.state == State::Open
        {
            tcp.finish(now_us);
        }
        self.flush_client(client);
        self.client_rests(client);
        Ok(())
    }

    /// A connection has ended without all answers.
    fn client_ends(&mut self, client: usize, how: &str) -> Checked {
        if self.clients[client].is_idle {
            return Ok(());
        }
        self.note(|| format!("c{client} {how}"));
        let state = &mut self.clients[client];
        let had_all = state.waiting.is_empty() && state.script.is_empty();
        state.succeeded = had_all;
        let coverage = &mut self.coverage;
        match how {
            "is reset" | "is told the end too soon" => coverage.client_resets += 1,
            _ => coverage.client_timeouts += 1,
        }
        if let Some(tcp) = &mut state.tcp
            && !matches!(tcp.state, State::Gone(_))
        {
            let reset = tcp.abort();
            self.send_from_client(client, &reset);
        }
        self.client_rests(client);
        if self.oracles.undisturbed.is_cut(client) {
            return Ok(());
        }
        let finding = || Err(format!("c{client} {how}"));
        if self.plan.is_calm {
            self.judge_clients(undisturbed::NAME, finding())?;
        }
        if self.stage.is_some_and(|stage| stage.is_fresh()) {
            self.judge_clients(liveness::NAME, finding())?;
        }
        Ok(())
    }

    fn client_rests(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.is_idle = true;
        let generation = state.generation;
        // A port is not used again at once, unless the client is rude.
        let least_us = if self.plan.is_calm { 3_000_000 } else { 1 };
        let delay_us = least_us + self.random.below(2 * self.plan.think_us);
        self.queue.push_after(delay_us, Event::ClientConnects { client, generation });
    }

    /// The client's program, or its host, goes away in the middle of things.
    fn client_breaks_off(&mut self, client: usize) -> Checked {
        if self.clients[client].is_idle {
            return Ok(());
        }
        self.coverage.client_aborts += 1;
        let says_so = self.random.chance(0.7);
        self.note(|| format!("c{client} breaks off, with a reset: {says_so}"));
        if let Some(mut tcp) = self.clients[client].tcp.take() {
            let reset = tcp.abort();
            if says_so {
                self.send_from_client(client, &reset);
            }
        }
        self.client_rests(client);
        Ok(())
    }

    fn client_impatient(&mut self, client: usize) -> Checked {
        let (now_us, patience_us) = (self.now_us(), self.patience_us());
        let state = &self.clients[client];
        if state.is_idle {
            return Ok(());
        }
        let end_us = state.progress_us + patience_us;
        if now_us < end_us || state.waiting.is_empty() && !state.script.is_empty() {
            let generation = state.generation;
            let again_us = end_us.max(now_us + 1_000);
            self.queue.push_at(again_us, Event::ClientImpatient { client, generation });
            return Ok(());
        }
        self.client_ends(client, "loses patience")
    }
}
