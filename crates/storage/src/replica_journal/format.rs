//! What a journal's bytes mean: records, and what they hold.
//!
//! All integers are little-endian. A record is a [`Header`] of [`HEADER_BYTES`] and a payload, and begins
//! at a multiple of [`ALIGNMENT_BYTES`], so that a reader can look for the next one behind damage. It says
//! where it lies and in which life of the journal it was written: neither a write that went astray nor what
//! an earlier life left behind is taken for it.

use ashlar_vr::{ClientId, Entry, EpochStart, Kind as EntryKind, Promise, Request, View};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

/// Marks a record, and the version of everything here.
const MAGIC: u32 = u32::from_le_bytes(*b"avj1");
/// Records begin at multiples of this.
pub(super) const ALIGNMENT_BYTES: u64 = 8;
/// Batches begin at multiples of this, the largest block of disks and page caches: writing one never
/// touches a block that holds an earlier one. The two copies of a record are at least this far apart.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Where the second copy of a segment's first record is.
pub(super) const START_COPY_AT: u64 = 2 * BLOCK_BYTES;
/// Where a segment's first batch begins.
pub(super) const FIRST_BATCH_AT: u64 = START_COPY_AT + BLOCK_BYTES;
/// The longest payload. A longer [`Kind::Install`] is written as a new beginning of the journal.
pub(super) const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// No place is behind this one; keeps sums from overflowing.
const OP_MAX: u64 = 1 << 62;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment begins: a [`Start`]. Has no number of its own.
    Start,
    /// Nothing: its header says what was synced. Has no number of its own.
    Seal,
    /// The entry at the next place.
    Append,
    /// The entry at the next place is lost: a disk had lost it before the journal began anew.
    Hole,
    /// An entry that was lost.
    Repair,
    /// A promise.
    Promise,
    /// A promise, a place at which the log ends, and entries behind it.
    Install,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Start,
        Self::Seal,
        Self::Append,
        Self::Hole,
        Self::Repair,
        Self::Promise,
        Self::Install,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Seal => 2,
            Self::Append => 3,
            Self::Hole => 4,
            Self::Repair => 5,
            Self::Promise => 6,
            Self::Install => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether it counts among the records.
    pub(super) fn is_numbered(self) -> bool {
        !matches!(self, Self::Start | Self::Seal)
    }

    /// Whether nothing can do without it: it is written twice.
    pub(super) fn is_vital(self) -> bool {
        matches!(self, Self::Promise | Self::Install)
    }
}

/// How far a journal has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the last record; they count from 1 on in each life.
    pub(super) number: u64,
    /// The log's last place.
    pub(super) head_op: u64,
    /// The number of the last record that nothing can do without, or 0.
    pub(super) vital: u64,
}

/// What precedes every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the payload.
    pub(super) payload_bytes: usize,
    /// Of the payload.
    pub(super) payload_checksum: u64,
    /// Names the life of the journal that it was written in; drawn at random.
    pub(super) life: u64,
    /// Where it lies in its segment, in bytes.
    pub(super) offset: u64,
    /// How far the journal had come before it.
    pub(super) before: Mark,
    /// What was known to be synced when it was made: with one sync for a batch, a write that the power
    /// tore cannot be told from damage to one that was synced. This can, for all batches but the last.
    pub(super) synced: Mark,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StoredMark {
    number: U64,
    head_op: U64,
    vital: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StoredHeader {
    magic: U32,
    payload_bytes: U32,
    kind: u8,
    reserved: [u8; 7],
    life: U64,
    offset: U64,
    before: StoredMark,
    synced: StoredMark,
    payload_checksum: U64,
    /// Of all fields above.
    checksum: U64,
}

/// Bytes of a [`Header`].
pub(super) const HEADER_BYTES: usize = 96;
const _: () = assert!(size_of::<StoredHeader>() == HEADER_BYTES);
const CHECKSUMMED_BYTES: usize = HEADER_BYTES - 8;

impl From<Mark> for StoredMark {
    fn from(mark: Mark) -> Self {
        let Mark { number, head_op, vital } = mark;
        Self { number: number.into(), head_op: head_op.into(), vital: vital.into() }
    }
}

impl From<StoredMark> for Mark {
    fn from(mark: StoredMark) -> Self {
        let StoredMark { number, head_op, vital } = mark;
        Self { number: number.get(), head_op: head_op.get(), vital: vital.get() }
    }
}

impl Header {
    /// As it is stored.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let payload_bytes = u32::try_from(self.payload_bytes).expect("payloads are bounded");
        let mut stored = StoredHeader {
            magic: MAGIC.into(),
            payload_bytes: payload_bytes.into(),
            kind: self.kind.code(),
            reserved: [0; 7],
            life: self.life.into(),
            offset: self.offset.into(),
            before: self.before.into(),
            synced: self.synced.into(),
            payload_checksum: self.payload_checksum.into(),
            checksum: 0.into(),
        };
        stored.checksum = xxh3_64(&stored.as_bytes()[..CHECKSUMMED_BYTES]).into();
        zerocopy::transmute!(stored)
    }

    /// The header that `bytes` begin with, if they are one at `offset`.
    pub(super) fn decode(bytes: &[u8], offset: u64) -> Option<Self> {
        // Most places hold none: a reader tries all of them behind damage.
        if bytes.get(..4)? != MAGIC.to_le_bytes() {
            return None;
        }
        let (stored, _) = StoredHeader::ref_from_prefix(bytes).ok()?;
        let payload_bytes = stored.payload_bytes.get() as usize;
        let is_whole = stored.checksum.get() == xxh3_64(&bytes[..CHECKSUMMED_BYTES])
            && stored.offset.get() == offset
            && payload_bytes <= PAYLOAD_BYTES_MAX;
        is_whole.then_some(Self {
            kind: Kind::from_code(stored.kind)?,
            payload_bytes,
            payload_checksum: stored.payload_checksum.get(),
            life: stored.life.get(),
            offset,
            before: stored.before.into(),
            synced: stored.synced.into(),
        })
    }

    /// Bytes of the record, up to where the next one may begin.
    pub(super) fn record_bytes(&self) -> u64 {
        ((HEADER_BYTES + self.payload_bytes) as u64).next_multiple_of(ALIGNMENT_BYTES)
    }
}

/// How a segment begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// Counts the segments of a life from 0 on.
    pub(super) index: u32,
    /// In the first segment of a life: what its records build upon.
    pub(super) root: Option<Root>,
}

/// What a journal was created for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Its replica is one of those that begin a group.
    #[default]
    New,
    /// A group that exists will take its replica in.
    Join,
}

/// What the records of a life build upon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Root {
    /// What the journal was created for; of no account once there are promises.
    pub(super) purpose: Purpose,
    /// Whose it is.
    pub(super) owner: String,
    /// The promises; none as long as none was made.
    pub(super) promise: Option<PromiseRow>,
    /// The place before the log's first entry.
    pub(super) base_op: u64,
    /// The digest there.
    pub(super) base_digest: u64,
    /// The snapshot of everything up to there.
    pub(super) checkpoint: Option<CheckpointName>,
}

/// A snapshot in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckpointName {
    /// Names the file.
    pub(super) id: u64,
    /// The file's length.
    pub(super) length_bytes: u64,
    /// Of the whole file.
    pub(super) checksum: u64,
}

impl Start {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a beginning can be encoded")
    }

    /// Reads a beginning; none if it is none.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let start: Self = whole(payload)?;
        let is_bounded = |root: &Root| root.base_op <= OP_MAX;
        ((start.index == 0) == start.root.is_some() && start.root.as_ref().is_none_or(is_bounded))
            .then_some(start)
    }
}

/// A [`Promise`] as it is stored: the views' bits, the epoch's place, digest and members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PromiseRow(u64, u64, u64, u64, u64, Vec<SocketAddr>);

impl From<&Promise> for PromiseRow {
    fn from(promise: &Promise) -> Self {
        let Promise { view, last_normal, epoch } = promise;
        let EpochStart { view: first, op, digest, members } = epoch;
        Self(view.bits(), last_normal.bits(), first.bits(), *op, *digest, members.clone())
    }
}

impl From<PromiseRow> for Promise {
    fn from(row: PromiseRow) -> Self {
        let PromiseRow(view, last_normal, first, op, digest, members) = row;
        let epoch = EpochStart { view: View::from_bits(first), op, digest, members };
        let (view, last_normal) = (View::from_bits(view), View::from_bits(last_normal));
        Self { view, last_normal, epoch }
    }
}

pub(super) fn encode_promise(promise: &Promise, out: &mut Vec<u8>) {
    extend(&PromiseRow::from(promise), out);
}

pub(super) fn decode_promise(payload: &[u8]) -> Option<Promise> {
    whole::<PromiseRow>(payload).map(Promise::from)
}

/// What an entry is besides its operation.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StoredEntry {
    op: U64,
    view: U64,
    time_ms: U64,
    client: U64,
    session: U64,
    number: U64,
    acknowledged: U64,
    digest: U64,
    /// Bytes of the operation, which follows.
    body_bytes: U32,
    kind: u8,
    reserved: [u8; 3],
}

/// Bytes of an entry besides its operation.
pub(super) const ENTRY_BYTES: usize = 72;
const _: () = assert!(size_of::<StoredEntry>() == ENTRY_BYTES);

pub(super) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let Request { client, session, number, acknowledged, kind, body } = &entry.request;
    let body_bytes = u32::try_from(body.len()).expect("operations are bounded");
    let stored = StoredEntry {
        op: entry.op.into(),
        view: entry.view.bits().into(),
        time_ms: entry.time_ms.into(),
        client: client.0.into(),
        session: (*session).into(),
        number: (*number).into(),
        acknowledged: (*acknowledged).into(),
        digest: entry.digest.into(),
        body_bytes: body_bytes.into(),
        kind: kind.code(),
        reserved: [0; 3],
    };
    out.extend_from_slice(stored.as_bytes());
    out.extend_from_slice(body);
}

/// Takes an entry off the front of `bytes`; none if there is none.
fn take_entry(bytes: &mut Bytes) -> Option<Entry> {
    let (stored, rest) = StoredEntry::read_from_prefix(bytes).ok()?;
    let body_bytes = stored.body_bytes.get() as usize;
    if body_bytes > rest.len() {
        return None;
    }
    let request = Request {
        client: ClientId(stored.client.get()),
        session: stored.session.get(),
        number: stored.number.get(),
        acknowledged: stored.acknowledged.get(),
        kind: EntryKind::from_code(stored.kind)?,
        body: bytes.slice(ENTRY_BYTES..ENTRY_BYTES + body_bytes),
    };
    *bytes = bytes.slice(ENTRY_BYTES + body_bytes..);
    Some(Entry {
        op: stored.op.get(),
        view: View::from_bits(stored.view.get()),
        time_ms: stored.time_ms.get(),
        request,
        digest: stored.digest.get(),
    })
}

/// Reads one entry; none if it is none.
pub(super) fn decode_entry(mut payload: Bytes) -> Option<Entry> {
    take_entry(&mut payload).filter(|_| payload.is_empty())
}

/// The log ends at `after`, then come entries; and the promises.
#[derive(Debug)]
pub(super) struct Install {
    pub(super) after: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) promise: Promise,
}

pub(super) fn encode_install(after: u64, entries: &[Entry], promise: &Promise, out: &mut Vec<u8>) {
    extend(&(after, PromiseRow::from(promise)), out);
    entries.iter().for_each(|entry| encode_entry(entry, out));
}

pub(super) fn decode_install(payload: &Bytes) -> Option<Install> {
    let ((after, promise), rest) = postcard::take_from_bytes::<(u64, PromiseRow)>(payload).ok()?;
    let mut rest = payload.slice_ref(rest);
    let mut entries = Vec::new();
    while !rest.is_empty() {
        entries.push(take_entry(&mut rest)?);
    }
    Some(Install { after, entries, promise: promise.into() })
}

fn extend(value: &impl Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(value, std::mem::take(out)).expect("a record can be encoded");
}

/// A value that is all of `payload`.
fn whole<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(payload).ok()?;
    rest.is_empty().then_some(value)
}

/// Sets checksums, places and the life right wherever a header may be.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn mend(segment: &mut [u8]) {
    let mut at = 0;
    while at + HEADER_BYTES <= segment.len() {
        let (header, rest) = segment[at..].split_at_mut(HEADER_BYTES);
        at += ALIGNMENT_BYTES as usize;
        let (stored, _) = StoredHeader::mut_from_prefix(header).expect("a header's length");
        if stored.magic.get() != MAGIC {
            continue;
        }
        let payload = rest.get(..stored.payload_bytes.get() as usize).unwrap_or_default();
        stored.payload_checksum = xxh3_64(payload).into();
        stored.offset = (at as u64 - ALIGNMENT_BYTES).into();
        stored.life = 1.into();
        stored.checksum = xxh3_64(&stored.as_bytes()[..CHECKSUMMED_BYTES]).into();
    }
}
