//! The journal: the latest batches, appended and synced, so that a batch costs one sequential write
//! and one sync while the key-value store gathers its scattered pages for a later one.
//!
//! The file has a fixed length and is filled from its start. When the next frame does not fit, the
//! key-value store is synced and the file is filled from its start again ([`Journal::restart`]).
//! Frames carry consecutive numbers. Those that the key-value store has synced are not replayed;
//! what an earlier filling left behind has lower numbers.
//!
//! A frame starts at a multiple of [`ALIGNMENT_BYTES`], so that writing one never touches a disk
//! block that holds an acknowledged one:
//!
//! | bytes | |
//! |-------|-|
//! | 4 | magic and format |
//! | 4 | length of the payload |
//! | 8 | number |
//! | 4 | CRC32C of the fields above and the payload |
//! | … | the steps of the batch |
//!
//! All integers are little-endian. A frame that was not synced completely ends the journal. If an
//! intact frame with a higher number lies behind it, it had been synced and the disk has damaged it
//! since.

use crate::{StorageError, step::Step};
use redb::StorageBackend;
use std::path::PathBuf;

/// Marks a frame, and the format of its payload.
const MAGIC: u32 = u32::from_le_bytes(*b"ajr1");
/// Bytes of a frame before its payload.
const HEADER_BYTES: usize = 20;
/// Where the header's checksum starts.
const CHECKSUM_AT: usize = 16;
/// Frames start at multiples of this: the largest common block of disks and page caches.
const ALIGNMENT_BYTES: usize = 4096;

/// The journal of one data directory.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The file, or a simulated one.
    file: Box<dyn StorageBackend>,
    /// Its path, for messages.
    path: PathBuf,
    /// Its length in bytes.
    length: u64,
    /// Where the next frame goes.
    end: u64,
    /// The next frame; its memory is used again.
    frame: Vec<u8>,
}

/// What a frame's header says.
struct Header {
    payload_bytes: usize,
    number: u64,
    checksum: u32,
}

impl Journal {
    /// Opens a journal. A file shorter than `length_min` bytes is extended.
    pub(crate) fn open(
        file: Box<dyn StorageBackend>,
        path: PathBuf,
        length_min: u64,
    ) -> Result<Self, StorageError> {
        let io = |error| StorageError::io(&path, error);
        let mut length = file.len().map_err(io)?;
        if length < length_min {
            file.set_len(length_min).map_err(io)?;
            file.sync_data().map_err(io)?;
            length = length_min;
        }
        Ok(Self { file, path, length, end: 0, frame: Vec::new() })
    }

    /// Offers the batches numbered `first` and up, in order. Returns the number after the last.
    pub(crate) fn replay(
        &self,
        first: u64,
        visit: &mut dyn FnMut(Vec<Step>) -> Result<(), StorageError>,
    ) -> Result<u64, StorageError> {
        let mut expected = first;
        let mut at = 0;
        while let Some((payload, next)) = self.frame_at(at, expected)? {
            let steps = postcard::from_bytes(&payload).map_err(|error| self.damaged(at, &error))?;
            visit(steps)?;
            expected += 1;
            at = next;
        }
        self.check_nothing_follows(at, expected)?;
        Ok(expected)
    }

    /// Prepares a frame; tells whether it fits into what is left of the file.
    pub(crate) fn prepare(&mut self, number: u64, steps: &[Step]) -> bool {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
        frame = postcard::to_extend(steps, frame).expect("steps can be encoded");
        let payload_bytes = u32::try_from(frame.len() - HEADER_BYTES).expect("a batch below 4 GiB");
        frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        frame[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
        frame[8..CHECKSUM_AT].copy_from_slice(&number.to_le_bytes());
        let checksum = checksum(&frame[..CHECKSUM_AT], &frame[HEADER_BYTES..]);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.frame = frame;
        self.end + self.frame.len() as u64 <= self.length
    }

    /// Writes the prepared frame. May be repeated after an error.
    pub(crate) fn write(&mut self) -> Result<(), StorageError> {
        assert!(self.end + self.frame.len() as u64 <= self.length);
        self.file.write(self.end, &self.frame).map_err(|error| StorageError::io(&self.path, error))
    }

    /// Makes the written frame durable. After an error it is not known what the disk holds.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .map_err(|source| StorageError::Io { path: self.path.clone(), source })?;
        self.end = aligned(self.end + self.frame.len() as u64);
        Ok(())
    }

    /// Fills the file from its start again: the key-value store has synced all that it holds.
    pub(crate) fn restart(&mut self) {
        self.end = 0;
    }

    /// The payload of the frame at `at` if it is intact and has this number, and where the next
    /// one starts.
    fn frame_at(&self, at: u64, number: u64) -> Result<Option<(Vec<u8>, u64)>, StorageError> {
        let Some((header, bytes)) = self.header_at(at)? else {
            return Ok(None);
        };
        if header.number != number {
            return Ok(None);
        }
        let mut payload = vec![0; header.payload_bytes];
        self.read(at + HEADER_BYTES as u64, &mut payload)?;
        let intact = header.checksum == checksum(&bytes[..CHECKSUM_AT], &payload);
        let next = aligned(at + (HEADER_BYTES + payload.len()) as u64);
        Ok(intact.then_some((payload, next)))
    }

    /// The header at `at` if it can be one.
    fn header_at(&self, at: u64) -> Result<Option<(Header, [u8; HEADER_BYTES])>, StorageError> {
        let start = at + HEADER_BYTES as u64;
        if start > self.length {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        self.read(at, &mut bytes)?;
        let integer = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let payload_bytes = integer(4);
        if integer(0) != MAGIC || u64::from(payload_bytes) > self.length - start {
            return Ok(None);
        }
        let header = Header {
            payload_bytes: payload_bytes as usize,
            number: u64::from(integer(8)) | u64::from(integer(12)) << 32,
            checksum: integer(CHECKSUM_AT),
        };
        Ok(Some((header, bytes)))
    }

    /// Makes sure that the journal was not cut by damage: a frame behind its end that is numbered
    /// later than `expected` was written after frame `expected` had been synced.
    fn check_nothing_follows(&self, end: u64, expected: u64) -> Result<(), StorageError> {
        for at in (end..self.length).step_by(ALIGNMENT_BYTES) {
            let number = self.header_at(at)?.map_or(0, |(header, _)| header.number);
            if number > expected && self.frame_at(at, number)?.is_some() {
                return Err(self.damaged(end, &format!("batch {number} lies behind it")));
            }
        }
        Ok(())
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.file.read(at, bytes).map_err(|error| StorageError::io(&self.path, error))
    }

    fn damaged(&self, at: u64, detail: &dyn ToString) -> StorageError {
        let what = format!("{} at byte {at}", self.path.display());
        StorageError::corrupt(what, detail.to_string())
    }
}

fn aligned(at: u64) -> u64 {
    at.next_multiple_of(ALIGNMENT_BYTES as u64)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    const LENGTH: u64 = 10 * ALIGNMENT_BYTES as u64;

    fn journal(bytes: &[u8]) -> Journal {
        let file = InMemoryBackend::new();
        file.set_len(bytes.len() as u64).unwrap();
        file.write(0, bytes).unwrap();
        Journal::open(Box::new(file), "journal".into(), LENGTH).unwrap()
    }

    fn contents(journal: &Journal) -> Vec<u8> {
        let mut bytes = vec![0; journal.length as usize];
        journal.read(0, &mut bytes).unwrap();
        bytes
    }

    fn joined(partition: u16) -> Vec<Step> {
        vec![Step::Joined { partition }]
    }

    fn append(journal: &mut Journal, number: u64) {
        if !journal.prepare(number, &joined(number as u16)) {
            journal.restart();
        }
        journal.write().unwrap();
        journal.sync().unwrap();
    }

    /// The batches that a replay finds, and the next number.
    fn replay(journal: &Journal, first: u64) -> Result<(Vec<Step>, u64), StorageError> {
        let mut found = Vec::new();
        let next = journal.replay(first, &mut |steps| {
            found.extend(steps);
            Ok(())
        })?;
        Ok((found, next))
    }

    #[test]
    fn what_was_appended_is_replayed() {
        let mut journal = journal(&[]);
        (5..8).for_each(|number| append(&mut journal, number));
        let expected = [joined(5), joined(6), joined(7)].concat();
        assert_eq!(replay(&journal, 5).unwrap(), (expected, 8));
    }

    #[test]
    fn what_an_earlier_filling_left_behind_is_not_replayed() {
        let mut journal = journal(&[]);
        (1..=10).for_each(|number| append(&mut journal, number));
        assert_eq!(replay(&journal, 11).unwrap(), (vec![], 11));
        append(&mut journal, 11);
        assert_eq!(journal.end, ALIGNMENT_BYTES as u64);
        assert_eq!(replay(&journal, 11).unwrap(), (joined(11), 12));
    }

    #[test]
    fn a_torn_last_frame_ends_the_journal() {
        let mut first = journal(&[]);
        append(&mut first, 1);
        append(&mut first, 2);
        for at in ALIGNMENT_BYTES..ALIGNMENT_BYTES + HEADER_BYTES + 3 {
            let mut bytes = contents(&first);
            bytes[at] ^= 1;
            assert_eq!(replay(&journal(&bytes), 1).unwrap(), (joined(1), 2));
        }
    }

    #[test]
    fn a_damaged_frame_in_the_middle_is_told() {
        let mut first = journal(&[]);
        (1..4).for_each(|number| append(&mut first, number));
        for at in ALIGNMENT_BYTES..ALIGNMENT_BYTES + HEADER_BYTES + 3 {
            let mut bytes = contents(&first);
            bytes[at] ^= 1;
            let error = replay(&journal(&bytes), 1).unwrap_err();
            assert!(error.is_corruption(), "{error}");
        }
    }

    #[test]
    fn a_frame_that_does_not_fit_is_told() {
        let mut journal = journal(&[]);
        let steps = |bytes| vec![Step::Joined { partition: 1 }; bytes];
        // A joined step takes two bytes, the count of the steps up to three.
        assert!(journal.prepare(1, &steps(20_000)));
        assert!(!journal.prepare(1, &steps(20_500)));
    }

    proptest! {
        /// Garbage is no batch, and the search for batches behind it ends.
        #[test]
        fn garbage_ends_the_journal(
            garbage in proptest::collection::vec(any::<u8>(), 0..100),
            at in 0usize..3,
        ) {
            let mut bytes = vec![0; LENGTH as usize];
            let start = at * ALIGNMENT_BYTES;
            bytes[start..start + garbage.len()].copy_from_slice(&garbage);
            prop_assert_eq!(replay(&journal(&bytes), 1).unwrap(), (vec![], 1));
        }

        /// Cut anywhere, a journal replays a prefix of what was appended: all that was synced.
        #[test]
        fn a_cut_journal_replays_a_prefix(cut in 0usize..9 * ALIGNMENT_BYTES) {
            let mut whole = journal(&[]);
            (1..9).for_each(|number| append(&mut whole, number));
            let cut_bytes = contents(&whole)[..cut].to_vec();
            // A frame here is its header, the count of its steps and a step of two bytes.
            let frame_bytes = HEADER_BYTES + 3;
            let intact = (0..8).filter(|i| i * ALIGNMENT_BYTES + frame_bytes <= cut).count();
            let (found, _) = replay(&journal(&cut_bytes), 1).unwrap();
            prop_assert_eq!(found.len(), intact);
            let prefix: Vec<_> = (1..=found.len() as u16).flat_map(joined).collect();
            prop_assert_eq!(found, prefix);
        }
    }
}
