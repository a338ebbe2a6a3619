//! What a replica writes, and what it must find again.

use crate::replica_journal::Contents;
use ashlar_vr::{ClientId, Entry, EpochStart, Kind, Promise, Request, Restored, View, Write};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::collections::BTreeMap;

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) promise: Option<Promise>,
    pub(super) checkpoint: Option<Bytes>,
    /// The place of the checkpoint, and the digest there.
    pub(super) base: (u64, u64),
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl Model {
    pub(super) fn head(&self) -> (u64, u64) {
        self.entries.values().next_back().map_or(self.base, |entry| (entry.op, entry.digest))
    }

    pub(super) fn digest_at(&self, op: u64) -> u64 {
        self.entries.get(&op).map_or(self.base.1, |entry| entry.digest)
    }

    /// Takes a write. Returns what may be found when the power goes while it is under way, its end included.
    pub(super) fn apply(&mut self, write: &Write) -> Vec<Self> {
        match write {
            Write::Promise(promise) => self.promise = Some(promise.clone()),
            Write::Append(entries) | Write::Repair(entries) => {
                let put = |entry: &Entry| {
                    self.entries.insert(entry.op, entry.clone());
                    self.clone()
                };
                return entries.iter().map(put).collect();
            }
            Write::Install { after, entries, promise } => {
                self.entries.split_off(&(after + 1));
                self.entries.extend(entries.iter().map(|entry| (entry.op, entry.clone())));
                self.promise = Some(promise.clone());
            }
            Write::Checkpoint { op, digest, bytes, replaces, promise } => {
                self.entries =
                    if *replaces { BTreeMap::new() } else { self.entries.split_off(&(op + 1)) };
                self.base = (*op, *digest);
                self.checkpoint = Some(bytes.clone());
                self.promise = Some(promise.clone());
            }
        }
        vec![self.clone()]
    }

    /// Whether this was found, and nothing is lost.
    pub(super) fn is_found(&self, contents: &Contents) -> bool {
        let Contents::Kept(restored) = contents else { return *self == Self::default() };
        let Restored { promise, checkpoint, entries } = restored;
        let entries: Vec<&Entry> = entries.iter().flatten().collect();
        self.promise.as_ref() == Some(promise)
            && self.checkpoint == *checkpoint
            && self.entries.values().collect::<Vec<_>>() == entries
    }

    /// What was found must be this, but for entries that are lost and `cut_max` that may be cut off the end.
    /// Returns how many of each.
    pub(super) fn assert_found_with_losses(&self, found: &Restored, cut_max: usize) -> [usize; 2] {
        assert_eq!(self.promise.as_ref(), Some(&found.promise));
        assert_eq!(self.checkpoint, found.checkpoint);
        let cut = self.entries.len().checked_sub(found.entries.len()).unwrap();
        assert!(cut <= cut_max, "{cut} entries vanished");
        for (expected, entry) in self.entries.values().zip(&found.entries) {
            assert!(entry.as_ref().is_none_or(|entry| entry == expected), "a wrong entry");
        }
        [found.entries.iter().filter(|entry| entry.is_none()).count(), cut]
    }
}

/// A replica that writes at random.
pub(super) struct Workload {
    random: Pcg64,
    pub(super) model: Model,
    view: u64,
    number: u64,
}

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        let random = Pcg64::seed_from_u64(seed);
        Self { random, model: Model::default(), view: 0, number: 0 }
    }

    pub(super) fn promise(&mut self) -> Promise {
        self.view += 1;
        let view = View::new(0, self.view);
        let members = (1..=3).map(|port| ([10, 0, 0, 1], port).into()).collect();
        let epoch = EpochStart { view: View::new(0, 0), op: 0, digest: 0, members };
        Promise { view, last_normal: view, epoch }
    }

    pub(super) fn entries(&mut self, after: (u64, u64), count: usize, bytes: usize) -> Vec<Entry> {
        let mut previous = after;
        let mut entry = |_| {
            self.number += 1;
            let body: Bytes = (0..bytes).map(|_| self.random.random::<u8>()).collect();
            let (client, session, number, kind) = (ClientId(9), 1, self.number, Kind::Operation);
            let request = Request { client, session, number, acknowledged: 0, kind, body };
            let view = View::new(0, self.view);
            let entry = Entry::new(previous.0 + 1, view, self.number, request, previous.1);
            previous = (entry.op, entry.digest);
            entry
        };
        (0..count).map(&mut entry).collect()
    }

    fn some_entries(&mut self, after: (u64, u64)) -> Vec<Entry> {
        let count = self.random.random_range(1..6);
        let bytes_max = [8, 100, 3000][self.random.random_range(0..3)];
        let bytes = self.random.random_range(0..bytes_max);
        self.entries(after, count, bytes)
    }

    /// A write that may come next.
    pub(super) fn next_write(&mut self) -> Write {
        let (head, base) = (self.model.head(), self.model.base);
        if self.model.promise.is_none() {
            return Write::Promise(self.promise());
        }
        match self.random.random_range(0..24) {
            0..2 => Write::Promise(self.promise()),
            2..4 => {
                let after = self.random.random_range(base.0.max(head.0.saturating_sub(6))..=head.0);
                let entries = self.some_entries((after, self.model.digest_at(after)));
                Write::Install { after, entries, promise: self.promise() }
            }
            4 if head.0 > base.0 => {
                let op = self.random.random_range(base.0 + 1..=head.0);
                self.checkpoint((op, self.model.digest_at(op)), false)
            }
            5 if self.random.random_bool(0.3) => self.checkpoint((head.0 + 7, self.number), true),
            _ => Write::Append(self.some_entries(head)),
        }
    }

    pub(super) fn checkpoint(&mut self, (op, digest): (u64, u64), replaces: bool) -> Write {
        let length = self.random.random_range(0..3000);
        let bytes = (0..length).map(|_| self.random.random::<u8>()).collect();
        Write::Checkpoint { op, digest, bytes, replaces, promise: self.promise() }
    }
}
