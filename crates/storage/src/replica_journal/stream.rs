//! Writing records: gathered in memory, written in one go, synced together.

use super::format::{
    BLOCK_BYTES, FIRST_BATCH_AT, HEADER_BYTES, Header, Kind, Mark, PAYLOAD_BYTES_MAX,
    START_COPY_AT, Start, encode_entry, encode_install, encode_promise,
};
use crate::StorageError;
use ashlar_vr::{Entry, Promise};
use redb::StorageBackend;
use std::{ops::Range, path::PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// A segment grows by its full length divided by this.
const GROWTH_PARTS: u64 = 64;
/// A batch longer than a segment's full length divided by this is written before it is synced, so that the
/// buffer stays small.
const BUFFER_PARTS: u64 = 16;

/// The end of a journal.
#[derive(Debug)]
pub(super) struct Stream {
    /// The segment that is written.
    file: Box<dyn StorageBackend>,
    /// Its path, for messages.
    path: PathBuf,
    life: u64,
    /// Where the next batch goes.
    end: u64,
    /// Up to where the file is written: with zeros behind its end.
    length: u64,
    /// So many zeros are written ahead: a sync of a file that has not grown has less to do.
    ahead_bytes: usize,
    /// A batch that is longer is written before it is synced.
    buffer_bytes_max: usize,
    /// The next batch; its memory is used again.
    buffer: Vec<u8>,
    /// Where in the buffer the records are that get a second copy.
    vital: Vec<Range<usize>>,
    /// How far the records have come, those in the buffer included.
    mark: Mark,
    /// How far they are known to be synced.
    synced: Mark,
    /// The last number that a written record says was synced.
    told: u64,
    /// Something was written since the last sync.
    is_dirty: bool,
    /// It holds what nothing can do without.
    is_vital: bool,
}

impl Stream {
    /// Begins a segment in an empty file: `mark` is how far the journal has come before it, `synced` how far
    /// it will be when the segment has its name; `segment_bytes` its length when it is full.
    pub(super) fn begin(
        file: Box<dyn StorageBackend>,
        path: PathBuf,
        life: u64,
        start: &Start,
        (mark, synced): (Mark, Mark),
        segment_bytes: u64,
        buffer: Vec<u8>,
    ) -> Result<Self, StorageError> {
        assert!(buffer.is_empty(), "what was gathered goes into its own segment");
        let mut stream = Self {
            file,
            path,
            life,
            end: 0,
            length: 0,
            ahead_bytes: (segment_bytes / GROWTH_PARTS).next_multiple_of(BLOCK_BYTES) as usize,
            buffer_bytes_max: (segment_bytes / BUFFER_PARTS) as usize,
            buffer,
            vital: Vec::new(),
            mark,
            synced,
            told: 0,
            is_dirty: false,
            is_vital: false,
        };
        let payload = start.encode();
        assert!(HEADER_BYTES + payload.len() <= BLOCK_BYTES as usize, "a beginning is one block");
        for at in [0, START_COPY_AT as usize] {
            stream.buffer.resize(at, 0);
            stream.record(Kind::Start, |out| out.extend_from_slice(&payload));
        }
        stream.flush()?;
        assert_eq!(stream.end, FIRST_BATCH_AT);
        Ok(stream)
    }

    /// How far the records have come.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Bytes of the segment that are written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether a batch has begun.
    pub(super) fn has_gathered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The segment has another name now.
    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Gives the memory of the buffer away; what is in it is forgotten.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer
    }

    /// The entry at the next place.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), StorageError> {
        assert_eq!(entry.op, self.mark.head_op + 1, "entries are contiguous");
        self.push(Kind::Append, entry.op, |out| encode_entry(entry, out))
    }

    /// The entry at the next place is lost.
    pub(super) fn hole(&mut self) -> Result<(), StorageError> {
        self.push(Kind::Hole, self.mark.head_op + 1, |_| ())
    }

    /// An entry that was lost.
    pub(super) fn repair(&mut self, entry: &Entry) -> Result<(), StorageError> {
        self.push(Kind::Repair, self.mark.head_op, |out| encode_entry(entry, out))
    }

    pub(super) fn promise(&mut self, promise: &Promise) -> Result<(), StorageError> {
        self.push(Kind::Promise, self.mark.head_op, |out| encode_promise(promise, out))
    }

    pub(super) fn install(
        &mut self,
        after: u64,
        entries: &[Entry],
        promise: &Promise,
    ) -> Result<(), StorageError> {
        let head_op = after + entries.len() as u64;
        self.push(Kind::Install, head_op, |out| encode_install(after, entries, promise, out))
    }

    /// Says what was synced, if nothing says so yet and nothing is about to.
    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        if self.told == self.synced.number || self.has_gathered() || self.is_dirty {
            return Ok(());
        }
        // A block away from what it speaks for: one that is damaged in between must not take both.
        self.buffer.resize(BLOCK_BYTES as usize, 0);
        self.record(Kind::Seal, |_| ());
        self.flush()
    }

    /// Makes all records durable.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        if !self.is_dirty {
            return Ok(());
        }
        self.sync_file()?;
        if std::mem::take(&mut self.is_vital) {
            // Damage to an entry before it would else look like a torn write, and take it along.
            self.seal()?;
            self.sync_file()?;
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|error| StorageError::io(&self.path, error))?;
        (self.synced, self.is_dirty) = (self.mark, false);
        Ok(())
    }

    /// Adds a record that has a number.
    fn push(
        &mut self,
        kind: Kind,
        head_op: u64,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), StorageError> {
        let record = self.record(kind, payload);
        let number = self.mark.number + 1;
        if kind.is_vital() {
            self.vital.push(record);
            (self.mark.vital, self.is_vital) = (number, true);
        }
        (self.mark.number, self.mark.head_op) = (number, head_op);
        if self.buffer.len() >= self.buffer_bytes_max { self.flush() } else { Ok(()) }
    }

    /// Adds a record to the buffer. Returns where it is there.
    fn record(&mut self, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = align(&mut self.buffer, super::format::ALIGNMENT_BYTES);
        let body = start + HEADER_BYTES;
        self.buffer.resize(body, 0);
        payload(&mut self.buffer);
        let payload = &self.buffer[body..];
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "{} bytes of a {kind:?}", payload.len());
        let header = Header {
            kind,
            payload_bytes: payload.len(),
            payload_checksum: xxh3_64(payload),
            life: self.life,
            offset: self.end + start as u64,
            before: self.mark,
            synced: self.synced,
        };
        self.buffer[start..body].copy_from_slice(&header.encode());
        start..self.buffer.len()
    }

    /// Adds second copies of what nothing can do without, a block away from the first ones.
    fn copy_vital(&mut self) {
        if self.vital.is_empty() {
            return;
        }
        let copies_at = self.buffer.len() + BLOCK_BYTES as usize;
        self.buffer.resize(copies_at, 0);
        align(&mut self.buffer, BLOCK_BYTES);
        for first in self.vital.drain(..) {
            let start = align(&mut self.buffer, super::format::ALIGNMENT_BYTES);
            let offset = self.end + first.start as u64;
            let header = Header::decode(&self.buffer[first.clone()], offset).expect("just made");
            let header = Header { offset: self.end + start as u64, ..header };
            self.buffer.extend_from_slice(&header.encode());
            self.buffer.extend_from_within(first.start + HEADER_BYTES..first.end);
        }
    }

    /// Writes the buffer. Whether it has landed, the next sync tells.
    fn flush(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.copy_vital();
        let end = self.end + align(&mut self.buffer, BLOCK_BYTES) as u64;
        if end > self.length && self.buffer.len() < self.ahead_bytes {
            self.buffer.resize(self.buffer.len() + self.ahead_bytes, 0);
        }
        self.is_dirty = true;
        let written = self.file.write(self.end, &self.buffer);
        written.map_err(|error| StorageError::io(&self.path, error))?;
        self.length = self.length.max(self.end + self.buffer.len() as u64);
        self.end = end;
        self.told = self.synced.number;
        self.buffer.clear();
        Ok(())
    }
}

/// Fills up with zeros to a multiple of `to_bytes`. Returns the length.
fn align(buffer: &mut Vec<u8>, to_bytes: u64) -> usize {
    buffer.resize(buffer.len().next_multiple_of(to_bytes as usize), 0);
    buffer.len()
}
