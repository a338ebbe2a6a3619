//! What replicas tell each other. `docs/replication.md` has the table of who sends what to whom and when.

use crate::{Entry, View};
use bytes::Bytes;
use core::net::SocketAddr;

/// A message between replicas. Every message carries its sender's address beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The leader gives entries their places.
    Prepare {
        /// The leader's view.
        view: View,
        /// Everything up to this place is committed.
        commit: u64,
        /// The digest at the place before the first entry.
        previous: u64,
        /// The next entries were sent right behind these: one acknowledgement will do for both.
        is_followed: bool,
        /// One entry at least, contiguous.
        entries: Vec<Entry>,
    },
    /// A backup has everything up to `op`, and will not forget it.
    PrepareOk {
        /// The backup's view.
        view: View,
        /// The last place.
        op: u64,
        /// The digest there: both have the same log.
        digest: u64,
    },
    /// A backup lacks what comes behind `op`.
    Missing {
        /// The backup's view.
        view: View,
        /// The last place before the gap.
        op: u64,
    },
    /// The leader lives.
    Commit {
        /// The leader's view.
        view: View,
        /// Everything up to this place is committed.
        commit: u64,
        /// The last place of the leader's log.
        head_op: u64,
        /// The digest there.
        head_digest: u64,
        /// Numbers the leader's rounds.
        round: u64,
    },
    /// A backup has heard a round.
    CommitOk {
        /// The backup's view.
        view: View,
        /// The round.
        round: u64,
    },
    /// The sender hears no leader, and would leave its view for this one if enough others would, too. It
    /// changes nothing at the sender yet.
    StartViewChange {
        /// The view that it wants.
        view: View,
        /// The view that it is in, or has left all others for.
        present: View,
    },
    /// The sender has left all earlier views: it acknowledges nothing in them any more.
    DoViewChange(DoViewChange),
    /// The new leader has its log.
    StartView {
        /// The view that begins.
        view: View,
        /// Everything up to this place is committed.
        commit: u64,
        /// The last place of its log.
        head_op: u64,
        /// The digest there.
        head_digest: u64,
    },
    /// Asks for entries.
    GetState {
        /// The first place.
        first_op: u64,
        /// The last place.
        last_op: u64,
    },
    /// Some of the entries that were asked for, beginning anywhere.
    NewState {
        /// In their order; some may be missing in between.
        entries: Vec<Entry>,
    },
    /// Asks for a part of a snapshot.
    GetSnapshot {
        /// The place up to which the snapshot goes.
        op: u64,
        /// The first byte.
        offset: u64,
    },
    /// A part of a snapshot; sent unasked, its first one, to who asks for entries that are no longer kept.
    Snapshot(SnapshotPart),
    /// The sender has lost its memory.
    Recovery {
        /// Names this loss.
        nonce: u64,
        /// It has promised to acknowledge nothing in earlier views.
        view: View,
    },
    /// The answer of a replica that is in a view.
    RecoveryResponse {
        /// The view.
        view: View,
        /// Of the question.
        nonce: u64,
        /// The commit number, the last place and its digest, if the sender leads the view.
        leader: Option<(u64, u64, u64)>,
    },
    /// The next epoch has begun.
    StartEpoch(EpochStart),
    /// The sender is in the epoch of this view.
    EpochStarted {
        /// Its view.
        view: View,
    },
}

/// What a replica has when it leaves a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoViewChange {
    /// The view that shall begin.
    pub view: View,
    /// The last view whose log the sender had.
    pub last_normal: View,
    /// Everything up to this place is committed.
    pub commit: u64,
    /// The last place of the sender's log.
    pub head_op: u64,
    /// Places up to the head whose entries the sender's disk has lost: it may have acknowledged them.
    pub holes: Vec<u64>,
}

/// How an epoch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Its first view.
    pub view: View,
    /// The place of the entry that ended the epoch before.
    pub op: u64,
    /// The digest there.
    pub digest: u64,
    /// The epoch's members.
    pub members: Vec<SocketAddr>,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The place up to which the snapshot goes.
    pub op: u64,
    /// The length of the whole, in bytes.
    pub total_bytes: u64,
    /// A hash of the whole.
    pub checksum: u64,
    /// The part's first byte.
    pub offset: u64,
    /// The part.
    pub bytes: Bytes,
}
