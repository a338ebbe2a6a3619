//! Frames, from bytes that anybody may have sent.

use super::{
    ADDRESS_BYTES, Epoch, FRAME_BYTES_MAX, Found, Frame, HEADER_BYTES, Header, PRESENT, Read,
    ReadAnswer, Scope, answer, body::Body, entry, kind,
};
use ashlar_fastpath::replication::{FOLLOWED, MAGIC, NO_PLACE, VERSION, checksum_of};
use ashlar_vr::{
    Answer, ClientId, DoViewChange, Entry, EpochStart, Kind, MEMBERS_MAX, Message,
    OPERATION_BYTES_MAX, RESULT_BYTES_MAX, Reply, Request, SnapshotPart, View,
};
use bytes::Bytes;
use core::net::SocketAddr;
use zerocopy::FromBytes;

/// Views and epochs may only grow by so much before they would not fit: no peer can bring a replica there at once.
const EPOCH_MAX: u32 = 1 << 23;
const VIEW_NUMBER_MAX: u64 = 1 << 39;

/// Why a datagram is not a frame of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is none of these frames, or of another version.
    #[error("not a frame of this version")]
    Foreign,
    /// The checksum does not fit.
    #[error("damaged on its way")]
    Damaged,
    /// It is another cluster's.
    #[error("a frame of another cluster")]
    OtherCluster,
    /// It ends before this field does.
    #[error("{field} is cut off")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A field is longer than allowed.
    #[error("{field} is too long")]
    TooLong {
        /// The field.
        field: &'static str,
    },
    /// A field has no such value.
    #[error("{field} is invalid")]
    Invalid {
        /// The field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("bytes follow the last field")]
    Trailing,
}

/// Cuts the first frame off a datagram. What is no frame is cut off whole, for [`decode`] to refuse.
pub fn take_frame(datagram: &mut Bytes) -> Bytes {
    let Ok((header, body)) = Header::ref_from_prefix(datagram) else {
        return std::mem::take(datagram);
    };
    let body_bytes = header.body_bytes.get() as usize;
    if body_bytes >= body.len() {
        return std::mem::take(datagram);
    }
    datagram.split_to(HEADER_BYTES + body_bytes)
}

/// A frame's header, whose checksum fits, and its body.
pub(super) fn open(cluster: u64, bytes: &Bytes) -> Result<(Header, Bytes), DecodeError> {
    let (header, body) = Header::read_from_prefix(bytes).map_err(|_| DecodeError::Foreign)?;
    if header.magic.get() != MAGIC || header.version != VERSION {
        return Err(DecodeError::Foreign);
    }
    if header.body_bytes.get() as usize != body.len() || bytes.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::Damaged);
    }
    if checksum_of(bytes) != header.checksum.get() {
        return Err(DecodeError::Damaged);
    }
    if header.cluster.get() != cluster {
        return Err(DecodeError::OtherCluster);
    }
    Ok((header, bytes.slice(HEADER_BYTES..)))
}

/// Decodes a frame of a cluster; gives the group, the sender's place if it says one, and what it says.
///
/// # Errors
/// For bytes that say nothing to a replica or a client of this cluster, and for fragments. What a kind of frame does not use may hold
/// anything.
pub fn decode(cluster: u64, bytes: &Bytes) -> Result<(Scope, Option<usize>, Frame), DecodeError> {
    let (header, body) = open(cluster, bytes)?;
    let sender = match header.sender {
        NO_PLACE => None,
        place if usize::from(place) < MEMBERS_MAX => Some(usize::from(place)),
        _ => return Err(DecodeError::Invalid { field: "sender" }),
    };
    let scope = Scope { cluster, group: header.group.get() };
    Ok((scope, sender, frame(&header, Body(body))?))
}

/// A view that a replica can go on counting from.
pub(super) fn view(bits: u64) -> Result<View, DecodeError> {
    let view = View::from_bits(bits);
    if view.epoch() > EPOCH_MAX || view.number() > VIEW_NUMBER_MAX {
        return Err(DecodeError::Invalid { field: "view" });
    }
    Ok(view)
}

fn frame(header: &Header, body: Body) -> Result<Frame, DecodeError> {
    let (op, commit, digest) = (header.op.get(), header.commit.get(), header.digest.get());
    match header.kind {
        kind::REQUEST => {
            let invalid = |field| DecodeError::Invalid { field };
            let kind = Kind::from_code(header.detail).ok_or(invalid("kind of the request"))?;
            if op.checked_sub(commit).is_none_or(|open| open > u64::from(u16::MAX)) {
                return Err(invalid("acknowledged"));
            }
            let (client, session) = (ClientId(digest), header.view.get());
            let body = body.rest(OPERATION_BYTES_MAX, "operation")?;
            let (number, acknowledged) = (op, commit);
            Ok(Frame::Request(Request { client, session, number, acknowledged, kind, body }))
        }
        kind::REPLY => {
            let answer = match header.detail {
                answer::ANSWERED => Answer::Executed(body.rest(RESULT_BYTES_MAX, "result")?),
                answer::NO_SESSION => Answer::NoSession,
                answer::NOT_LEADER => Answer::NotLeader(leader(body)?),
                _ => return Err(DecodeError::Invalid { field: "answer" }),
            };
            let (client, view) = (ClientId(digest), view(header.view.get())?);
            Ok(Frame::Reply(Reply { client, number: op, view, answer }))
        }
        kind::READ => {
            let age_us = (header.detail == PRESENT).then_some(op);
            let question = body.rest(OPERATION_BYTES_MAX, "question")?;
            Ok(Frame::Read(Read { id: digest, age_us, question }))
        }
        kind::FOUND => {
            let answer = match header.detail {
                answer::ANSWERED => {
                    ReadAnswer::Answered { op, bytes: body.rest(RESULT_BYTES_MAX, "answer")? }
                }
                answer::NOT_LEADER => ReadAnswer::NotLeader(leader(body)?),
                answer::TOO_OLD => ReadAnswer::TooOld,
                _ => return Err(DecodeError::Invalid { field: "answer" }),
            };
            Ok(Frame::Found(Found { id: digest, view: view(header.view.get())?, answer }))
        }
        kind::GET_MEMBERS => body.finish().map(|()| Frame::GetMembers),
        kind::MEMBERS => {
            let (view, members) = (view(header.view.get())?, members(body)?);
            if members.is_empty() {
                return Err(DecodeError::Invalid { field: "members" });
            }
            Ok(Frame::Members(Epoch { view, members }))
        }
        _ => replica(header, body).map(Frame::Replica),
    }
}

fn leader(mut body: Body) -> Result<Option<SocketAddr>, DecodeError> {
    if body.0.is_empty() {
        return Ok(None);
    }
    let leader = body.address("leader")?;
    body.finish()?;
    Ok(Some(leader))
}

fn members(mut body: Body) -> Result<Vec<SocketAddr>, DecodeError> {
    if body.0.len() > MEMBERS_MAX * ADDRESS_BYTES {
        return Err(DecodeError::TooLong { field: "members" });
    }
    let mut members = Vec::new();
    while !body.0.is_empty() {
        members.push(body.address("member")?);
    }
    Ok(members)
}

fn entries(header: &Header, mut body: Body) -> Result<Vec<Entry>, DecodeError> {
    // Each takes bytes of the body: no count makes us allocate more than came.
    let mut entries = Vec::new();
    for _ in 0..header.entries.get() {
        entries.push(entry::take(&mut body)?);
    }
    body.finish()?;
    Ok(entries)
}

fn replica(header: &Header, mut body: Body) -> Result<Message, DecodeError> {
    let (op, commit, digest) = (header.op.get(), header.commit.get(), header.digest.get());
    let in_view = || view(header.view.get());
    let message = match header.kind {
        kind::PREPARE => {
            let (view, previous) = (in_view()?, body.u64("previous digest")?);
            let entries = entries(header, body)?;
            let contiguous =
                entries.windows(2).all(|two| two[0].op.checked_add(1) == Some(two[1].op));
            // What a program in the kernel has seen of it must be so.
            let is_as_told = |first: &Entry, last: &Entry| first.op == op && last.digest == digest;
            if op == 0
                || !contiguous
                || !entries
                    .first()
                    .zip(entries.last())
                    .is_some_and(|(first, last)| is_as_told(first, last))
            {
                return Err(DecodeError::Invalid { field: "entries" });
            }
            let is_followed = header.detail == FOLLOWED;
            return Ok(Message::Prepare { view, commit, previous, is_followed, entries });
        }
        kind::NEW_STATE => return Ok(Message::NewState { entries: entries(header, body)? }),
        kind::SNAPSHOT => {
            let (total_bytes, bytes) = (header.view.get(), body.rest(FRAME_BYTES_MAX, "part")?);
            let (checksum, offset) = (digest, commit);
            return Ok(Message::Snapshot(SnapshotPart {
                op,
                total_bytes,
                checksum,
                offset,
                bytes,
            }));
        }
        kind::PREPARE_OK => Message::PrepareOk { view: in_view()?, op, digest },
        kind::MISSING => Message::Missing { view: in_view()?, op },
        kind::COMMIT => {
            let (view, round) = (in_view()?, body.u64("round")?);
            Message::Commit { view, commit, head_op: op, head_digest: digest, round }
        }
        kind::COMMIT_OK => Message::CommitOk { view: in_view()?, round: op },
        kind::START_VIEW_CHANGE => {
            Message::StartViewChange { view: in_view()?, present: view(op)? }
        }
        kind::DO_VIEW_CHANGE => {
            let mut holes = Vec::new();
            while !body.0.is_empty() {
                holes.push(body.u64("hole")?);
            }
            let (view, last_normal) = (in_view()?, view(digest)?);
            let head_op = op;
            Message::DoViewChange(DoViewChange { view, last_normal, commit, head_op, holes })
        }
        kind::START_VIEW => {
            Message::StartView { view: in_view()?, commit, head_op: op, head_digest: digest }
        }
        kind::GET_STATE => Message::GetState { first_op: op, last_op: commit },
        kind::GET_SNAPSHOT => Message::GetSnapshot { op, offset: commit },
        kind::RECOVERY => Message::Recovery { nonce: digest, view: in_view()? },
        kind::RECOVERY_RESPONSE => {
            let leader = match header.detail {
                PRESENT => Some((commit, op, body.u64("digest")?)),
                _ => None,
            };
            Message::RecoveryResponse { view: in_view()?, nonce: digest, leader }
        }
        kind::START_EPOCH => {
            let (view, members) = (in_view()?, members(body)?);
            return Ok(Message::StartEpoch(EpochStart { view, op, digest, members }));
        }
        kind::EPOCH_STARTED => Message::EpochStarted { view: in_view()? },
        _ => return Err(DecodeError::Invalid { field: "kind of the frame" }),
    };
    body.finish()?;
    Ok(message)
}
