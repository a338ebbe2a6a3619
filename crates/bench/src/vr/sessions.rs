//! Clients of a group of ours: each in a closed loop, or together at a rate.

use super::content::Content;
use super::group::{CLUSTER, GROUP};
use super::window::Window;
use crate::load::{Arrival, Schedule};
use ashlar_replica::{Clients, Outcome, cluster_number};
use ashlar_vr::Kind;
use ashlar_vr::kv::Change;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// What nobody answers is repeated after this, in microseconds.
const WAIT_US: u64 = 50_000;
/// The longest datagram that is sent, as nodes do by default.
const DATAGRAM_BYTES_MAX: usize = 1_452;
/// An operation that takes longer is given up, after the window.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// An operation that puts a value.
pub(super) fn put(key: Bytes, value: Bytes) -> Bytes {
    Change::Put(key, Some(value)).encode()
}

/// Sessions with a group, and their operations under way.
pub(super) struct Sessions {
    clients: Clients,
    count: usize,
    content: Content,
    /// When each operation began, or was due, by its session and number.
    began: HashMap<(usize, u64), Instant>,
}

/// An operation's end.
pub(super) struct Ended {
    pub(super) session: usize,
    pub(super) began: Instant,
    pub(super) executed: bool,
}

impl Sessions {
    /// So many clients of a group of these members.
    pub(super) fn new(
        members: &[SocketAddr],
        count: usize,
        value_bytes: usize,
    ) -> io::Result<Self> {
        let scope = (cluster_number(CLUSTER), GROUP);
        let clients = Clients::new(scope, members.to_vec(), count, DATAGRAM_BYTES_MAX, WAIT_US)?;
        let content = Content::new(value_bytes, put);
        Ok(Self { clients, count, content, began: HashMap::with_capacity(count) })
    }

    /// Loads the group through the window.
    pub(super) fn load(&mut self, arrival: &Arrival, window: &mut Window) -> io::Result<()> {
        match arrival {
            Arrival::Closed => self.closed_loop(window)?,
            Arrival::Open { rate_per_second } => {
                self.open_loop(Schedule::new(*rate_per_second, 0, 1), window)?;
            }
        }
        let deadline = window.closes + PATIENCE;
        while !self.began.is_empty() && Instant::now() < deadline {
            for ended in self.wait(deadline)? {
                window.failures += u64::from(!ended.executed);
            }
        }
        window.failures += self.began.len() as u64;
        Ok(())
    }

    fn closed_loop(&mut self, window: &mut Window) -> io::Result<()> {
        for session in 0..self.count {
            self.begin(session, Instant::now());
        }
        while Instant::now() < window.closes {
            for ended in self.wait(window.closes)? {
                if self.note(window, &ended) {
                    self.begin(ended.session, Instant::now());
                }
            }
        }
        Ok(())
    }

    fn open_loop(&mut self, mut schedule: Schedule, window: &mut Window) -> io::Result<()> {
        let started = Instant::now();
        let mut due = started + schedule.next_due();
        // Each has one operation under way, as in a closed loop and as the peer's clients have.
        let mut idle: VecDeque<usize> = (0..self.count).collect();
        while Instant::now() < window.closes {
            while due <= Instant::now() {
                let Some(session) = idle.pop_front() else { break };
                self.begin(session, due);
                due = started + schedule.next_due();
            }
            for ended in self.wait(due.min(window.closes))? {
                if self.note(window, &ended) {
                    idle.push_back(ended.session);
                }
            }
        }
        let is_overdue = u64::from(due < window.closes);
        window.unsent = is_overdue + schedule.remaining_before(window.closes - started);
        Ok(())
    }

    /// Begins an operation of a session that has none.
    pub(super) fn begin(&mut self, session: usize, at: Instant) {
        let number = self.clients.request(session, Kind::Operation, self.content.draw());
        self.began.insert((session, number), at);
    }

    /// Counts an operation. False if its session is over.
    fn note(&self, window: &mut Window, ended: &Ended) -> bool {
        if ended.executed {
            window.record(ended.began, Instant::now());
        } else {
            window.failures += 1;
        }
        ended.executed
    }

    /// Waits until operations end, or the deadline.
    pub(super) fn wait(&mut self, deadline: Instant) -> io::Result<Vec<Ended>> {
        let done = self.clients.poll(deadline)?;
        let ended = done.into_iter().filter_map(|done| {
            let began = self.began.remove(&(done.session, done.number))?;
            let executed = matches!(done.outcome, Outcome::Executed(_));
            Some(Ended { session: done.session, began, executed })
        });
        Ok(ended.collect())
    }
}
