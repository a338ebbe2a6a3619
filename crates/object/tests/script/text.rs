//! Outputs in words.

use super::{name, replica::Process};
use ashlar_object::{
    Entry, Version,
    chain::{Message, Neighbour, Outcome, Output, Readiness, Standing},
};

pub(crate) fn output(at: usize, output: &Output) -> String {
    let this = name(at);
    match output {
        Output::Persist(it) => format!("{this} persists {}", entry(it)),
        Output::PersistJoined => format!("{this} notes that it has joined"),
        Output::Release(it) => format!("{this} releases {}", it.version),
        Output::SendBody(it) => format!("{this} ships the body of {}", it.version),
        Output::Send(to, it) => {
            let to = match to {
                Neighbour::Successor => name(at + 1),
                Neighbour::Predecessor => name(at - 1),
            };
            format!("{this} -> {to}: {}", message(it))
        }
        Output::Reply(ticket, it) => {
            format!("{this} answers write {}: {}", ticket.0, outcome(*it))
        }
    }
}

pub(crate) fn entry(entry: &Entry) -> String {
    let (version, key) = (entry.version, &entry.operation.key);
    match entry.operation.change.meta() {
        Some(meta) => {
            let value: String =
                meta.etag.0.iter().take_while(|byte| **byte > 0).map(|b| char::from(*b)).collect();
            format!("{version} ({key} = {value})")
        }
        None => format!("{version} ({key} deleted)"),
    }
}

pub(crate) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Fresh => "fresh",
        Standing::Joined => "joined",
        Standing::Lost => "lost",
    }
}

pub(crate) fn status(process: &Process) -> String {
    let this = process.name();
    let Some(replica) = &process.replica else {
        return format!("{this} is down; its disk holds {}", process.disk.applied);
    };
    let (applied, committed) = (replica.applied(), replica.committed());
    let released = process.disk.released;
    let ready = ready(Readiness { writable: replica.writable(), has_space: replica.has_space() });
    let standing = standing(replica.standing());
    format!(
        "{this} applied {applied}, committed {committed}, released {released}, {standing}, {ready}"
    )
}

fn message(message: &Message) -> String {
    match message {
        Message::Prepare(it) => format!("prepare {}", entry(it)),
        Message::Probe { committed, holds } => {
            let holds = holds.map_or("not joined".to_owned(), |version| format!("holds {version}"));
            format!("probe; committed {committed}, {holds}")
        }
        Message::Resume { accepted, committed, readiness, compared } => {
            let compared = if *compared { "" } else { ", not compared" };
            format!("resume after {accepted}; {}{compared}", progress(*committed, *readiness))
        }
        Message::Progress { committed, readiness } => progress(*committed, *readiness),
        Message::BodyMissing { version } => format!("the body of {version} is missing"),
    }
}

fn progress(committed: Version, readiness: Readiness) -> String {
    format!("committed {committed}, {}", ready(readiness))
}

fn ready(Readiness { writable, has_space }: Readiness) -> String {
    let writable = if writable { "writable" } else { "not writable" };
    format!("{writable}{}", if has_space { "" } else { ", no space" })
}

fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Committed { version, replaced: true } => {
            format!("committed as {version}, replaced")
        }
        Outcome::Committed { version, replaced: false } => format!("committed as {version}, new"),
        Outcome::PreconditionFailed => "the precondition failed".to_owned(),
        Outcome::NotFound => "not found".to_owned(),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
    }
}
