//! Defects put in on purpose, to prove that the oracles see them.

use super::world::World;
use ashlar_vr::Message;
use std::{fmt, str::FromStr};

/// A defect of a replica or its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A replica starts again with its first promises.
    ForgetPromise,
    /// A replica starts again as one of a new group.
    RestartEmpty,
    /// What was written counts as persistent at once.
    SpeakBeforeSync,
    /// Everything that comes is acknowledged, whether it can be appended or not.
    AcknowledgeAnything,
    /// A vote names no lost entries: its log ends before the first one.
    HideHoles,
    /// Votes name logs that are shorter than they are.
    ForgetTail,
    /// Backups answer as leaders do.
    ReadAnywhere,
    /// A client whose session was forgotten repeats its requests in a new one.
    RepeatInNewSession,
    /// A client repeats a request under a new number.
    RenumberRequests,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ForgetPromise,
        Self::RestartEmpty,
        Self::SpeakBeforeSync,
        Self::AcknowledgeAnything,
        Self::HideHoles,
        Self::ForgetTail,
        Self::ReadAnywhere,
        Self::RepeatInNewSession,
        Self::RenumberRequests,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForgetPromise => "forget-promise",
            Self::RestartEmpty => "restart-empty",
            Self::SpeakBeforeSync => "speak-before-sync",
            Self::AcknowledgeAnything => "acknowledge-anything",
            Self::HideHoles => "hide-holes",
            Self::ForgetTail => "forget-tail",
            Self::ReadAnywhere => "read-anywhere",
            Self::RepeatInNewSession => "repeat-in-new-session",
            Self::RenumberRequests => "renumber-requests",
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

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|sabotage| sabotage.name() == text);
        known.ok_or_else(|| format!("there is no defect {text:?}"))
    }
}

impl World {
    /// What a host with a defect sends instead.
    pub(super) fn distort(&self, message: &mut Message) {
        let Some(sabotage) = self.sabotage else { return };
        match (sabotage, message) {
            (Sabotage::HideHoles, Message::DoViewChange(vote)) => {
                if let Some(hole) = vote.holes.first() {
                    vote.head_op = hole - 1;
                    vote.holes.clear();
                }
            }
            (Sabotage::ForgetTail, Message::DoViewChange(vote)) => {
                vote.head_op = vote.commit.max(vote.head_op.saturating_sub(1));
            }
            _ => {}
        }
    }
}
