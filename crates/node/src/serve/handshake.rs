//! TLS handshakes of connections that may move.
//!
//! A library does the handshake; afterwards a record layer of ours goes on, whose state can be taken
//! to another host. So the library must not read a byte beyond the client's last message of the
//! handshake: it is fed one record after the other. Clients without TLS 1.3 stay with the library,
//! and their connections here.

use super::{client::ClientStream, sealed::SealedStream};
use ashlar_handoff::tls::{CipherSuite, RECORD_BYTES_MAX, TlsImage, record_bytes};
use rustls::{KeyLog, ServerConfig, ServerConnection, server::Acceptor};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::StartHandshake;
use zeroize::Zeroizing;

/// The most records of a handshake.
const RECORDS_MAX: usize = 64;

/// Does the handshake.
///
/// # Errors
/// When it fails.
pub(super) async fn accept(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<ClientStream> {
    let mut record = Vec::new();
    read_record(&mut stream, &mut record).await?;
    if offers_tls_1_3(&record) {
        let sealed = shake_hands(stream, record, (*config).clone()).await?;
        return Ok(ClientStream::Sealed(Box::new(sealed)));
    }
    let mut acceptor = Acceptor::default();
    for _ in 0..RECORDS_MAX {
        acceptor.read_tls(&mut &record[..])?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let start = StartHandshake::from_parts(accepted, stream);
                return Ok(ClientStream::Tls(Box::new(start.into_stream(config).await?)));
            }
            Ok(None) => read_record(&mut stream, &mut record).await?,
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                stream.write_all(&bytes).await?;
                return Err(io::Error::other(error));
            }
        }
    }
    Err(io::Error::other("the ClientHello is spread over too many records"))
}

/// The handshake of TLS 1.3, of which the first record is there.
async fn shake_hands(
    mut stream: TcpStream,
    mut record: Vec<u8>,
    mut config: ServerConfig,
) -> io::Result<SealedStream> {
    let secrets = Arc::new(Secrets::default());
    config.key_log = Arc::clone(&secrets) as Arc<dyn KeyLog>;
    config.enable_secret_extraction = true;
    let mut connection = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
    for _ in 0..RECORDS_MAX {
        connection.read_tls(&mut &record[..])?;
        let processed = connection.process_new_packets();
        // What there is to say goes out, an alert too.
        while connection.wants_write() {
            let mut bytes = Vec::new();
            connection.write_tls(&mut bytes)?;
            stream.write_all(&bytes).await?;
        }
        processed.map_err(io::Error::other)?;
        if !connection.is_handshaking() {
            let image = secrets.image(connection)?;
            return Ok(SealedStream::new(stream, image, Vec::new(), Vec::new()));
        }
        read_record(&mut stream, &mut record).await?;
    }
    Err(io::Error::other("the handshake has too many records"))
}

/// Reads one record in place of what `record` holds.
async fn read_record(stream: &mut TcpStream, record: &mut Vec<u8>) -> io::Result<()> {
    const HEADER_BYTES: usize = 5;
    record.clear();
    record.resize(HEADER_BYTES, 0);
    stream.read_exact(record).await?;
    let length = record_bytes(record).expect("the header is there");
    assert!(length <= RECORD_BYTES_MAX);
    record.resize(length, 0);
    stream.read_exact(&mut record[HEADER_BYTES..]).await?;
    Ok(())
}

/// Whether a record holds a ClientHello that offers TLS 1.3 (RFC 8446, sections 4.1.2 and 4.2.1).
fn offers_tls_1_3(record: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    /// Record header, message header, version and random.
    const FIXED_BYTES: usize = 5 + 4 + 2 + 32;
    let is_hello = record.first() == Some(&HANDSHAKE) && record.get(5) == Some(&CLIENT_HELLO);
    is_hello && record.get(FIXED_BYTES..).and_then(versions).is_some_and(has_tls_1_3)
}

/// The list of supported versions, from the session identifier on.
fn versions(hello: &[u8]) -> Option<&[u8]> {
    const SUPPORTED_VERSIONS: u16 = 43;
    let (_session, rest) = vector::<1>(hello)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compression, rest) = vector::<1>(rest)?;
    let (mut extensions, _) = vector::<2>(rest)?;
    while let Some((kind, rest)) = extensions.split_first_chunk() {
        let (data, rest) = vector::<2>(rest)?;
        if u16::from_be_bytes(*kind) == SUPPORTED_VERSIONS {
            return Some(vector::<1>(data)?.0);
        }
        extensions = rest;
    }
    None
}

fn has_tls_1_3(versions: &[u8]) -> bool {
    versions.chunks_exact(2).any(|version| version == [3, 4])
}

/// A vector with a length of `N` bytes before it, and what follows it.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<N>()?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// The traffic secrets of one connection, as the library tells them during the handshake.
#[derive(Default)]
struct Secrets(Mutex<Option<Pair>>);

#[derive(Default)]
struct Pair {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = pair.get_or_insert_default();
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => pair.client = Zeroizing::new(secret.to_vec()),
            "SERVER_TRAFFIC_SECRET_0" => pair.server = Zeroizing::new(secret.to_vec()),
            _ => {}
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label.ends_with("_TRAFFIC_SECRET_0")
    }
}

impl Secrets {
    /// The record layer's state at the end of the handshake.
    fn image(&self, connection: ServerConnection) -> io::Result<TlsImage> {
        let suite = connection.negotiated_cipher_suite().expect("the handshake is done").suite();
        let suite = CipherSuite::from_code(suite.into())
            .ok_or_else(|| io::Error::other("the record layer does not know the cipher suite"))?;
        let pair = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pair = pair.expect("the handshake has told its secrets");
        let extracted = connection.dangerous_extract_secrets().map_err(io::Error::other)?;
        let client = (pair.client.as_slice(), extracted.rx.0);
        let server = (pair.server.as_slice(), extracted.tx.0);
        TlsImage::new(suite, client, server).map_err(io::Error::other)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        version::{TLS12, TLS13},
    };

    fn hello(versions: &[&'static SupportedProtocolVersion]) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut record = Vec::new();
        client.write_tls(&mut record).unwrap();
        record
    }

    #[test]
    fn the_offer_of_tls_1_3_is_seen() {
        assert!(offers_tls_1_3(&hello(&[&TLS13])));
        assert!(offers_tls_1_3(&hello(&[&TLS12, &TLS13])));
        assert!(!offers_tls_1_3(&hello(&[&TLS12])));
        assert!(!offers_tls_1_3(b"GET / HTTP/1.1\r\n\r\n"));
    }

    #[test]
    fn a_part_of_a_hello_offers_nothing_and_breaks_nothing() {
        let hello = hello(&[&TLS13]);
        let whole = (0..=hello.len()).filter(|cut| offers_tls_1_3(&hello[..*cut]));
        assert_eq!(whole.collect::<Vec<_>>(), [hello.len()]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = offers_tls_1_3(&bytes);
        }
    }
}
