//! The log: what a replica has of the sequence of entries.

use crate::Entry;
use std::collections::{BTreeSet, VecDeque};

/// The entries behind a base up to a head. Between them some may be missing: a disk lost them.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The place before the first slot. Entries up to it are part of a snapshot, or of nothing yet.
    base_op: u64,
    /// The digest of the entry at the base.
    base_digest: u64,
    slots: VecDeque<Option<Entry>>,
    /// Places without their entry.
    holes: BTreeSet<u64>,
    bytes: usize,
}

impl Log {
    /// An empty log behind an entry.
    pub fn behind(base_op: u64, base_digest: u64) -> Self {
        Self { base_op, base_digest, ..Self::default() }
    }

    /// The place before the first entry that is kept.
    pub fn base_op(&self) -> u64 {
        self.base_op
    }

    /// The last place.
    pub fn head_op(&self) -> u64 {
        self.base_op + self.slots.len() as u64
    }

    /// The digest at the last place; none if its entry is missing.
    pub fn head_digest(&self) -> Option<u64> {
        self.digest_at(self.head_op())
    }

    /// The digest of the entry at `op`, which may be the base; none if it is not known.
    pub fn digest_at(&self, op: u64) -> Option<u64> {
        if op == self.base_op {
            return Some(self.base_digest);
        }
        self.get(op).map(|entry| entry.digest)
    }

    /// The entry at `op`, if it is here.
    pub fn get(&self, op: u64) -> Option<&Entry> {
        let index = op.checked_sub(self.base_op + 1)?;
        self.slots.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// The entries from `first` on, as far as they are here without a gap.
    pub fn from(&self, first: u64) -> impl Iterator<Item = &Entry> {
        let skipped = first.saturating_sub(self.base_op + 1);
        let starts_here = first > self.base_op;
        self.slots
            .iter()
            .skip(skipped as usize)
            .map_while(Option::as_ref)
            .filter(move |_| starts_here)
    }

    /// Places without their entry.
    pub fn holes(&self) -> &BTreeSet<u64> {
        &self.holes
    }

    /// The last place before the first hole.
    pub fn whole_op(&self) -> u64 {
        self.holes.first().map_or(self.head_op(), |hole| hole - 1)
    }

    /// The room that the entries take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the next entry.
    ///
    /// # Panics
    /// When it does not follow the last one.
    pub fn append(&mut self, entry: Entry) {
        assert_eq!(entry.op, self.head_op() + 1, "entries are contiguous");
        if let Some(previous) = self.head_digest() {
            assert!(entry.follows(previous), "entry {} belongs to another log", entry.op);
        }
        self.bytes += entry.bytes();
        self.slots.push_back(Some(entry));
    }

    /// Appends the place of an entry that is missing.
    pub fn append_hole(&mut self) {
        self.slots.push_back(None);
        self.holes.insert(self.head_op());
    }

    /// Puts an entry into its hole; false if it is not the one that belongs there.
    pub fn fill(&mut self, entry: Entry) -> bool {
        let op = entry.op;
        if !self.holes.contains(&op) {
            return false;
        }
        let follows = self.digest_at(op - 1).is_none_or(|previous| entry.follows(previous));
        let is_followed = self.get(op + 1).is_none_or(|next| next.follows(entry.digest));
        if !follows || !is_followed {
            return false;
        }
        self.holes.remove(&op);
        self.bytes += entry.bytes();
        self.slots[(op - self.base_op - 1) as usize] = Some(entry);
        true
    }

    /// Forgets the entries behind `op`.
    ///
    /// # Panics
    /// When `op` is before the base.
    pub fn truncate(&mut self, op: u64) {
        assert!(op >= self.base_op, "what is in a snapshot stays");
        while self.head_op() > op {
            self.holes.remove(&self.head_op());
            let entry = self.slots.pop_back().expect("the head is behind the base");
            self.bytes -= entry.map_or(0, |entry| entry.bytes());
        }
    }

    /// Forgets the entries up to `op`.
    ///
    /// # Panics
    /// When one of them is missing, or `op` is behind the head.
    pub fn release(&mut self, op: u64) {
        while self.base_op < op {
            let entry = self.slots.pop_front().flatten().expect("only what is here is released");
            self.bytes -= entry.bytes();
            (self.base_op, self.base_digest) = (entry.op, entry.digest);
        }
    }

    /// Forgets the entries up to `op`, whether they are here or not: a snapshot has them, and `digest` is the
    /// one there.
    ///
    /// # Panics
    /// When the log does not reach there.
    pub fn rebase(&mut self, op: u64, digest: u64) {
        while self.base_op < op {
            let entry = self.slots.pop_front().expect("the log reaches there");
            self.bytes -= entry.map_or(0, |entry| entry.bytes());
            self.base_op += 1;
            self.holes.remove(&self.base_op);
        }
        self.base_digest = digest;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{ClientId, Kind, Request, View};
    use bytes::Bytes;

    fn entries(count: u64, view: u64) -> Vec<Entry> {
        let mut digest = 0;
        let entry = |op| {
            let body = Bytes::from(vec![op as u8; 3]);
            let (client, kind) = (ClientId(1), Kind::Operation);
            let request = Request { client, session: 1, number: op, acknowledged: 0, kind, body };
            let entry = Entry::new(op, View::new(0, view), 0, request, digest);
            digest = entry.digest;
            entry
        };
        (1..=count).map(entry).collect()
    }

    fn log(count: u64) -> Log {
        let mut log = Log::behind(0, 0);
        entries(count, 0).into_iter().for_each(|entry| log.append(entry));
        log
    }

    #[test]
    fn entries_are_appended_truncated_and_released() {
        let mut log = log(9);
        let digest = log.digest_at(4).unwrap();
        log.release(4);
        log.truncate(7);
        assert_eq!((log.base_op(), log.head_op(), log.digest_at(4)), (4, 7, Some(digest)));
        assert_eq!(log.from(6).map(|entry| entry.op).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(log.from(4).count(), 0, "what was released cannot be read");
        log.truncate(4);
        assert_eq!((log.bytes(), log.head_digest()), (0, Some(digest)));
    }

    #[test]
    #[should_panic(expected = "another log")]
    fn an_entry_of_another_log_is_not_appended() {
        log(3).append(entries(4, 1).pop().unwrap());
    }

    #[test]
    fn holes_are_filled_by_the_entries_that_belong_there() {
        let (all, mut log) = (entries(5, 0), Log::behind(0, 0));
        for entry in &all {
            if entry.op == 2 || entry.op == 5 {
                log.append_hole()
            } else {
                log.append(entry.clone())
            }
        }
        assert_eq!((log.whole_op(), log.head_op(), log.head_digest()), (1, 5, None));
        assert_eq!(log.from(1).count(), 1);
        assert!(!log.fill(entries(2, 7).pop().unwrap()), "an entry of another view");
        assert!(log.fill(all[1].clone()) && !log.fill(all[1].clone()));
        assert!(log.fill(all[4].clone()));
        assert_eq!((log.whole_op(), log.from(1).count()), (5, 5));
        assert_eq!(log.bytes(), all.iter().map(Entry::bytes).sum::<usize>());
    }
}
