//! Clients that write all the time.
//!
//! Nobody judges each of their operations, so there may be thousands of them: logs outgrow what is kept, and those
//! who lag must follow a leader that goes on. A key has one writer, who counts what it puts: what an answer says of
//! the value before, and what keys have in the end, shows whether anything was lost or came twice.

use super::{
    plan::Load,
    world::{Checked, Event, World},
};
use ashlar_vr::kv::{Change, Changed};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::collections::BTreeMap;

/// What is special about a client that writes all the time.
#[derive(Debug)]
pub(super) struct Writer {
    /// The value that it has put last, of any key.
    last: u64,
    /// For each key the last value whose put was answered; 0 if none was.
    pub(super) answered: Vec<u64>,
    /// What is not answered, by the request's number.
    open: BTreeMap<u64, Put>,
}

/// A put that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) key: usize,
    pub(super) value: u64,
    /// The last value of this key whose put was answered before this one began.
    pub(super) answered: u64,
}

impl Writer {
    pub(super) fn new(keys: usize) -> Self {
        Self { last: 0, answered: vec![0; keys], open: BTreeMap::new() }
    }

    /// Whether it waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The group has forgotten its session: says how many puts have an outcome that nobody knows.
    pub(super) fn lose_session(&mut self) -> u64 {
        let lost = self.open.len() as u64;
        self.open.clear();
        lost
    }
}

/// The name of a writer's key.
pub(super) fn writer_key(client: usize, key: usize) -> Bytes {
    Bytes::from(format!("writer{client}/{key}"))
}

/// The count in a value.
pub(super) fn count_of(value: Option<&Bytes>) -> u64 {
    let Some(value) = value else { return 0 };
    u64::from_be_bytes(*value.first_chunk().expect("writers put what is long enough"))
}

/// A value with a count in it.
fn value_of(count: u64, padding_bytes: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(size_of::<u64>() + padding_bytes);
    value.put_u64(count);
    value.put_bytes(0, padding_bytes);
    value.freeze()
}

impl World {
    /// A writer puts something, if it may have more under way, and will again.
    pub(super) fn write_on(&mut self, client: usize, load: Load) -> Checked {
        if self.has_followed {
            return Ok(());
        }
        let is_calm = !self.is_safe_phase && self.queue.now_us() >= self.away_until_us;
        let think_us = if is_calm { load.calm_think_us.max(load.think_us) } else { load.think_us };
        let next_us = 1 + self.random.below(think_us);
        self.queue.push_after(next_us, Event::ClientBegins { client });
        let writer = self.writer(client);
        if writer.open.len() as u64 >= load.depth {
            return Ok(());
        }
        let key = self.random.index(load.keys);
        let padding_bytes = self.random.index(load.value_bytes);
        let writer = self.writer(client);
        let put = Put { key, value: writer.last + 1, answered: writer.answered[key] };
        let value = Some(value_of(put.value, padding_bytes));
        if let Some(number) = self.submit(client, &Change::Put(writer_key(client, key), value)) {
            let writer = self.writer(client);
            writer.last = put.value;
            writer.open.insert(number, put);
        }
        self.pump_client(client)
    }

    fn writer(&mut self, client: usize) -> &mut Writer {
        self.clients[client].writer.as_mut().expect("it is a writer")
    }

    /// A put is answered.
    pub(super) fn put_is_done(&mut self, client: usize, number: u64, result: &Bytes) -> Checked {
        let changed = Changed::decode(result).expect("the service has executed it");
        let Changed::Done(before) = changed else { unreachable!("it has no condition") };
        let writer = self.writer(client);
        let Some(put) = writer.open.remove(&number) else { return Ok(()) };
        writer.answered[put.key] = writer.answered[put.key].max(put.value);
        self.coverage.puts_done += 1;
        self.judge_put(client, put, count_of(before.as_ref()))
    }
}
