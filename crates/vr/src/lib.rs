//! Viewstamped Replication Revisited (Liskov and Cowling, 2012), with the corrections that later work found
//! necessary: a state machine without sockets, files, clocks, threads or randomness of its own.
//!
//! A [`Replica`] takes inputs by `handle_*` methods, each with the present time, and gives out what is to be
//! done by [`Replica::poll_output`] and when to wake it by [`Replica::poll_timeout`]. The same inputs give the
//! same outputs.
//!
//! # The shell's duties
//! 1. Perform outputs in their order. [`Output::Persist`] may be performed later than what comes behind it, but
//!    persistent writes keep their order among themselves, and each is atomic.
//! 2. Call [`Replica::handle_persisted`] once everything up to a write is sure to survive a power loss. The
//!    replica itself holds back what must not be said before.
//! 3. Send messages to the addresses given. They may be lost, repeated, delayed and reordered; what is delivered
//!    must be what was sent, from whom it was sent (checksums and the cluster's name are the shell's).
//! 4. After a restart, make the replica from all that was persisted ([`Start`]), never from less. An entry that was
//!    persisted and cannot be read is named as lost. One that was being written and never was persisted is not:
//!    whoever cannot tell them apart names it too, and the group may have to wait for it for ever.
//! 5. Time is in microseconds, from a clock that does not go back and whose speed differs from true time by at
//!    most [`Options::drift_ppm_max`].
//! 6. Stop a replica that has a [`Replica::divergence`], and tell its operator.
//!
//! Read in this order: [`Configuration`] and [`View`], [`Entry`], `log`, [`Sessions`], [`Message`], `replica`
//! and its parts. `docs/replication.md` is the page to have beside it.

mod accelerated;
mod client;
mod configuration;
mod entry;
pub mod kv;
mod log;
mod message;
mod options;
mod replica;
mod service;
mod sessions;

pub use accelerated::{Accelerated, Allowed, FastPath, Taken};
pub use client::{Client, ClientOutput};
pub use configuration::{Configuration, ConfigurationError, MEMBERS_MAX, Members, View};
pub use entry::{ClientId, ENTRY_HEADER_BYTES, Entry, Kind, OPERATION_BYTES_MAX, Request};
pub use log::Log;
pub use message::{DoViewChange, EpochStart, Message, SnapshotPart};
pub(crate) use options::BURST_MESSAGES;
pub use options::{Mode, Options};
pub use replica::{
    Answer, Output, Promise, ReadAnswer, ReadId, Replica, Reply, Restored, Share, Snapshot, Start,
    StartError, Status, Write,
};
pub use service::{Operation, RESULT_BYTES_MAX, Service};
pub use sessions::{Known, OUTSTANDING_MAX, Sessions};
