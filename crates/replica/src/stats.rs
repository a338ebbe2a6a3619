//! What can be seen of a node from outside of its thread.

use ashlar_vr::{Replica, Service, Status};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of a node. Each has one writer.
#[derive(Debug, Default)]
pub struct NodeStats {
    /// Datagrams that came.
    pub received: AtomicU64,
    /// Datagrams that left.
    pub sent: AtomicU64,
    /// Datagrams that the kernel did not take.
    pub refused: AtomicU64,
    /// Datagrams that came and found the socket's buffer full.
    pub dropped: AtomicU64,
    /// Datagrams that were no frames of this cluster, or damaged.
    pub foreign: AtomicU64,
    /// Frames for groups that are not here.
    pub unknown_group: AtomicU64,
    /// Syncs of journals: one covers all writes of one group that waited.
    pub syncs: AtomicU64,
    /// Writes to journals.
    pub writes: AtomicU64,
}

/// What one group's replica is at the moment.
#[derive(Debug, Default)]
pub struct GroupStats {
    role: AtomicU64,
    /// The view, with its epoch in the upper 24 bits.
    pub view: AtomicU64,
    /// Everything up to this place is committed.
    pub commit: AtomicU64,
    /// Everything up to this place is executed.
    pub executed: AtomicU64,
    /// The last place of the log.
    pub head: AtomicU64,
    /// Clients with a session.
    pub sessions: AtomicU64,
}

/// What a replica does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads the view.
    Leader,
    /// It follows the leader.
    Backup,
    /// It is between two views.
    ViewChange,
    /// It has lost its memory, and fetches that of the others.
    Recovering,
    /// It is no member yet.
    Joining,
    /// It is no member any more.
    Retired,
    /// Its journal failed: it has stopped.
    Failed,
}

impl Role {
    const ALL: [Self; 7] = [
        Self::Leader,
        Self::Backup,
        Self::ViewChange,
        Self::Recovering,
        Self::Joining,
        Self::Retired,
        Self::Failed,
    ];

    /// Its name, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Backup => "backup",
            Self::ViewChange => "view_change",
            Self::Recovering => "recovering",
            Self::Joining => "joining",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

impl GroupStats {
    /// What the replica does.
    pub fn role(&self) -> Role {
        Role::ALL[self.role.load(Relaxed) as usize]
    }

    pub(crate) fn note<S: Service>(&self, replica: &Replica<S>) {
        self.set_role(match replica.status() {
            Status::Normal if replica.is_leader() => Role::Leader,
            Status::Normal => Role::Backup,
            Status::ViewChange => Role::ViewChange,
            Status::Recovering => Role::Recovering,
            Status::Joining => Role::Joining,
            Status::Retired => Role::Retired,
        });
        self.view.store(replica.view().bits(), Relaxed);
        self.commit.store(replica.commit(), Relaxed);
        self.executed.store(replica.executed(), Relaxed);
        self.head.store(replica.log().head_op(), Relaxed);
        self.sessions.store(replica.sessions().len() as u64, Relaxed);
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(role as u64, Relaxed);
    }
}
