//! The world of the scripts: replicas with their disks, what is on its way between them, and clients.

mod text;

use ashlar_vr::{
    Answer, ClientId, Configuration, Entry, Kind, Log, Message, Mode, Options, Output, Promise,
    ReadAnswer, ReadId, Replica, Reply, Request, Restored, Start, Status, Write,
    kv::{Change, KeyValue},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};
use text::letter;

/// Replicas from A on, members or not.
const HOSTS: usize = 7;
/// The most that can happen in one command.
const EVENTS_MAX: usize = 1_000;
const MILLISECOND_US: u64 = 1_000;

/// What is on its way.
#[derive(Clone)]
struct Sent {
    from: usize,
    to: usize,
    message: Message,
}

/// Which of the messages that are on their way.
struct Selector {
    is_all: bool,
    from: Option<usize>,
    to: Option<usize>,
    kind: Option<String>,
}

/// What a disk has.
#[derive(Default)]
struct Disk {
    promise: Option<Promise>,
    checkpoint: Option<(u64, Bytes)>,
    entries: BTreeMap<u64, Entry>,
    /// Places whose entries it has lost, or has only begun to write.
    lost: BTreeSet<u64>,
    /// Not synced.
    waiting: VecDeque<(u64, Write)>,
    /// It syncs when it is told to.
    is_slow: bool,
}

impl Disk {
    fn put(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.lost.remove(&entry.op);
            self.entries.insert(entry.op, entry);
        }
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Promise(promise) => self.promise = Some(promise),
            Write::Append(entries) | Write::Repair(entries) => self.put(entries),
            Write::Install { after, entries, promise } => {
                self.entries.split_off(&(after + 1));
                self.lost.split_off(&(after + 1));
                self.put(entries);
                self.promise = Some(promise);
            }
            Write::Checkpoint { op, bytes, replaces, promise, .. } => {
                let end = if replaces { u64::MAX } else { op + 1 };
                self.entries = self.entries.split_off(&end);
                self.lost = self.lost.split_off(&end);
                self.checkpoint = Some((op, bytes));
                self.promise = Some(promise);
            }
        }
    }

    fn restored(&self, promise: Promise) -> Restored {
        let base_op = self.checkpoint.as_ref().map_or(0, |(op, _)| *op);
        let last = self.entries.last_key_value().map(|(op, _)| *op);
        let head_op = last.max(self.lost.last().copied()).unwrap_or(base_op);
        let entry = |op| self.entries.get(&op).filter(|_| !self.lost.contains(&op)).cloned();
        let checkpoint = self.checkpoint.as_ref().map(|(_, bytes)| bytes.clone());
        Restored { promise, checkpoint, entries: (base_op + 1..=head_op).map(entry).collect() }
    }
}

/// A replica's place in the world.
#[derive(Default)]
struct Host {
    replica: Option<Replica<KeyValue>>,
    now_us: u64,
    disk: Disk,
    seen: Seen,
}

/// What a replica was when it was last looked at.
#[derive(Default)]
struct Seen {
    role: String,
    executed: u64,
    log: Log,
}

/// A client's session.
#[derive(Default)]
struct Session {
    begun_op: u64,
    last: u64,
    request: Option<Request>,
}

#[derive(Default)]
pub(crate) struct World {
    options: Options,
    hosts: Vec<Host>,
    sent: VecDeque<Sent>,
    /// What is sent from one to the other is lost.
    cut: BTreeSet<(usize, usize)>,
    /// By their letters.
    clients: BTreeMap<String, Session>,
    /// The keys that are read, by name of the read, and by whom.
    reads: Vec<(String, String)>,
    nonces: u64,
    told: Vec<String>,
}

fn host_of(name: &str) -> usize {
    let host = (0..HOSTS).find(|host| name == letter(*host).to_string());
    host.unwrap_or_else(|| panic!("no replica is called {name}"))
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], host as u16))
}

fn client_id(name: &str) -> ClientId {
    ClientId(u64::from(name.as_bytes()[0]))
}

fn client_name(id: ClientId) -> String {
    (id.0 as u8 as char).to_string()
}

impl World {
    /// Does what a line says, and tells what came of it.
    pub(crate) fn perform(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["quietly", ..] => {
                self.perform(command.strip_prefix("quietly ").unwrap());
            }
            ["begin", names @ ..] => self.begin(names),
            ["deliver", "all"] => self.deliver_everything(),
            ["deliver", which @ ..] => {
                for Sent { from, to, message } in self.take(which) {
                    self.deliver(from, to, message);
                }
            }
            ["lose", which @ ..] => drop(self.take(which)),
            ["delay", which @ ..] => {
                let delayed = self.take(which);
                self.sent.extend(delayed);
            }
            ["repeat", which @ ..] => {
                let repeated = self.take(which);
                repeated.iter().rev().for_each(|sent| self.sent.push_front(sent.clone()));
                self.sent.extend(repeated);
            }
            ["cut", from, to] => drop(self.cut.insert((host_of(from), host_of(to)))),
            ["split", sides @ ..] => self.split(sides),
            ["mend"] => self.cut.clear(),
            ["wait", milliseconds] => self.wait(None, milliseconds.parse().unwrap()),
            ["status", names @ ..] => self.status(names),
            [name, "waits", milliseconds] => {
                self.wait(Some(host_of(name)), milliseconds.parse().unwrap());
            }
            [name, "suspects"] => self.suspect(host_of(name)),
            [name, "ends"] => self.end(host_of(name), false),
            [name, "loses", "power"] => self.end(host_of(name), true),
            [name, "starts"] => self.start(host_of(name)),
            [name, "loses", place] => {
                let host = &mut self.hosts[host_of(name)];
                assert!(host.replica.is_none(), "it is noticed by a process that starts");
                host.disk.lost.insert(place.parse().unwrap());
            }
            [name, "writes", "slowly"] => self.hosts[host_of(name)].disk.is_slow = true,
            [name, "syncs"] => self.sync(host_of(name)),
            [client, "registers", "at", name] => self.register(client, host_of(name)),
            [client, "puts", pair, "at", name] => {
                let (key, value) = pair.split_once('=').unwrap();
                let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
                let change = Change::Put(bytes(key), Some(bytes(value)));
                self.request(client, host_of(name), Kind::Operation, change.encode());
            }
            [client, "repeats", "itself", "at", name] => {
                let request = self.clients[*client].request.clone().unwrap();
                self.ask(host_of(name), request);
            }
            [client, "wants", members @ .., "at", name] => {
                let members = members.iter().map(|name| address(host_of(name)).to_string());
                let body = members.collect::<Vec<_>>().join(" ");
                self.request(client, host_of(name), Kind::Reconfigure, body.into());
            }
            [client, "reads", key, "at", name] => self.read(client, key, host_of(name), None),
            [client, "reads", key, "at", name, "up", "to", age, "ms", "old"] => {
                self.read(client, key, host_of(name), Some(age.parse().unwrap()));
            }
            _ => panic!("unknown: {command}"),
        }
        let told = std::mem::take(&mut self.told);
        if words[0] == "quietly" { Vec::new() } else { told }
    }

    fn begin(&mut self, words: &[&str]) {
        *self = Self::default();
        self.options = Options {
            heartbeat_us: 100 * MILLISECOND_US,
            suspect_us: 300 * MILLISECOND_US,
            resend_us: 100 * MILLISECOND_US,
            lease_us: 0,
            ..Options::default()
        };
        let mut members = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "durable" => self.options.mode = Mode::Durable,
                "lease" => {
                    self.options.lease_us = words.next().unwrap().parse::<u64>().unwrap() * 1_000;
                }
                "keeps" => {
                    self.options.log_bytes_max = words.next().unwrap().parse().unwrap();
                    self.options.window_bytes = self.options.log_bytes_max / 2;
                    self.options.batch_bytes_max = self.options.window_bytes;
                }
                name => members.push(host_of(name)),
            }
        }
        self.hosts = (0..HOSTS).map(|_| Host::default()).collect();
        let group = members.iter().map(|host| address(*host)).collect();
        let group = Configuration::new(0, group).unwrap();
        for host in 0..HOSTS {
            let is_member = members.contains(&host);
            let start = if is_member { Start::New(group.clone()) } else { Start::Join };
            self.start_from(host, start);
        }
        self.deliver_everything();
        self.told.clear();
    }

    fn start_from(&mut self, host: usize, start: Start) {
        let at = &mut self.hosts[host];
        let (options, seed) = (self.options, host as u64);
        let replica =
            Replica::new(at.now_us, address(host), options, seed, start, KeyValue::default());
        at.replica = Some(replica.unwrap());
        at.seen = Seen::default();
        self.settle(host);
    }

    fn start(&mut self, host: usize) {
        assert!(self.hosts[host].replica.is_none(), "it has ended");
        let disk = &self.hosts[host].disk;
        let start = match disk.promise.clone() {
            None => Start::Join,
            Some(promise) if self.options.mode == Mode::Durable => {
                Start::Restored(disk.restored(promise))
            }
            Some(promise) => {
                self.nonces += 1;
                Start::Lost { promise, nonce: self.nonces }
            }
        };
        self.start_from(host, start);
    }

    /// A process ends. What it has written stays, unless the power is lost before it is synced.
    fn end(&mut self, host: usize, power: bool) {
        let at = &mut self.hosts[host];
        at.replica = None;
        at.disk.is_slow = false;
        let waiting = std::mem::take(&mut at.disk.waiting);
        if !power {
            waiting.into_iter().for_each(|(_, write)| at.disk.apply(write));
        }
    }

    fn sync(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.disk.is_slow = false;
        let waiting = std::mem::take(&mut at.disk.waiting);
        let Some((last, _)) = waiting.back() else { return };
        let last = *last;
        waiting.into_iter().for_each(|(_, write)| at.disk.apply(write));
        at.replica.as_mut().unwrap().handle_persisted(at.now_us, last);
        self.settle(host);
    }

    fn register(&mut self, client: &str, host: usize) {
        self.clients.entry(client.to_owned()).or_default();
        let (client, kind, body) = (client_id(client), Kind::Register, Bytes::new());
        let request = Request { client, session: 0, number: 0, acknowledged: 0, kind, body };
        self.ask(host, request);
    }

    fn request(&mut self, client: &str, host: usize, kind: Kind, body: Bytes) {
        let session = self.clients.get_mut(client).expect("it has registered");
        session.last += 1;
        let (client, number, acknowledged) = (client_id(client), session.last, 0);
        let request =
            Request { client, session: session.begun_op, number, acknowledged, kind, body };
        session.request = Some(request.clone());
        self.ask(host, request);
    }

    fn ask(&mut self, host: usize, request: Request) {
        let at = &mut self.hosts[host];
        let (now_us, time_ms) = (at.now_us, at.now_us / 1_000);
        at.replica.as_mut().unwrap().handle_request(now_us, time_ms, request);
        self.settle(host);
    }

    fn read(&mut self, client: &str, key: &str, host: usize, age_ms: Option<u64>) {
        self.reads.push((client.to_owned(), key.to_owned()));
        let (id, question) = (ReadId(self.reads.len() as u64 - 1), Bytes::from(key.to_owned()));
        let at = &mut self.hosts[host];
        let (now_us, replica) = (at.now_us, at.replica.as_mut().unwrap());
        match age_ms {
            None => replica.handle_read(now_us, id, question),
            Some(age_ms) => replica.handle_stale_read(now_us, id, &question, age_ms * 1_000),
        }
        self.settle(host);
    }

    /// Takes messages off their way: `all` that there are, or the oldest one.
    fn take(&mut self, which: &[&str]) -> Vec<Sent> {
        let is_all = which.first() == Some(&"all");
        let mut words = which.iter().skip(usize::from(is_all));
        let mut end = || words.next().filter(|word| **word != "any").map(|word| host_of(word));
        let (from, to) = (end(), end());
        let kind = words.next().map(|kind| (*kind).to_owned());
        let selector = Selector { is_all, from, to, kind };
        let mut taken = Vec::new();
        let mut left = VecDeque::new();
        for sent in std::mem::take(&mut self.sent) {
            let has_room = selector.is_all || taken.is_empty();
            if has_room && selector.takes(&sent) { taken.push(sent) } else { left.push_back(sent) }
        }
        self.sent = left;
        assert!(is_all || !taken.is_empty(), "nothing like {which:?} is on its way");
        taken
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let at = &mut self.hosts[to];
        if let Some(replica) = at.replica.as_mut() {
            replica.handle_message(at.now_us, address(from), message);
            self.settle(to);
        }
    }

    /// Delivers everything in its order, and what comes of it.
    fn deliver_everything(&mut self) {
        for _ in 0..EVENTS_MAX {
            let Some(Sent { from, to, message }) = self.sent.pop_front() else { return };
            self.deliver(from, to, message);
        }
        panic!("the messages do not end");
    }

    /// Sides are separated by a slash; nobody hears the other side.
    fn split(&mut self, sides: &[&str]) {
        let sides: Vec<Vec<usize>> = sides
            .split(|word| *word == "/")
            .map(|side| side.iter().map(|name| host_of(name)).collect())
            .collect();
        for (place, side) in sides.iter().enumerate() {
            for (other_place, other) in sides.iter().enumerate() {
                if place != other_place {
                    let pairs =
                        side.iter().flat_map(|from| other.iter().map(move |to| (*from, *to)));
                    self.cut.extend(pairs);
                }
            }
        }
    }

    /// Lets time pass, for all or for one.
    fn wait(&mut self, only: Option<usize>, milliseconds: u64) {
        let waiting: Vec<usize> = only.map_or((0..HOSTS).collect(), |host| vec![host]);
        let mut left_us = milliseconds * MILLISECOND_US;
        for _ in 0..EVENTS_MAX {
            let next = waiting.iter().filter_map(|host| {
                let at = &self.hosts[*host];
                let due_us = at.replica.as_ref()?.poll_timeout()?;
                Some((due_us.saturating_sub(at.now_us), *host))
            });
            let next = next.min().filter(|(passed_us, _)| *passed_us <= left_us);
            let passed_us = next.map_or(left_us, |(passed_us, _)| passed_us);
            waiting.iter().for_each(|host| self.hosts[*host].now_us += passed_us);
            left_us -= passed_us;
            let Some((_, host)) = next else { return };
            self.fire(host);
        }
        panic!("time does not end");
    }

    fn fire(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.replica.as_mut().unwrap().handle_timeout(at.now_us);
        self.settle(host);
    }

    /// Time passes for one replica until it would leave its leader.
    fn suspect(&mut self, host: usize) {
        let before = self.told.len();
        for _ in 0..EVENTS_MAX {
            let at = &mut self.hosts[host];
            at.now_us = at.now_us.max(at.replica.as_ref().unwrap().poll_timeout().unwrap());
            self.fire(host);
            if self.told[before..].iter().any(|line| line.contains("StartViewChange")) {
                return;
            }
        }
        panic!("it suspects nobody");
    }

    /// Does what a replica wants done.
    fn settle(&mut self, host: usize) {
        loop {
            self.look(host);
            let at = &mut self.hosts[host];
            let Some(output) = at.replica.as_mut().unwrap().poll_output() else { return };
            match output {
                Output::Send { to, message } => self.send(host, &[to], &message),
                Output::Multicast { members, to, message } => {
                    let to: Vec<_> = to.iter().map(|place| members.members()[place]).collect();
                    self.send(host, &to, &message);
                }
                Output::Reply(reply) => self.reply(host, &reply),
                Output::Read { id, answer } => self.answer_read(host, id, &answer),
                Output::Persist { number, write } if at.disk.is_slow => {
                    at.disk.waiting.push_back((number, write));
                }
                Output::Persist { number, write } => {
                    at.disk.apply(write);
                    at.replica.as_mut().unwrap().handle_persisted(at.now_us, number);
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: &[SocketAddr], message: &Message) {
        let text = text::message(message);
        let is_cut = |to: &&SocketAddr| self.cut.contains(&(from, usize::from(to.port())));
        let (lost, sent): (Vec<SocketAddr>, Vec<SocketAddr>) = to.iter().partition(is_cut);
        for (to, outcome) in [(&sent, ""), (&lost, " (lost)")] {
            let names: Vec<_> = to.iter().map(|to| text::name(*to).to_string()).collect();
            if !names.is_empty() {
                let to = names.join(" ");
                self.told.push(format!("{} -> {to}: {text}{outcome}", letter(from)));
            }
        }
        for to in sent {
            let to = usize::from(to.port());
            self.sent.push_back(Sent { from, to, message: message.clone() });
        }
    }

    fn reply(&mut self, host: usize, reply: &Reply) {
        let client = client_name(reply.client);
        if let (0, Answer::Executed(result)) = (reply.number, &reply.answer) {
            let begun_op = u64::from_le_bytes(*result.first_chunk().unwrap());
            self.clients.entry(client.clone()).or_default().begun_op = begun_op;
        }
        let text = text::answer(reply.number, &reply.answer);
        self.told.push(format!("{} -> {client}: {text}", letter(host)));
    }

    fn answer_read(&mut self, host: usize, id: ReadId, answer: &ReadAnswer) {
        let (client, key) = &self.reads[id.0 as usize];
        let text = match answer {
            ReadAnswer::Answered { bytes, .. } => text::found(key, bytes),
            ReadAnswer::NotLeader(leader) => text::ask(*leader),
            ReadAnswer::TooOld => "too old".to_owned(),
        };
        self.told.push(format!("{} -> {client}: {text}", letter(host)));
    }

    /// Tells what has changed at a replica.
    fn look(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        let Some(replica) = at.replica.as_ref() else { return };
        let name = letter(host);
        let role = text::role(address(host), replica);
        if role != at.seen.role {
            self.told.push(format!("{name} {role}"));
        }
        let (before, log) = (&at.seen.log, replica.log());
        let first_op = before.base_op().max(log.base_op()) + 1;
        let is_gone = |op: &u64| {
            before.digest_at(*op).is_some_and(|digest| log.digest_at(*op) != Some(digest))
        };
        let gone: Vec<u64> = (first_op..=before.head_op()).filter(is_gone).collect();
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            self.told.push(format!("{name} lets go of {}", text::places(*first, *last)));
        }
        let (first, last) = (at.seen.executed + 1, replica.executed());
        if last >= first && log.base_op() == last {
            self.told.push(format!("{name} takes a snapshot up to {last}"));
        } else if last >= first {
            self.told.push(format!("{name} executes {}", text::places(first, last)));
        }
        at.seen = Seen { role, executed: last, log: log.clone() };
    }

    fn status(&mut self, names: &[&str]) {
        for host in 0..HOSTS {
            let name = letter(host).to_string();
            let is_asked = names.is_empty() || names.contains(&name.as_str());
            let state = match &self.hosts[host].replica {
                Some(replica) if names.is_empty() && replica.status() == Status::Joining => {
                    continue;
                }
                Some(replica) => text::state(address(host), replica),
                None => "is down".to_owned(),
            };
            if is_asked {
                self.told.push(format!("{name} {state}"));
            }
        }
    }
}

impl Selector {
    fn takes(&self, sent: &Sent) -> bool {
        let is_kind = |kind: &String| {
            text::message(&sent.message).split(' ').next().unwrap().trim_end_matches(',') == kind
        };
        self.from.is_none_or(|from| from == sent.from)
            && self.to.is_none_or(|to| to == sent.to)
            && self.kind.as_ref().is_none_or(is_kind)
    }
}
