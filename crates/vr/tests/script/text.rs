//! How the scripts say what happens.

use ashlar_vr::{
    Answer, Entry, EpochStart, Kind, Message, Replica, Status,
    kv::{Change, Found, KeyValue},
};
use bytes::Bytes;
use std::net::SocketAddr;

/// The letter of a replica.
pub(crate) fn letter(host: usize) -> char {
    (b'A' + host as u8) as char
}

/// The letter of a replica.
pub(crate) fn name(address: SocketAddr) -> char {
    letter(usize::from(address.port()))
}

fn names(members: &[SocketAddr]) -> String {
    let names: Vec<_> = members.iter().map(|member| name(*member).to_string()).collect();
    names.join(" ")
}

/// One place or several.
pub(crate) fn places(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}..={last}") }
}

fn span(entries: &[Entry]) -> String {
    let (first, last) = (entries.first().unwrap(), entries.last().unwrap());
    places(first.op, last.op)
}

/// A message, its name first: that is what scripts choose by.
pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Prepare { view, commit, entries, .. } => {
            format!("Prepare {} in {view}, commit {commit}", span(entries))
        }
        Message::PrepareOk { view, op, .. } => format!("PrepareOk {op} in {view}"),
        Message::Missing { view, op } => format!("Missing behind {op} in {view}"),
        Message::Commit { view, commit, head_op, .. } => {
            format!("Commit {commit} in {view}, head {head_op}")
        }
        Message::CommitOk { view, .. } => format!("CommitOk in {view}"),
        Message::StartViewChange { view, present } => {
            format!("StartViewChange {view}, is in {present}")
        }
        Message::DoViewChange(vote) => {
            let lost = if vote.holes.is_empty() {
                String::new()
            } else {
                format!(", has lost {:?}", vote.holes)
            };
            let (view, last, commit, head) =
                (vote.view, vote.last_normal, vote.commit, vote.head_op);
            format!("DoViewChange {view}, last normal {last}, commit {commit}, head {head}{lost}")
        }
        Message::StartView { view, commit, head_op, .. } => {
            format!("StartView {view}, commit {commit}, head {head_op}")
        }
        Message::GetState { first_op, last_op } => {
            format!("GetState {}", places(*first_op, *last_op))
        }
        Message::NewState { entries } => format!("NewState {}", span(entries)),
        Message::GetSnapshot { op, .. } => format!("GetSnapshot {op}, the next part"),
        Message::Snapshot(part) => {
            let is_last = part.offset + part.bytes.len() as u64 == part.total_bytes;
            format!("Snapshot {}, {}", part.op, if is_last { "its last part" } else { "a part" })
        }
        Message::Recovery { nonce, view } => format!("Recovery, nonce {nonce}, promised {view}"),
        Message::RecoveryResponse { view, nonce, leader } => {
            let leader = leader.map_or(String::new(), |(commit, head, _)| {
                format!(", leads with commit {commit}, head {head}")
            });
            format!("RecoveryResponse {view}, nonce {nonce}{leader}")
        }
        Message::StartEpoch(EpochStart { view, op, members, .. }) => {
            format!("StartEpoch {view} behind {op}: {}", names(members))
        }
        Message::EpochStarted { view } => format!("EpochStarted {view}"),
    }
}

/// What a client hears.
pub(crate) fn answer(number: u64, answer: &Answer) -> String {
    match answer {
        Answer::Executed(_) if number == 0 => "registered".to_owned(),
        Answer::Executed(_) => format!("request {number} is done"),
        Answer::NoSession => format!("request {number} has no session"),
        Answer::NotLeader(leader) => ask(*leader),
    }
}

pub(crate) fn ask(leader: Option<SocketAddr>) -> String {
    leader.map_or("nobody leads".to_owned(), |leader| format!("ask {}", name(leader)))
}

/// What a key has.
pub(crate) fn found(key: &str, bytes: &[u8]) -> String {
    let value = Found::decode(bytes).unwrap().value;
    value.map_or(format!("{key} has no value"), |value| format!("{key}={}", text(&value)))
}

fn text(bytes: &Bytes) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// What an entry does.
fn entry(entry: &Entry) -> String {
    match entry.request.kind {
        Kind::Register => "register".to_owned(),
        Kind::Reconfigure => "reconfigure".to_owned(),
        Kind::Operation => match postcard::from_bytes(&entry.request.body).unwrap() {
            Change::Put(key, Some(value)) => format!("{}={}", text(&key), text(&value)),
            other => format!("{other:?}"),
        },
    }
}

/// What a replica is.
pub(crate) fn role(address: SocketAddr, replica: &Replica<KeyValue>) -> String {
    let (view, members) = (replica.view(), replica.configuration());
    match replica.status() {
        Status::Normal if replica.leader() == Some(address) => format!("leads {view}"),
        Status::Normal => {
            format!("follows {} in {view}", name(members.members()[members.leader_of(view)]))
        }
        Status::ViewChange => format!("has left for {view}"),
        Status::Recovering => format!("recovers, promised {view}"),
        Status::Joining => "knows no group".to_owned(),
        Status::Retired => format!("is no member in epoch {}", view.epoch()),
    }
}

/// What a replica is and has.
pub(crate) fn state(address: SocketAddr, replica: &Replica<KeyValue>) -> String {
    let log = replica.log();
    let mut text = role(address, replica);
    let list = |first: u64, last: u64| {
        let entries = (first..=last).map(|op| match log.get(op) {
            Some(at) => format!("{op} {}", entry(at)),
            None => format!("{op} lost"),
        });
        entries.collect::<Vec<_>>().join(", ")
    };
    let executed = replica.executed();
    if log.base_op() > 0 {
        text += &format!("; a snapshot up to {}", log.base_op());
    }
    if executed > log.base_op() {
        text += &format!("; executed {}", list(log.base_op() + 1, executed));
    }
    if log.head_op() > executed {
        text += &format!("; not executed {}", list(executed.max(log.base_op()) + 1, log.head_op()));
    }
    text
}
