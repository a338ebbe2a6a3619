//! Why there is no identity, or no channel.

use rustls::{AlertDescription, CertificateError};
use std::io;

/// Why a host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The name cannot be put in a certificate.
    #[error("{name:?} is no name of a node: letters, digits, '-', '_' or '.', not too many")]
    NodeName {
        /// What was given.
        name: String,
    },
    /// The certificate cannot be made: mostly for lack of randomness.
    #[error("cannot make this node's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library does not take the certificate.
    #[error("cannot use this node's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer's certificate was made with another key.
    #[error("the peer's certificate is not of this cluster: its cluster key is another")]
    AnotherCluster,
    /// The peer did not like this host's certificate.
    #[error("the peer refuses this node's certificate ({alert:?}): its cluster key may be another")]
    RefusedByPeer {
        /// What it said.
        alert: AlertDescription,
    },
    /// The peer showed no certificate.
    #[error("the peer shows no certificate")]
    NoCertificate,
    /// The peer's certificate is good, and names no node.
    #[error("the peer's certificate names no node")]
    Nameless,
    /// Somebody else answers at the peer's address.
    #[error("node {actual} answers in the place of {expected}")]
    AnotherNode {
        /// Who was called.
        expected: String,
        /// Who answered.
        actual: String,
    },
    /// The peer did not name the channels' protocol.
    #[error("the peer speaks another protocol")]
    AnotherProtocol,
    /// The peer was too slow.
    #[error("the peer did not finish the TLS handshake in time")]
    Timeout,
    /// The connection broke, or TLS failed in some other way.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
}

impl ChannelError {
    /// Finds the reasons that an operator can do something about.
    pub(super) fn from_handshake(error: io::Error) -> Self {
        use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented};
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match reason {
            Some(InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Self::AnotherCluster,
            Some(NoCertificatesPresented) => Self::NoCertificate,
            Some(AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired),
            )) => Self::RefusedByPeer { alert: *alert },
            _ => Self::Handshake(error),
        }
    }
}
