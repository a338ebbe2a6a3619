//! One entry of a log, in a body.

use super::{DecodeError, body::Body};
use ashlar_vr::{ClientId, ENTRY_HEADER_BYTES, Entry, Kind, OPERATION_BYTES_MAX, Request};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

/// What precedes an entry's operation.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EntryHeader {
    op: U64,
    view: U64,
    time_ms: U64,
    client: U64,
    session: U64,
    number: U64,
    digest: U64,
    body_bytes: U32,
    /// How far `acknowledged` is behind `number`.
    unacknowledged: U16,
    kind: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<EntryHeader>() == ENTRY_HEADER_BYTES);

/// Appends an entry.
///
/// # Panics
/// When its client claims to have results of the future, or holds back more than any session may: no replica
/// takes such a request.
pub(super) fn put(out: &mut Vec<u8>, entry: &Entry) {
    let Request { client, session, number, acknowledged, kind, body } = &entry.request;
    let unacknowledged = number.checked_sub(*acknowledged).and_then(|it| u16::try_from(it).ok());
    let header = EntryHeader {
        op: entry.op.into(),
        view: entry.view.bits().into(),
        time_ms: entry.time_ms.into(),
        client: client.0.into(),
        session: (*session).into(),
        number: (*number).into(),
        digest: entry.digest.into(),
        body_bytes: u32::try_from(body.len()).expect("an operation is bounded").into(),
        unacknowledged: unacknowledged.expect("a replica takes no such request").into(),
        kind: kind.code(),
        reserved: 0,
    };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body);
}

/// Takes an entry.
pub(super) fn take(from: &mut Body) -> Result<Entry, DecodeError> {
    let bytes = from.take(ENTRY_HEADER_BYTES, "entry")?;
    let header = EntryHeader::read_from_bytes(&bytes).expect("so many were taken");
    let invalid = |field| DecodeError::Invalid { field };
    let body_bytes = header.body_bytes.get() as usize;
    if body_bytes > OPERATION_BYTES_MAX {
        return Err(DecodeError::TooLong { field: "operation" });
    }
    let number = header.number.get();
    let unacknowledged = u64::from(header.unacknowledged.get());
    let request = Request {
        client: ClientId(header.client.get()),
        session: header.session.get(),
        number,
        acknowledged: number.checked_sub(unacknowledged).ok_or(invalid("acknowledged"))?,
        kind: Kind::from_code(header.kind).ok_or(invalid("kind of the entry"))?,
        body: from.take(body_bytes, "operation")?,
    };
    if header.reserved != 0 {
        return Err(invalid("reserved"));
    }
    Ok(Entry {
        op: header.op.get(),
        view: super::decode::view(header.view.get())?,
        time_ms: header.time_ms.get(),
        request,
        digest: header.digest.get(),
    })
}
