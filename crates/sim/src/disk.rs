//! Disks: writes are durable once they are synced, and not before.

use crate::random::Random;
use std::{collections::VecDeque, mem, ops::Range};

/// What a disk holds.
pub trait Contents: Clone + Default {
    /// One atomic change: all of it survives a crash or none.
    type Write;

    /// Makes the change.
    fn apply(&mut self, write: &Self::Write);
}

/// Which of the writes that were not synced survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Any first few: a journal, whose recovery stops at the first hole.
    Prefix,
    /// Any: separate files.
    Any,
}

/// Names a write of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(u64);

/// A disk as its host sees it, and what would be left of it after a power loss.
#[derive(Debug)]
pub struct Disk<C: Contents> {
    survivors: Survivors,
    /// With all writes.
    current: C,
    /// With the synced writes only.
    durable: C,
    /// The others, in order.
    unsynced: VecDeque<(WriteId, C::Write)>,
    written: u64,
}

impl<C: Contents> Disk<C> {
    /// An empty disk.
    pub fn new(survivors: Survivors) -> Self {
        Self {
            survivors,
            current: C::default(),
            durable: C::default(),
            unsynced: VecDeque::new(),
            written: 0,
        }
    }

    /// A disk that holds something, all of it synced.
    pub fn holding(survivors: Survivors, contents: C) -> Self {
        Self { current: contents.clone(), durable: contents, ..Self::new(survivors) }
    }

    /// Whether everything is synced.
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// What the host reads: all writes, synced or not.
    pub fn current(&self) -> &C {
        &self.current
    }

    /// What is certain to survive.
    pub fn durable(&self) -> &C {
        &self.durable
    }

    /// Writes, without sync.
    pub fn write(&mut self, write: C::Write) -> WriteId {
        self.current.apply(&write);
        self.written += 1;
        let id = WriteId(self.written);
        self.unsynced.push_back((id, write));
        id
    }

    /// Makes that write and all before it durable.
    pub fn sync_through(&mut self, id: WriteId) {
        while self.unsynced.front().is_some_and(|(at, _)| *at <= id) {
            let (_, write) = self.unsynced.pop_front().expect("the queue has a front");
            self.durable.apply(&write);
        }
    }

    /// Makes only that write durable; nothing happens if it is already.
    pub fn sync_only(&mut self, id: WriteId) {
        assert_eq!(self.survivors, Survivors::Any, "a journal syncs in order");
        if let Ok(place) = self.unsynced.binary_search_by_key(&id, |(at, _)| *at) {
            let (_, write) = self.unsynced.remove(place).expect("the place was found");
            self.durable.apply(&write);
        }
    }

    /// Makes everything durable; says how many writes that were.
    pub fn sync_all(&mut self) -> usize {
        let synced = self.unsynced.len();
        self.sync_through(WriteId(u64::MAX));
        synced
    }

    /// The power is lost: each write that was not synced is kept or lost by chance. Says how many
    /// were kept and lost.
    pub fn lose_power(&mut self, random: &mut Random) -> (usize, usize) {
        let unsynced = mem::take(&mut self.unsynced);
        let total = unsynced.len();
        let mut kept = 0;
        match self.survivors {
            Survivors::Prefix => {
                kept = random.index(total + 1);
                unsynced.iter().take(kept).for_each(|(_, write)| self.durable.apply(write));
            }
            Survivors::Any => {
                for (_, write) in &unsynced {
                    if random.chance(0.5) {
                        kept += 1;
                        self.durable.apply(write);
                    }
                }
            }
        }
        if total > 0 {
            self.current = self.durable.clone();
        }
        (kept, total - kept)
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self) {
        self.current = C::default();
        self.durable = C::default();
        self.unsynced.clear();
    }
}

/// How long syncs take.
#[derive(Clone, Debug)]
pub struct SyncTime {
    /// In microseconds, while the disk is well.
    pub usual_us: Range<u64>,
    /// How many times longer it takes during a slow episode.
    pub slow_factor: u64,
}

impl SyncTime {
    /// How long the next sync takes, in microseconds.
    pub fn draw_us(&self, slow: bool, random: &mut Random) -> u64 {
        let factor = if slow { self.slow_factor } else { 1 };
        random.range(self.usual_us.clone()) * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default, Debug, PartialEq, Eq)]
    struct Letters(String);

    impl Contents for Letters {
        type Write = char;

        fn apply(&mut self, write: &char) {
            self.0.push(*write);
        }
    }

    fn disk(survivors: Survivors) -> Disk<Letters> {
        let mut disk = Disk::new(survivors);
        let synced = "ab".chars().map(|letter| disk.write(letter)).last();
        disk.sync_through(synced.expect("two letters were written"));
        "cdef".chars().for_each(|letter| {
            disk.write(letter);
        });
        disk
    }

    fn after_power_loss(survivors: Survivors) -> Vec<String> {
        let mut left: Vec<String> = (0..200)
            .map(|seed| {
                let mut disk = disk(survivors);
                let (kept, lost) = disk.lose_power(&mut Random::new(seed));
                assert_eq!((kept + 2, kept + lost), (disk.current().0.len(), 4));
                assert_eq!(disk.current(), disk.durable());
                disk.current().0.clone()
            })
            .collect();
        left.sort_unstable();
        left.dedup();
        left
    }

    #[test]
    fn the_host_reads_what_it_wrote_and_keeps_what_it_synced() {
        let mut disk = disk(Survivors::Prefix);
        assert_eq!(disk.current().0, "abcdef");
        assert_eq!(disk.durable().0, "ab");
        assert_eq!(disk.sync_all(), 4);
        assert_eq!(disk.durable().0, "abcdef");
    }

    #[test]
    fn a_journal_keeps_a_prefix() {
        let expected = ["ab", "abc", "abcd", "abcde", "abcdef"];
        assert_eq!(after_power_loss(Survivors::Prefix), expected);
    }

    #[test]
    fn separate_files_survive_independently() {
        let left = after_power_loss(Survivors::Any);
        assert_eq!(left.len(), 16);
        assert!(left.contains(&"abdf".to_owned()));
    }

    #[test]
    fn one_file_is_synced_without_the_others() {
        let mut disk = Disk::<Letters>::new(Survivors::Any);
        disk.write('a');
        let second = disk.write('b');
        disk.sync_only(second);
        disk.sync_only(second);
        assert_eq!(disk.durable().0, "b");
    }
}
