//! Clients that change keys and read them.

use super::{
    Sabotage,
    world::{Checked, Event, World},
    writer::Writer,
};
use crate::linearizability::register::{self, Condition, Outcome};
use ashlar_vr::{
    Client as Session, ClientId, ClientOutput, Kind, ReadAnswer, ReadId, Replica, Reply, Request,
    kv::{Change, Changed, Found, KeyValue},
};
use bytes::Bytes;
use std::{collections::HashMap, net::SocketAddr};

/// After so long without an answer a client repeats a request, in microseconds.
const WAIT_US: u64 = 30_000;
/// After so long a reader gives up, in microseconds.
const PATIENCE_US: u64 = 300_000;

/// For a defect: so much longer is a lease, in microseconds.
const LONGER_US: u64 = 400_000;

/// A client.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) session: Option<Session>,
    id: u64,
    /// Requests that are open, by number: the places of their operations.
    open: HashMap<u64, usize>,
    /// The read that is open.
    reading: Option<usize>,
    /// The last value that it read of the key that it changes conditionally.
    seen: HashMap<u64, Option<u64>>,
    /// It waits until it begins the next operation.
    is_thinking: bool,
    /// It writes all the time, and does nothing else.
    pub(super) writer: Option<Writer>,
}

impl Client {
    /// One that writes all the time.
    pub(super) fn writer(keys: usize) -> Self {
        Self { writer: Some(Writer::new(keys)), ..Self::default() }
    }
}

/// What a client did, and what it was told.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    client: usize,
    pub(super) key: u64,
    pub(super) invoked: u64,
    pub(super) returned: Option<u64>,
    pub(super) what: register::Operation,
    /// It is of no consequence: a read that failed, or one that may be old.
    pub(super) is_void: bool,
    /// It reads a key when everything is at rest.
    pub(super) is_last: bool,
    change: Option<Change>,
}

fn key_bytes(key: u64) -> Bytes {
    Bytes::from(format!("key{key}"))
}

fn value_bytes(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

fn value_of(bytes: &Bytes) -> u64 {
    str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("values are numbers")
}

impl World {
    /// A client begins its next operation.
    pub(super) fn client_begins(&mut self, client: usize) -> Checked {
        if let Some(load) = self.plan.load.filter(|_| self.clients[client].writer.is_some()) {
            return self.write_on(client, load);
        }
        self.clients[client].is_thinking = false;
        if self.operations_left == 0 {
            return Ok(());
        }
        let is_full = self.clients[client].open.len() as u64 >= self.plan.depth;
        if is_full || self.clients[client].reading.is_some() {
            return Ok(());
        }
        self.operations_left -= 1;
        if self.random.below(100) < self.plan.reads_percent {
            self.begin_read(client);
        } else {
            self.begin_change(client);
        }
        self.think(client);
        self.pump_client(client)
    }

    /// The client begins another operation after a while.
    fn think(&mut self, client: usize) {
        if !std::mem::replace(&mut self.clients[client].is_thinking, true) {
            let think_us = self.random.below(self.plan.think_us + 1);
            self.queue.push_after(think_us, Event::ClientBegins { client });
        }
    }

    fn new_operation(&mut self, client: usize, key: u64, what: register::Operation) -> usize {
        let invoked = self.stamp();
        let (returned, is_void, is_last, change) = (None, false, false, None);
        let operation =
            Operation { client, key, invoked, returned, what, is_void, is_last, change };
        self.operations.push(operation);
        self.operations.len() - 1
    }

    fn begin_change(&mut self, client: usize) {
        let key = self.random.below(self.plan.keys);
        let value = self.operations.len() as u64 + 1;
        let seen = self.clients[client].seen.get(&key).copied();
        let (change, put, condition) = match (self.random.below(10), seen) {
            (0, _) => (Change::Put(key_bytes(key), None), None, Condition::Always),
            (1..5, Some(seen)) => {
                let expected = seen.map(value_bytes);
                let change =
                    Change::CompareAndSet(key_bytes(key), expected, Some(value_bytes(value)));
                (change, Some(value), seen.map_or(Condition::Absent, Condition::Equals))
            }
            _ => (
                Change::Put(key_bytes(key), Some(value_bytes(value))),
                Some(value),
                Condition::Always,
            ),
        };
        let outcome = Outcome::Unknown;
        let place =
            self.new_operation(client, key, register::Operation::Write { put, condition, outcome });
        self.operations[place].change = Some(change.clone());
        self.make_request(client, place, &change);
    }

    fn make_request(&mut self, client: usize, place: usize, change: &Change) {
        if let Some(number) = self.submit(client, change) {
            self.clients[client].open.insert(number, place);
        }
    }

    /// Gives a change to a client's session, which it begins if there is none; says its number, if there is room.
    pub(super) fn submit(&mut self, client: usize, change: &Change) -> Option<u64> {
        let now_us = self.queue.now_us();
        let members = self.members();
        let id = ClientId(self.random.below(u64::MAX));
        let at = &mut self.clients[client];
        let session = at.session.get_or_insert_with(|| {
            at.id = id.0;
            Session::new(now_us, id, members, WAIT_US)
        });
        session.has_room().then(|| session.request(now_us, Kind::Operation, change.encode()))
    }

    /// The members of the latest epoch that anybody is in.
    pub(super) fn members(&self) -> Vec<SocketAddr> {
        let latest = self.replicas().map(Replica::configuration).max_by_key(|group| group.epoch());
        latest.map_or(self.first_configuration.members().to_vec(), |group| group.members().to_vec())
    }

    /// Who leads the latest view.
    pub(super) fn leading(&self) -> Option<&Replica<KeyValue>> {
        let leaders = self.replicas().filter(|replica| replica.is_leader());
        leaders.max_by_key(|leader| leader.view())
    }

    fn begin_read(&mut self, client: usize) {
        let key = self.random.below(self.plan.keys);
        let place = self.new_operation(client, key, register::Operation::Read(None));
        self.clients[client].reading = Some(place);
        let may_be_old = self.random.chance(0.2);
        self.operations[place].is_void = may_be_old;
        let id = ReadId(place as u64);
        self.ask(client, id, may_be_old.then_some(100_000));
        self.queue.push_after(PATIENCE_US, Event::ReadTimeout { id });
    }

    /// Notes what a key has when everything is at rest.
    pub(super) fn read_at_rest(&mut self, key: u64) {
        let found = self.leading().expect("somebody leads").service().get(&key_bytes(key));
        let what = register::Operation::Read(found.value.as_ref().map(value_of));
        let place = self.new_operation(0, key, what);
        let stamp = self.stamp();
        self.operations[place].returned = Some(stamp);
        self.operations[place].is_last = true;
    }

    fn ask(&mut self, client: usize, id: ReadId, age_us: Option<u64>) {
        let leaders: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].replica().is_some_and(Replica::is_leader))
            .collect();
        // A client mostly knows who leads, and at times somebody who leads no more.
        let host = match leaders.is_empty() || self.random.chance(0.2) {
            true => self.random.index(self.hosts.len()),
            false => *self.random.pick(&leaders),
        };
        let key = self.operations[id.0 as usize].key;
        let (now_us, from) = (self.queue.now_us(), self.party_of(client));
        for at_us in self.network.send(now_us, from, host, &mut self.random).iter() {
            let question = key_bytes(key);
            self.queue.push_at(at_us, Event::Question { host, id, question, age_us });
        }
    }

    /// A question arrives.
    pub(super) fn take_question(
        &mut self,
        host: usize,
        id: ReadId,
        question: Bytes,
        age_us: Option<u64>,
    ) -> Checked {
        let reads_anywhere = self.sabotage == Some(Sabotage::ReadAnywhere);
        let has_long_leases = self.sabotage == Some(Sabotage::LongLeases);
        let Some((process, local_us)) = self.wake(host) else { return Ok(()) };
        match age_us {
            Some(age_us) => process.handle_stale_read(local_us, id, &question, age_us),
            None if reads_anywhere => {
                process.handle_stale_read(local_us, id, &question, 10_000_000)
            }
            None if has_long_leases => {
                process.handle_read(local_us.saturating_sub(LONGER_US), id, question)
            }
            None => process.handle_read(local_us, id, question),
        }
        self.settle(host)
    }

    /// A replica answers a read.
    pub(super) fn send_read(&mut self, host: usize, id: ReadId, answer: &ReadAnswer) {
        let client = self.operations[id.0 as usize].client;
        let (now_us, to) = (self.queue.now_us(), self.party_of(client));
        for at_us in self.network.send(now_us, host, to, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::Answer { id, answer: answer.clone() });
        }
    }

    /// An answer arrives.
    pub(super) fn take_answer(&mut self, id: ReadId, answer: ReadAnswer) -> Checked {
        let place = id.0 as usize;
        let client = self.operations[place].client;
        if self.clients[client].reading != Some(place) {
            return Ok(());
        }
        let ReadAnswer::Answered { bytes, .. } = answer else { return Ok(()) };
        let found = Found::decode(&bytes).expect("the service answers");
        let value = found.value.as_ref().map(value_of);
        let stamp = self.stamp();
        let operation = &mut self.operations[place];
        operation.returned = Some(stamp);
        operation.what = register::Operation::Read(value);
        let (key, is_void) = (operation.key, operation.is_void);
        self.record(|| {
            format!(
                "client {client} reads key {key}: {value:?}{}",
                if is_void { " (old)" } else { "" }
            )
        });
        if is_void {
            self.coverage.reads_stale += 1;
        } else {
            self.coverage.reads_done += 1;
        }
        self.clients[client].seen.insert(key, value);
        self.clients[client].reading = None;
        self.think(client);
        Ok(())
    }

    /// A reader's patience is at its end.
    pub(super) fn read_timeout(&mut self, id: ReadId) -> Checked {
        let place = id.0 as usize;
        let client = self.operations[place].client;
        if self.clients[client].reading != Some(place) {
            return Ok(());
        }
        if !self.is_safe_phase {
            // Now it must be answered.
            self.ask(client, id, None);
            self.queue.push_after(PATIENCE_US, Event::ReadTimeout { id });
            return Ok(());
        }
        self.operations[place].is_void = true;
        self.coverage.reads_refused += 1;
        self.clients[client].reading = None;
        self.think(client);
        Ok(())
    }

    /// Does what a client wants done.
    pub(super) fn pump_client(&mut self, client: usize) -> Checked {
        while let Some(session) = self.clients[client].session.as_mut()
            && let Some(output) = session.poll_output()
        {
            match output {
                ClientOutput::Send { to, request } => {
                    self.send_request(self.party_of(client), to, &request)
                }
                ClientOutput::Done { number, result } if self.clients[client].writer.is_some() => {
                    self.put_is_done(client, number, &result)?;
                }
                ClientOutput::Done { number, result } => self.done(client, number, &result),
                ClientOutput::SessionLost { .. } => self.lose_session(client),
            }
        }
        if let Some(at_us) = self.clients[client].session.as_ref().and_then(Session::poll_timeout) {
            self.queue.push_at(at_us, Event::ClientTimeout { client });
        }
        Ok(())
    }

    pub(super) fn send_request(&mut self, from: usize, to: SocketAddr, request: &Request) {
        let Some(host) = self.host_at(to) else { return };
        let now_us = self.queue.now_us();
        for at_us in self.network.send(now_us, from, host, &mut self.random).iter() {
            self.queue.push_at(at_us, Event::Request { host, request: Box::new(request.clone()) });
        }
    }

    /// A request arrives.
    pub(super) fn take_request(&mut self, host: usize, request: Request) -> Checked {
        let time_ms = self.queue.now_us() / 1000;
        let Some((process, local_us)) = self.wake(host) else { return Ok(()) };
        process.handle_request(local_us, time_ms, request);
        self.settle(host)
    }

    /// A replica replies.
    pub(super) fn send_reply(&mut self, host: usize, reply: &Reply) {
        let to = self.clients.iter().position(|client| client.id == reply.client.0);
        let is_operator = self.operator.is_client(reply.client);
        let Some(party) = to
            .map(|client| self.party_of(client))
            .or(is_operator.then(|| self.plan.hosts() + self.plan.clients()))
        else {
            return;
        };
        let now_us = self.queue.now_us();
        for at_us in self.network.send(now_us, host, party, &mut self.random).iter() {
            let reply = Box::new(reply.clone());
            self.queue.push_at(
                at_us,
                match to {
                    Some(client) => Event::Reply { client, reply },
                    None => Event::OperatorReply { reply },
                },
            );
        }
    }

    /// A reply arrives.
    pub(super) fn take_reply(&mut self, client: usize, reply: Reply) -> Checked {
        let now_us = self.queue.now_us();
        let Some(session) = self.clients[client].session.as_mut() else { return Ok(()) };
        session.handle_reply(now_us, reply);
        self.pump_client(client)
    }

    /// A client's timeout may be due.
    pub(super) fn client_timeout(&mut self, client: usize) -> Checked {
        let now_us = self.queue.now_us();
        let is_due =
            |session: &Session| session.poll_timeout().is_some_and(|at_us| at_us <= now_us);
        if !self.clients[client].session.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        let members = self.members();
        let Some(session) = self.clients[client].session.as_mut() else { return Ok(()) };
        if session.members() != members {
            session.set_members(members);
        }
        session.handle_timeout(now_us);
        if self.sabotage == Some(Sabotage::RenumberRequests)
            && let Some((_, place)) = self.clients[client].open.iter().map(|(n, p)| (*n, *p)).min()
            && let Some(change) = self.operations[place].change.clone()
        {
            self.make_request(client, place, &change);
        }
        self.pump_client(client)
    }

    fn done(&mut self, client: usize, number: u64, result: &Bytes) {
        let Some(place) = self.clients[client].open.remove(&number) else { return };
        let changed = Changed::decode(result).expect("the service has executed it");
        let stamp = self.stamp();
        let operation = &mut self.operations[place];
        if operation.returned.is_some() {
            return;
        }
        operation.returned = Some(stamp);
        let register::Operation::Write { put, outcome, .. } = &mut operation.what else {
            unreachable!("a change")
        };
        let before = match &changed {
            Changed::Done(before) => {
                let removes_nothing = put.is_none() && before.is_none();
                *outcome = if removes_nothing {
                    Outcome::NotFound
                } else {
                    Outcome::Done { replaced: before.is_some() }
                };
                *put
            }
            Changed::Differs(before) => {
                *outcome = Outcome::PreconditionFailed;
                before.as_ref().map(value_of)
            }
            Changed::Malformed => unreachable!("clients of this world send changes"),
        };
        let (key, what) = (operation.key, operation.what);
        self.clients[client].seen.insert(key, before);
        self.coverage.changes_done += 1;
        self.record(|| {
            format!("client {client}'s request {number} on key {key} is done: {what:?}")
        });
        self.think(client);
    }

    /// The group has forgotten a client's session.
    fn lose_session(&mut self, client: usize) {
        self.record(|| format!("client {client} loses its session"));
        self.coverage.sessions_lost += 1;
        self.clients[client].session = None;
        if let Some(writer) = &mut self.clients[client].writer {
            self.coverage.changes_unknown += writer.lose_session();
            return;
        }
        let mut open: Vec<_> = self.clients[client].open.drain().collect();
        open.sort_unstable();
        for (_, place) in open {
            if self.sabotage == Some(Sabotage::RepeatInNewSession)
                && let Some(change) = self.operations[place].change.clone()
            {
                self.make_request(client, place, &change);
            } else {
                self.coverage.changes_unknown += 1;
            }
        }
        self.think(client);
    }

    /// Whether a client waits for nothing and begins nothing.
    pub(super) fn is_idle(&self, client: usize) -> bool {
        let at = &self.clients[client];
        let has_written = at.writer.as_ref().is_none_or(Writer::is_idle);
        has_written && at.open.is_empty() && at.reading.is_none() && self.operations_left == 0
    }
}
