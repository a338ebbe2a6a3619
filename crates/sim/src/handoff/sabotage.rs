//! Defects put in on purpose, to prove that the oracles see them.

use std::{fmt, str::FromStr};

/// A defect of the shells around the protocol's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The importer serves before steering has answered its claim.
    ServeUnclaimed,
    /// The exporter thaws before steering has answered its claim.
    ThawWithoutWinning,
    /// Claims make entries, as introductions do.
    ClaimMakesEntry,
    /// An introduction is repeated until it is answered.
    IntroduceTwice,
    /// What the frozen socket has received is not looked at again once the connection has left.
    SkipCheck,
    /// It is looked at once.
    LookOnce,
    /// Late bytes are put into the new socket's queue whatever is there already.
    ReceiveTwice,
    /// The old owner closes at once instead of lingering.
    CloseAtOnce,
    /// The importer drops the connection when the channel breaks, even if it serves it.
    DropWithChannel,
    /// The new owner believes in the epoch of the owner before.
    SameEpoch,
    /// What the kernel has received and nobody has read does not travel.
    ForgetReceiveQueue,
    /// What was sent and is not acknowledged does not travel.
    ForgetSendQueue,
    /// An imported socket hears segments before it may speak.
    ListenWhileMute,
    /// Steering is not told of a FIN that came before it knew the flow.
    ForgetUnreadFin,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ServeUnclaimed,
        Self::ThawWithoutWinning,
        Self::ClaimMakesEntry,
        Self::IntroduceTwice,
        Self::SkipCheck,
        Self::LookOnce,
        Self::ReceiveTwice,
        Self::CloseAtOnce,
        Self::DropWithChannel,
        Self::SameEpoch,
        Self::ForgetReceiveQueue,
        Self::ForgetSendQueue,
        Self::ListenWhileMute,
        Self::ForgetUnreadFin,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServeUnclaimed => "serve-unclaimed",
            Self::ThawWithoutWinning => "thaw-without-winning",
            Self::ClaimMakesEntry => "claim-makes-entry",
            Self::IntroduceTwice => "introduce-twice",
            Self::SkipCheck => "skip-check",
            Self::LookOnce => "look-once",
            Self::ReceiveTwice => "receive-twice",
            Self::CloseAtOnce => "close-at-once",
            Self::DropWithChannel => "drop-with-channel",
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
