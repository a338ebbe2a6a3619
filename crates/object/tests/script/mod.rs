//! A chain whose every step is a command.

mod replica;
mod text;

use ashlar_object::{
    Body, Change, Entry, Key, ObjectMeta, Operation, StageId,
    chain::{Message, Neighbour, Options, Output, Ticket, Write},
    condition::{Conditions, Tag, TagList},
    model::ETag,
    read::{ReadDecision, decide, decide_at},
};
use bytes::Bytes;
use replica::Process;
use std::collections::{BTreeMap, VecDeque};

const RETRY_MS: u64 = 100;
/// More rounds than any script needs to come to rest.
const ROUNDS_MAX: usize = 100;

/// The chain and all that is on its way.
#[derive(Default)]
pub(crate) struct World {
    now_ms: u64,
    processes: Vec<Process>,
    /// Messages under way, by sender and receiver.
    under_way: BTreeMap<(usize, usize), VecDeque<Message>>,
    /// Bodies that a replica was told to ship to its successor.
    to_ship: BTreeMap<usize, Vec<Entry>>,
    writes: u64,
    outcome: Vec<String>,
}

impl World {
    /// Performs a command and says what came of it.
    pub(crate) fn perform(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["chain", length, "joined", options @ ..] => {
                self.found(length.parse().unwrap(), options);
                self.connect_all();
                self.settle();
                // How they join is told by the scripts about just that.
                self.outcome.clear();
            }
            ["chain", length, options @ ..] => self.found(length.parse().unwrap(), options),
            ["connect", "all"] => self.connect_all(),
            ["connect", name] => self.link(place(name), true),
            ["disconnect", name] => self.link(place(name), false),
            ["put", name, assignment, options @ ..] => {
                let (key, value) = assignment.split_once('=').unwrap();
                self.write(place(name), key, Some(value), options);
            }
            ["delete", name, key, options @ ..] => self.write(place(name), key, None, options),
            ["sync", name] => self.sync(place(name)),
            ["deliver", from, to] => self.deliver(place(from), place(to), usize::MAX),
            ["deliver", from, to, count] => {
                self.deliver(place(from), place(to), count.parse().unwrap());
            }
            ["lose", from, to] => self.messages(from, to).clear(),
            ["repeat", from, to] => {
                let messages = self.messages(from, to);
                messages.extend(messages.clone());
            }
            ["reverse", from, to] => self.messages(from, to).make_contiguous().reverse(),
            ["ship", from, to] => {
                let bodies = self.processes[place(from)].bodies.clone();
                self.processes[place(to)].bodies.extend(bodies);
            }
            ["shipped", from, to] => self.shipped(place(from), place(to)),
            ["wait", milliseconds] => self.wait(milliseconds.parse().unwrap()),
            ["settle"] => self.settle(),
            ["crash", name] => self.crash(place(name), false),
            ["crash", name, "after", "write"] => self.crash(place(name), true),
            ["start", name] => self.start(place(name)),
            ["replace", name] => self.processes[place(name)].replace_disk(),
            ["read", name, key] => self.read(place(name), key),
            ["fill", name] => self.space(place(name), false),
            ["free", name] => self.space(place(name), true),
            ["status"] => self.outcome.extend(self.processes.iter().map(text::status)),
            _ => panic!("no such command: {command}"),
        }
        std::mem::take(&mut self.outcome)
    }

    fn found(&mut self, length: usize, words: &[&str]) {
        let (mut entries_max, mut bytes_max) = (100, 1000);
        for pair in words.chunks(2) {
            match pair {
                ["window-entries", number] => entries_max = number.parse().unwrap(),
                ["window-bytes", number] => bytes_max = number.parse().unwrap(),
                _ => panic!("no such option: {pair:?}"),
            }
        }
        for at in 0..length {
            let options = Options {
                has_predecessor: at > 0,
                has_successor: at + 1 < length,
                window_entries_max: entries_max,
                window_bytes_max: bytes_max,
                retry_ms: RETRY_MS,
            };
            self.processes.push(Process::new(at, options));
            self.start(at);
        }
    }

    fn messages(&mut self, from: &str, to: &str) -> &mut VecDeque<Message> {
        self.under_way.entry((place(from), place(to))).or_default()
    }

    fn connect_all(&mut self) {
        (1..self.processes.len()).for_each(|successor| self.link(successor - 1, true));
    }

    /// The link from `at` to its successor comes up or goes down; what was under way is gone.
    fn link(&mut self, at: usize, up: bool) {
        self.under_way.remove(&(at, at + 1));
        self.under_way.remove(&(at + 1, at));
        self.to_ship.remove(&at);
        let now_ms = self.now_ms;
        if let Some(replica) = &mut self.processes[at].replica {
            replica.handle_link(now_ms, up);
        }
        self.drain(at);
    }

    fn write(&mut self, at: usize, key: &str, value: Option<&str>, words: &[&str]) {
        self.writes += 1;
        let mut conditions = Conditions::default();
        let mut body = Body::Inline(Bytes::from(value.unwrap_or_default().to_owned()));
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "staged" => {
                    let stage = StageId(u128::from(self.writes));
                    self.processes[at].bodies.insert(stage);
                    body = Body::Staged(stage);
                }
                "if-match" => conditions.if_match = Some(tags(words.next().unwrap())),
                "if-none-match" => conditions.if_none_match = Some(tags(words.next().unwrap())),
                other => panic!("no such option: {other}"),
            }
        }
        let change = value.map_or(Change::Delete, |value| Change::Put { meta: meta(value), body });
        let operation = Operation { key: Key::new(key).unwrap(), change };
        let (now_ms, ticket) = (self.now_ms, Ticket(self.writes));
        let Process { replica, disk, .. } = &mut self.processes[at];
        let replica = replica.as_mut().expect("the process runs");
        let Ok(()) = replica.handle_write(now_ms, ticket, Write { operation, conditions }, disk);
        self.drain(at);
    }

    fn sync(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let process = &mut self.processes[at];
        process.write_all();
        let applied = process.disk.applied;
        if let Some(replica) = &mut process.replica
            && replica.applied() < applied
        {
            self.outcome.push(format!("{} has persisted up to {applied}", name(at)));
            replica.handle_persisted(now_ms, applied);
        }
        self.drain(at);
    }

    fn deliver(&mut self, from: usize, to: usize, count: usize) {
        let messages = self.under_way.entry((from, to)).or_default();
        let count = count.min(messages.len());
        let messages: Vec<_> = messages.drain(..count).collect();
        let side = if from < to { Neighbour::Predecessor } else { Neighbour::Successor };
        for message in messages {
            let now_ms = self.now_ms;
            let Process { replica, bodies, .. } = &mut self.processes[to];
            let Some(replica) = replica else { continue };
            let stage = match &message {
                Message::Prepare(entry) => entry.operation.change.stage(),
                _ => None,
            };
            let body_present = stage.is_some_and(|stage| bodies.contains(&stage));
            replica.handle_message(now_ms, side, message, body_present);
            self.drain(to);
        }
    }

    fn shipped(&mut self, from: usize, to: usize) {
        for entry in self.to_ship.remove(&from).unwrap_or_default() {
            self.processes[to].bodies.extend(entry.operation.change.stage());
            if let Some(replica) = &mut self.processes[from].replica {
                replica.handle_body_sent(entry.version);
            }
            self.drain(from);
        }
    }

    fn space(&mut self, at: usize, has_space: bool) {
        self.processes[at].has_space = has_space;
        if let Some(replica) = &mut self.processes[at].replica {
            replica.handle_space(has_space);
        }
        self.drain(at);
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
        for at in 0..self.processes.len() {
            if let Some(replica) = &mut self.processes[at].replica {
                replica.handle_timeout(self.now_ms);
            }
            self.drain(at);
        }
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.outcome.len();
            for at in 0..self.processes.len() {
                self.sync(at);
                if at > 0 {
                    self.shipped(at - 1, at);
                    self.deliver(at - 1, at, usize::MAX);
                    self.deliver(at, at - 1, usize::MAX);
                }
            }
            if self.outcome.len() == before {
                return;
            }
        }
        panic!("the chain does not come to rest");
    }

    fn crash(&mut self, at: usize, after_write: bool) {
        if after_write {
            self.processes[at].write_all();
        }
        self.processes[at].crash();
        if at > 0 {
            self.link(at - 1, false);
        }
        if at + 1 < self.processes.len() {
            self.link(at, false);
        }
    }

    fn start(&mut self, at: usize) {
        self.processes[at].start();
        self.drain(at);
    }

    fn read(&mut self, at: usize, key: &str) {
        let versions = self.processes[at].disk.versions(key);
        let replica = self.processes[at].replica.as_ref().expect("the process runs");
        let text = if !replica.serves_reads() {
            format!("{} does not serve", name(at))
        } else {
            match decide(&versions, replica.committed()) {
                ReadDecision::AskTail => {
                    let tail = self.processes.last().and_then(|tail| tail.replica.as_ref());
                    let committed = tail.expect("the tail runs").committed();
                    let decided = self.value(at, decide_at(&versions, committed));
                    format!(
                        "{} asks the tail, which has committed {committed}: {decided}",
                        name(at)
                    )
                }
                decided => format!("{} serves {}", name(at), self.value(at, decided)),
            }
        };
        self.outcome.push(text);
    }

    fn value(&self, at: usize, decision: ReadDecision) -> String {
        match decision {
            ReadDecision::Serve(version) => self.processes[at].disk.text(version),
            ReadDecision::Absent => "nothing".to_owned(),
            ReadDecision::AskTail => unreachable!("the tail has been asked"),
        }
    }

    /// Takes the replica's outputs: what waits for the disk or a message is noted, and said.
    fn drain(&mut self, at: usize) {
        let Some(replica) = &mut self.processes[at].replica else { return };
        let mut outputs = Vec::new();
        while let Some(output) = replica.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.outcome.push(text::output(at, &output));
            match output {
                Output::Send(Neighbour::Successor, message) => {
                    self.under_way.entry((at, at + 1)).or_default().push_back(message);
                }
                Output::Send(Neighbour::Predecessor, message) => {
                    self.under_way.entry((at, at - 1)).or_default().push_back(message);
                }
                Output::SendBody(entry) => self.to_ship.entry(at).or_default().push(entry),
                Output::Reply(..) => {}
                other => self.processes[at].waiting.push(other),
            }
        }
        self.outcome.extend(self.processes[at].look_at_standing());
    }
}

/// The replica's place in the chain: A is the head.
fn place(name: &str) -> usize {
    usize::from(name.as_bytes()[0] - b'A')
}

fn name(at: usize) -> char {
    char::from(b'A' + at as u8)
}

fn tags(text: &str) -> TagList {
    if text == "*" {
        return TagList::Any;
    }
    TagList::Tags(vec![Tag { weak: false, etag: Some(meta(text).etag) }])
}

/// The value itself is its entity tag.
fn meta(value: &str) -> ObjectMeta {
    let mut etag = [0; 16];
    etag[..value.len()].copy_from_slice(value.as_bytes());
    ObjectMeta {
        size_bytes: value.len() as u64,
        etag: ETag(etag),
        modified_ms: 0,
        content_type: None,
        user: Vec::new(),
    }
}
