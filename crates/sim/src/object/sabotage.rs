//! Defects put in on purpose, to prove that the oracles see them.

use std::{fmt, str::FromStr};

/// A defect of the shell around the chain's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A dirty read is answered with the newest version instead of asking the tail.
    ServeDirty,
    /// A write counts as persisted before it is synced.
    AckBeforeSync,
    /// A client is answered as soon as the head has persisted its write.
    CommitAtHead,
    /// The tail's word on a dirty read is asked for before the snapshot is taken.
    TailBeforeSnapshot,
    /// A restarted replica has lost the entries that were not known to be committed.
    ForgetWindow,
    /// A failure that rests on an uncommitted version is answered at once.
    EarlyFailure,
    /// Every staged body is taken to be present.
    SkipBodyCheck,
    /// A replica that has not joined answers reads and the questions of others.
    ServeUnjoined,
    /// The committed mark on disk runs ahead of the releases performed.
    MarkAhead,
    /// A process that starts again does not sync what its predecessor left in the page cache.
    StartUnsynced,
    /// A replica whose disk is full does not say so.
    HideFullDisk,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ServeDirty,
        Self::AckBeforeSync,
        Self::CommitAtHead,
        Self::TailBeforeSnapshot,
        Self::ForgetWindow,
        Self::EarlyFailure,
        Self::SkipBodyCheck,
        Self::ServeUnjoined,
        Self::MarkAhead,
        Self::StartUnsynced,
        Self::HideFullDisk,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServeDirty => "serve-dirty",
            Self::AckBeforeSync => "ack-before-sync",
            Self::CommitAtHead => "commit-at-head",
            Self::TailBeforeSnapshot => "tail-before-snapshot",
            Self::ForgetWindow => "forget-window",
            Self::EarlyFailure => "early-failure",
            Self::SkipBodyCheck => "skip-body-check",
            Self::ServeUnjoined => "serve-unjoined",
            Self::MarkAhead => "mark-ahead",
            Self::StartUnsynced => "start-unsynced",
            Self::HideFullDisk => "hide-full-disk",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|sabotage| sabotage.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|sabotage| sabotage.name()).collect();
            format!("no such sabotage; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sabotage_is_found_by_its_name() {
        for sabotage in Sabotage::ALL {
            assert_eq!(sabotage.to_string().parse(), Ok(sabotage));
        }
        assert!("".parse::<Sabotage>().is_err());
    }
}
