//! What is compared.

use crate::peers::Peer;
use ashlar_lab::Mode;
use std::fmt;
use std::str::FromStr;

/// One of the things that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// No front end: clients speak to the storage nodes, each connection to one. Over HTTPS, which
    /// our storage nodes do not accept, nginx with files stands in for them.
    Direct,
    /// Connections that have moved to a storage node once, and stay there.
    Settled,
    /// Connections that move for each request.
    Handoff,
    /// Our front end as it comes: it moves connections when that pays.
    Auto,
    /// Our front end, which passes every response on.
    Relay,
    /// Another proxy in its place.
    Peer(Peer),
    /// Whatever answers at the URL of a run without a lab.
    Target,
}

/// What runs on the front end's host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FrontEnd {
    /// Ours, in this mode; bodies from the threshold on flow past it.
    Ashlar {
        /// Whether connections move.
        mode: Mode,
        /// Its own default if absent.
        threshold_bytes: Option<u64>,
    },
    /// Another.
    Peer(Peer),
}

impl FrontEnd {
    /// Ours, passing every response on.
    pub(crate) const RELAY: Self = Self::Ashlar { mode: Mode::Relay, threshold_bytes: None };
}

impl Subject {
    /// The ways in which our own software can answer, best ceiling first.
    pub const OURS: [Self; 5] =
        [Self::Direct, Self::Settled, Self::Handoff, Self::Auto, Self::Relay];

    /// What it is called in tables and in the names of ratios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Settled => "settled",
            Self::Handoff => "handoff",
            Self::Auto => "auto",
            Self::Relay => "relay",
            Self::Peer(peer) => peer.name(),
            Self::Target => "target",
        }
    }

    /// What must run on the front end's host; `None` if that does not matter.
    pub(crate) fn front_end(self) -> Option<FrontEnd> {
        match self {
            Self::Direct | Self::Target => None,
            Self::Settled | Self::Handoff => {
                Some(FrontEnd::Ashlar { mode: Mode::Handoff, threshold_bytes: Some(0) })
            }
            Self::Auto => Some(FrontEnd::Ashlar { mode: Mode::Auto, threshold_bytes: None }),
            Self::Relay => Some(FrontEnd::RELAY),
            Self::Peer(peer) => Some(FrontEnd::Peer(peer)),
        }
    }

    /// Whether its connections may move, so that moves are counted.
    pub(crate) fn may_move(self) -> bool {
        matches!(self, Self::Settled | Self::Handoff | Self::Auto)
    }

    /// Whether a connection asks for objects of one storage node only.
    pub(crate) fn stays(self) -> bool {
        matches!(self, Self::Direct | Self::Settled)
    }
}

/// A text that names none of [`Subject::OURS`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a subject: direct, settled, handoff, auto or relay")]
pub struct NotASubject(String);

impl FromStr for Subject {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        let found = Self::OURS.into_iter().find(|subject| subject.name() == text);
        found.ok_or_else(|| NotASubject(text.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
