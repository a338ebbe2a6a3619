//! The world: all of its state, its events, and its clock.

use super::{
    Judge, Options, Sabotage,
    bodies::{BodyArrival, BodyStored},
    client::{Client, ClientOperation, Response},
    coverage::Coverage,
    link::{Chained, Link},
    liveness::Stage,
    node::Node,
    oracle::Oracles,
    plan::Plan,
    read::{TailAnswer, TailQuery},
};
use crate::{
    disk::WriteId,
    events::EventQueue,
    network::Network,
    random::Random,
    simulation::{Ended, Simulation},
    trace::Trace,
    violation::Violation,
};
use ashlar_object::{Key, StageId};
use std::fmt;

/// More events than this in one run, and the world feeds on itself.
const EVENTS_MAX: u64 = 2_000_000;

/// What a check leaves behind: nothing, or the violation that ends the run.
pub(crate) type Checked = Result<(), Box<Violation>>;

/// Names a life of a process: what was meant for a former one is void.
pub(crate) type Incarnation = u32;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process starts.
    Start { node: usize },
    /// A message between replicas arrives.
    Chained(Box<Chained>),
    /// A staged body arrives at a successor.
    BodyArrives(BodyArrival),
    /// A body is synced.
    BodySynced { node: usize, incarnation: Incarnation, stage: StageId, write: WriteId },
    /// A predecessor learns that a body which it shipped again is stored.
    BodyStored(BodyStored),
    /// The shell begins a batch.
    BatchBegins { node: usize, incarnation: Incarnation },
    /// The batch is synced.
    BatchSynced { node: usize, incarnation: Incarnation },
    /// A replica's timeout may be due.
    Timeout { node: usize, incarnation: Incarnation, partition: usize },
    /// A connection is tried.
    LinkTried { link: usize },
    /// A predecessor notices that a connection broke.
    LinkNoticed { link: usize, session: u32 },
    /// A client begins its next operation.
    ClientBegins { client: usize },
    /// A request arrives at a node.
    Request { operation: usize },
    /// An answer arrives at a client.
    Response { operation: usize, response: Response },
    /// A client's patience may be at its end.
    ClientTimeout { operation: usize },
    /// A read takes its next step.
    ReadStep { node: usize, incarnation: Incarnation, read: u64 },
    /// A question arrives at a tail.
    TailQuery(TailQuery),
    /// The tail's word arrives.
    TailAnswer(TailAnswer),
    /// A fault strikes.
    FaultStrikes,
    /// All cuts are mended.
    NetworkHeals,
    /// A full disk has space again.
    DiskFreed { node: usize },
    /// The shell looks at its disk's space.
    SpaceChecked { node: usize, incarnation: Incarnation },
    /// The safety phase ends.
    SafetyEnds,
    /// Has the healed world come to rest?
    LivenessTick,
}

impl Event {
    /// The node whose process the event waits for, if that stands still.
    fn awaits(&self, world: &World) -> Option<usize> {
        match self {
            Self::Chained(chained) => Some(world.links[chained.link].receiver(chained.from)),
            Self::BodyArrives(arrival) => Some(world.links[arrival.link].successor),
            Self::BodyStored(stored) => Some(world.links[stored.link].predecessor),
            Self::BodySynced { node, .. }
            | Self::BatchBegins { node, .. }
            | Self::BatchSynced { node, .. }
            | Self::SpaceChecked { node, .. }
            | Self::Timeout { node, .. }
            | Self::ReadStep { node, .. } => Some(*node),
            Self::LinkNoticed { link, .. } => Some(world.links[*link].predecessor),
            Self::Request { operation } => Some(world.operations[*operation].node),
            Self::TailQuery(query) => Some(query.tail),
            Self::TailAnswer(answer) => Some(answer.node),
            Self::Start { .. }
            | Self::LinkTried { .. }
            | Self::ClientBegins { .. }
            | Self::Response { .. }
            | Self::ClientTimeout { .. }
            | Self::FaultStrikes
            | Self::NetworkHeals
            | Self::DiskFreed { .. }
            | Self::SafetyEnds
            | Self::LivenessTick => None,
        }
    }
}

/// A simulated cluster with its clients.
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) sabotage: Option<Sabotage>,
    judge: Judge,
    /// For each partition the nodes of its chain, head first.
    pub(super) chains: Vec<Vec<usize>>,
    /// All keys with their partitions.
    pub(super) keys: Vec<(Key, usize)>,
    pub(super) random: Random,
    pub(super) queue: EventQueue<Event>,
    /// Hosts are the nodes, then the clients.
    pub(super) network: Network,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    /// For each partition the links between neighbours, from the head on.
    pub(super) links_of: Vec<Vec<usize>>,
    pub(super) clients: Vec<Client>,
    pub(super) operations: Vec<ClientOperation>,
    /// How many operations clients may still begin.
    pub(super) operations_left: usize,
    /// How many clients have done all that they may.
    pub(super) clients_done: usize,
    /// The last number given to a read.
    pub(super) reads: u64,
    /// A clock for histories that never shows the same time twice.
    stamps: u64,
    pub(super) oracles: Oracles,
    pub(super) coverage: Coverage,
    /// Which disk has been replaced.
    pub(super) wiped: Option<usize>,
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
        let map = plan.map().expect("the plan keeps to the map's bounds");
        let keys = plan.keys(&map);
        let chain = |partition| map.chain(partition).iter().map(|n| usize::from(n.0));
        let chains: Vec<Vec<usize>> = map.partitions().map(|p| chain(p).collect()).collect();
        let (links, links_of) = Link::between(&chains);
        let hosts = plan.nodes + plan.clients;
        Self {
            sabotage: options.sabotage,
            judge: options.judge,
            network: Network::new(hosts, plan.network.clone()),
            nodes: (0..plan.nodes).map(|_| Node::new(plan.partitions)).collect(),
            clients: (0..plan.clients).map(|_| Client::new(keys.len())).collect(),
            oracles: Oracles::new(&chains),
            operations_left: plan.operations,
            chains,
            keys,
            random,
            queue: EventQueue::new(),
            links,
            links_of,
            operations: Vec::new(),
            clients_done: 0,
            reads: 0,
            stamps: 0,
            coverage: Coverage::default(),
            wiped: None,
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
            let awaits = event.awaits(self).map(|node| self.nodes[node].paused_until_us);
            match awaits {
                Some(until_us) if until_us > self.now_us() => self.queue.push_at(until_us, event),
                _ => self.handle(event)?,
            }
        }
        self.check_histories()
    }

    fn end(mut self) -> Ended<Coverage> {
        let counts = self.network.counts();
        self.coverage.messages_sent = counts.sent;
        self.coverage.messages_lost = counts.lost;
        self.coverage.messages_duplicated = counts.duplicated;
        self.coverage.messages_reordered = counts.reordered;
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

    /// The next moment of the histories' clock.
    pub(super) fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.record(self.queue.now_us(), line);
    }

    /// Whether that defect is put in.
    pub(super) fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Ends the run if an oracle that looks into replicas is not content.
    pub(super) fn judge(&self, oracle: &'static str, finding: Result<(), String>) -> Checked {
        match self.judge {
            Judge::All => self.judge_clients(oracle, finding, Vec::new()),
            Judge::Clients => Ok(()),
        }
    }

    /// Ends the run if an oracle that sees what clients see is not content.
    pub(super) fn judge_clients(
        &self,
        oracle: &'static str,
        finding: Result<(), String>,
        context: Vec<String>,
    ) -> Checked {
        finding
            .map_err(|detail| Box::new(Violation { oracle, at_us: self.now_us(), detail, context }))
    }

    /// The node at the head of the chain.
    pub(super) fn head(&self, partition: usize) -> usize {
        self.chains[partition][0]
    }

    /// The node at the tail of the chain.
    pub(super) fn tail(&self, partition: usize) -> usize {
        *self.chains[partition].last().expect("a chain has a tail")
    }

    /// Whether that life of the node still goes on.
    pub(super) fn lives(&self, node: usize, incarnation: Incarnation) -> bool {
        let node = &self.nodes[node];
        node.up && node.incarnation == incarnation
    }

    fn begin(&mut self) {
        for node in 0..self.plan.nodes {
            let at_us = self.random.below(20_000);
            self.queue.push_at(at_us, Event::Start { node });
        }
        for link in 0..self.links.len() {
            self.queue.push_at(0, Event::LinkTried { link });
        }
        for client in 0..self.plan.clients {
            let at_us = self.random.below(50_000);
            self.queue.push_at(at_us, Event::ClientBegins { client });
        }
        self.schedule_fault();
        self.queue.push_at(self.plan.safety_us, Event::SafetyEnds);
    }

    fn handle(&mut self, event: Event) -> Checked {
        match event {
            Event::Start { node } => self.start(node),
            Event::Chained(chained) => self.chained(*chained),
            Event::BodyArrives(arrival) => self.body_arrives(arrival),
            Event::BodySynced { node, incarnation, stage, write } => {
                self.body_synced(node, incarnation, stage, write)
            }
            Event::BodyStored(stored) => self.body_stored(stored),
            Event::BatchBegins { node, incarnation } => self.batch_begins(node, incarnation),
            Event::BatchSynced { node, incarnation } => self.batch_synced(node, incarnation),
            Event::Timeout { node, incarnation, partition } => {
                self.timeout(node, incarnation, partition)
            }
            Event::LinkTried { link } => self.link_tried(link),
            Event::LinkNoticed { link, session } => self.link_noticed(link, session),
            Event::ClientBegins { client } => {
                self.client_begins(client);
                Ok(())
            }
            Event::Request { operation } => self.request(operation),
            Event::Response { operation, response } => self.response(operation, response),
            Event::ClientTimeout { operation } => {
                self.client_timeout(operation);
                Ok(())
            }
            Event::ReadStep { node, incarnation, read } => self.read_step(node, incarnation, read),
            Event::TailQuery(query) => {
                self.tail_query(query);
                Ok(())
            }
            Event::TailAnswer(answer) => self.tail_answer(answer),
            Event::FaultStrikes => self.fault_strikes(),
            Event::NetworkHeals => {
                self.note(|| "all cuts are mended".to_owned());
                self.network.heal();
                Ok(())
            }
            Event::DiskFreed { node } => {
                self.disk_freed(node);
                Ok(())
            }
            Event::SpaceChecked { node, incarnation } => self.space_checked(node, incarnation),
            Event::SafetyEnds => {
                self.safety_ends();
                Ok(())
            }
            Event::LivenessTick => self.liveness_tick(),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").finish_non_exhaustive()
    }
}
