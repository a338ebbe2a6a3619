//! Channels between nodes: they keep the order, break, and are made again.

use super::world::{Checked, Event, Incarnation, MoveKey, World};
use ashlar_handoff::protocol::{Exporter, Message};

/// Before a lost channel is tried again.
const PAUSE_US: u64 = 50_000;

/// One life of a channel.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) ends: [usize; 2],
    /// Which lives of the nodes it connects.
    incarnations: [Incarnation; 2],
    /// Whether either end still believes in it.
    open: [bool; 2],
    /// Nothing that arrives at either end later than this is heard.
    until_us: Option<[u64; 2]>,
}

impl Session {
    fn place(&self, node: usize) -> usize {
        usize::from(self.ends[1] == node)
    }

    /// The other end.
    pub(super) fn peer_of(&self, node: usize) -> usize {
        self.ends[1 - self.place(node)]
    }
}

impl World {
    /// Tries to open a channel soon.
    pub(super) fn connect_channel(&mut self, one: usize, other: usize, delay_us: u64) {
        let ends = [one.min(other), one.max(other)];
        if self.connecting.insert(ends) {
            self.queue.push_after(delay_us, Event::ChannelTried { ends });
        }
    }

    /// A channel is tried.
    pub(super) fn channel_tried(&mut self, ends: [usize; 2]) {
        self.connecting.remove(&ends);
        let [one, other] = ends;
        let current = self.nodes[one].peers.get(&other).copied();
        let is_current = current.is_some() && current == self.nodes[other].peers.get(&one).copied();
        if is_current && self.sessions[current.expect("there is one")].until_us.is_none() {
            return;
        }
        if !self.nodes[one].up || !self.nodes[other].up {
            if one == 0 && self.nodes[0].up && self.nodes[other].powered {
                // Nobody listens: the process has ended, and its connections with it.
                self.owner_is_gone(other);
            }
            self.connect_channel(one, other, PAUSE_US);
            return;
        }
        let session = self.sessions.len();
        self.sessions.push(Session {
            ends,
            incarnations: ends.map(|node| self.nodes[node].incarnation),
            open: [true; 2],
            until_us: None,
        });
        self.coverage.channels_opened += 1;
        self.nodes[one].peers.insert(other, session);
        self.nodes[other].peers.insert(one, session);
        self.note(|| format!("n{one} and n{other} have channel {session}"));
    }

    /// Sends a message of a move to the other end.
    pub(super) fn send_message(&mut self, node: usize, key: MoveKey, message: &Message) {
        let (now_us, session) = (self.now_us(), &self.sessions[key.session]);
        let place = session.place(node);
        let to = session.ends[1 - place];
        if session.until_us.is_some() || !session.open[place] {
            self.coverage.messages_lost_with_channel += 1;
            return;
        }
        let bytes = message.encode(key.id);
        for at_us in self.channels.send(now_us, node, to, &mut self.random).iter() {
            let session = key.session;
            self.queue.push_at(at_us, Event::Message { session, to, bytes: bytes.clone() });
        }
    }

    /// A message arrives.
    pub(super) fn message(&mut self, session: usize, to: usize, bytes: &[u8]) -> Checked {
        let now_us = self.now_us();
        let state = &self.sessions[session];
        let place = state.place(to);
        let is_cut = state.until_us.is_some_and(|until_us| now_us > until_us[place]);
        if is_cut || !state.open[place] || !self.lives(to, state.incarnations[place]) {
            self.coverage.messages_lost_with_channel += 1;
            return Ok(());
        }
        self.coverage.messages += 1;
        let (id, message) = Message::decode(bytes).expect("channels change no bytes");
        let key = MoveKey { session, id };
        match message {
            Message::Offer { image } => self.offered(to, key, image),
            Message::Cut | Message::Late { .. } => self.message_to_arrival(to, key, &message),
            Message::Refused { .. } | Message::Taken => {
                if !self.nodes[to].departures.contains_key(&key) {
                    self.coverage.messages_of_forgotten_moves += 1;
                }
                self.drive_departure(to, key, |exporter, now_ms| {
                    exporter.handle_message(now_ms, &message);
                })
            }
        }
    }

    /// A channel breaks; either end notices in its own time, and what was under way may get through or not.
    pub(super) fn break_session(&mut self, session: usize) {
        let now_us = self.now_us();
        if self.sessions[session].until_us.is_some() {
            return;
        }
        self.note(|| format!("channel {session} breaks"));
        self.coverage.channels_broken += 1;
        let detection_us = self.plan.detection_us;
        let until_us = [0, 1].map(|_| now_us + self.random.below(detection_us));
        self.sessions[session].until_us = Some(until_us);
        for (place, until_us) in until_us.into_iter().enumerate() {
            let at_us = until_us + self.random.below(detection_us);
            self.queue.push_at(at_us, Event::ChannelNoticed { session, place });
        }
    }

    /// A node's process is gone, and the channels to it.
    pub(super) fn sessions_end(&mut self, node: usize) {
        for session in 0..self.sessions.len() {
            if self.sessions[session].ends.contains(&node) {
                self.break_session(session);
            }
        }
    }

    /// An end notices that its channel is gone, and tells all moves on it.
    pub(super) fn channel_noticed(&mut self, session: usize, place: usize) -> Checked {
        let state = &mut self.sessions[session];
        let (node, peer) = (state.ends[place], state.ends[1 - place]);
        state.open[place] = false;
        if !self.lives(node, self.sessions[session].incarnations[place]) {
            return Ok(());
        }
        if self.nodes[node].peers.get(&peer) == Some(&session) {
            self.nodes[node].peers.remove(&peer);
            self.connect_channel(node, peer, PAUSE_US);
        }
        let on_it = |key: &&MoveKey| key.session == session;
        let departures: Vec<MoveKey> =
            self.nodes[node].departures.keys().filter(on_it).copied().collect();
        let arrivals: Vec<MoveKey> =
            self.nodes[node].arrivals.keys().filter(on_it).copied().collect();
        for key in departures {
            self.drive_departure(node, key, Exporter::handle_channel_lost)?;
        }
        arrivals.into_iter().try_for_each(|key| self.arrival_lost(node, key))
    }

    /// All channels that work.
    pub(super) fn working_sessions(&self) -> Vec<usize> {
        let sessions = self.sessions.iter().enumerate();
        sessions.filter(|(_, state)| state.until_us.is_none()).map(|(place, _)| place).collect()
    }
}
