//! Clients of a group: sessions and reads over one socket.

use crate::{
    clock::now_us,
    io::Io,
    timers::Timers,
    udp::{DATAGRAM_BYTES_MAX, Udp},
};
use ashlar_vr::{Client, ClientId, ClientOutput, Configuration, Kind, View};
use ashlar_wire::replication::{
    Epoch, Found, Frame, Read, ReadAnswer, Reassembly, Scope, decode, take_frame,
};
use bytes::Bytes;
use foldhash::HashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{collections::BTreeMap, io, net::SocketAddr, os::fd::AsFd, time::Instant};

/// Sessions with one group. Nothing happens but in [`Clients::poll`].
///
/// Members may change: an answer tells of the epoch that it comes from, and whoever answers from a later one is asked who
/// its members are. Those that were named at first are asked last, and never forgotten.
pub struct Clients {
    scope: Scope,
    io: Io,
    reassembly: Reassembly,
    sessions: Vec<Client>,
    /// Sessions, by their clients' names.
    places: HashMap<ClientId, usize>,
    timers: Timers,
    /// Those that were named at first.
    named: Vec<SocketAddr>,
    /// The latest epoch whose members are known; none as long as they are those that were named.
    epoch: Option<u32>,
    /// When somebody was last asked for the members, in microseconds.
    asked_us: u64,
    /// The members, and behind them those that were named at first.
    members: Vec<SocketAddr>,
    /// Who is thought to lead: a place among the members.
    leader: usize,
    reads: BTreeMap<u64, OpenRead>,
    last_read: u64,
    /// What is not answered is repeated after so long, in microseconds.
    wait_us: u64,
    done: Vec<Done>,
}

/// A question without an answer.
struct OpenRead {
    read: Read,
    /// Whom it was last sent to.
    to: usize,
    repeat_us: u64,
}

/// Something that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The session; for reads, 0.
    pub session: usize,
    /// The number that the request or the read was given.
    pub number: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What becomes of a request or a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request was executed, with this result.
    Executed(Bytes),
    /// The group has forgotten the session: whether this request and later ones were executed, nobody knows.
    SessionLost,
    /// The read's answer, after everything up to `op`.
    Found {
        /// The last place that it knows of.
        op: u64,
        /// The answer.
        bytes: Bytes,
    },
    /// Who was asked is further behind than the read allows.
    TooOld,
}

impl Clients {
    /// Binds a socket, and begins so many sessions with a group of these members.
    ///
    /// # Errors
    /// When the socket cannot be had.
    ///
    /// # Panics
    /// Without members, without a time to wait, or with datagrams that no kernel sends.
    pub fn new(
        scope: (u64, u32),
        members: Vec<SocketAddr>,
        sessions: usize,
        datagram_bytes_max: usize,
        wait_us: u64,
    ) -> io::Result<Self> {
        assert!(!members.is_empty() && wait_us > 0, "a group and a time");
        assert!(
            datagram_bytes_max <= DATAGRAM_BYTES_MAX,
            "datagrams of {datagram_bytes_max} bytes"
        );
        let any = match members[0] {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
        };
        let io = Io::new(Udp::new(Udp::socket(any)?), datagram_bytes_max);
        let now_us = now_us();
        let make = |_| Client::new(now_us, ClientId(rand::random()), members.clone(), wait_us);
        let all: Vec<Client> = (0..sessions).map(make).collect();
        let places = all.iter().enumerate().map(|(place, client)| (client.id(), place)).collect();
        let mut clients = Self {
            scope: Scope { cluster: scope.0, group: scope.1 },
            io,
            reassembly: Reassembly::default(),
            places,
            timers: Timers::new(all.len()),
            sessions: all,
            named: members.clone(),
            epoch: None,
            asked_us: 0,
            members,
            leader: 0,
            reads: BTreeMap::new(),
            last_read: 0,
            wait_us,
            done: Vec::new(),
        };
        for session in 0..clients.sessions.len() {
            clients.drain(session);
        }
        clients.io.flush_all();
        Ok(clients)
    }

    /// Whether a session may make another request now.
    pub fn has_room(&self, session: usize) -> bool {
        self.sessions[session].has_room()
    }

    /// Makes a request, which leaves with the next [`Clients::poll`], and gives its number.
    ///
    /// # Panics
    /// When there is no room.
    pub fn request(&mut self, session: usize, kind: Kind, body: Bytes) -> u64 {
        let number = self.sessions[session].request(now_us(), kind, body);
        self.drain(session);
        number
    }

    /// Asks for what everything acknowledged before is known to; with `age_us`, a member (by its place) for
    /// something that may be so old. Gives the read's number.
    pub fn read(&mut self, question: Bytes, old: Option<(usize, u64)>) -> u64 {
        self.last_read += 1;
        let (id, age_us) = (self.last_read, old.map(|(_, age_us)| age_us));
        let to = old.map_or(self.leader, |(place, _)| place % self.members.len());
        let read = Read { id, age_us, question };
        self.reads.insert(id, OpenRead { read, to, repeat_us: 0 });
        self.ask(id);
        id
    }

    /// Gives up a read.
    pub fn forget_read(&mut self, number: u64) {
        self.reads.remove(&number);
    }

    /// Waits until something is done, or the deadline; sends and repeats meanwhile.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn poll(&mut self, deadline: Instant) -> io::Result<Vec<Done>> {
        loop {
            self.io.flush_all();
            if !self.done.is_empty() || Instant::now() >= deadline {
                return Ok(std::mem::take(&mut self.done));
            }
            self.wait(deadline)?;
            self.receive()?;
            self.repeat();
        }
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let now_us = now_us();
        let reads = self.reads.values().map(|open| open.repeat_us).min();
        let next_us = self.timers.next_us().into_iter().chain(reads).min();
        let left = deadline.saturating_duration_since(Instant::now());
        let wait_us = next_us.map_or(u64::MAX, |at_us| at_us.saturating_sub(now_us));
        let wait_us = wait_us.min(left.as_micros() as u64 + 1);
        let timeout = Timespec {
            tv_sec: (wait_us / 1_000_000) as i64,
            tv_nsec: (wait_us % 1_000_000 * 1_000) as i64,
        };
        let mut descriptors = [PollFd::new(self, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let now_us = now_us();
        let Self { scope, io, reassembly, .. } = self;
        let mut frames = Vec::new();
        io.udp().receive(|from, mut datagram| {
            while !datagram.is_empty() {
                // What is none of our frames was for somebody who had this port before.
                let frame = take_frame(&mut datagram);
                if let Ok(Some(frame)) = reassembly.take(scope.cluster, from, frame)
                    && let Ok((of, _, frame)) = decode(scope.cluster, &frame)
                    && of == *scope
                {
                    frames.push((from, frame));
                }
            }
        })?;
        for (from, frame) in frames {
            match frame {
                Frame::Reply(reply) => {
                    self.note_view(now_us, from, reply.view);
                    let Some(&session) = self.places.get(&reply.client) else { continue };
                    self.sessions[session].handle_reply(now_us, reply);
                    self.drain(session);
                }
                Frame::Found(Found { id, view, answer }) => {
                    self.note_view(now_us, from, view);
                    self.found(id, answer);
                }
                Frame::Members(epoch) => self.learn(epoch),
                Frame::Replica(_) | Frame::Request(_) | Frame::Read(_) | Frame::GetMembers => {}
            }
        }
        Ok(())
    }

    /// Somebody answers from a view: asks for the members of a later epoch.
    fn note_view(&mut self, now_us: u64, from: SocketAddr, view: View) {
        let is_later = view.epoch() > self.epoch.unwrap_or(0);
        if is_later && now_us >= self.asked_us + self.wait_us {
            self.asked_us = now_us;
            self.io.send(self.scope, None, &Frame::GetMembers, &[from].into_iter());
        }
    }

    /// Goes on with the members of a later epoch.
    fn learn(&mut self, Epoch { view, members }: Epoch) {
        let epoch = view.epoch();
        if self.epoch.is_some_and(|known| epoch <= known) {
            return;
        }
        let Ok(configuration) = Configuration::new(epoch, members) else { return };
        let named = self.named.iter().filter(|named| configuration.place_of(**named).is_none());
        let members: Vec<_> = configuration.members().iter().chain(named).copied().collect();
        let before = std::mem::replace(&mut self.members, members);
        (self.epoch, self.leader) = (Some(epoch), 0);
        for session in &mut self.sessions {
            session.set_members(self.members.clone());
        }
        for open in self.reads.values_mut() {
            let place = self.members.iter().position(|member| *member == before[open.to]);
            open.to = place.filter(|_| open.read.age_us.is_some()).unwrap_or(self.leader);
        }
        // Whoever was asked may be gone.
        let open: Vec<u64> = self.reads.keys().copied().collect();
        open.into_iter().for_each(|number| self.ask(number));
    }

    fn found(&mut self, number: u64, answer: ReadAnswer) {
        let Some(open) = self.reads.get_mut(&number) else { return };
        let outcome = match answer {
            ReadAnswer::Answered { op, bytes } => Outcome::Found { op, bytes },
            ReadAnswer::TooOld => Outcome::TooOld,
            ReadAnswer::NotLeader(leader) => {
                let place = leader
                    .and_then(|leader| self.members.iter().position(|member| *member == leader));
                if let Some(place) = place.filter(|place| *place != open.to) {
                    (self.leader, open.to) = (place, place);
                    self.ask(number);
                }
                // Else the question is repeated in its time.
                return;
            }
        };
        if open.read.age_us.is_none() {
            self.leader = open.to;
        }
        self.reads.remove(&number);
        self.done.push(Done { session: 0, number, outcome });
    }

    /// Repeats what was not answered in time.
    fn repeat(&mut self) {
        let now_us = now_us();
        while let Some(session) = self.timers.take_due(now_us) {
            self.sessions[session].handle_timeout(now_us);
            self.drain(session);
        }
        let due = self.reads.iter().filter(|(_, open)| open.repeat_us <= now_us);
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        for number in due {
            let open = self.reads.get_mut(&number).expect("it is open");
            if open.read.age_us.is_none() {
                open.to = (open.to + 1) % self.members.len();
            }
            self.ask(number);
        }
    }

    fn ask(&mut self, number: u64) {
        let Some(open) = self.reads.get_mut(&number) else { return };
        open.repeat_us = now_us() + self.wait_us;
        let (to, frame) = (self.members[open.to], Frame::Read(open.read.clone()));
        self.io.send_packed(self.scope, None, &frame, to);
    }

    fn drain(&mut self, session: usize) {
        let client = &mut self.sessions[session];
        while let Some(output) = client.poll_output() {
            let (number, outcome) = match output {
                ClientOutput::Send { to, request } => {
                    self.io.send_packed(self.scope, None, &Frame::Request(request), to);
                    continue;
                }
                ClientOutput::Done { number, result } => (number, Outcome::Executed(result)),
                ClientOutput::SessionLost { number } => (number, Outcome::SessionLost),
            };
            self.done.push(Done { session, number, outcome });
        }
        self.timers.set(session, client.poll_timeout());
    }
}

impl AsFd for Clients {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.udp_ref().as_fd()
    }
}
