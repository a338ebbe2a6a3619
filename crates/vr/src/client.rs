//! A client of a group: one session, requests in their order, repeated until they are answered.

use crate::{Answer, ClientId, Kind, OUTSTANDING_MAX, Reply, Request, View};
use bytes::Bytes;
use std::{collections::VecDeque, net::SocketAddr};

/// The most that a repetition waits, in multiples of the first wait.
const WAIT_FACTOR_MAX: u64 = 16;

/// One session with a group. Like a replica, it does no I/O: [`Client::poll_output`] says what to send.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    members: Vec<SocketAddr>,
    /// Who is thought to lead: a place among the members.
    leader: usize,
    /// The latest view that somebody answered from.
    view: View,
    session: Session,
    /// The number of the last request that was made.
    last: u64,
    /// Requests without an answer, in their order.
    open: VecDeque<Request>,
    /// What is not sent, by its place among the open ones.
    unsent: usize,
    outputs: VecDeque<ClientOutput>,
    wait_us: u64,
    /// How often nobody answered.
    silences: u32,
    /// When to repeat, in microseconds.
    repeat_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// Not registered yet.
    None,
    /// With the place of the entry that began it.
    Open(u64),
    /// The group has forgotten it.
    Lost,
}

/// What a client wants done, or has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send a request to a replica.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        request: Request,
    },
    /// A request was executed.
    Done {
        /// Its number.
        number: u64,
        /// Its result.
        result: Bytes,
    },
    /// The group has forgotten the session: whether the requests from this number on were executed, nobody
    /// knows. A new client must be made.
    SessionLost {
        /// The first of them.
        number: u64,
    },
}

impl Client {
    /// A client of a group with these members. `id` is drawn at random, for this one session. What is not
    /// answered is repeated after `wait_us` microseconds, then more and more slowly.
    pub fn new(now_us: u64, id: ClientId, members: Vec<SocketAddr>, wait_us: u64) -> Self {
        assert!(!members.is_empty() && wait_us > 0, "a group and a time");
        let mut client = Self {
            id,
            members,
            leader: 0,
            view: View::default(),
            session: Session::None,
            last: 0,
            open: VecDeque::new(),
            unsent: 0,
            outputs: VecDeque::new(),
            wait_us,
            silences: 0,
            repeat_us: None,
        };
        client.register(now_us);
        client
    }

    /// Whether another request may be made now.
    pub fn has_room(&self) -> bool {
        (self.open.len() as u64) < OUTSTANDING_MAX && self.session != Session::Lost
    }

    /// Makes a request, and gives its number.
    ///
    /// # Panics
    /// When there is no room.
    pub fn request(&mut self, now_us: u64, kind: Kind, body: Bytes) -> u64 {
        assert!(self.has_room(), "requests wait for answers");
        self.last += 1;
        let (client, number, acknowledged) = (self.id, self.last, 0);
        self.open.push_back(Request { client, session: 0, number, acknowledged, kind, body });
        self.send_open(now_us);
        self.last
    }

    /// Somebody answers.
    pub fn handle_reply(&mut self, now_us: u64, reply: Reply) {
        if reply.client != self.id || self.session == Session::Lost {
            return;
        }
        match reply.answer {
            Answer::Executed(result) if reply.number == 0 => {
                let begun = result.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                if let Some(begun) = begun.filter(|_| self.session == Session::None) {
                    self.session = Session::Open(begun);
                    self.heard(now_us, reply.view);
                    self.send_open(now_us);
                }
            }
            Answer::Executed(result) => {
                let Some(place) = self.open.iter().position(|open| open.number == reply.number)
                else {
                    return;
                };
                self.heard(now_us, reply.view);
                self.open.remove(place);
                self.unsent = self.unsent.saturating_sub(1);
                self.outputs.push_back(ClientOutput::Done { number: reply.number, result });
                if self.open.is_empty() {
                    self.repeat_us = None;
                }
                self.send_open(now_us);
            }
            Answer::NoSession if matches!(self.session, Session::Open(_)) => {
                self.session = Session::Lost;
                self.repeat_us = None;
                let number = self.open.front().map_or(self.last + 1, |open| open.number);
                self.outputs.push_back(ClientOutput::SessionLost { number });
            }
            Answer::NoSession => {}
            Answer::NotLeader(leader) => {
                let place =
                    leader.and_then(|leader| self.members.iter().position(|at| *at == leader));
                if let Some(place) =
                    place.filter(|place| *place != self.leader && reply.view >= self.view)
                {
                    (self.leader, self.view) = (place, reply.view);
                    self.repeat(now_us);
                }
            }
        }
    }

    /// Its name.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The members that it knows.
    pub fn members(&self) -> &[SocketAddr] {
        &self.members
    }

    /// The group has these members now.
    pub fn set_members(&mut self, members: Vec<SocketAddr>) {
        assert!(!members.is_empty(), "a group");
        (self.members, self.leader) = (members, 0);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Client::handle_timeout`], in microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.repeat_us
    }

    /// The time that [`Client::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now_us: u64) {
        if self.repeat_us.take_if(|at_us| *at_us <= now_us).is_some() {
            // Whoever was thought to lead does not answer.
            self.leader = (self.leader + 1) % self.members.len();
            self.silences += 1;
            self.repeat(now_us);
        }
    }

    fn heard(&mut self, now_us: u64, view: View) {
        (self.silences, self.view) = (0, self.view.max(view));
        self.repeat_us = Some(now_us + self.wait_us);
    }

    fn repeat(&mut self, now_us: u64) {
        match self.session {
            Session::None => self.register(now_us),
            Session::Open(_) => {
                self.unsent = 0;
                self.send_open(now_us);
            }
            Session::Lost => {}
        }
    }

    fn register(&mut self, now_us: u64) {
        let (client, body) = (self.id, Bytes::new());
        let kind = Kind::Register;
        let request = Request { client, session: 0, number: 0, acknowledged: 0, kind, body };
        self.send(now_us, request);
    }

    /// Sends what was not sent to the present leader.
    fn send_open(&mut self, now_us: u64) {
        let Session::Open(session) = self.session else { return };
        let acknowledged = self.open.front().map_or(self.last, |open| open.number - 1);
        while let Some(open) = self.open.get(self.unsent) {
            let request = Request { session, acknowledged, ..open.clone() };
            self.unsent += 1;
            self.send(now_us, request);
        }
    }

    fn send(&mut self, now_us: u64, request: Request) {
        let wait_us = self.wait_us * (1 << self.silences.min(8)).min(WAIT_FACTOR_MAX);
        self.repeat_us = Some(now_us + wait_us);
        let to = self.members[self.leader];
        self.outputs.push_back(ClientOutput::Send { to, request });
    }
}
