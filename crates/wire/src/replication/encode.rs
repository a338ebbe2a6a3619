//! Frames, as bytes.

use super::{
    Epoch, Frame, HEADER_BYTES, Header, PRESENT, ReadAnswer, Scope, answer, entry, kind,
    put_address,
};
use ashlar_fastpath::replication::{FOLLOWED, MAGIC, NO_PLACE, VERSION, checksum_of};
use ashlar_vr::{Answer, Entry, Message, Request, View};
use core::net::SocketAddr;
use zerocopy::IntoBytes;

/// Puts a frame into `out`, in place of what was there. `sender` is the place of the replica that sends it, if it
/// has one.
///
/// # Panics
/// When the frame is longer than [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX).
pub fn encode(scope: Scope, sender: Option<usize>, frame: &Frame, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    let mut header = Header {
        magic: MAGIC.into(),
        version: VERSION,
        sender: sender.map_or(NO_PLACE, |place| place as u8),
        cluster: scope.cluster.into(),
        group: scope.group.into(),
        ..Header::default()
    };
    match frame {
        Frame::Replica(message) => replica(&mut header, message, out),
        Frame::Request(request) => ask(&mut header, request, out),
        Frame::Reply(reply) => {
            header.kind = kind::REPLY;
            (header.op, header.digest) = (reply.number.into(), reply.client.0.into());
            header.view = reply.view.bits().into();
            header.detail = match &reply.answer {
                Answer::Executed(result) => {
                    out.extend_from_slice(result);
                    answer::ANSWERED
                }
                Answer::NoSession => answer::NO_SESSION,
                Answer::NotLeader(leader) => not_leader(*leader, out),
            };
        }
        Frame::Read(read) => {
            header.kind = kind::READ;
            header.digest = read.id.into();
            if let Some(age_us) = read.age_us {
                (header.detail, header.op) = (PRESENT, age_us.into());
            }
            out.extend_from_slice(&read.question);
        }
        Frame::Found(found) => {
            header.kind = kind::FOUND;
            (header.digest, header.view) = (found.id.into(), found.view.bits().into());
            header.detail = match &found.answer {
                ReadAnswer::Answered { op, bytes } => {
                    header.op = (*op).into();
                    out.extend_from_slice(bytes);
                    answer::ANSWERED
                }
                ReadAnswer::NotLeader(leader) => not_leader(*leader, out),
                ReadAnswer::TooOld => answer::TOO_OLD,
            };
        }
        Frame::GetMembers => header.kind = kind::GET_MEMBERS,
        Frame::Members(Epoch { view, members }) => {
            (header.kind, header.view) = (kind::MEMBERS, view.bits().into());
            members.iter().for_each(|member| put_address(out, *member));
        }
    }
    seal(header, out);
}

/// Completes a frame whose body is in `out`, behind room for the header.
pub(super) fn seal(mut header: Header, out: &mut [u8]) {
    assert!(out.len() <= super::FRAME_BYTES_MAX, "a frame of {} bytes", out.len());
    header.body_bytes = ((out.len() - HEADER_BYTES) as u32).into();
    out[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    header.checksum = checksum_of(out).into();
    out[..HEADER_BYTES].copy_from_slice(header.as_bytes());
}

fn not_leader(leader: Option<SocketAddr>, out: &mut Vec<u8>) -> u8 {
    if let Some(leader) = leader {
        put_address(out, leader);
    }
    answer::NOT_LEADER
}

fn ask(header: &mut Header, request: &Request, out: &mut Vec<u8>) {
    header.kind = kind::REQUEST;
    header.detail = request.kind.code();
    header.view = request.session.into();
    (header.op, header.commit) = (request.number.into(), request.acknowledged.into());
    header.digest = request.client.0.into();
    out.extend_from_slice(&request.body);
}

fn entries(header: &mut Header, entries: &[Entry], out: &mut Vec<u8>) {
    header.entries = u16::try_from(entries.len()).expect("a batch is bounded").into();
    for one in entries {
        entry::put(out, one);
    }
}

fn replica(header: &mut Header, message: &Message, out: &mut Vec<u8>) {
    let bits = |view: View| view.bits().into();
    match message {
        Message::Prepare { view, commit, previous, is_followed, entries: new } => {
            header.kind = kind::PREPARE;
            header.detail = if *is_followed { FOLLOWED } else { 0 };
            (header.view, header.commit) = (bits(*view), (*commit).into());
            header.op = new.first().map_or(0, |first| first.op).into();
            header.digest = new.last().map_or(0, |last| last.digest).into();
            out.extend_from_slice(&previous.to_le_bytes());
            entries(header, new, out);
        }
        Message::PrepareOk { view, op, digest } => {
            header.kind = kind::PREPARE_OK;
            (header.view, header.op, header.digest) = (bits(*view), (*op).into(), (*digest).into());
        }
        Message::Missing { view, op } => {
            header.kind = kind::MISSING;
            (header.view, header.op) = (bits(*view), (*op).into());
        }
        Message::Commit { view, commit, head_op, head_digest, round } => {
            header.kind = kind::COMMIT;
            (header.view, header.commit) = (bits(*view), (*commit).into());
            (header.op, header.digest) = ((*head_op).into(), (*head_digest).into());
            out.extend_from_slice(&round.to_le_bytes());
        }
        Message::CommitOk { view, round } => {
            header.kind = kind::COMMIT_OK;
            (header.view, header.op) = (bits(*view), (*round).into());
        }
        Message::StartViewChange { view, present } => {
            header.kind = kind::START_VIEW_CHANGE;
            (header.view, header.op) = (bits(*view), bits(*present));
        }
        Message::DoViewChange(vote) => {
            header.kind = kind::DO_VIEW_CHANGE;
            (header.view, header.digest) = (bits(vote.view), bits(vote.last_normal));
            (header.op, header.commit) = (vote.head_op.into(), vote.commit.into());
            out.extend(vote.holes.iter().flat_map(|hole| hole.to_le_bytes()));
        }
        Message::StartView { view, commit, head_op, head_digest } => {
            header.kind = kind::START_VIEW;
            (header.view, header.commit) = (bits(*view), (*commit).into());
            (header.op, header.digest) = ((*head_op).into(), (*head_digest).into());
        }
        Message::GetState { first_op, last_op } => {
            header.kind = kind::GET_STATE;
            (header.op, header.commit) = ((*first_op).into(), (*last_op).into());
        }
        Message::NewState { entries: known } => {
            header.kind = kind::NEW_STATE;
            entries(header, known, out);
        }
        Message::GetSnapshot { op, offset } => {
            header.kind = kind::GET_SNAPSHOT;
            (header.op, header.commit) = ((*op).into(), (*offset).into());
        }
        Message::Snapshot(part) => {
            header.kind = kind::SNAPSHOT;
            (header.op, header.commit) = (part.op.into(), part.offset.into());
            (header.view, header.digest) = (part.total_bytes.into(), part.checksum.into());
            out.extend_from_slice(&part.bytes);
        }
        Message::Recovery { nonce, view } => {
            header.kind = kind::RECOVERY;
            (header.view, header.digest) = (bits(*view), (*nonce).into());
        }
        Message::RecoveryResponse { view, nonce, leader } => {
            header.kind = kind::RECOVERY_RESPONSE;
            (header.view, header.digest) = (bits(*view), (*nonce).into());
            if let Some((commit, head_op, head_digest)) = leader {
                header.detail = PRESENT;
                (header.commit, header.op) = ((*commit).into(), (*head_op).into());
                out.extend_from_slice(&head_digest.to_le_bytes());
            }
        }
        Message::StartEpoch(epoch) => {
            header.kind = kind::START_EPOCH;
            (header.view, header.op) = (bits(epoch.view), epoch.op.into());
            header.digest = epoch.digest.into();
            for member in &epoch.members {
                put_address(out, *member);
            }
        }
        Message::EpochStarted { view } => {
            header.kind = kind::EPOCH_STARTED;
            header.view = bits(*view);
        }
    }
}
