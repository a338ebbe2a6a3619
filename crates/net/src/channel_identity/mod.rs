//! Who may talk on the channels between hosts: those that hold the cluster key, each under its own name.
//!
//! Limits first:
//! - Whoever holds the cluster key may take any node's name. One host that is broken into is the whole cluster broken into.
//! - Nothing is revoked: a certificate is good until the cluster key is replaced on every host. Its private key lives in the memory of
//!   one process only, and dies with it.
//! - The cluster key and what is derived from it are erased from memory here, but the TLS library keeps copies of session keys and of
//!   the certificate's private key, which it does not erase.
//! - TLS 1.3 only, without session resumption: channels live long.
//!
//! Every host derives the same certificate authority from the cluster key, so that nothing but the key file has to be brought to a
//! host. At start it makes a fresh key and signs a certificate for itself, good for both directions.

mod authority;
mod cluster_key;
mod error;
#[cfg(test)]
mod tests;

pub use cluster_key::{ClusterKey, ClusterKeyError, SteeringKey};
pub use error::{ChannelError, IdentityError};

use authority::Authority;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The application protocol that both ends of a channel must name.
pub const PROTOCOL: &[u8] = b"ashlar-handoff/1";

/// A handshake that takes longer has failed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest name of a node, in bytes: as in the configuration.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// The DNS name in every certificate. The library insists on one; names of nodes are none (they tell upper from lower case).
const COMMON_DNS_NAME: &str = "node.ashlar.internal";

/// What comes before the node's name in its certificate.
const NODE_URI_PREFIX: &str = "ashlar://node/";

/// This process's certificate and what it demands of its peers'.
pub struct ChannelIdentity {
    /// The node that the certificate names.
    node_name: String,
    /// For channels that this host opens.
    client: Arc<ClientConfig>,
    /// For channels that other hosts open.
    server: Arc<ServerConfig>,
}

impl fmt::Debug for ChannelIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChannelIdentity").field("node_name", &self.node_name).finish()
    }
}

impl ChannelIdentity {
    /// Makes a key and a certificate for the node.
    ///
    /// # Errors
    /// When the name is none (1 to [`NODE_NAME_BYTES_MAX`] letters, digits, `-`, `_` or `.`), or the system gives no randomness.
    pub fn new(cluster_key: &ClusterKey, node_name: &str) -> Result<Self, IdentityError> {
        check_node_name(node_name)?;
        let authority = Authority::derive(cluster_key)?;
        let (certificate, private_key) = authority.issue(node_name)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate()?)?;
        let roots = Arc::new(roots);
        Ok(Self {
            node_name: node_name.to_owned(),
            client: Arc::new(client_config(&roots, &certificate, private_key.clone_key())?),
            server: Arc::new(server_config(&roots, &certificate, private_key)?),
        })
    }

    /// The node that this identity is for.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Opens a channel over `stream` to the node of this name. Takes at most [`HANDSHAKE_TIMEOUT`].
    ///
    /// Holds no proof that the peer accepted this host's certificate: that shows with the first bytes from the peer.
    ///
    /// # Errors
    /// When the peer is of another cluster, is another node, or the handshake fails otherwise.
    pub async fn connect<S>(
        &self,
        stream: S,
        peer_name: &str,
    ) -> Result<client::TlsStream<S>, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server_name = ServerName::try_from(COMMON_DNS_NAME).expect("the constant is a name");
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let handshake = connector.connect(server_name, stream);
        let stream = within_the_timeout(handshake).await?;
        let actual = peer_of(stream.get_ref().1)?;
        if actual != peer_name {
            return Err(ChannelError::AnotherNode { expected: peer_name.to_owned(), actual });
        }
        Ok(stream)
    }

    /// Accepts a channel over `stream`, and tells the name of the node that opened it. Takes at most [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// When the peer shows no certificate, is of another cluster, or the handshake fails otherwise.
    pub async fn accept<S>(&self, stream: S) -> Result<(server::TlsStream<S>, String), ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        let stream = within_the_timeout(acceptor.accept(stream)).await?;
        let peer_name = peer_of(stream.get_ref().1)?;
        Ok((stream, peer_name))
    }
}

async fn within_the_timeout<T>(
    handshake: impl Future<Output = io::Result<T>>,
) -> Result<T, ChannelError> {
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(result) => result.map_err(ChannelError::from_handshake),
        Err(_) => Err(ChannelError::Timeout),
    }
}

/// The name in the certificate that the handshake verified.
fn peer_of(connection: &CommonState) -> Result<String, ChannelError> {
    if connection.alpn_protocol() != Some(PROTOCOL) {
        return Err(ChannelError::AnotherProtocol);
    }
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    certificate.and_then(node_name_in).ok_or(ChannelError::Nameless)
}

fn node_name_in(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let name = certificate.valid_uri_names().find_map(|uri| uri.strip_prefix(NODE_URI_PREFIX))?;
    check_node_name(name).ok()?;
    Some(name.to_owned())
}

fn check_node_name(name: &str) -> Result<(), IdentityError> {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(IdentityError::NodeName { name: name.to_owned() })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client_config(
    roots: &Arc<RootCertStore>,
    certificate: &CertificateDer<'static>,
    private_key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, IdentityError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .expect("there is a root certificate");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(vec![certificate.clone()], private_key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    roots: &Arc<RootCertStore>,
    certificate: &CertificateDer<'static>,
    private_key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, IdentityError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .expect("there is a root certificate");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], private_key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}
