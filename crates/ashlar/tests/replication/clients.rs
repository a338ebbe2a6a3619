//! Clients that remember what they did and what they were told.

use crate::group::{CLUSTER, GROUP, Group};
use ashlar_replica::cluster_number;
use ashlar_replica::{Clients, Outcome as Told};
use ashlar_sim::linearizability::{
    Event, OPERATIONS_MAX, Verdict, check,
    register::{Condition, Operation, Outcome, Register, Value},
};
use ashlar_vr::{
    Kind,
    kv::{Change, Changed, Found},
};
use bytes::Bytes;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Sessions that ask at one time.
const SESSIONS: usize = 6;
/// Keys that they ask for at one time.
const KEYS: u64 = 3;
/// Operations of one key: the judge looks at no more.
const OPERATIONS_OF_A_KEY: usize = OPERATIONS_MAX - SESSIONS;
/// The most placements that the judge tries for one key.
const STEPS_MAX: usize = 5_000_000;
/// Requests are asked again so soon that links that lose frames do not slow the campaign down.
const WAIT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Sessions from the clients' host, to which the calling thread moves; what is not answered for so long is asked again.
pub(crate) fn sessions_of(
    namespace: &str,
    members: Vec<SocketAddr>,
    count: usize,
    wait: Duration,
) -> Clients {
    let namespace = File::open(namespace).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let scope = (cluster_number(CLUSTER), GROUP);
    Clients::new(scope, members, count, 1_400, wait.as_micros() as u64).unwrap()
}

/// What came of a campaign.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) executed: usize,
    pub(crate) read: usize,
    /// Of them, with an outcome that nobody knows.
    pub(crate) unknown: usize,
    /// Sessions that the group had forgotten.
    pub(crate) sessions_lost: usize,
    /// The longest time in which nothing was answered.
    pub(crate) longest_pause: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executed, read, unknown, sessions_lost, longest_pause } = self;
        write!(formatter, "{executed} operations, {read} of them reads; {unknown} unknown, ")?;
        write!(
            formatter,
            "{sessions_lost} sessions lost; at most {longest_pause:?} without an answer"
        )
    }
}

/// Clients at work.
pub(crate) struct Campaign {
    stops: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: JoinHandle<Report>,
}

impl Campaign {
    pub(crate) fn start(group: &Group) -> Self {
        let (stops, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (namespace, members) = (group.client_namespace(), group.members().to_vec());
        let (told, counted) = (Arc::clone(&stops), Arc::clone(&answers));
        let thread = std::thread::spawn(move || {
            Work::new(sessions_of(&namespace, members, SESSIONS, WAIT), counted).run(&told)
        });
        Self { stops, answers, thread }
    }

    /// Waits until clients are answered again.
    pub(crate) fn wait_for_progress(&self) {
        let (before, deadline) = (self.answers.load(Relaxed), Instant::now() + PATIENCE);
        while self.answers.load(Relaxed) < before + 20 {
            assert!(Instant::now() < deadline, "nobody is answered");
            assert!(!self.thread.is_finished(), "the clients have failed");
            sleep(Duration::from_millis(2));
        }
    }

    /// Ends the campaign, and judges it.
    pub(crate) fn stop(self) -> Report {
        self.stops.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// An operation under way.
struct Open {
    key: u64,
    invoked: u64,
    /// What is asked for; none to read.
    change: Option<(Option<Value>, Condition)>,
    /// The session, the number of the request or the read, and whether it is a read.
    session: usize,
    number: u64,
    is_read: bool,
}

struct Work {
    clients: Clients,
    answers: Arc<AtomicU64>,
    open: Vec<Open>,
    history: BTreeMap<u64, Vec<Event<Operation>>>,
    /// A clock that never shows the same time twice.
    time: u64,
    /// The first of the keys that are asked for.
    base: u64,
    random: u64,
    lost: usize,
    answered: Instant,
    longest_pause: Duration,
}

impl Work {
    fn new(clients: Clients, answers: Arc<AtomicU64>) -> Self {
        Self {
            clients,
            answers,
            open: Vec::new(),
            history: BTreeMap::new(),
            time: 0,
            base: 0,
            random: 1,
            lost: 0,
            answered: Instant::now(),
            longest_pause: Duration::ZERO,
        }
    }

    fn run(mut self, stops: &AtomicBool) -> Report {
        let mut busy = [false; SESSIONS];
        while !stops.load(Relaxed) {
            for (session, busy) in busy.iter_mut().enumerate() {
                if !std::mem::replace(busy, true) {
                    self.ask(session);
                }
            }
            for done in self.clients.poll(Instant::now() + Duration::from_millis(50)).unwrap() {
                let is_read = matches!(done.outcome, Told::Found { .. });
                let place = self.open.iter().position(|open| {
                    open.number == done.number
                        && open.is_read == is_read
                        && (is_read || open.session == done.session)
                });
                if done.outcome == Told::SessionLost {
                    // None of these was evicted: there are far more places than clients.
                    self.lost += 1;
                    continue;
                }
                let open = self.open.swap_remove(place.expect("what is answered was asked for"));
                busy[open.session] = false;
                self.finish(&open, &done.outcome);
            }
        }
        for open in std::mem::take(&mut self.open) {
            self.note(&open, None);
        }
        self.judge()
    }

    fn chance(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn ask(&mut self, session: usize) {
        let asked = |work: &Self, key| {
            let open = work.open.iter().filter(|open| open.key == key).count();
            work.history.get(&key).map_or(0, Vec::len) + open
        };
        if (self.base..self.base + KEYS).any(|key| asked(self, key) >= OPERATIONS_OF_A_KEY) {
            self.base += KEYS;
        }
        let (key, value) = (self.base + self.chance(KEYS), self.tick());
        let last = self.last_value(key);
        let change = match self.chance(4) {
            0 => None,
            1 => Some((None, Condition::Always)),
            2 => Some((Some(value), last.map_or(Condition::Absent, Condition::Equals))),
            _ => Some((Some(value), Condition::Always)),
        };
        let name = Bytes::copy_from_slice(&key.to_be_bytes());
        let bytes = |value: u64| Bytes::copy_from_slice(&value.to_be_bytes());
        let invoked = self.tick();
        let (number, is_read) = match change {
            None => (self.clients.read(name, None), true),
            Some((put, condition)) => {
                let put = put.map(bytes);
                let change = match condition {
                    Condition::Absent => Change::CompareAndSet(name, None, put),
                    Condition::Equals(value) => {
                        Change::CompareAndSet(name, Some(bytes(value)), put)
                    }
                    _ => Change::Put(name, put),
                };
                (self.clients.request(session, Kind::Operation, change.encode()), false)
            }
        };
        self.open.push(Open { key, invoked, change, session, number, is_read });
    }

    /// A value that the key may have.
    fn last_value(&self, key: u64) -> Option<Value> {
        let last = self.history.get(&key)?.last()?;
        match last.operation {
            Operation::Read(value) => value,
            Operation::Write { put, .. } => put,
        }
    }

    fn finish(&mut self, open: &Open, told: &Told) {
        self.answers.fetch_add(1, Relaxed);
        let now = Instant::now();
        self.longest_pause = self.longest_pause.max(now - self.answered);
        self.answered = now;
        let operation = match told {
            Told::Found { bytes, .. } => {
                Operation::Read(Found::decode(bytes).unwrap().value.map(|value| number(&value)))
            }
            Told::Executed(result) => {
                let (put, condition) = open.change.expect("reads are found");
                let outcome = match (Changed::decode(result).unwrap(), put) {
                    (Changed::Done(None), None) => Outcome::NotFound,
                    (Changed::Done(before), _) => Outcome::Done { replaced: before.is_some() },
                    (Changed::Differs(_), _) => Outcome::PreconditionFailed,
                    (Changed::Malformed, _) => panic!("it is well-formed"),
                };
                Operation::Write { put, condition, outcome }
            }
            other => panic!("{other:?}"),
        };
        self.note(open, Some(operation));
    }

    fn note(&mut self, open: &Open, told: Option<Operation>) {
        let returned = told.is_some().then(|| self.tick());
        let operation = match (told, open.change) {
            (Some(operation), _) => operation,
            // A read that was not answered says nothing.
            (None, None) => return,
            (None, Some((put, condition))) => {
                Operation::Write { put, condition, outcome: Outcome::Unknown }
            }
        };
        let event = Event { invoked: open.invoked, returned, operation };
        self.history.entry(open.key).or_default().push(event);
    }

    fn judge(self) -> Report {
        for (key, history) in &self.history {
            let verdict = check(&Register, history, STEPS_MAX);
            assert_eq!(verdict, Verdict::Linearizable, "key {key}: {history:#?}");
        }
        let all = || self.history.values().flatten();
        Report {
            executed: all().filter(|event| event.returned.is_some()).count(),
            read: all().filter(|event| matches!(event.operation, Operation::Read(_))).count(),
            unknown: all().filter(|event| event.returned.is_none()).count(),
            sessions_lost: self.lost,
            longest_pause: self.longest_pause,
        }
    }
}

fn number(value: &[u8]) -> Value {
    u64::from_be_bytes(value.try_into().unwrap())
}
