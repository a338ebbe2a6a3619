//! What a replica wants done.

use crate::{ClientId, Configuration, Entry, EpochStart, Members, Message, View};
use bytes::Bytes;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message to a replica.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        message: Message,
    },
    /// Send one message to several members.
    Multicast {
        /// All members.
        members: Arc<Configuration>,
        /// The places of those that get it.
        to: Members,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Reply(Reply),
    /// Answer a read.
    Read {
        /// The shell's name for it.
        id: ReadId,
        /// The answer.
        answer: ReadAnswer,
    },
    /// Write something, then call [`crate::Replica::handle_persisted`].
    Persist {
        /// Numbers the writes, from 1 on.
        number: u64,
        /// What to write, all or nothing.
        write: Write,
    },
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who asked.
    pub client: ClientId,
    /// The request's number.
    pub number: u64,
    /// The view of who answers.
    pub view: View,
    /// The answer.
    pub answer: Answer,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was executed, with this result.
    Executed(Bytes),
    /// The client has no session (any more): whether the request was executed, nobody knows.
    NoSession,
    /// Somebody else leads; none if nobody is known to.
    NotLeader(Option<SocketAddr>),
}

/// The shell's name for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What became of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// The service's answer, after everything up to `op` was executed.
    Answered {
        /// The last place that it knows of.
        op: u64,
        /// The answer.
        bytes: Bytes,
    },
    /// This replica cannot answer; somebody else may.
    NotLeader(Option<SocketAddr>),
    /// This replica heard its leader too long ago.
    TooOld,
}

/// Something to write, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The replica's promises, in place of the earlier ones.
    Promise(Promise),
    /// Entries at the end of the log.
    Append(Vec<Entry>),
    /// The log ends at `after`, then come the entries; and the promises.
    Install {
        /// Entries behind this place are forgotten.
        after: u64,
        /// What comes instead.
        entries: Vec<Entry>,
        /// The promises that hold with it.
        promise: Promise,
    },
    /// Entries that a disk had lost, at their places.
    Repair(Vec<Entry>),
    /// A snapshot. Entries up to its place are not needed any more; with `replaces`, the whole log is not.
    Checkpoint {
        /// The place up to which it goes.
        op: u64,
        /// The digest there.
        digest: u64,
        /// The snapshot.
        bytes: Bytes,
        /// The log before and behind `op` is forgotten.
        replaces: bool,
        /// The promises that hold with it.
        promise: Promise,
    },
}

/// What a replica must remember whatever happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// It acknowledges nothing in earlier views.
    pub view: View,
    /// The last view whose log it had.
    pub last_normal: View,
    /// Its epoch, and who is in it: nobody as long as it has not been in any.
    pub epoch: EpochStart,
}

/// What waits to be done, and how far writes have come.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    queue: VecDeque<Output>,
    /// How many of them carry parts of logs or snapshots to those who asked.
    bulk: usize,
    /// The number of the last write.
    written: u64,
    /// The last write that is persistent.
    persisted: u64,
}

impl Outputs {
    pub(super) fn push(&mut self, output: Output) {
        self.bulk += usize::from(is_bulk(&output));
        self.queue.push_back(output);
    }

    /// Adds a write, and gives its number.
    pub(super) fn write(&mut self, write: Write) -> u64 {
        self.written += 1;
        self.queue.push_back(Output::Persist { number: self.written, write });
        self.written
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        let output = self.queue.pop_front();
        self.bulk -= usize::from(output.as_ref().is_some_and(is_bulk));
        output
    }

    /// Messages that wait and carry parts of logs or snapshots to those who asked for them.
    pub(super) fn bulk(&self) -> usize {
        self.bulk
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.persisted = self.persisted.max(number);
    }

    /// The last write that is persistent, if one behind it is not.
    pub(super) fn waits_behind(&self) -> Option<u64> {
        (self.persisted < self.written).then_some(self.persisted)
    }

    pub(super) fn is_persisted(&self, number: u64) -> bool {
        number <= self.persisted
    }
}

fn is_bulk(output: &Output) -> bool {
    let Output::Send { message, .. } = output else { return false };
    matches!(message, Message::NewState { .. } | Message::Snapshot(_))
}
