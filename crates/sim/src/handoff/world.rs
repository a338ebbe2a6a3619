//! The world: all of its state, its events, and its clock.

use super::{
    Judge, Options, Sabotage,
    channel::Session,
    client::Client,
    coverage::Coverage,
    host::Node,
    liveness::Stage,
    oracle::Oracles,
    plan::Plan,
    steering::{SWEEP_INTERVAL_US, Steering, owner},
    tcp::Segment,
};
use crate::{
    events::EventQueue,
    network::Network,
    random::Random,
    simulation::{Ended, Simulation},
    trace::Trace,
    violation::Violation,
};
use ashlar_fastpath::steering::{ControlFrame, MacAddress};
use ashlar_handoff::{SecretBytes, protocol::MoveId};
use std::{collections::BTreeSet, fmt};

/// More events than this in one run, and the world feeds on itself.
const EVENTS_MAX: u64 = 2_000_000;
/// The interface that steering watches, if it is not the front end's.
const SWITCH: MacAddress = MacAddress([2, 0, 0, 0, 1, 0]);

/// What a check leaves behind: nothing, or the violation that ends the run.
pub(crate) type Checked = Result<(), Box<Violation>>;

/// Names a life of a process: what was meant for a former one is void.
pub(crate) type Incarnation = u32;

/// Names a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MoveKey {
    /// The life of the channel that it takes place on.
    pub(crate) session: usize,
    pub(crate) id: MoveId,
}

impl fmt::Display for MoveKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "move {}.{}", self.session, self.id.0)
    }
}

/// A connection that a client began and the front end took.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where the client's sequence numbers began.
    pub(crate) client_sequence: u32,
    pub(crate) accepted_us: u64,
}

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client's segment comes to steering.
    Ingress {
        segment: Segment,
    },
    /// A segment comes to a node, past steering.
    ToNode {
        node: usize,
        segment: Segment,
    },
    /// A segment that was past a socket's filter is processed.
    SegmentSlips {
        node: usize,
        /// The socket, by its number.
        socket: u64,
        segment: Box<Segment>,
    },
    /// A segment comes to a client.
    ToClient {
        segment: Segment,
    },
    SocketTimer {
        node: usize,
        incarnation: Incarnation,
        flow: usize,
    },
    OrphanExpires {
        node: usize,
        incarnation: Incarnation,
        flow: usize,
        connection: usize,
    },
    ServedWakes {
        node: usize,
        incarnation: Incarnation,
        flow: usize,
        connection: usize,
    },
    ServedIdles {
        node: usize,
        incarnation: Incarnation,
        flow: usize,
        connection: usize,
    },
    Forgets {
        node: usize,
        incarnation: Incarnation,
        flow: usize,
        epoch: u64,
    },
    FreezeTried {
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    },
    /// A frozen socket was exported and is looked at again.
    Exported {
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    },
    DepartureTimeout {
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    },
    ArrivalTimeout {
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    },
    Imports {
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    },
    ChannelTried {
        ends: [usize; 2],
    },
    ChannelNoticed {
        session: usize,
        place: usize,
    },
    Message {
        session: usize,
        to: usize,
        bytes: SecretBytes,
    },
    AskedAgain {
        node: usize,
        incarnation: Incarnation,
        number: u64,
    },
    ControlRequest {
        node: usize,
        frame: Box<ControlFrame>,
    },
    ControlReply {
        node: usize,
        frame: Box<ControlFrame>,
    },
    SteeringSweeps,
    ClientConnects {
        client: usize,
        generation: u64,
    },
    ClientThinks {
        client: usize,
        generation: u64,
    },
    ClientReads {
        client: usize,
        generation: u64,
    },
    ClientBreaksOff {
        client: usize,
        generation: u64,
    },
    ClientTimer {
        client: usize,
        generation: u64,
    },
    /// A client's patience may be at its end.
    ClientImpatient {
        client: usize,
        generation: u64,
    },
    FaultStrikes,
    Start {
        node: usize,
    },
    SafetyEnds,
    /// Has the healed world come to rest?
    LivenessTick,
}

impl Event {
    /// The process that the event waits for, if that stands still, and its life, if it matters.
    fn awaits(&self, world: &World) -> Option<(usize, Option<Incarnation>)> {
        match self {
            Self::OrphanExpires { node, incarnation, .. }
            | Self::ServedWakes { node, incarnation, .. }
            | Self::ServedIdles { node, incarnation, .. }
            | Self::Forgets { node, incarnation, .. }
            | Self::FreezeTried { node, incarnation, .. }
            | Self::Exported { node, incarnation, .. }
            | Self::DepartureTimeout { node, incarnation, .. }
            | Self::ArrivalTimeout { node, incarnation, .. }
            | Self::Imports { node, incarnation, .. }
            | Self::AskedAgain { node, incarnation, .. } => Some((*node, Some(*incarnation))),
            Self::ControlReply { node, .. } | Self::Message { to: node, .. } => Some((*node, None)),
            Self::ChannelNoticed { session, place } => {
                Some((world.sessions[*session].ends[*place], None))
            }
            _ => None,
        }
    }
}

/// A simulated service with its clients.
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) sabotage: Option<Sabotage>,
    judge: Judge,
    pub(super) random: Random,
    pub(super) queue: EventQueue<Event>,
    /// Hosts are the nodes, steering's, then the clients.
    pub(super) network: Network,
    /// Between the nodes.
    pub(super) channels: Network,
    pub(super) nodes: Vec<Node>,
    pub(super) steering: Steering,
    pub(super) sessions: Vec<Session>,
    /// Pairs of nodes that are about to try for a channel.
    pub(super) connecting: BTreeSet<[usize; 2]>,
    pub(super) clients: Vec<Client>,
    /// All that the front end ever accepted.
    pub(super) connections: Vec<Connection>,
    /// Sockets that were made.
    pub(super) sockets: u64,
    pub(super) oracles: Oracles,
    pub(super) coverage: Coverage,
    /// How far the liveness phase has come; none in the safety phase.
    pub(super) stage: Option<Stage>,
    pub(super) done: bool,
    trace: Trace,
}

impl Simulation for World {
    type Plan = Plan;
    type Sabotage = Sabotage;
    type Coverage = Coverage;

    fn draw(_seed: u64, random: &mut Random) -> Plan {
        Plan::draw(random)
    }

    fn new(plan: Plan, random: Random, options: Options) -> Self {
        let hosts = plan.nodes + 1 + plan.clients;
        let own = if plan.remote_steering { SWITCH } else { owner(0).mac };
        Self {
            sabotage: options.sabotage,
            judge: options.judge,
            random,
            queue: EventQueue::new(),
            network: Network::new(hosts, plan.network.clone()),
            channels: Network::new(plan.nodes, plan.channels.clone()),
            nodes: (0..plan.nodes).map(|_| Node::new()).collect(),
            steering: Steering::new(own, plan.flows_max),
            sessions: Vec::new(),
            connecting: BTreeSet::new(),
            clients: (0..plan.clients).map(|_| Client::new(plan.connections)).collect(),
            connections: Vec::new(),
            sockets: 0,
            oracles: Oracles::new(plan.clients),
            coverage: Coverage::default(),
            stage: None,
            done: false,
            trace: Trace::new(options.keep),
            plan,
        }
    }

    fn run(&mut self) -> Checked {
        self.begin();
        while !self.done {
            let event = self.queue.pop().expect("the liveness phase keeps ticking");
            self.coverage.events += 1;
            assert!(self.coverage.events < EVENTS_MAX, "the world feeds on itself");
            if let Some((node, incarnation)) = event.awaits(self) {
                let until_us = self.nodes[node].paused_until_us;
                if incarnation.is_some_and(|incarnation| !self.lives(node, incarnation)) {
                    continue;
                }
                if until_us > self.now_us() {
                    self.queue.push_at(until_us, event);
                    continue;
                }
            }
            self.handle(event)?;
        }
        Ok(())
    }

    fn end(mut self) -> Ended<Coverage> {
        let counts = self.network.counts();
        self.coverage.segments_sent = counts.sent;
        self.coverage.segments_lost = counts.lost;
        self.coverage.segments_duplicated = counts.duplicated;
        self.coverage.segments_reordered = counts.reordered;
        Ended {
            plan: self.plan.to_string(),
            coverage: self.coverage,
            virtual_us: self.queue.now_us(),
            trace: self.trace,
        }
    }
}

impl World {
    /// Virtual time in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        self.queue.now_us()
    }

    /// Virtual time as the cores count it.
    pub(super) fn now_ms(&self) -> u64 {
        self.queue.now_us() / 1000
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.record(self.queue.now_us(), line);
    }

    /// Whether that defect is put in.
    pub(super) fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Ends the run if an oracle that looks into hosts is not content.
    pub(super) fn judge(&self, oracle: &'static str, finding: Result<(), String>) -> Checked {
        match self.judge {
            Judge::All => self.judge_clients(oracle, finding),
            Judge::Clients => Ok(()),
        }
    }

    /// Ends the run if an oracle that sees what clients and applications see is not content.
    pub(super) fn judge_clients(
        &self,
        oracle: &'static str,
        finding: Result<(), String>,
    ) -> Checked {
        let (at_us, context) = (self.now_us(), Vec::new());
        finding.map_err(|detail| Box::new(Violation { oracle, at_us, detail, context }))
    }

    /// Whether that life of the node's process still goes on.
    pub(super) fn lives(&self, node: usize, incarnation: Incarnation) -> bool {
        self.nodes[node].up && self.nodes[node].incarnation == incarnation
    }

    /// A client's place in the network.
    pub(super) fn client_host(&self, client: usize) -> usize {
        self.plan.nodes + 1 + client
    }

    fn begin(&mut self) {
        for one in 0..self.plan.nodes {
            for other in one + 1..self.plan.nodes {
                self.connect_channel(one, other, 0);
            }
        }
        for client in 0..self.plan.clients {
            let delay_us = 1_000 + self.random.below(self.plan.think_us);
            self.queue.push_after(delay_us, Event::ClientConnects { client, generation: 0 });
        }
        self.schedule_fault();
        self.queue.push_at(SWEEP_INTERVAL_US, Event::SteeringSweeps);
        self.queue.push_at(self.plan.safety_us, Event::SafetyEnds);
    }

    fn handle(&mut self, event: Event) -> Checked {
        match event {
            Event::Ingress { segment } => return self.ingress(&segment),
            Event::ToNode { node, segment } => return self.segment_at_node(node, &segment),
            Event::SegmentSlips { node, socket, segment } => {
                return self.segment_slips(node, socket, &segment);
            }
            Event::ToClient { segment } => return self.segment_at_client(&segment),
            Event::SocketTimer { node, incarnation, flow } => {
                return self.socket_timer(node, incarnation, flow);
            }
            Event::OrphanExpires { node, flow, connection, .. } => {
                self.orphan_expires(node, flow, connection);
            }
            Event::ServedWakes { node, flow, connection, .. } => {
                return self.served_wakes(node, flow, connection);
            }
            Event::ServedIdles { node, flow, connection, .. } => {
                return self.served_idles(node, flow, connection);
            }
            Event::Forgets { node, flow, epoch, .. } => {
                return self.forget_flow(node, flow, epoch);
            }
            Event::FreezeTried { node, incarnation, key } => {
                return self.freeze_tried(node, incarnation, key);
            }
            Event::Exported { node, key, .. } => return self.exported(node, key),
            Event::DepartureTimeout { node, key, .. } => {
                return self.departure_timeout(node, key);
            }
            Event::ArrivalTimeout { node, key, .. } => return self.arrival_timeout(node, key),
            Event::Imports { node, key, .. } => return self.imports(node, key),
            Event::ChannelTried { ends } => self.channel_tried(ends),
            Event::ChannelNoticed { session, place } => {
                return self.channel_noticed(session, place);
            }
            Event::Message { session, to, bytes } => return self.message(session, to, &bytes),
            Event::AskedAgain { node, incarnation, number } => {
                return self.ask_again(node, incarnation, number);
            }
            Event::ControlRequest { node, frame } => return self.control_request(node, *frame),
            Event::ControlReply { node, frame } => return self.control_reply(node, &frame),
            Event::SteeringSweeps => self.steering_sweeps(),
            Event::FaultStrikes => self.fault_strikes(),
            Event::Start { node } => self.start(node),
            Event::SafetyEnds => self.safety_ends(),
            Event::LivenessTick => return self.liveness_tick(),
            event => return self.handle_client(event),
        }
        Ok(())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").finish_non_exhaustive()
    }
}
