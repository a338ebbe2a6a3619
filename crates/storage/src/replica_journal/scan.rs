//! Reading segments: every intact record, whatever lies between them.

use super::format::{
    ALIGNMENT_BYTES, BLOCK_BYTES, FIRST_BATCH_AT, HEADER_BYTES, Header, Kind, Mark, START_COPY_AT,
    Start,
};
use crate::StorageError;
use bytes::Bytes;
use redb::StorageBackend;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

/// How much is read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// A record that is intact.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) before: Mark,
    pub(super) payload: Bytes,
}

/// What the segments of a life hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Drawn for it; none before its first segment.
    life: Option<u64>,
    /// The records by their numbers; either copy of one.
    pub(super) records: BTreeMap<u64, Record>,
    /// How far it is known to have been synced.
    pub(super) synced: Mark,
    /// Bytes of all segments.
    pub(super) length_bytes: u64,
    /// The number before the first record of each segment, and the segment.
    segments: Vec<(u64, PathBuf)>,
}

impl Scan {
    /// Reads the next segment.
    ///
    /// # Errors
    /// When it cannot be read, or its beginning is damaged.
    pub(super) fn read(
        &mut self,
        file: &dyn StorageBackend,
        path: &Path,
    ) -> Result<Start, StorageError> {
        let length = file.len().map_err(|error| StorageError::io(path, error))?;
        let mut window = Window { file, path, length, at: 0, bytes: Vec::new() };
        let (header, start) = [0, START_COPY_AT]
            .into_iter()
            .find_map(|at| read_start(&mut window, at))
            .ok_or_else(|| fatal(path, "both copies of its beginning are damaged"))?;
        if start.index as usize != self.segments.len()
            || *self.life.get_or_insert(header.life) != header.life
        {
            return Err(fatal(path, "it belongs to another journal"));
        }
        self.segments.push((header.before.number, path.to_path_buf()));
        self.length_bytes += length;
        self.hear(header.synced);
        self.read_records(&mut window, header.life);
        Ok(start)
    }

    fn read_records(&mut self, window: &mut Window<'_>, life: u64) {
        let mut at = FIRST_BATCH_AT;
        while at < window.length {
            let header = window.get(at, HEADER_BYTES).and_then(|bytes| Header::decode(bytes, at));
            let Some(header) = header.filter(|header| header.life == life) else {
                at += ALIGNMENT_BYTES;
                continue;
            };
            self.hear(header.synced);
            if header.kind.is_numbered()
                && let Some(number) = header.before.number.checked_add(1)
                && !self.records.contains_key(&number)
                && let Some(payload) = read_payload(window, &header)
            {
                let record = Record { kind: header.kind, before: header.before, payload };
                self.records.insert(number, record);
            }
            at += header.record_bytes();
        }
    }

    fn hear(&mut self, synced: Mark) {
        if synced.number >= self.synced.number {
            self.synced = synced;
        }
    }

    /// The segment of a record.
    pub(super) fn path_of(&self, number: u64) -> &Path {
        let behind = self.segments.partition_point(|(before, _)| *before < number);
        self.segments.get(behind.saturating_sub(1)).map_or(Path::new(""), |(_, path)| path)
    }
}

/// Damage to `path` without whose bytes nobody can go on.
pub(super) fn fatal(path: &Path, detail: &str) -> StorageError {
    let what = path.display().to_string();
    StorageError::corrupt(what, format!("{detail}: replace this replica"))
}

fn read_start(window: &mut Window<'_>, at: u64) -> Option<(Header, Start)> {
    let header = Header::decode(window.get(at, HEADER_BYTES)?, at)?;
    if header.kind != Kind::Start {
        return None;
    }
    let payload = read_payload(window, &header)?;
    Some((header, Start::decode(&payload)?))
}

fn read_payload(window: &mut Window<'_>, header: &Header) -> Option<Bytes> {
    let at = header.offset + HEADER_BYTES as u64;
    let payload = window.get(at, header.payload_bytes)?;
    (xxh3_64(payload) == header.payload_checksum).then(|| Bytes::copy_from_slice(payload))
}

/// A part of a file.
struct Window<'a> {
    file: &'a dyn StorageBackend,
    path: &'a Path,
    length: u64,
    /// Where the part begins.
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `count` bytes from `at` on; none if the file ends before them.
    fn get(&mut self, at: u64, count: usize) -> Option<&[u8]> {
        let end = at.checked_add(count as u64).filter(|end| *end <= self.length)?;
        if at < self.at || end > self.at + self.bytes.len() as u64 {
            self.read(at, end);
        }
        let from = (at - self.at) as usize;
        self.bytes.get(from..from + count)
    }

    /// Reads from `at` on, at least up to `end`.
    fn read(&mut self, at: u64, end: u64) {
        let end = end.max(at + WINDOW_BYTES).min(self.length);
        self.at = at;
        self.bytes.resize((end - at) as usize, 0);
        if self.file.read(at, &mut self.bytes).is_ok() {
            return;
        }
        // What the disk cannot read is damaged, and nothing around it is.
        for (index, block) in self.bytes.chunks_mut(BLOCK_BYTES as usize).enumerate() {
            let at = at + index as u64 * BLOCK_BYTES;
            if let Err(error) = self.file.read(at, block) {
                tracing::warn!(path = %self.path.display(), at, %error, "unreadable");
                block.fill(0);
            }
        }
    }
}
