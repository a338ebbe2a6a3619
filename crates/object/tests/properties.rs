//! What must hold for inputs that no script has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_object::{
    Body, Change, Entry, Key, ObjectMeta, Operation, StageId, Version,
    chain::{
        Message, Metadata, Neighbour, Newest, Options, Output, Readiness, Recovered, Replica,
        Ticket, Write,
    },
    condition::Conditions,
    model::ETag,
    read::{ReadDecision, decide, decide_at},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::convert::Infallible;

const WINDOW_ENTRIES_MAX: usize = 4;
const WINDOW_BYTES_MAX: usize = 40;

/// Anything that may befall a replica.
#[derive(Clone, Debug)]
enum Input {
    Write(Operation),
    Message(Neighbour, Message, bool),
    /// The disk has done this many more of the entries that it was given.
    Persisted(u64),
    BodySent(Version),
    Link(bool),
    Space(bool),
    Time(u64),
}

/// A storage without objects.
struct Empty;

impl Metadata for Empty {
    type Error = Infallible;

    fn newest(&self, _: &Key) -> Result<Option<Newest>, Infallible> {
        Ok(None)
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![9 => 0..12_u64, 1 => Just(u64::MAX)].prop_map(Version)
}

fn operation() -> impl Strategy<Value = Operation> {
    let change = prop_oneof![
        Just(Change::Delete),
        (0..30_usize).prop_map(|length| Change::Put {
            meta: meta(length as u64),
            body: Body::Inline(Bytes::from(vec![0; length])),
        }),
        any::<u128>()
            .prop_map(|stage| Change::Put { meta: meta(9), body: Body::Staged(StageId(stage)) }),
    ];
    let key = prop_oneof![Just("x"), Just("y")];
    (key, change).prop_map(|(key, change)| Operation { key: Key::new(key).unwrap(), change })
}

fn meta(size_bytes: u64) -> ObjectMeta {
    let etag = ETag([size_bytes as u8; 16]);
    ObjectMeta { size_bytes, etag, modified_ms: 0, content_type: None, user: Vec::new() }
}

fn readiness() -> impl Strategy<Value = Readiness> {
    any::<(bool, bool)>().prop_map(|(writable, has_space)| Readiness { writable, has_space })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (version(), operation()).prop_map(|(version, operation)| {
            Message::Prepare(Entry { version, operation: operation.into() })
        }),
        (version(), proptest::option::of(version()))
            .prop_map(|(committed, holds)| Message::Probe { committed, holds }),
        (version(), version(), readiness(), any::<bool>()).prop_map(
            |(accepted, committed, readiness, compared)| Message::Resume {
                accepted,
                committed,
                readiness,
                compared,
            }
        ),
        (version(), readiness())
            .prop_map(|(committed, readiness)| Message::Progress { committed, readiness }),
        version().prop_map(|version| Message::BodyMissing { version }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let side = prop_oneof![Just(Neighbour::Predecessor), Just(Neighbour::Successor)];
    prop_oneof![
        3 => operation().prop_map(Input::Write),
        6 => (side, message(), any::<bool>())
            .prop_map(|(side, message, body)| Input::Message(side, message, body)),
        3 => (0..4_u64).prop_map(Input::Persisted),
        1 => version().prop_map(Input::BodySent),
        2 => any::<bool>().prop_map(Input::Link),
        1 => any::<bool>().prop_map(Input::Space),
        1 => (0..300_u64).prop_map(Input::Time),
    ]
}

/// A replica with an honest disk and neighbours that may say anything.
struct Tried {
    replica: Replica,
    now_ms: u64,
    /// The highest version handed out to be persisted.
    accepted: Version,
    /// The entries that are not committed, with the bytes of their inline bodies.
    window: Vec<(Version, usize)>,
    released: Version,
    asked: u64,
    answered: Vec<Ticket>,
}

impl Tried {
    fn new(has_predecessor: bool, has_successor: bool) -> Self {
        let options = Options {
            has_predecessor,
            has_successor,
            window_entries_max: WINDOW_ENTRIES_MAX,
            window_bytes_max: WINDOW_BYTES_MAX,
            retry_ms: 100,
        };
        Self {
            replica: Replica::new(options, Recovered::default()),
            now_ms: 0,
            accepted: Version::NONE,
            window: Vec::new(),
            released: Version::NONE,
            asked: 0,
            answered: Vec::new(),
        }
    }

    fn take(&mut self, input: Input, has_successor: bool) {
        let (now_ms, replica) = (self.now_ms, &mut self.replica);
        match input {
            Input::Write(operation) => {
                self.asked += 1;
                let write = Write { operation, conditions: Conditions::default() };
                let Ok(()) = replica.handle_write(now_ms, Ticket(self.asked), write, &Empty);
            }
            Input::Message(side, message, body) => {
                replica.handle_message(now_ms, side, message, body);
            }
            Input::Persisted(more) => {
                let through = (replica.applied().0 + more).min(self.accepted.0);
                replica.handle_persisted(now_ms, Version(through));
            }
            Input::BodySent(version) => replica.handle_body_sent(version),
            Input::Link(up) if has_successor => replica.handle_link(now_ms, up),
            Input::Link(_) => {}
            Input::Space(has_space) => replica.handle_space(has_space),
            Input::Time(milliseconds) => {
                self.now_ms += milliseconds;
                replica.handle_timeout(self.now_ms);
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Persist(entry) => {
                    assert_eq!(entry.version, self.accepted.next(), "persisted in order");
                    self.accepted = entry.version;
                    let bytes = match &entry.operation.change {
                        Change::Put { body: Body::Inline(bytes), .. } => bytes.len(),
                        _ => 0,
                    };
                    self.window.push((entry.version, bytes));
                }
                Output::Release(entry) => {
                    assert_eq!(entry.version, self.released.next(), "released in order");
                    self.released = entry.version;
                }
                Output::Send(Neighbour::Successor, Message::Prepare(entry)) => {
                    assert!(entry.version <= self.replica.applied(), "persisted before sent");
                }
                Output::Reply(ticket, _) => self.answered.push(ticket),
                Output::Send(..) | Output::SendBody(_) | Output::PersistJoined => {}
            }
        }
        let (applied, committed) = (self.replica.applied(), self.replica.committed());
        assert!(self.released == committed && committed <= applied && applied <= self.accepted);
        self.window.retain(|(version, _)| *version > committed);
        let bytes: usize = self.window.iter().map(|(_, bytes)| bytes).sum();
        assert!(self.window.len() <= WINDOW_ENTRIES_MAX && bytes <= WINDOW_BYTES_MAX);
        let mut answered = self.answered.clone();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), self.answered.len(), "answered once");
        assert!(answered.iter().all(|ticket| ticket.0 <= self.asked));
        // A write waits in the window, or for a version that does.
        let waiting = self.asked - answered.len() as u64;
        assert!(waiting <= 2 * WINDOW_ENTRIES_MAX as u64, "{waiting} writes wait");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Peers are not trusted: no message of theirs makes a replica panic or break its order or its
    /// bounds.
    #[test]
    fn neighbours_may_say_anything(
        ends in any::<(bool, bool)>(),
        inputs in proptest::collection::vec(input(), 1..80),
    ) {
        let mut tried = Tried::new(ends.0, ends.1);
        tried.drain();
        for input in inputs {
            tried.take(input, ends.1);
        }
    }

    /// A clean answer is the one that the tail would have given.
    #[test]
    fn asking_the_tail_changes_no_clean_answer(
        versions in proptest::collection::btree_set(1..20_u64, 0..5),
        committed in 0..20_u64,
        later in 0..20_u64,
    ) {
        let versions: Vec<_> = versions.into_iter().map(Version).collect();
        let (committed, tail) = (Version(committed), Version(committed + later));
        match decide(&versions, committed) {
            ReadDecision::AskTail => {
                let decided = decide_at(&versions, tail);
                prop_assert_ne!(decided, ReadDecision::AskTail);
                if let ReadDecision::Serve(version) = decided {
                    prop_assert!(versions.contains(&version) && version <= tail);
                }
            }
            clean => prop_assert_eq!(clean, decide_at(&versions, tail)),
        }
    }
}
