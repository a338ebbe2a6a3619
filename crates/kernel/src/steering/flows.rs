//! Going through the flow table.

use super::system_call::lookup_batch;
use crate::Error;
use ashlar_fastpath::steering::{Entry, FlowKey, FlowState};
use std::os::fd::{AsFd as _, OwnedFd};

/// How many entries are read at once.
pub(super) const BATCH_ENTRIES: usize = 4_096;

/// Entries that the table keeps together fit into this, or the table was made by an attacker's luck.
const BATCH_ENTRIES_MAX: usize = 1 << 16;

/// Reads the table part by part, round and round. An entry that is there all the time is read once a round.
#[derive(Debug)]
pub(super) struct Batches {
    flows: OwnedFd,
    /// Where the next part starts; `None`: at the beginning.
    next: Option<u32>,
    keys: Vec<FlowKey>,
    entries: Vec<Entry>,
}

/// One part.
pub(super) struct Part<'a> {
    pub(super) flows: &'a [FlowKey],
    pub(super) entries: &'a [Entry],
    /// Whether the next part is the first one again.
    pub(super) is_last: bool,
}

impl Batches {
    pub(super) fn new(flows: OwnedFd) -> Self {
        let mut batches = Self { flows, next: None, keys: Vec::new(), entries: Vec::new() };
        batches.make_room(BATCH_ENTRIES);
        batches
    }

    fn make_room(&mut self, entries: usize) {
        let no_flow = FlowKey {
            client_address: [0; 16],
            service_address: [0; 16],
            client_port: 0,
            service_port: 0,
        };
        self.keys.resize(entries, no_flow);
        self.entries.resize(entries, Entry::EMPTY);
    }

    pub(super) fn next_part(&mut self) -> Result<Part<'_>, Error> {
        let batch = loop {
            let (keys, entries) = (&mut self.keys[..], &mut self.entries[..]);
            let batch = lookup_batch(self.flows.as_fd(), self.next, keys, entries)
                .map_err(|source| Error::System { operation: "read the flow table", source })?;
            match batch {
                Some(batch) => break batch,
                None => {
                    let more = self.keys.len() * 2;
                    assert!(more <= BATCH_ENTRIES_MAX, "entries are spread over the table");
                    self.make_room(more);
                }
            }
        };
        self.next = batch.next;
        Ok(Part {
            flows: &self.keys[..batch.count],
            entries: &self.entries[..batch.count],
            is_last: batch.next.is_none(),
        })
    }
}

/// Every flow of the table, in no order: those that are there all the time, and some of those that come or go meanwhile.
#[derive(Debug)]
pub struct Flows {
    batches: Batches,
    /// What was read and not returned yet, last first.
    read: Vec<(FlowKey, FlowState)>,
    is_last_part: bool,
}

impl Flows {
    pub(super) fn new(flows: OwnedFd) -> Self {
        Self { batches: Batches::new(flows), read: Vec::new(), is_last_part: false }
    }
}

impl Iterator for Flows {
    type Item = Result<(FlowKey, FlowState), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() && !self.is_last_part {
            match self.batches.next_part() {
                Ok(part) => {
                    self.is_last_part = part.is_last;
                    let states = part.entries.iter().map(|entry| FlowState::from(*entry));
                    self.read.extend(part.flows.iter().copied().zip(states));
                }
                Err(error) => {
                    self.is_last_part = true;
                    return Some(Err(error));
                }
            }
        }
        self.read.pop().map(Ok)
    }
}
