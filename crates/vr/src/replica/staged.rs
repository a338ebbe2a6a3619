//! Entries of a log on its way here, beside the log that is there.

use crate::Entry;
use std::collections::BTreeMap;

/// Places that are asked for at once.
const RANGE_ENTRIES_MAX: u64 = 1_024;
/// The same before it is known how long entries are.
const RANGE_ENTRIES_FIRST: u64 = 16;

/// The places of a log that are fetched, and what of them has come.
#[derive(Debug)]
pub(super) struct Staged {
    /// The first place that is fetched.
    first_op: u64,
    /// The last one.
    target_op: u64,
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    /// Everything from the first place up to here has come.
    whole_op: u64,
    /// Everything up to here was asked for.
    asked_op: u64,
}

impl Staged {
    /// Nothing of it has come yet.
    pub(super) fn new(first_op: u64, target_op: u64) -> Self {
        let (whole_op, asked_op) = (first_op - 1, first_op - 1);
        Self { first_op, target_op, entries: BTreeMap::new(), bytes: 0, whole_op, asked_op }
    }

    pub(super) fn first_op(&self) -> u64 {
        self.first_op
    }

    pub(super) fn target_op(&self) -> u64 {
        self.target_op
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// In their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_values().collect()
    }

    /// Whether everything has come.
    pub(super) fn is_whole(&self) -> bool {
        self.whole_op >= self.target_op
    }

    /// Fetches everything from an earlier place on, and forgets what has come.
    pub(super) fn begin_again(&mut self, first_op: u64) {
        *self = Self::new(first_op, self.target_op);
    }

    /// Fetches nothing before a later place.
    pub(super) fn begin_later(&mut self, first_op: u64) {
        if first_op <= self.first_op {
            return;
        }
        self.first_op = first_op;
        self.entries = self.entries.split_off(&first_op);
        self.bytes = self.entries.values().map(Entry::bytes).sum();
        self.whole_op = self.whole_op.max(first_op - 1);
        self.asked_op = self.asked_op.max(first_op - 1);
        self.see_whole();
    }

    /// Takes an entry that has come. False if it is not wanted, or here.
    pub(super) fn take(&mut self, entry: Entry) -> bool {
        let is_wanted = (self.first_op..=self.target_op).contains(&entry.op);
        if !is_wanted || self.entries.contains_key(&entry.op) {
            return false;
        }
        self.bytes += entry.bytes();
        self.entries.insert(entry.op, entry);
        self.see_whole();
        true
    }

    fn see_whole(&mut self) {
        while self.entries.contains_key(&(self.whole_op + 1)) {
            self.whole_op += 1;
        }
    }

    /// The places to ask for next, of about so many bytes, if there is room under way: at most one range is, and half of
    /// another.
    pub(super) fn next_range(&mut self, range_bytes: usize) -> Option<(u64, u64)> {
        let average_bytes = self.bytes / self.entries.len().max(1);
        let range = match average_bytes {
            0 => RANGE_ENTRIES_FIRST,
            bytes => (range_bytes / bytes).clamp(1, RANGE_ENTRIES_MAX as usize) as u64,
        };
        let has_room = self.asked_op <= self.whole_op + range / 2;
        (has_room && self.asked_op < self.target_op).then(|| {
            let first_op = self.asked_op + 1;
            self.asked_op = self.target_op.min(self.asked_op + range);
            (first_op, self.asked_op)
        })
    }

    /// Asks anew for what was asked for and has not come.
    pub(super) fn ask_again(&mut self) {
        self.asked_op = self.whole_op;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientId, Kind, Request, View};
    use bytes::Bytes;

    const RANGE_BYTES: usize = 64 << 10;

    fn entry(op: u64, bytes: usize) -> Entry {
        let (client, body) = (ClientId(1), Bytes::from(vec![0; bytes]));
        let request = Request {
            client,
            session: 1,
            number: op,
            acknowledged: 0,
            kind: Kind::Operation,
            body,
        };
        Entry { op, view: View::default(), time_ms: 0, request, digest: 0 }
    }

    #[test]
    fn ranges_follow_what_comes_and_are_never_far_ahead() {
        let mut staged = Staged::new(5, 2_000);
        assert_eq!(staged.next_range(RANGE_BYTES), Some((5, 20)));
        assert_eq!(staged.next_range(RANGE_BYTES), None);
        for op in 5..=12 {
            assert!(staged.take(entry(op, 60_000)));
        }
        // Long entries are asked for one by one.
        assert_eq!(staged.next_range(RANGE_BYTES), None);
        staged.ask_again();
        assert_eq!(staged.next_range(RANGE_BYTES), Some((13, 13)));
        assert_eq!(staged.next_range(RANGE_BYTES), None);
    }

    #[test]
    fn what_is_lost_is_asked_for_again() {
        let mut staged = Staged::new(1, 3);
        assert_eq!(staged.next_range(RANGE_BYTES), Some((1, 3)));
        assert!(staged.take(entry(1, 10)) && staged.take(entry(3, 10)));
        assert!(!staged.take(entry(3, 10)) && !staged.take(entry(4, 10)));
        assert!(!staged.is_whole());
        staged.ask_again();
        assert_eq!(staged.next_range(RANGE_BYTES), Some((2, 3)));
        assert!(staged.take(entry(2, 10)) && staged.is_whole());
        assert_eq!(staged.into_entries().len(), 3);
    }

    #[test]
    fn what_a_snapshot_covers_is_forgotten() {
        let mut staged = Staged::new(1, 9);
        for op in [1, 2, 5, 6] {
            staged.take(entry(op, 10));
        }
        staged.begin_later(5);
        assert_eq!(staged.entries().map(|entry| entry.op).collect::<Vec<_>>(), [5, 6]);
        staged.ask_again();
        assert_eq!(staged.next_range(RANGE_BYTES), Some((7, 9)));
        staged.begin_again(2);
        assert_eq!((staged.first_op(), staged.bytes()), (2, 0));
        assert_eq!(staged.next_range(RANGE_BYTES), Some((2, 9)));
    }
}
