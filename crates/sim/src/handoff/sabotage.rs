//! Defects put in on purpose, to prove that the oracles see them.

use std::{fmt, str::FromStr};

/// A defect of the shells around the protocol's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// `Go` is said before steering has acknowledged the `Point`.
    GoBeforePoint,
    /// After a `Point` the socket is thawed although steering has not taken it back.
    ThawWithoutTakingBack,
    /// The frozen socket's receive sequence is not looked at again.
    SkipCheck,
    /// The old owner closes at once instead of lingering.
    CloseAtOnce,
    /// The importer drops the connection when the channel breaks, even after `Go`.
    DropAfterGo,
    /// The epoch is that of the owner before.
    SameEpoch,
    /// What the kernel has received and nobody has read does not travel.
    ForgetReceiveQueue,
    /// What was sent and is not acknowledged does not travel.
    ForgetSendQueue,
    /// An imported socket hears segments before it may speak.
    ListenWhileMute,
    /// Steering is not told of a FIN that the kernel has received and nobody has read.
    ForgetUnreadFin,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::GoBeforePoint,
        Self::ThawWithoutTakingBack,
        Self::SkipCheck,
        Self::CloseAtOnce,
        Self::DropAfterGo,
        Self::SameEpoch,
        Self::ForgetReceiveQueue,
        Self::ForgetSendQueue,
        Self::ListenWhileMute,
        Self::ForgetUnreadFin,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::GoBeforePoint => "go-before-point",
            Self::ThawWithoutTakingBack => "thaw-without-taking-back",
            Self::SkipCheck => "skip-check",
            Self::CloseAtOnce => "close-at-once",
            Self::DropAfterGo => "drop-after-go",
            Self::SameEpoch => "same-epoch",
            Self::ForgetReceiveQueue => "forget-receive-queue",
            Self::ForgetSendQueue => "forget-send-queue",
            Self::ListenWhileMute => "listen-while-mute",
            Self::ForgetUnreadFin => "forget-unread-fin",
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
