//! What is compared.

use crate::peers::Peer;

/// One of the things that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    /// Our front end, which passes every response on.
    Relay,
    /// Another proxy in its place.
    Peer(Peer),
    /// Whatever answers at the URL of a run without a lab.
    Target,
}

impl Subject {
    /// What it is called in tables and in the names of ratios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Peer(peer) => peer.name(),
            Self::Target => "target",
        }
    }
}
