//! The world: all of its state, its events, and its clock.

use super::{
    Judge, Options, Sabotage,
    client::{Client, Operation},
    coverage::Coverage,
    host::Host,
    kernel::Kernel,
    oracle::Oracles,
    plan::Plan,
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
use ashlar_vr::{Configuration, Message, ReadAnswer, ReadId, Reply, Request};
use bytes::Bytes;
use std::{cell::RefCell, net::SocketAddr, rc::Rc};

/// More events than this in one run, and the world feeds on itself.
const EVENTS_MAX: u64 = 3_000_000;

/// What a check leaves behind: nothing, or the violation that ends the run.
pub(super) type Checked = Result<(), Box<Violation>>;

/// Names a life of a process: what was meant for a former one is void.
pub(super) type Incarnation = u32;

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A process starts.
    Start { host: usize },
    /// A message between replicas arrives.
    Message { from: usize, to: usize, message: Box<Message> },
    /// The program of a host runs on.
    Kernel { host: usize },
    /// A message that the program of a host has left to the process arrives there.
    Passed { from: usize, to: usize, message: Box<Message> },
    /// The program of a host has woken the process.
    Woken { host: usize },
    /// A write is synced.
    Synced { host: usize, incarnation: Incarnation, number: u64, write: WriteId },
    /// A replica's timeout may be due.
    Timeout { host: usize, incarnation: Incarnation },
    /// A request arrives at a replica.
    Request { host: usize, request: Box<Request> },
    /// A reply arrives at a client.
    Reply { client: usize, reply: Box<Reply> },
    /// A client's timeout may be due.
    ClientTimeout { client: usize },
    /// A client begins its next operation.
    ClientBegins { client: usize },
    /// A question arrives at a replica; with an age, an old answer will do.
    Question { host: usize, id: ReadId, question: Bytes, age_us: Option<u64> },
    /// An answer arrives at its client.
    Answer { id: ReadId, answer: ReadAnswer },
    /// A reader's patience is at its end.
    ReadTimeout { id: ReadId },
    /// A fault strikes.
    FaultStrikes,
    /// A replica that has recovered loses its memory again.
    Relapse { host: usize },
    /// All cuts are mended.
    NetworkHeals,
    /// The operator's client may repeat itself.
    OperatorTimeout,
    /// A reply arrives at the operator.
    OperatorReply { reply: Box<Reply> },
    /// The safety phase ends.
    SafetyEnds,
    /// Has the healed world come to rest?
    LivenessTick,
}

/// A simulated group with its clients.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) sabotage: Option<Sabotage>,
    /// Whose view is judged.
    pub(super) judge_of: Judge,
    pub(super) first_configuration: Configuration,
    pub(super) random: Random,
    pub(super) queue: EventQueue<Event>,
    /// Hosts are the replicas, then the clients, then the operator.
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Vec<Client>,
    pub(super) operations: Vec<Operation>,
    /// How many operations clients may still begin.
    pub(super) operations_left: u64,
    pub(super) operator: super::operator::Operator,
    /// A clock for histories that never shows the same time twice.
    stamps: u64,
    pub(super) oracles: Oracles,
    /// What an oracle has heard while a message was sent.
    pub(super) broken: Option<Box<Violation>>,
    pub(super) coverage: Coverage,
    trace: Trace,
    pub(super) is_safe_phase: bool,
    /// All members have followed a leader that went on, so clients need not write any more.
    pub(super) has_followed: bool,
    /// They have, when they have executed everything up to here.
    pub(super) to_follow: Option<u64>,
    /// So many members will fall behind once more.
    pub(super) stragglers_left: u64,
    /// One of them is away until then, in microseconds.
    pub(super) away_until_us: u64,
    /// The world must have come to rest by then, in microseconds.
    pub(super) rests_by_us: u64,
    /// The next leader will be cut off.
    pub(super) is_ambush_laid: bool,
    /// The next replica that recovers will lose its memory again.
    pub(super) is_relapse_near: bool,
    pub(super) ends: bool,
}

impl Simulation for World {
    type Plan = Plan;
    type Sabotage = Sabotage;
    type Coverage = Coverage;

    fn draw(seed: u64, random: &mut Random) -> Plan {
        Plan::new(seed, random)
    }

    fn new(plan: Plan, random: Random, options: Options) -> Self {
        let address = |index: usize| SocketAddr::from(([10, 0, 0, index as u8 + 1], 7000));
        let members = (0..plan.members).map(address).collect();
        let first_configuration = Configuration::new(0, members).expect("a plan names a group");
        // Other defects of disks are put in above the journal.
        let is_about_journals = matches!(options.sabotage, None | Some(Sabotage::SkipSync));
        let has_journals = plan.has_journals && is_about_journals;
        let host = |at: usize| Host::new(address(at), plan.drifts_ppm[at], has_journals);
        let mut hosts: Vec<_> = (0..plan.hosts()).map(host).collect();
        if let Some(offload) = &plan.offload {
            let mut random = Random::new(offload.seed);
            for (at, allowed) in hosts.iter_mut().zip(&offload.allowed) {
                let kernel = Kernel::new(random.fork(), offload.slots_max, options.sabotage);
                (at.kernel, at.allowed) = (Some(Rc::new(RefCell::new(kernel))), *allowed);
            }
        }
        let parties = plan.hosts() + plan.clients() + 1;
        let network = Network::new(parties, plan.network.clone());
        let writers = plan
            .load
            .into_iter()
            .flat_map(|load| (0..load.writers).map(move |_| Client::writer(load.keys)));
        let clients = (0..plan.clients).map(|_| Client::default()).chain(writers).collect();
        Self {
            sabotage: options.sabotage,
            judge_of: options.judge,
            first_configuration,
            queue: EventQueue::new(),
            network,
            oracles: Oracles::new(plan.hosts()),
            hosts,
            clients,
            operations: Vec::new(),
            operations_left: plan.operations,
            operator: Default::default(),
            stamps: 0,
            broken: None,
            coverage: Coverage::default(),
            trace: Trace::new(options.keep),
            is_safe_phase: true,
            has_followed: plan.load.is_none(),
            to_follow: None,
            stragglers_left: plan.load.map_or(0, |load| load.stragglers),
            away_until_us: 0,
            rests_by_us: 0,
            is_ambush_laid: false,
            is_relapse_near: false,
            ends: false,
            random,
            plan,
        }
    }

    fn run(&mut self) -> Checked {
        for host in 0..self.plan.hosts() {
            self.queue.push_at(0, Event::Start { host });
        }
        for client in 0..self.plan.clients() {
            let at_us = self.random.below(self.plan.think_us + 1);
            self.queue.push_at(at_us, Event::ClientBegins { client });
        }
        if !self.plan.faults.is_empty() {
            self.queue.push_at(self.plan.fault_every_us, Event::FaultStrikes);
        }
        self.queue.push_at(self.plan.safety_us, Event::SafetyEnds);
        while !self.ends
            && let Some(event) = self.queue.pop()
        {
            self.coverage.events += 1;
            if self.coverage.events > EVENTS_MAX {
                return Err(self.violation("liveness", "the world feeds on itself".into()));
            }
            self.happen(event)?;
        }
        self.judge()
    }

    fn end(mut self) -> Ended<Coverage> {
        let counts = self.network.counts();
        self.coverage.messages_sent = counts.sent;
        self.coverage.messages_lost = counts.lost;
        self.coverage.messages_duplicated = counts.duplicated;
        self.coverage.messages_reordered = counts.reordered;
        self.count_programs();
        Ended {
            plan: self.plan.to_string(),
            coverage: self.coverage,
            virtual_us: self.queue.now_us(),
            trace: self.trace,
        }
    }
}

impl World {
    fn happen(&mut self, event: Event) -> Checked {
        if let Some(host) = self.awaited(&event)
            && self.hosts[host].paused_until_us > self.queue.now_us()
        {
            let at_us = self.hosts[host].paused_until_us;
            self.queue.push_at(at_us, event);
            return Ok(());
        }
        match event {
            Event::Start { host } => self.start(host),
            Event::Message { from, to, message } => self.arrive(from, to, *message),
            Event::Kernel { host } => self.run_kernel(host),
            Event::Passed { from, to, message } => self.deliver(from, to, *message),
            Event::Woken { host } => self.woken(host),
            Event::Synced { host, incarnation, number, write } => {
                self.synced(host, incarnation, number, write)
            }
            Event::Timeout { host, incarnation } => self.timeout(host, incarnation),
            Event::Request { host, request } => self.take_request(host, *request),
            Event::Reply { client, reply } => self.take_reply(client, *reply),
            Event::ClientTimeout { client } => self.client_timeout(client),
            Event::ClientBegins { client } => self.client_begins(client),
            Event::Question { host, id, question, age_us } => {
                self.take_question(host, id, question, age_us)
            }
            Event::Answer { id, answer } => self.take_answer(id, answer),
            Event::ReadTimeout { id } => self.read_timeout(id),
            Event::FaultStrikes => self.strike(),
            Event::Relapse { host } => self.relapse(host),
            Event::NetworkHeals => {
                self.network.heal();
                Ok(())
            }
            Event::OperatorTimeout => self.operator_timeout(),
            Event::OperatorReply { reply } => self.operator_reply(*reply),
            Event::SafetyEnds => self.end_safety(),
            Event::LivenessTick => self.liveness_tick(),
        }
    }

    /// The present moment of histories.
    pub(super) fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// The party of a client in the network.
    pub(super) fn party_of(&self, client: usize) -> usize {
        self.plan.hosts() + client
    }

    pub(super) fn host_at(&self, address: SocketAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.address == address)
    }

    pub(super) fn record(&mut self, line: impl FnOnce() -> String) {
        let now_us = self.queue.now_us();
        self.trace.record(now_us, line);
    }

    pub(super) fn violation(&self, oracle: &'static str, detail: String) -> Box<Violation> {
        let at_us = self.queue.now_us();
        Box::new(Violation { oracle, at_us, detail, context: Vec::new() })
    }

    /// The host whose process the event waits for, if that stands still.
    fn awaited(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Message { to, message, .. } if self.is_for_kernel(*to, message) => None,
            Event::Message { to: host, .. }
            | Event::Passed { to: host, .. }
            | Event::Woken { host }
            | Event::Synced { host, .. }
            | Event::Timeout { host, .. }
            | Event::Request { host, .. }
            | Event::Question { host, .. } => Some(*host),
            _ => None,
        }
    }
}
