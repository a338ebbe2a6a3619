#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const BUFFER_BYTES: usize = 1 << 16;

fn key(byte: u8) -> ClusterKey {
    ClusterKey::from_bytes([byte; 32])
}

fn identity(key: &ClusterKey, name: &str) -> ChannelIdentity {
    ChannelIdentity::new(key, name).unwrap()
}

type Opened = Result<client::TlsStream<DuplexStream>, ChannelError>;
type Accepted = Result<(server::TlsStream<DuplexStream>, String), ChannelError>;

/// `opener` calls `expected`; `acceptor` answers.
async fn handshake(
    opener: &ChannelIdentity,
    expected: &str,
    acceptor: &ChannelIdentity,
) -> (Opened, Accepted) {
    let (near, far) = duplex(BUFFER_BYTES);
    tokio::join!(opener.connect(near, expected), acceptor.accept(far))
}

#[tokio::test]
async fn two_nodes_of_a_cluster_know_each_other_and_talk() {
    let key = key(1);
    let (fe, s1) = (identity(&key, "Front_End.1"), identity(&key, &"x".repeat(64)));
    let (opened, accepted) = handshake(&fe, s1.node_name(), &s1).await;
    let (mut opened, (mut accepted, peer_name)) = (opened.unwrap(), accepted.unwrap());
    assert_eq!(peer_name, "Front_End.1");

    opened.write_all(b"hello").await.unwrap();
    let mut received = [0; 5];
    accepted.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
    accepted.write_all(b"there").await.unwrap();
    opened.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"there");
    let version = opened.get_ref().1.protocol_version();
    assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_with_the_reason() {
    let (ours, theirs) = (identity(&key(1), "fe"), identity(&key(2), "s1"));
    let (opened, accepted) = handshake(&ours, "s1", &theirs).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, ChannelError::AnotherCluster), "{error}");
    assert!(error.to_string().contains("cluster key"), "{error}");
    let error = accepted.unwrap_err();
    assert!(matches!(error, ChannelError::RefusedByPeer { .. }), "{error}");
    assert!(error.to_string().contains("cluster key"), "{error}");
}

/// A client that does not verify whom it talks to must still not get in.
#[tokio::test]
async fn a_client_of_another_cluster_that_trusts_anybody_is_refused() {
    let s1 = identity(&key(1), "s1");
    let foreign = Authority::derive(&key(2)).unwrap();
    let (certificate, private_key) = foreign.issue("fe").unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(Authority::derive(&key(1)).unwrap().certificate().unwrap()).unwrap();
    let roots = Arc::new(roots);
    let config = client_config(&roots, &certificate, private_key).unwrap();
    let error = accept_from(config, &s1).await.unwrap_err();
    assert!(matches!(error, ChannelError::AnotherCluster), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let error = accept_from(anonymous_client(&key(1)), &identity(&key(1), "s1")).await.unwrap_err();
    assert!(matches!(error, ChannelError::NoCertificate), "{error}");
}

#[tokio::test]
async fn a_node_in_the_place_of_another_is_refused() {
    let key = key(1);
    let (fe, s2) = (identity(&key, "fe"), identity(&key, "S1"));
    let (opened, _) = handshake(&fe, "s1", &s2).await;
    let error = opened.unwrap_err();
    assert_eq!(error.to_string(), "node S1 answers in the place of s1");
}

#[tokio::test]
async fn a_client_that_names_no_protocol_is_refused() {
    let key = key(1);
    let (fe, s1) = (identity(&key, "fe"), identity(&key, "s1"));
    let mut config = ClientConfig::clone(&fe.client);
    config.alpn_protocols.clear();
    let error = accept_from(config, &s1).await.unwrap_err();
    assert!(matches!(error, ChannelError::AnotherProtocol), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_costs_no_more_than_the_timeout() {
    let fe = identity(&key(1), "fe");
    let (near, _far) = duplex(BUFFER_BYTES);
    assert!(matches!(fe.connect(near, "s1").await, Err(ChannelError::Timeout)));
    let (near, _far) = duplex(BUFFER_BYTES);
    assert!(matches!(fe.accept(near).await, Err(ChannelError::Timeout)));
}

#[test]
fn every_host_derives_the_same_authority_and_another_key_another_one() {
    let certificate = |byte| Authority::derive(&key(byte)).unwrap().certificate().unwrap();
    assert_eq!(certificate(1), certificate(1));
    assert_ne!(certificate(1), certificate(2));
}

#[test]
fn what_is_no_name_gets_no_certificate() {
    for name in ["", "a b", "é", "a/b", &"x".repeat(NODE_NAME_BYTES_MAX + 1)] {
        let error = ChannelIdentity::new(&key(1), name).unwrap_err();
        assert!(matches!(error, IdentityError::NodeName { .. }), "{name:?}: {error}");
    }
}

async fn accept_from(
    config: ClientConfig,
    acceptor: &ChannelIdentity,
) -> Result<String, ChannelError> {
    let (near, far) = duplex(BUFFER_BYTES);
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(COMMON_DNS_NAME).unwrap();
    let (_, accepted) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    accepted.map(|(_, peer_name)| peer_name)
}

fn anonymous_client(key: &ClusterKey) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(Authority::derive(key).unwrap().certificate().unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}
