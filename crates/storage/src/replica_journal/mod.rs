//! The journal of a replica: what Viewstamped Replication ([`ashlar_vr`]) must find again after a restart.
//!
//! [`ReplicaJournal`] performs duties 1, 2 and 4 of that crate's shell. One thread takes writes
//! ([`ReplicaJournal::append`]), as many as wait, makes them durable together ([`ReplicaJournal::sync`]) and then
//! calls [`ashlar_vr::Replica::handle_persisted`] with the number of the last one. When it has nothing to do,
//! it calls [`ReplicaJournal::seal`].
//!
//! | name                  | holds |
//! |-----------------------|-------|
//! | `lock`                | nothing; locked by the process that uses the journal |
//! | `segment-LIFE-INDEX`  | records (`format`) |
//! | `checkpoint-ID`       | a snapshot |
//! | `….new`               | a file that is not complete |
//!
//! A journal exists because somebody [created](ReplicaJournal::create) it, once, for a replica that is new. A replica that
//! finds none has lost what it promised, and must not begin anew.
//!
//! A journal has **lives**. Each begins with a first segment that repeats all that still matters, and that has
//! its name only when it is complete and synced: that is the one moment at which it takes the place of what was
//! there before, which is then removed. A life begins when the journal is opened, with each checkpoint, with an
//! installed log that is too long for one record, and where a full segment holds little that still matters.
//! So what a crash or damage left behind is never appended to, and segments do not pile up.
//!
//! Damage is found by the numbers of the records that are missing: see `replay` and
//! `docs/replication.md`.

pub(crate) mod folder;
mod format;
pub(crate) mod ids;
mod replay;
mod scan;
mod stream;
#[cfg(test)]
mod tests;

use crate::StorageError;
use ashlar_vr::{Entry, Log, Restored, Write};
use bytes::Bytes;
use folder::{Folder, RealFolder};
pub use format::Purpose;
use format::{CheckpointName, ENTRY_BYTES, Mark, PAYLOAD_BYTES_MAX, Root, Start};
use ids::Ids;
use replay::{State, replay};
use scan::{Scan, fatal};
use std::path::Path;
use stream::Stream;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of an owner's name, at most.
const OWNER_BYTES_MAX: usize = 1_024;
/// A segment that is longer gets no more batches.
const SEGMENT_BYTES: u64 = 64 << 20;
/// An installed log that is longer than a segment's full length divided by this begins a new life.
const INSTALL_PARTS: u64 = 8;
const _: () = assert!(SEGMENT_BYTES / INSTALL_PARTS <= PAYLOAD_BYTES_MAX as u64);
/// More than an installed log takes besides its entries: the promise, with all members' addresses.
const INSTALL_BYTES: usize = 1024;
/// Ends the names of files that are not complete.
const INCOMPLETE: &str = ".new";

/// What a journal has kept.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Nothing: it was created, and no promise was made since.
    Created(Purpose),
    /// All of it: a durable group's [`ashlar_vr::Start::Restored`]. A volatile group writes nothing but promises,
    /// so it finds neither a checkpoint nor entries, and takes the promise for [`ashlar_vr::Start::Lost`].
    Kept(Restored),
}

/// The durable memory of one replica.
#[derive(Debug)]
pub struct ReplicaJournal {
    stream: Stream,
    /// Counts the lives.
    generation: u64,
    /// The present segment of this life.
    index: u32,
    /// What would be found, once all that was appended is synced.
    state: State,
    /// A segment that is longer gets no more batches.
    segment_bytes: u64,
    /// Something failed: nobody knows what the disk holds, and a second sync would not tell.
    has_failed: bool,
    /// Names lives and checkpoints.
    ids: Ids,
    /// Dropped last: it holds the lock.
    folder: Box<dyn Folder>,
}

impl ReplicaJournal {
    /// Creates a journal in `directory`, durably, for a replica that has never made a promise, and that `owner` names
    /// in at most 1 KiB, to be told from others for ever. Where anything of a
    /// journal is, even a damaged one, nothing is done. Gives whether it was created.
    ///
    /// If the power goes meanwhile, the next call creates it. It is the same journal that later holds the promises,
    /// so whoever finds them finds no beginning any more.
    ///
    /// # Errors
    /// When the directory is in use, or cannot be made, read or written.
    ///
    /// # Panics
    /// When the name is longer.
    pub fn create(directory: &Path, purpose: Purpose, owner: &str) -> Result<bool, StorageError> {
        // One that is in use exists, and need not be locked to be seen.
        if directory.is_dir() && folder::names_in(directory)?.iter().any(|name| is_name(name)) {
            return Ok(false);
        }
        Self::create_in(&RealFolder::create(directory)?, (purpose, owner), Ids::Random)
    }

    pub(crate) fn create_in(
        folder: &dyn Folder,
        (purpose, owner): (Purpose, &str),
        mut ids: Ids,
    ) -> Result<bool, StorageError> {
        assert!(owner.len() <= OWNER_BYTES_MAX, "an owner's name of {} bytes", owner.len());
        if folder.names()?.iter().any(|name| is_name(name)) {
            return Ok(false);
        }
        let state = State { purpose, owner: owner.to_owned(), ..State::default() };
        begin_life(folder, (1, ids.draw()), &state, SEGMENT_BYTES, Vec::new())?;
        Ok(true)
    }

    /// Opens the journal in `directory`.
    ///
    /// All that it holds is read and written again, into a new life.
    ///
    /// # Errors
    /// When there is [none](StorageError::NoJournal); when the directory is in use, cannot be read or written, or has
    /// lost more than entries: such an error [is corruption](StorageError::is_corruption), names the file and
    /// leaves everything as it is.
    pub fn open(directory: &Path) -> Result<(Self, Contents), StorageError> {
        Self::open_in(Box::new(RealFolder::open(directory)?), SEGMENT_BYTES, Ids::Random)
    }

    pub(crate) fn open_in(
        folder: Box<dyn Folder>,
        segment_bytes: u64,
        mut ids: Ids,
    ) -> Result<(Self, Contents), StorageError> {
        let names = folder.names()?;
        let lives = names.iter().filter_map(|name| segment_of_name(name)).map(|(life, _)| life);
        let Some(last) = lives.max() else {
            return Err(match names.iter().find(|name| is_checkpoint(name)) {
                Some(name) => {
                    fatal(&folder.path().join(name), "it is here, but the segments are not")
                }
                None => StorageError::NoJournal { path: folder.path().to_path_buf() },
            });
        };
        let state = read_life(&*folder, &names, last)?;
        let checkpoint = match state.checkpoint {
            Some(name) => Some(read_checkpoint(&*folder, name)?),
            None => None,
        };
        let contents = match state.promise.clone() {
            None => Contents::Created(state.purpose),
            Some(promise) => {
                let places = state.log.base_op() + 1..=state.log.head_op();
                let entries = places.map(|op| state.log.get(op).cloned()).collect();
                Contents::Kept(Restored { promise, checkpoint, entries })
            }
        };
        let overflow = || fatal(folder.path(), "its segments' names are used up");
        let generation = last.checked_add(1).ok_or_else(overflow)?;
        let stream =
            begin_life(&*folder, (generation, ids.draw()), &state, segment_bytes, Vec::new())?;
        let (index, has_failed) = (0, false);
        let journal =
            Self { stream, generation, index, state, segment_bytes, has_failed, ids, folder };
        Ok((journal, contents))
    }

    /// Whose journal it is, as [it was created](Self::create).
    pub fn owner(&self) -> &str {
        &self.state.owner
    }

    /// Takes a write, which is durable when the next [`Self::sync`] has succeeded. Checkpoints, and what does
    /// not fit into memory, are written at once.
    ///
    /// # Errors
    /// When the disk cannot be written or is full. Nobody knows then what it holds, and every later call
    /// fails: the process ends, and its next one opens the journal.
    ///
    /// # Panics
    /// When the write does not follow those before it, or the first one makes no promise.
    pub fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        self.attempt(|journal| journal.take(write))
    }

    /// Makes all writes that were taken durable, with one write and one sync. Promises and installed logs,
    /// which are rare, cost a second one.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.attempt(|journal| journal.stream.sync())
    }

    /// Notes that what was synced was: damage to it is noticed from then on. Every batch does so for those
    /// before it; this is for the last one before a pause. It needs no sync, and does nothing the second time.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn seal(&mut self) -> Result<(), StorageError> {
        self.attempt(|journal| journal.stream.seal())
    }

    fn attempt(
        &mut self,
        action: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.has_failed {
            return Err(StorageError::failed_before(self.folder.path()));
        }
        self.has_failed = true;
        action(self)?;
        self.has_failed = false;
        Ok(())
    }

    fn take(&mut self, write: &Write) -> Result<(), StorageError> {
        if self.stream.end() >= self.segment_bytes && !self.stream.has_gathered() {
            self.next_segment()?;
        }
        let State { promise: promised, log, checkpoint, .. } = &mut self.state;
        match write {
            Write::Promise(promise) => {
                *promised = Some(promise.clone());
                self.stream.promise(promise)
            }
            Write::Append(entries) => {
                assert!(promised.is_some(), "a replica's first write is its promise");
                for entry in entries {
                    log.append(entry.clone());
                    self.stream.append(entry)?;
                }
                Ok(())
            }
            Write::Repair(entries) => {
                for entry in entries {
                    assert!(log.fill(entry.clone()), "entry {} was not lost", entry.op);
                    self.stream.repair(entry)?;
                }
                Ok(())
            }
            Write::Install { after, entries, promise } => {
                log.truncate(*after);
                entries.iter().for_each(|entry| log.append(entry.clone()));
                *promised = Some(promise.clone());
                let body = |entry: &Entry| ENTRY_BYTES + entry.request.body.len();
                let payload_bytes = INSTALL_BYTES + entries.iter().map(body).sum::<usize>();
                if payload_bytes as u64 <= self.segment_bytes / INSTALL_PARTS {
                    self.stream.install(*after, entries, promise)
                } else {
                    self.begin_anew()
                }
            }
            Write::Checkpoint { op, digest, bytes, replaces, promise } => {
                *checkpoint = Some(write_checkpoint(&*self.folder, self.ids.draw(), bytes)?);
                if *replaces {
                    *log = Log::behind(*op, *digest);
                } else {
                    log.rebase(*op, *digest);
                }
                *promised = Some(promise.clone());
                self.begin_anew()
            }
        }
    }

    /// Begins the next segment of this life. Where little still matters, a new life takes less room.
    fn next_segment(&mut self) -> Result<(), StorageError> {
        if self.state.log.bytes() as u64 <= self.segment_bytes / 4 {
            return self.begin_anew();
        }
        self.stream.sync()?;
        let start = Start { index: self.index + 1, root: None };
        let name = segment_name(self.generation, start.index);
        let path = self.folder.path().join(&name);
        let (mark, life) = (self.stream.mark(), self.stream.life());
        let file = self.folder.open(&incomplete(&name), true)?;
        let buffer = self.stream.take_buffer();
        self.stream =
            Stream::begin(file, path, life, &start, (mark, mark), self.segment_bytes, buffer)?;
        self.stream.sync()?;
        publish(&*self.folder, &name)?;
        self.index = start.index;
        Ok(())
    }

    /// Begins a new life with all that was taken. What is not yet written of it need not be.
    fn begin_anew(&mut self) -> Result<(), StorageError> {
        self.generation += 1;
        let buffer = self.stream.take_buffer();
        let life = (self.generation, self.ids.draw());
        self.stream = begin_life(&*self.folder, life, &self.state, self.segment_bytes, buffer)?;
        self.index = 0;
        Ok(())
    }
}

/// Reads all segments of a life.
fn read_life(
    folder: &dyn Folder,
    names: &[String],
    generation: u64,
) -> Result<State, StorageError> {
    let of_life = |(life, index)| (life == generation).then_some(index);
    let mut indices: Vec<u32> =
        names.iter().filter_map(|name| segment_of_name(name).and_then(of_life)).collect();
    indices.sort_unstable();
    let (mut scan, mut root) = (Scan::default(), None);
    for (index, expected) in indices.into_iter().zip(0..) {
        let name = segment_name(generation, expected);
        let path = folder.path().join(&name);
        if index != expected {
            return Err(fatal(&path, "missing"));
        }
        let start = scan.read(&*folder.open(&name, false)?, &path)?;
        root = root.or(start.root);
    }
    replay(root.unwrap_or_default(), scan)
}

/// Writes the first segment of a life (its number, and what its records are marked with), and removes what was there before.
fn begin_life(
    folder: &dyn Folder,
    (generation, life): (u64, u64),
    state: &State,
    segment_bytes: u64,
    buffer: Vec<u8>,
) -> Result<Stream, StorageError> {
    let State { purpose, owner, promise, checkpoint, log } = state;
    let root = Root {
        purpose: *purpose,
        owner: owner.clone(),
        promise: promise.as_ref().map(Into::into),
        base_op: log.base_op(),
        base_digest: log.digest_at(log.base_op()).unwrap_or_default(),
        checkpoint: *checkpoint,
    };
    let mark = Mark { number: 0, head_op: log.base_op(), vital: 0 };
    let count = log.head_op() - log.base_op();
    let synced = Mark { number: count, head_op: log.head_op(), vital: 0 };
    let name = segment_name(generation, 0);
    let incomplete = incomplete(&name);
    let path = folder.path().join(&incomplete);
    let start = Start { index: 0, root: Some(root) };
    let file = folder.open(&incomplete, true)?;
    let mut stream =
        Stream::begin(file, path, life, &start, (mark, synced), segment_bytes, buffer)?;
    for op in log.base_op() + 1..=log.head_op() {
        match log.get(op) {
            Some(entry) => stream.append(entry)?,
            None => stream.hole()?,
        }
    }
    stream.sync()?;
    assert_eq!(stream.mark(), synced, "it holds what it says");
    publish(folder, &name)?;
    stream.renamed(folder.path().join(&name));
    let checkpoint = checkpoint.map(|checkpoint| checkpoint_name(checkpoint.id));
    for old in folder.names()? {
        let is_ours = segment_of_name(&old).is_some()
            || is_checkpoint(&old)
            || old.strip_suffix(INCOMPLETE).is_some_and(is_name);
        if is_ours && old != name && Some(&old) != checkpoint.as_ref() {
            folder.remove(&old)?;
        }
    }
    Ok(stream)
}

/// Gives a file that is complete and synced its name, durably.
fn publish(folder: &dyn Folder, name: &str) -> Result<(), StorageError> {
    folder.rename(&incomplete(name), name)?;
    folder.sync()
}

fn write_checkpoint(
    folder: &dyn Folder,
    id: u64,
    bytes: &Bytes,
) -> Result<CheckpointName, StorageError> {
    let name = checkpoint_name(id);
    let io = |error| StorageError::io(&folder.path().join(&name), error);
    let file = folder.open(&incomplete(&name), true)?;
    file.write(0, bytes).map_err(io)?;
    file.sync_data().map_err(io)?;
    publish(folder, &name)?;
    Ok(CheckpointName { id, length_bytes: bytes.len() as u64, checksum: xxh3_64(bytes) })
}

fn read_checkpoint(folder: &dyn Folder, name: CheckpointName) -> Result<Bytes, StorageError> {
    let CheckpointName { id, length_bytes, checksum } = name;
    let name = checkpoint_name(id);
    let path = folder.path().join(&name);
    if !folder.names()?.contains(&name) {
        return Err(fatal(&path, "the checkpoint is missing"));
    }
    let file = folder.open(&name, false)?;
    let io = |error| StorageError::io(&path, error);
    if file.len().map_err(io)? != length_bytes {
        return Err(fatal(&path, "the checkpoint has another length"));
    }
    let mut bytes = vec![0; length_bytes as usize];
    file.read(0, &mut bytes).map_err(io)?;
    if xxh3_64(&bytes) != checksum {
        return Err(fatal(&path, "the checkpoint is damaged"));
    }
    Ok(bytes.into())
}

fn segment_name(generation: u64, index: u32) -> String {
    format!("segment-{generation:016x}-{index:08x}")
}

/// The life and the index of a segment; none if it is the name of something else.
fn segment_of_name(name: &str) -> Option<(u64, u32)> {
    let (generation, index) = name.strip_prefix("segment-")?.split_once('-')?;
    let segment = (u64::from_str_radix(generation, 16).ok()?, u32::from_str_radix(index, 16).ok()?);
    (segment_name(segment.0, segment.1) == name).then_some(segment)
}

fn checkpoint_name(id: u64) -> String {
    format!("checkpoint-{id:016x}")
}

fn is_checkpoint(name: &str) -> bool {
    let id = name.strip_prefix("checkpoint-").and_then(|id| u64::from_str_radix(id, 16).ok());
    id.is_some_and(|id| checkpoint_name(id) == name)
}

/// Whether files of ours have such names.
fn is_name(name: &str) -> bool {
    segment_of_name(name).is_some() || is_checkpoint(name)
}

fn incomplete(name: &str) -> String {
    format!("{name}{INCOMPLETE}")
}

/// Reads `segment` as the only one of a journal, as it is or, with `mends`, with its checksums set right
/// wherever a record may be: a fuzzer draws no checksums.
///
/// # Panics
/// When it holds more than its bytes.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub fn fuzz(segment: &[u8], mends: bool) {
    use redb::{StorageBackend as _, backends::InMemoryBackend};
    let mut segment = segment.to_vec();
    if mends {
        format::mend(&mut segment);
    }
    let file = InMemoryBackend::new();
    let written = file.set_len(segment.len() as u64).and_then(|()| file.write(0, &segment));
    written.expect("memory takes everything");
    let mut scan = Scan::default();
    if let Ok(start) = scan.read(&file, Path::new("segment")) {
        let state = replay(start.root.unwrap_or_default(), scan);
        let is_bounded = |state: &State| state.log.bytes() <= segment.len();
        assert!(state.as_ref().map_or(true, is_bounded), "entries come from bytes");
    }
}
