//! A node's host: its kernel's sockets, and what becomes of segments.

use super::{
    application::Served,
    arrive::Arrival,
    control::Ask,
    depart::Departure,
    oracle::{acknowledged, owners, silence},
    steering::owner,
    tcp::{End, Segment, State, Tcp, after, refusal},
    world::{Checked, Connection, Event, Incarnation, MoveKey, World},
};
use std::collections::BTreeMap;

/// How long a kernel keeps a socket that no process has.
const ORPHAN_US: u64 = 30_000_000;

/// A host and the process on it.
#[derive(Debug)]
pub(crate) struct Node {
    /// Whether its process runs.
    pub(super) up: bool,
    /// Whether its kernel runs: it answers for what no process has.
    pub(super) powered: bool,
    pub(super) incarnation: Incarnation,
    /// Its process does nothing until then; its kernel goes on.
    pub(super) paused_until_us: u64,
    /// It gives its connections away and takes none until then.
    pub(super) draining_until_us: u64,
    /// By flow: a kernel has one socket for a pair of addresses and ports.
    pub(super) sockets: BTreeMap<usize, Socket>,
    /// Connections that the process serves.
    pub(super) served: BTreeMap<usize, Served>,
    /// Connections that leave, or linger.
    pub(super) departures: BTreeMap<MoveKey, Departure>,
    /// Connections that arrive, or did a moment ago.
    pub(super) arrivals: BTreeMap<MoveKey, Arrival>,
    /// Frozen sockets of connections that have left, with the epoch that they left with.
    pub(super) lingering: BTreeMap<usize, (MoveKey, u64)>,
    /// Until when the sockets of connections that have left must be there.
    pub(super) lingers_until_us: BTreeMap<usize, u64>,
    /// For each node the newest session of the channel to it.
    pub(super) peers: BTreeMap<usize, usize>,
    pub(super) moves_made: u64,
    /// Operations that steering has not answered.
    pub(super) asks: BTreeMap<u64, Ask>,
    pub(super) asks_made: u64,
    /// The last number of a control frame.
    pub(super) counter: u64,
    /// The life of steering's table, if it is known; else 0.
    pub(super) steering_incarnation: u64,
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            up: true,
            powered: true,
            incarnation: 0,
            paused_until_us: 0,
            draining_until_us: 0,
            sockets: BTreeMap::new(),
            served: BTreeMap::new(),
            departures: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            lingering: BTreeMap::new(),
            lingers_until_us: BTreeMap::new(),
            peers: BTreeMap::new(),
            moves_made: 0,
            asks: BTreeMap::new(),
            asks_made: 0,
            counter: 0,
            steering_incarnation: 0,
        }
    }

    /// The process is gone with all that it held, but not the kernel's sockets.
    pub(super) fn forget(&mut self) {
        self.up = false;
        self.incarnation += 1;
        (self.paused_until_us, self.draining_until_us) = (0, 0);
        self.served.clear();
        self.departures.clear();
        self.arrivals.clear();
        self.lingering.clear();
        self.lingers_until_us.clear();
        self.peers.clear();
        self.asks.clear();
        self.steering_incarnation = 0;
    }
}

/// A socket of a kernel.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) tcp: Tcp,
    /// Which connection it is of.
    pub(super) connection: usize,
    /// A filter drops every segment.
    pub(super) deaf: bool,
    /// In repair mode: nothing is sent but what was sent before.
    pub(super) mute: bool,
    /// Of an imported socket that is mute: what its image had received.
    pub(super) imported_at: Option<u32>,
    /// When its timer was set to.
    timer_us: Option<u64>,
    /// Tells it from every other one.
    number: u64,
}

impl Socket {
    fn new(tcp: Tcp, connection: usize, number: u64) -> Self {
        let (deaf, mute, imported_at, timer_us) = (false, false, None, None);
        Self { tcp, connection, deaf, mute, imported_at, timer_us, number }
    }
}

impl World {
    /// A segment is at a host, past steering.
    pub(super) fn segment_at_node(&mut self, node: usize, segment: &Segment) -> Checked {
        if !self.nodes[node].powered {
            return Ok(());
        }
        let flow = segment.flow;
        let Some(socket) = self.nodes[node].sockets.get_mut(&flow) else {
            return self.segment_without_socket(node, segment);
        };
        if socket.deaf {
            self.coverage.segments_at_deaf_sockets += 1;
            return Ok(());
        }
        let is_new = segment.syn && after(segment.sequence, socket.tcp.receive_next());
        if socket.tcp.state == State::TimeWait && is_new {
            self.nodes[node].sockets.remove(&flow);
            return self.segment_without_socket(node, segment);
        }
        if self.plan.slips && self.random.chance(0.3) {
            // Another processor has it, past the filter, and is about to hand it to TCP.
            let (segment, socket) = (Box::new(segment.clone()), socket.number);
            let delay_us = self.random.below(self.plan.slip_us);
            self.queue.push_after(delay_us, Event::SegmentSlips { node, socket, segment });
            return Ok(());
        }
        self.segment_at_socket(node, segment)
    }

    /// A segment that was past the filter is processed.
    pub(super) fn segment_slips(&mut self, node: usize, number: u64, segment: &Segment) -> Checked {
        let socket = self.nodes[node].sockets.get(&segment.flow);
        match socket.filter(|socket| socket.number == number) {
            Some(socket) => {
                let connection = socket.connection;
                let frozen_at = socket.tcp.receive_next();
                let is_frozen = socket.mute && socket.imported_at.is_none();
                self.coverage.segments_past_the_filter += u64::from(socket.deaf);
                self.segment_at_socket(node, segment)?;
                let socket = self.nodes[node].sockets.get(&segment.flow);
                if is_frozen && socket.is_some_and(|it| it.tcp.receive_next() != frozen_at) {
                    self.oracles.slipped.insert(connection);
                    // Until its owner has them, the connection cannot come back.
                    self.oracles.undisturbed.excuse(segment.flow);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A socket of a connection.
    pub(super) fn socket(&mut self, tcp: Tcp, connection: usize) -> Socket {
        self.sockets += 1;
        Socket::new(tcp, connection, self.sockets)
    }

    fn segment_at_socket(&mut self, node: usize, segment: &Segment) -> Checked {
        let (flow, now_us) = (segment.flow, self.now_us());
        let socket = self.nodes[node].sockets.get_mut(&flow).expect("there is a socket");
        let was_opening = socket.tcp.state == State::SynReceived;
        socket.tcp.receive(now_us, segment);
        if was_opening && socket.tcp.state == State::Open {
            let connection = socket.connection;
            self.coverage.connections_accepted += 1;
            // As from the wall clock: higher than that of any earlier connection of the flow.
            self.nodes[node].served.insert(flow, Served::new(connection, now_us + 1));
        }
        self.after_socket(node, flow)
    }

    fn segment_without_socket(&mut self, node: usize, segment: &Segment) -> Checked {
        let now_us = self.now_us();
        if node == 0 && self.nodes[0].up && segment.syn && segment.acknowledgement.is_none() {
            let (flow, connection) = (segment.flow, self.connections.len());
            let client_sequence = segment.sequence;
            self.connections.push(Connection { client_sequence, accepted_us: now_us });
            let sequence = self.plan.sequence(flow, connection);
            let tcp = Tcp::accept(now_us, segment, sequence, self.plan.service_sizes);
            let socket = self.socket(tcp, connection);
            self.nodes[0].sockets.insert(flow, socket);
            return self.after_socket(0, flow);
        }
        if let Some(reset) = refusal(segment) {
            self.coverage.resets_without_socket += 1;
            let flow = segment.flow;
            let until_us = self.nodes[node].lingers_until_us.get(&flow).copied();
            self.judge(silence::NAME, silence::reset(node, flow, now_us, until_us))?;
            self.send_to_client(node, &reset);
        }
        Ok(())
    }

    /// A socket was used: sends what it has to send, and wakes its process.
    pub(super) fn after_socket(&mut self, node: usize, flow: usize) -> Checked {
        let Some(socket) = self.nodes[node].sockets.get_mut(&flow) else { return Ok(()) };
        let segments = socket.tcp.take_outbox();
        let timer_us = socket.tcp.timer_us();
        let is_set = matches!((socket.timer_us, timer_us), (Some(set), Some(due)) if set <= due);
        if !is_set && let Some(at_us) = timer_us {
            socket.timer_us = Some(at_us);
            let incarnation = self.nodes[node].incarnation;
            self.queue.push_at(at_us, Event::SocketTimer { node, incarnation, flow });
        }
        let socket = &self.nodes[node].sockets[&flow];
        let finding = acknowledged::while_mute(socket.imported_at, &segments);
        self.judge(
            acknowledged::NAME,
            finding.map_err(|text| format!("n{node}, c{flow}: {text}")),
        )?;
        let (state, is_held) = (socket.tcp.state, socket.mute);
        for segment in segments {
            self.send_to_client(node, &segment);
        }
        if let State::Gone(end) = state {
            self.coverage.sockets_abandoned += u64::from(end == End::Abandoned);
            // A frozen one is its move's to close.
            if !is_held {
                self.nodes[node].sockets.remove(&flow);
            }
        }
        self.wake_served(node, flow);
        Ok(())
    }

    /// A socket's timer may be due.
    pub(super) fn socket_timer(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        flow: usize,
    ) -> Checked {
        let now_us = self.now_us();
        if self.nodes[node].incarnation != incarnation {
            return Ok(());
        }
        let Some(socket) = self.nodes[node].sockets.get_mut(&flow) else { return Ok(()) };
        if socket.timer_us.is_some_and(|at_us| at_us <= now_us) {
            socket.timer_us = None;
        }
        socket.tcp.timeout(now_us);
        self.after_socket(node, flow)
    }

    pub(super) fn send_to_client(&mut self, node: usize, segment: &Segment) {
        self.note(|| format!("n{node} sends {segment}"));
        let (now_us, to) = (self.now_us(), self.client_host(segment.flow));
        for at_us in self.network.send(now_us, node, to, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::ToClient { segment: segment.clone() });
        }
    }

    /// Nobody has the socket any more; the kernel ends the connection by itself.
    pub(super) fn orphan(&mut self, node: usize, flow: usize) {
        let Some(socket) = self.nodes[node].sockets.get(&flow) else { return };
        let (incarnation, connection) = (self.nodes[node].incarnation, socket.connection);
        let event = Event::OrphanExpires { node, incarnation, flow, connection };
        self.queue.push_after(ORPHAN_US, event);
    }

    pub(super) fn orphan_expires(&mut self, node: usize, flow: usize, connection: usize) {
        let sockets = &mut self.nodes[node].sockets;
        if sockets.get(&flow).is_some_and(|socket| socket.connection == connection) {
            sockets.remove(&flow);
        }
    }

    /// A socket may speak from now on.
    pub(super) fn unmuted(&self, connection: usize) -> Checked {
        let owners = self.nodes.iter().enumerate().filter(|(_, node)| {
            let mut sockets = node.sockets.values();
            sockets.any(|socket| socket.connection == connection && !socket.mute)
        });
        let owners: Vec<usize> = owners.map(|(node, _)| node).collect();
        self.judge(owners::NAME, owners::check(connection, &owners))
    }

    /// The process is gone, with its kernel if `power` is lost.
    pub(super) fn stop(&mut self, node: usize, power: bool) {
        let frozen: Vec<usize> = self.frozen_at(node);
        let is_polite = !power && self.nodes[node].powered;
        for (flow, mut socket) in std::mem::take(&mut self.nodes[node].sockets) {
            if is_polite && !frozen.contains(&flow) && !matches!(socket.tcp.state, State::Gone(_)) {
                let reset = socket.tcp.abort();
                self.send_to_client(node, &reset);
            }
        }
        self.nodes[node].forget();
        self.nodes[node].powered = !power;
        self.sessions_end(node);
        if node == 0 && !self.plan.remote_steering {
            self.steering.attached = false;
        }
    }

    fn frozen_at(&self, node: usize) -> Vec<usize> {
        let sockets = self.nodes[node].sockets.iter();
        sockets.filter(|(_, socket)| socket.mute).map(|(flow, _)| *flow).collect()
    }

    /// The process starts, after a fault.
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.note(|| format!("n{node} starts"));
        self.coverage.starts += 1;
        self.nodes[node].up = true;
        self.nodes[node].powered = true;
        self.nodes[node].counter = self.now_us();
        if node == 0 && !self.plan.remote_steering {
            self.steering.attached = true;
            let now_us = self.now_us();
            self.steering.restart(now_us);
        }
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            self.connect_channel(node, peer, 0);
        }
    }

    /// The front end has heard that a node's process is gone.
    pub(super) fn owner_is_gone(&mut self, node: usize) {
        if self.plan.remote_steering || !self.steering.attached {
            return;
        }
        let now_us = self.now_us();
        let gone = self.steering.forget_owner(owner(node).id, now_us);
        self.coverage.entries_of_dead_owners += gone;
    }
}
