//! Why there is no result.

use crate::load::LoadError;
use crate::peers::PeerError;
use ashlar_lab::LabError;
use std::io;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// A field of the specification is out of its bounds or does not fit another.
    #[error("{field}: {reason}")]
    Spec {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A peer cannot be measured.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A configuration file of the lab is not what it should be.
    #[error("the lab's configuration cannot be used: {0}")]
    Configuration(String),
    /// The generator failed.
    #[error("{subject}, {case}: {source}")]
    Load {
        /// Which subject was measured.
        subject: &'static str,
        /// Under which load.
        case: String,
        /// What happened.
        source: LoadError,
    },
    /// The generator in the lab failed.
    #[error("{subject}, {case}: {reason}")]
    Generator {
        /// Which subject was measured.
        subject: &'static str,
        /// Under which load.
        case: String,
        /// What it said.
        reason: String,
    },
    /// Two subjects negotiated different TLS terms: their figures do not compare.
    #[error("{case}: {one} and {other} negotiated different TLS terms: {terms}")]
    TlsTerms {
        /// Under which load.
        case: String,
        /// A subject.
        one: &'static str,
        /// Another.
        other: &'static str,
        /// Both terms.
        terms: String,
    },
    /// The machine refused a file or a process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The user called it off.
    #[error("interrupted")]
    Interrupted,
}
