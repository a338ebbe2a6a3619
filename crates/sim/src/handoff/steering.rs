//! Steering: the table, run by the very decisions that the kernel program consists of.

use super::{
    coverage::Coverage,
    tcp::Segment,
    world::{Checked, Event, World},
};
use ashlar_fastpath::steering::{
    Config, ControlAddresses, ControlFrame, ControlKey, Effect, Entry, EntryOrNone, FlowKey,
    Freshness, MacAddress, Operation, Owner, PassReason, ReplayWindow, Request, ResultCode,
    TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Verdict, decide, judge,
};
use std::{collections::BTreeMap, net::SocketAddr};

/// The service's address.
pub(crate) const SERVICE: SocketAddr = address([10, 0, 1, 1], 80);
/// Where steering takes control datagrams.
pub(crate) const CONTROL: SocketAddr = address([10, 0, 1, 2], 9);
/// The key of control frames.
pub(crate) const KEY: ControlKey = ControlKey::new([7; 16]);
/// How often the table is looked through for entries without frames.
pub(super) const SWEEP_INTERVAL_US: u64 = 1_000_000;
/// The number of the process that owns the table, which asks it without a network.
const LOCAL_SENDER: u16 = 255;

/// The client's end of a flow.
pub(crate) fn client_address(flow: usize) -> SocketAddr {
    address([10, 0, 0, flow as u8 + 1], 5000)
}

/// The flow as steering names it.
pub(crate) fn flow_key(flow: usize) -> FlowKey {
    FlowKey::new(client_address(flow), SERVICE)
}

/// A node as steering names it.
pub(crate) fn owner(node: usize) -> Owner {
    Owner { mac: MacAddress([2, 0, 0, 0, 0, node as u8]), id: node as u16 }
}

const fn address(ip: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = ip;
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)), port)
}

/// The table, and what a kernel keeps for it.
#[derive(Debug)]
pub(crate) struct Steering {
    /// Whether the program is attached. Without it every frame passes, and nobody answers.
    pub(super) attached: bool,
    /// Names this life of the table.
    pub(super) incarnation: u64,
    pub(super) table: BTreeMap<FlowKey, Entry>,
    flows_max: usize,
    windows: BTreeMap<u16, ReplayWindow>,
    local_counter: u64,
    key_words: [u64; 2],
    /// The interface's own address: a frame of a flow that it owns passes.
    own: MacAddress,
    /// For each flow, when an entry of it was last removed, by whatever.
    removed_us: BTreeMap<FlowKey, u64>,
    cleared_us: Option<u64>,
}

impl Steering {
    pub(super) fn new(own: MacAddress, flows_max: usize) -> Self {
        Self {
            attached: true,
            incarnation: 1,
            table: BTreeMap::new(),
            flows_max,
            windows: BTreeMap::new(),
            local_counter: 0,
            key_words: key_words(),
            own,
            removed_us: BTreeMap::new(),
            cleared_us: None,
        }
    }

    /// Whether the flow lost an entry since then: whoever had it may not be followed any more.
    pub(super) fn lost_since(&self, flow: &FlowKey, since_us: u64) -> bool {
        self.cleared_us.is_some_and(|at_us| at_us >= since_us)
            || self.removed_us.get(flow).is_some_and(|at_us| *at_us >= since_us)
    }

    /// Whether there is no room for another flow.
    pub(super) fn is_full(&self) -> bool {
        self.table.len() >= self.flows_max
    }

    /// The table is empty, in a new life.
    pub(super) fn restart(&mut self, now_us: u64) {
        self.incarnation += 1;
        self.table.clear();
        self.windows.clear();
        self.cleared_us = Some(now_us);
    }

    fn found(&self, flow: &FlowKey) -> EntryOrNone {
        self.table.get(flow).map_or(EntryOrNone::NONE, |entry| EntryOrNone::some(*entry))
    }

    /// A client's frame.
    fn frame(&mut self, flow: &FlowKey, flags: u8, now_us: u64) -> Verdict {
        let judgement = judge(&self.found(flow), identity(flow), self.own, flags, now_us * 1000);
        if let Some(entry) = self.table.get_mut(flow) {
            if judgement.touch {
                entry.last_seen_ns = now_us * 1000;
            }
            if judgement.close {
                entry.closing = 1;
            }
        }
        if judgement.verdict == Verdict::PassAndForget {
            self.remove(flow, now_us);
        }
        judgement.verdict
    }

    fn remove(&mut self, flow: &FlowKey, now_us: u64) {
        assert!(self.table.remove(flow).is_some(), "there is an entry to remove");
        self.removed_us.insert(*flow, now_us);
    }

    /// What the kernel program does with a control frame: turns it into its reply.
    pub(super) fn control(
        &mut self,
        mut frame: ControlFrame,
        now_us: u64,
        is_busy: bool,
        coverage: &mut Coverage,
    ) -> Option<ControlFrame> {
        frame.check(self.key_words).ok()?;
        let window = self.windows.get(&frame.sender()).copied().unwrap_or_default();
        let Freshness::Fresh(window) = window.accept(frame.counter()) else {
            coverage.control_replayed += 1;
            return None;
        };
        self.windows.insert(frame.sender(), window);
        let (result, after) = self.carry_out(&frame, now_us, is_busy, coverage);
        frame.turn(result, &after, self.incarnation, self.key_words);
        Some(frame)
    }

    fn carry_out(
        &mut self,
        frame: &ControlFrame,
        now_us: u64,
        is_busy: bool,
        coverage: &mut Coverage,
    ) -> (ResultCode, EntryOrNone) {
        if frame.incarnation() != self.incarnation {
            coverage.control_of_another_life += 1;
            return (ResultCode::WrongIncarnation, EntryOrNone::NONE);
        }
        if is_busy {
            coverage.control_busy += 1;
            return (ResultCode::Busy, EntryOrNone::NONE);
        }
        let flow = frame.flow();
        let decision = decide(&self.found(&flow), frame, identity(&flow), now_us * 1000);
        match decision.effect {
            Effect::None => {}
            Effect::Insert if self.is_full() => {
                coverage.control_table_full += 1;
                return (ResultCode::TableFull, EntryOrNone::NONE);
            }
            Effect::Insert | Effect::Update => {
                self.table.insert(flow, decision.after.entry);
            }
            Effect::Remove => self.remove(&flow, now_us),
        }
        coverage.control_stale += u64::from(decision.result == ResultCode::StaleEpoch);
        (decision.result, decision.after)
    }

    /// Asked by the process that owns the table.
    pub(super) fn execute(
        &mut self,
        operation: Operation,
        now_us: u64,
        is_busy: bool,
        coverage: &mut Coverage,
    ) -> ControlFrame {
        self.local_counter += 1;
        let (counter, incarnation) = (self.local_counter, self.incarnation);
        let request = Request { sender: LOCAL_SENDER, counter, incarnation, operation };
        let reply = self.control(request.seal(&KEY), now_us, is_busy, coverage);
        reply.expect("a local request is fresh and well-formed")
    }

    /// Removes what has been without frames for too long. Gives the number of entries that went.
    fn sweep(
        &mut self,
        now_us: u64,
        idle_us: u64,
        closing_us: u64,
        coverage: &mut Coverage,
    ) -> u64 {
        let stale = |entry: &Entry| {
            let limit_us = if entry.is_closing() { closing_us } else { idle_us };
            now_us.saturating_sub(entry.last_seen_ns / 1000) > limit_us
        };
        let stale: Vec<_> = self.table.iter().filter(|(_, entry)| stale(entry)).collect();
        let operations: Vec<_> = stale
            .into_iter()
            .map(|(flow, entry)| Operation::Expire {
                flow: *flow,
                epoch: entry.epoch,
                last_seen_ns: entry.last_seen_ns,
            })
            .collect();
        for operation in &operations {
            self.execute(*operation, now_us, false, coverage);
        }
        operations.len() as u64
    }

    /// Removes all flows of a node that died.
    pub(super) fn forget_owner(&mut self, id: u16, now_us: u64) -> u64 {
        let of_owner = |entry: &Entry| entry.owner().id == id;
        let flows: Vec<_> =
            self.table.iter().filter(|(_, entry)| of_owner(entry)).map(|(flow, _)| *flow).collect();
        flows.iter().for_each(|flow| self.remove(flow, now_us));
        flows.len() as u64
    }
}

/// The key's words, which only a configuration tells.
fn key_words() -> [u64; 2] {
    let addresses = ControlAddresses { ipv4: None, ipv6: None, port: CONTROL.port() };
    Config::new(MacAddress::NONE, addresses, &KEY, 1).key_words()
}

fn identity(flow: &FlowKey) -> u32 {
    Entry::identity_of(flow.digest())
}

fn flags(segment: &Segment) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(segment.syn, TCP_SYN)
        | flag(segment.fin, TCP_FIN)
        | flag(segment.rst, TCP_RST)
        | flag(segment.acknowledgement.is_some(), TCP_ACK)
}

impl World {
    /// A client's segment comes to the interface that steering watches.
    pub(super) fn ingress(&mut self, segment: &Segment) -> Checked {
        let now_us = self.now_us();
        let is_remote = self.plan.remote_steering;
        if !is_remote && !self.nodes[0].powered {
            return Ok(());
        }
        let verdict = if self.steering.attached {
            let flow = flow_key(segment.flow);
            self.steering.frame(&flow, flags(segment), now_us)
        } else {
            Verdict::Pass(PassReason::NoFlow)
        };
        let to = match verdict {
            Verdict::Steer(mac) => usize::from(mac.0[5]),
            Verdict::Pass(_) => 0,
            Verdict::PassAndForget => {
                self.coverage.entries_forgotten_by_syn += 1;
                0
            }
        };
        self.coverage.frames_steered += u64::from(to != 0);
        if to == 0 && !is_remote {
            return self.segment_at_node(0, segment);
        }
        let from = self.steering_host();
        for at_us in self.network.send(now_us, from, to, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::ToNode { node: to, segment: segment.clone() });
        }
        Ok(())
    }

    /// Old entries go.
    pub(super) fn steering_sweeps(&mut self) {
        let (idle_us, closing_us) = (self.plan.idle_us, self.plan.closing_us);
        let now_us = self.now_us();
        if self.steering.attached {
            let gone = self.steering.sweep(now_us, idle_us, closing_us, &mut self.coverage);
            self.coverage.entries_expired += gone;
        }
        self.queue.push_after(SWEEP_INTERVAL_US, Event::SteeringSweeps);
    }

    /// The host whose interface steering watches.
    pub(super) fn steering_host(&self) -> usize {
        if self.plan.remote_steering { self.plan.nodes } else { 0 }
    }
}
