//! Connections between neighbours of a chain, which break and come back.
//!
//! As over TCP, what was in flight on a connection that broke is gone, whichever end broke it, and
//! the two ends may notice at different times. Within a connection the network's faults apply,
//! because the chain's contract allows for them.

use super::world::{Checked, Event, Incarnation, World};
use ashlar_object::{
    Version,
    chain::{Message, Neighbour, Readiness},
};
use std::fmt::Write;

/// How long a connection takes to be tried again, in microseconds.
const RECONNECT_US: std::ops::Range<u64> = 200..30_000;

/// A connection from a predecessor to a successor, shared by all chains in which they are
/// neighbours.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) predecessor: usize,
    pub(super) successor: usize,
    /// For each partition that uses it.
    partitions: Vec<usize>,
    /// Whether the predecessor takes it to be up.
    pub(super) up: bool,
    /// Counts the connections; what was sent on a former one is gone.
    session: u32,
    /// The processes that it connects.
    ends: (Incarnation, Incarnation),
}

/// A message on its way between replicas.
#[derive(Debug)]
pub(crate) struct Chained {
    pub(super) link: usize,
    session: u32,
    partition: usize,
    /// Who sent it, as its receiver sees it.
    pub(super) from: Neighbour,
    message: Message,
}

impl Link {
    /// The links that `chains` need; and for each partition its own, from the head on.
    pub(crate) fn between(chains: &[Vec<usize>]) -> (Vec<Self>, Vec<Vec<usize>>) {
        let mut links: Vec<Self> = Vec::new();
        let mut links_of = Vec::new();
        for (partition, chain) in chains.iter().enumerate() {
            let mut own = Vec::new();
            for pair in chain.windows(2) {
                let known =
                    links.iter().position(|link| [link.predecessor, link.successor] == pair);
                let link = known.unwrap_or_else(|| {
                    links.push(Self::new(pair[0], pair[1]));
                    links.len() - 1
                });
                links[link].partitions.push(partition);
                own.push(link);
            }
            links_of.push(own);
        }
        (links, links_of)
    }

    fn new(predecessor: usize, successor: usize) -> Self {
        Self { predecessor, successor, partitions: Vec::new(), up: false, session: 0, ends: (0, 0) }
    }

    /// The node that receives what the neighbour `from` sent.
    pub(super) fn receiver(&self, from: Neighbour) -> usize {
        match from {
            Neighbour::Predecessor => self.successor,
            Neighbour::Successor => self.predecessor,
        }
    }

    /// The number of the present connection, if the predecessor takes it to be up.
    pub(super) fn session(&self) -> Option<u32> {
        self.up.then_some(self.session)
    }
}

impl World {
    /// Sends a message to a neighbour; it is gone if there is no connection.
    pub(super) fn send(&mut self, node: usize, partition: usize, to: Neighbour, message: &Message) {
        self.count(message);
        let position = self.slot(node, partition).expect("the replica runs").position;
        let (link, from) = match to {
            Neighbour::Successor => (self.links_of[partition][position], Neighbour::Predecessor),
            Neighbour::Predecessor => {
                (self.links_of[partition][position - 1], Neighbour::Successor)
            }
        };
        let Some(session) = self.links[link].session() else {
            self.coverage.messages_gone_with_link += 1;
            return;
        };
        let receiver = self.links[link].receiver(from);
        let now_us = self.now_us();
        let arrivals = self.network.send(now_us, node, receiver, &mut self.random);
        for at_us in arrivals.iter() {
            let chained = Chained { link, session, partition, from, message: message.clone() };
            self.queue.push_at(at_us, Event::Chained(Box::new(chained)));
        }
    }

    fn count(&mut self, message: &Message) {
        match message {
            Message::Prepare(_) => self.coverage.prepares += 1,
            Message::Probe { .. } => self.coverage.probes += 1,
            Message::Resume { .. } => self.coverage.resumes += 1,
            Message::BodyMissing { .. } => self.coverage.bodies_missing += 1,
            Message::Progress { .. } => {}
        }
    }

    /// Whether that connection still connects the two processes that it was made between.
    pub(super) fn connects(&self, link: usize, session: u32) -> bool {
        let link = &self.links[link];
        link.up
            && link.session == session
            && self.lives(link.predecessor, link.ends.0)
            && self.lives(link.successor, link.ends.1)
    }

    /// A message between replicas arrives.
    pub(super) fn chained(&mut self, chained: Chained) -> Checked {
        let Chained { link, session, partition, from, message } = chained;
        if !self.connects(link, session) {
            self.coverage.messages_gone_with_link += 1;
            return Ok(());
        }
        let node = self.links[link].receiver(from);
        let sender = self.links[link].predecessor + self.links[link].successor - node;
        let mut body_present = true;
        if let Message::Prepare(entry) = &message {
            let stage = entry.operation.change.stage();
            body_present = stage.is_none_or(|stage| self.body_present(node, stage));
            let accepted = self.slot(node, partition).expect("the replica runs").accepted;
            self.coverage.prepares_repeated += u64::from(entry.version <= accepted);
            self.coverage.prepares_ahead += u64::from(entry.version > accepted.next());
        }
        self.note(|| format!("p{partition} n{sender} -> n{node}: {}", text(&message)));
        let now_ms = self.now_ms();
        let slot = self.slot(node, partition).expect("the replica runs");
        slot.replica.handle_message(now_ms, from, message, body_present);
        self.drain(node, partition)
    }

    /// A connection is tried.
    pub(super) fn link_tried(&mut self, link: usize) -> Checked {
        let Link { predecessor, successor, up, .. } = self.links[link];
        if up {
            return Ok(());
        }
        let now_us = self.now_us();
        let awake = |node: usize| {
            let node = &self.nodes[node];
            node.up && node.paused_until_us <= now_us
        };
        let possible = self.network.connects(predecessor, successor);
        if !possible || !awake(predecessor) || !awake(successor) {
            let delay_us = self.random.range(RECONNECT_US);
            self.queue.push_after(delay_us, Event::LinkTried { link });
            return Ok(());
        }
        self.coverage.links_made += 1;
        self.note(|| format!("link n{predecessor} -> n{successor} is up"));
        let ends = (self.nodes[predecessor].incarnation, self.nodes[successor].incarnation);
        let this = &mut self.links[link];
        (this.up, this.ends) = (true, ends);
        this.session += 1;
        self.tell_link(link, true)
    }

    /// The connection breaks. A predecessor that lives notices after a while.
    pub(super) fn break_link(&mut self, link: usize) {
        if !self.links[link].up {
            return;
        }
        self.coverage.links_broken += 1;
        let session = self.links[link].session;
        // Nothing more arrives on it.
        self.links[link].ends.1 = Incarnation::MAX;
        let delay_us = self.random.range(self.plan.detection_us.clone());
        self.queue.push_after(delay_us, Event::LinkNoticed { link, session });
    }

    /// The predecessor's process is gone, and the connection with it.
    pub(super) fn drop_link(&mut self, link: usize) {
        if self.links[link].up {
            self.coverage.links_broken += 1;
            self.links[link].up = false;
            let delay_us = self.random.range(RECONNECT_US);
            self.queue.push_after(delay_us, Event::LinkTried { link });
        }
    }

    /// The predecessor notices that its connection broke.
    pub(super) fn link_noticed(&mut self, link: usize, session: u32) -> Checked {
        let this = &mut self.links[link];
        if !this.up || this.session != session {
            return Ok(());
        }
        this.up = false;
        let (predecessor, successor) = (this.predecessor, this.successor);
        self.note(|| format!("link n{predecessor} -> n{successor} is down"));
        let delay_us = self.random.range(RECONNECT_US);
        self.queue.push_after(delay_us, Event::LinkTried { link });
        self.tell_link(link, false)
    }

    fn tell_link(&mut self, link: usize, up: bool) -> Checked {
        let node = self.links[link].predecessor;
        for place in 0..self.links[link].partitions.len() {
            let partition = self.links[link].partitions[place];
            let now_ms = self.now_ms();
            let slot = self.slot(node, partition).expect("the replica runs");
            slot.replica.handle_link(now_ms, up);
            self.drain(node, partition)?;
        }
        Ok(())
    }
}

/// A message in a few words.
fn text(message: &Message) -> String {
    let mut text = String::new();
    let status = |text: &mut String, committed: Version, readiness: Readiness| {
        let writable = if readiness.writable { "writable" } else { "not writable" };
        let space = if readiness.has_space { "" } else { ", no space" };
        write!(text, "committed {committed}, {writable}{space}").expect("a string takes it");
    };
    match message {
        Message::Prepare(entry) => {
            let (version, key) = (entry.version, &entry.operation.key);
            text = match super::write::value_of(&entry.operation.change) {
                Some(value) => format!("prepare {version}: {key} = {value}"),
                None => format!("prepare {version}: delete {key}"),
            };
        }
        Message::Probe { committed, holds } => {
            text = format!("probe, committed {committed}, holds {holds:?}");
        }
        Message::Resume { accepted, committed, readiness, compared } => {
            text = format!("resume after {accepted}, ");
            status(&mut text, *committed, *readiness);
            text += if *compared { ", compared" } else { ", not compared" };
        }
        Message::Progress { committed, readiness } => status(&mut text, *committed, *readiness),
        Message::BodyMissing { version } => text = format!("the body of {version} is missing"),
    }
    text
}
