//! Snapshots: everything up to a place, for replicas that lack entries that nobody keeps any more.

use super::{Output, Replica, Status, Write, fetch::BULK_MAX};
use crate::{
    BURST_MESSAGES, ClientId, Configuration, EpochStart, Log, Message, Mode, Service, Sessions,
    SnapshotPart, View,
};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc};
use xxhash_rust::xxh3::xxh3_64;

/// The longest snapshot that is taken from another replica, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;
/// How long a snapshot is kept that others take, after it was last asked for, in microseconds.
const KEPT_US: u64 = 30_000_000;

/// Everything up to a place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The place of the last entry in it.
    pub op: u64,
    /// The digest there.
    pub digest: u64,
    /// The time of the last entry, in milliseconds since 1970.
    time_ms: u64,
    /// The epoch: the bits of its first view, its entry's place and digest, its members.
    epoch: (u64, u64, u64, Vec<SocketAddr>),
    /// The client table: for each session its client; the places of its first and its last entry and the
    /// number of its last request; and results.
    sessions: Vec<(u64, [u64; 3], Vec<Bytes>)>,
    /// The service's own.
    service: Bytes,
}

/// A snapshot on its way here.
#[derive(Debug)]
pub(super) struct Incoming {
    from: SocketAddr,
    op: u64,
    total_bytes: u64,
    checksum: u64,
    received: BytesMut,
    /// Bytes that were asked for.
    asked_bytes: u64,
    /// When the last part came, in microseconds.
    progress_us: u64,
}

/// A snapshot that others take from here.
#[derive(Debug)]
pub(super) struct Outgoing {
    op: u64,
    checksum: u64,
    bytes: Bytes,
    /// When it was last asked for, in microseconds.
    used_us: u64,
}

impl Snapshot {
    /// Reads a snapshot.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// The epoch that it was made in.
    pub(super) fn epoch(&self) -> Option<(EpochStart, Configuration)> {
        let (view, op, digest, members) = &self.epoch;
        let view = View::from_bits(*view);
        let configuration = Configuration::new(view.epoch(), members.clone()).ok()?;
        if *op > self.op {
            return None;
        }
        Some((
            EpochStart { view, op: *op, digest: *digest, members: members.clone() },
            configuration,
        ))
    }
}

impl<S: Service> Replica<S> {
    /// Everything up to what was executed last.
    pub(super) fn encode_snapshot(&self) -> Bytes {
        let digest = self.log.digest_at(self.executed).expect("what was executed last is here");
        let session = |(client, numbers, results): (ClientId, [u64; 3], _)| {
            let results: Vec<Bytes> = Iterator::cloned(results).collect();
            (client.0, numbers, results)
        };
        let EpochStart { view, op, digest: epoch_digest, members } = &self.epoch;
        let snapshot = Snapshot {
            op: self.executed,
            digest,
            time_ms: self.time_ms,
            epoch: (view.bits(), *op, *epoch_digest, members.clone()),
            sessions: self.sessions.iter().map(session).collect(),
            service: self.service.snapshot(),
        };
        postcard::to_stdvec(&snapshot).expect("a snapshot can be encoded").into()
    }

    /// Sends the first part of a snapshot to a replica that needs entries which are gone.
    pub(super) fn offer_snapshot(&mut self, now_us: u64, to: SocketAddr) {
        self.forget_unused_snapshot(now_us);
        let is_old = |kept: &Outgoing| kept.op < self.log.base_op();
        if self.outgoing.as_ref().is_none_or(is_old) {
            // With holes in its log, it may know of an epoch whose beginning it has not executed again.
            if self.log.digest_at(self.executed).is_none() || self.epoch.op > self.executed {
                return;
            }
            let bytes = self.encode_snapshot();
            let checksum = xxh3_64(&bytes);
            self.outgoing = Some(Outgoing { op: self.executed, checksum, bytes, used_us: now_us });
        }
        self.send_parts(now_us, to, 0);
    }

    /// Forgets a snapshot that nobody takes any more: it is as large as the state.
    pub(super) fn forget_unused_snapshot(&mut self, now_us: u64) {
        self.outgoing.take_if(|kept| now_us > kept.used_us + KEPT_US);
    }

    /// Somebody asks for the parts of a snapshot from a place on.
    pub(super) fn on_get_snapshot(&mut self, now_us: u64, from: SocketAddr, op: u64, offset: u64) {
        let is_kept = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.op == op);
        if is_kept && self.outputs.bulk() < BULK_MAX {
            self.send_parts(now_us, from, offset);
        }
    }

    fn send_parts(&mut self, now_us: u64, to: SocketAddr, offset: u64) {
        let part_bytes = self.options.part_bytes;
        let Some(outgoing) = self.outgoing.as_mut() else { return };
        outgoing.used_us = now_us;
        let total = outgoing.bytes.len();
        let Some(first) = usize::try_from(offset).ok().filter(|start| *start < total) else {
            return;
        };
        for start in (first..total).step_by(part_bytes).take(BURST_MESSAGES) {
            let bytes = outgoing.bytes.slice(start..total.min(start + part_bytes));
            let (op, checksum, offset) = (outgoing.op, outgoing.checksum, start as u64);
            let part = SnapshotPart { op, total_bytes: total as u64, checksum, offset, bytes };
            self.outputs.push(Output::Send { to, message: Message::Snapshot(part) });
        }
    }

    /// Bytes of a snapshot that come for one question.
    fn burst_of_parts_bytes(&self) -> u64 {
        (self.options.part_bytes * BURST_MESSAGES) as u64
    }

    /// A part of a snapshot has come.
    pub(super) fn on_snapshot(&mut self, now_us: u64, from: SocketAddr, part: &SnapshotPart) {
        let is_wanted = part.op > self.executed && part.total_bytes <= SNAPSHOT_BYTES_MAX;
        if !is_wanted {
            return;
        }
        let is_stuck = |incoming: &Incoming| {
            now_us > incoming.progress_us + 20 * self.options.resend_us && incoming.from != from
        };
        let begins = match &self.incoming {
            // One that waits for its disk would wait with it, and the next one, too.
            _ if self.checkpoint.is_some() => false,
            None => true,
            Some(incoming) => incoming.op < part.op && incoming.from == from || is_stuck(incoming),
        };
        if begins {
            self.incoming = Some(Incoming {
                from,
                op: part.op,
                total_bytes: part.total_bytes,
                checksum: part.checksum,
                received: BytesMut::new(),
                // Who offers it sends as much.
                asked_bytes: self.burst_of_parts_bytes(),
                progress_us: now_us,
            });
        }
        let Some(incoming) = self.incoming.as_mut() else { return };
        let is_same =
            incoming.from == from && incoming.op == part.op && incoming.checksum == part.checksum;
        if !is_same || part.offset != incoming.received.len() as u64 {
            return;
        }
        incoming.progress_us = now_us;
        self.silences = 0;
        incoming.received.extend_from_slice(&part.bytes);
        if (incoming.received.len() as u64) < incoming.total_bytes {
            return self.go_on_receiving(now_us);
        }
        let incoming = self.incoming.take().expect("it was there");
        let bytes = incoming.received.freeze();
        if xxh3_64(&bytes) == incoming.checksum && incoming.total_bytes == bytes.len() as u64 {
            self.install_snapshot(now_us, bytes);
        }
    }

    /// Asks for what comes next of the snapshot that is on its way here, if there is room under way.
    fn go_on_receiving(&mut self, now_us: u64) {
        let (burst_bytes, wait_us) = (self.burst_of_parts_bytes(), self.fetch_wait_us());
        let Some(incoming) = self.incoming.as_mut() else { return };
        self.timers.fetch = Some(now_us + wait_us);
        let under_way_bytes = incoming.asked_bytes.saturating_sub(incoming.received.len() as u64);
        if incoming.asked_bytes < incoming.total_bytes && under_way_bytes <= burst_bytes {
            let (op, offset, to) = (incoming.op, incoming.asked_bytes, incoming.from);
            incoming.asked_bytes += burst_bytes;
            self.outputs.push(Output::Send { to, message: Message::GetSnapshot { op, offset } });
        }
    }

    /// Forgets a snapshot on its way here of which everything is executed.
    pub(super) fn forget_old_snapshot(&mut self) {
        self.incoming.take_if(|incoming| incoming.op <= self.executed);
    }

    /// Asks anew for what has not come of the snapshot that is on its way here.
    pub(super) fn ask_for_parts_again(&mut self, now_us: u64) {
        if let Some(incoming) = self.incoming.as_mut() {
            incoming.asked_bytes = incoming.received.len() as u64;
            self.go_on_receiving(now_us);
        }
    }

    /// Takes a snapshot in place of what it covers. That is always sound: what is in it is committed, and what
    /// this replica has behind another entry at its place never will be.
    fn install_snapshot(&mut self, now_us: u64, bytes: Bytes) {
        let Some(snapshot) = Snapshot::decode(&bytes) else { return };
        if snapshot.op <= self.executed || !self.restore(&snapshot) {
            return;
        }
        let (op, digest) = (snapshot.op, snapshot.digest);
        let keeps = match self.log.digest_at(op) {
            Some(own) => own == digest,
            // A disk has lost it. What is behind it may have been acknowledged.
            None if op < self.log.head_op() => {
                self.log.get(op + 1).is_none_or(|next| next.follows(digest))
            }
            None => false,
        };
        if keeps {
            self.log.rebase(op, digest);
        } else {
            self.log = Log::behind(op, digest);
            self.ahead.clear();
        }
        self.adopt_epoch(&snapshot);
        if self.options.mode == Mode::Durable {
            let promise = self.promise();
            let write = Write::Checkpoint { op, digest, bytes, replaces: !keeps, promise };
            let number = self.outputs.write(write);
            self.promise_write = number;
            self.checkpoint = Some((number, op));
            self.unsaved_bytes = 0;
            if !keeps {
                self.unpersisted.clear();
                self.persisted_op = 0;
                self.unpersisted.push_back((number, op));
            }
        }
        self.advance(now_us, op);
        self.snapshot_installed(now_us);
    }

    /// Takes over what a snapshot holds; false if it is none.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> bool {
        let mut sessions = Sessions::new(self.options.sessions_max);
        let is_whole = snapshot.sessions.iter().all(|(client, numbers, results)| {
            sessions.restore(ClientId(*client), *numbers, results.clone())
        });
        if !is_whole || snapshot.epoch().is_none() || !self.service.restore(&snapshot.service) {
            return false;
        }
        self.sessions = sessions;
        (self.executed, self.time_ms) = (snapshot.op, snapshot.time_ms);
        self.commit = self.commit.max(snapshot.op);
        true
    }

    /// Enters the epoch that a snapshot was made in, if it is a later one.
    fn adopt_epoch(&mut self, snapshot: &Snapshot) {
        let Some((epoch, configuration)) = snapshot.epoch() else { return };
        if epoch.view.epoch() > self.view.epoch() || self.status == Status::Joining {
            self.enter_epoch(epoch, Arc::new(configuration));
        }
    }
}
