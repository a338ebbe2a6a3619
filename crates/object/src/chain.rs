//! One partition's replica in its chain: a state machine.
//!
//! Chain replication (van Renesse and Schneider, OSDI 2004) with CRAQ's reads ([`crate::read`]).
//! The head numbers the writes of its partition 1, 2, 3, …; each replica persists them in that
//! order and only then passes them on, so that what a replica holds is always a prefix of what its
//! predecessor holds. The tail's persisted prefix is what is committed; the word of it travels back
//! up the chain and lets each replica drop what is superseded, and the head answer.
//!
//! | message    | from → to               | meaning |
//! |------------|-------------------------|---------|
//! | `Prepare`  | predecessor → successor | persist this entry and pass it on |
//! | `Probe`    | predecessor → successor | tell me where to resume; sent when a link comes up or progress stalls |
//! | `Resume`   | successor → predecessor | I accepted up to here: send what follows |
//! | `Progress` | successor → predecessor | committed up to here; writable or not; space for objects or not |
//! | `BodyMissing` | successor → predecessor | ship the staged body of this entry, then prepare it again |
//!
//! # The shell's duties
//! 1. **Persist before send**: perform [`Output::Persist`] in order, synced, and report with
//!    [`Replica::handle_persisted`]. Several may share one sync.
//! 2. A staged body is complete and synced at this replica before its `Prepare` is handed in with
//!    `body_present`, and at the head before the write is handed in.
//! 3. Perform [`Output::Release`] only after everything persisted so far; it may be lost in a crash
//!    and is repeated after the restart. The committed version on the disk is that of the last
//!    release performed, never [`Replica::committed`]: what lies between would not be repeated.
//! 4. Messages may be lost, repeated, delayed and reordered. [`Replica::handle_link`] says when a
//!    link comes up: what was sent on it before is gone.
//! 5. Call [`Replica::handle_timeout`] at [`Replica::poll_timeout`], and drain
//!    [`Replica::poll_output`] after every call.
//! 6. Reads are answered, and the tail's word on them is given, only while
//!    [`Replica::serves_reads`]. The tail is asked after the snapshot of the storage was taken.
//! 7. Say with [`Replica::handle_space`] when the disk comes to lack room for new objects and when it
//!    has room again, at once after [`Replica::new`] too. What was numbered before the head hears of
//!    it still needs room.
//! 8. What [`Recovered`] reports is synced before [`Replica::new`]: a killed process may have left
//!    it in the page cache, and the replica passes it on at once.

mod message;
mod replica;
mod window;
mod write;

pub use message::{Message, Neighbour, Readiness};
pub use replica::Replica;
pub use write::{Metadata, Newest, Outcome, Refusal, Ticket, Write};

use crate::{Entry, Version};

/// Bounds and times of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether somebody sends to this replica: it is not the head.
    pub has_predecessor: bool,
    /// Whether this replica passes writes on: it is not the tail.
    pub has_successor: bool,
    /// The most entries that wait for their commit, and the most failures that wait for that of
    /// the version they rest on; beyond, the head refuses writes.
    pub window_entries_max: usize,
    /// The most bytes of inline bodies that wait for their commit.
    pub window_bytes_max: usize,
    /// After this long without progress the successor is probed.
    pub retry_ms: u64,
}

/// What a replica found on its disk.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The highest version persisted.
    pub applied: Version,
    /// The highest version released: everything up to it is committed. May lag behind.
    pub committed: Version,
    /// All entries above `committed`, in order, without gaps, up to `applied`.
    pub window: Vec<Entry>,
    /// Whether the replica once agreed with its neighbours on what it must hold.
    pub joined: bool,
}

/// Whether a replica holds what its neighbours expect of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An empty disk, not yet compared with the neighbours: a new cluster or a lost disk. It takes
    /// part, but serves no reads before it holds all that its predecessor held.
    Fresh,
    /// It holds all that it must.
    Joined,
    /// It lacks what it once acknowledged. It neither serves nor takes part: its disk must be
    /// restored.
    Lost,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this entry and sync, then call [`Replica::handle_persisted`].
    Persist(Entry),
    /// Remember that the replica has joined; need not be synced.
    PersistJoined,
    /// Send a message.
    Send(Neighbour, Message),
    /// Ship the staged body of this entry to the successor, then call
    /// [`Replica::handle_body_sent`].
    SendBody(Entry),
    /// Answer a client.
    Reply(Ticket, Outcome),
    /// The entry is committed: versions of its key below it can go, and the entry itself if it is a
    /// deletion.
    Release(Entry),
}
