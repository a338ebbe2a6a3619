//! A client that speaks rustls, and a server whose handshake rustls did and whose records are ours.

use ashlar_handoff::{
    SecretBytes,
    image::{ClientNotes, ConnectionImage, TcpImage, TcpOptions, TcpWindow},
    tls::{
        CipherSuite, HEADER_BYTES, Opened, PLAINTEXT_BYTES_MAX, RecordReader, RecordWriter,
        TRAILER_BYTES, TlsImage, record_bytes,
    },
};
use rustls::{
    ClientConfig, ClientConnection, KeyLog, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    version::TLS13,
};
use std::{
    io::{Read, Write},
    sync::{Arc, LazyLock, Mutex},
};

static CERTIFICATE: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    (certified.cert.der().clone(), certified.signing_key.serialize_der())
});

/// The traffic secrets, as a front end takes them from the handshake.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_vec()));
    }
}

impl Secrets {
    fn get(&self, label: &str) -> Vec<u8> {
        let secrets = self.0.lock().unwrap();
        secrets.iter().find(|(name, _)| name == label).unwrap().1.clone()
    }
}

/// Both ends after the handshake.
pub(crate) struct Session {
    pub(crate) client: ClientConnection,
    pub(crate) reader: RecordReader,
    pub(crate) writer: RecordWriter,
    /// Whether the client's last KeyUpdate asked for one of ours.
    pub(crate) update_owed: bool,
    /// Move the connection at every record boundary, in both directions.
    pub(crate) restless: bool,
}

impl Session {
    pub(crate) fn new(suite: CipherSuite) -> Self {
        let secrets = Arc::new(Secrets::default());
        let (mut client, mut server) = connections(suite, &secrets);
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            receive(&flight, |bytes| server.read_tls(bytes));
            server.process_new_packets().unwrap();
            let mut flight = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            receive(&flight, |bytes| client.read_tls(bytes));
            client.process_new_packets().unwrap();
        }
        let extracted = server.dangerous_extract_secrets().unwrap();
        let image = TlsImage::new(
            suite,
            (&secrets.get("CLIENT_TRAFFIC_SECRET_0"), extracted.rx.0),
            (&secrets.get("SERVER_TRAFFIC_SECRET_0"), extracted.tx.0),
        )
        .unwrap();
        let (reader, writer) = image.import();
        Self { client, reader, writer, update_owed: false, restless: false }
    }

    /// The server moves to another host: into bytes and out of them.
    pub(crate) fn moves(self) -> Self {
        let mut image = travelling(TlsImage::export(self.reader, self.writer));
        image = ConnectionImage::decode(&image.encode()).unwrap();
        let (reader, writer) = image.tls.unwrap().import();
        Self { reader, writer, ..self }
    }

    /// What the client has to send, as whole records.
    pub(crate) fn client_records(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        let mut records = Vec::new();
        while let Some(length) = record_bytes(&bytes) {
            records.push(bytes.drain(..length).collect());
        }
        assert!(bytes.is_empty());
        records
    }

    /// The server takes all that the client has sent, and gives the plaintext.
    pub(crate) fn server_reads(mut self) -> (Self, Vec<u8>) {
        let mut plaintext = Vec::new();
        for mut record in self.client_records() {
            match self.reader.open(&mut record).unwrap() {
                Opened::ApplicationData(range) => plaintext.extend_from_slice(&record[range]),
                Opened::KeyUpdate { update_requested } => self.update_owed |= update_requested,
                other => panic!("unexpected: {other:?}"),
            }
            if self.restless {
                self = self.moves();
            }
        }
        (self, plaintext)
    }

    /// The server writes `plaintext`, half of the records by each of the two ways, and the client
    /// reads it.
    pub(crate) fn server_writes(mut self, plaintext: &[u8]) -> (Self, Vec<u8>) {
        let mut read = Vec::new();
        if self.update_owed {
            let record = self.writer.key_update(false).unwrap();
            read.extend(self.client_reads(&record));
            self.update_owed = false;
        }
        for (index, content) in plaintext.chunks(PLAINTEXT_BYTES_MAX).enumerate() {
            let mut record = Vec::new();
            if index % 2 == 0 {
                self.writer.append(content, &mut record).unwrap();
            } else {
                record.resize(HEADER_BYTES, 0xff);
                record.extend_from_slice(content);
                record.resize(record.len() + TRAILER_BYTES, 0xff);
                let payload = HEADER_BYTES..HEADER_BYTES + content.len();
                let sealed = self.writer.seal_in_place(&mut record, payload).unwrap();
                assert_eq!(sealed, 0..record.len());
            }
            read.extend(self.client_reads(&record));
            if self.restless {
                self = self.moves();
            }
        }
        (self, read)
    }

    pub(crate) fn client_writes(&mut self, plaintext: &[u8]) {
        self.client.writer().write_all(plaintext).unwrap();
    }

    /// The client takes records of the server.
    pub(crate) fn client_reads(&mut self, records: &[u8]) -> Vec<u8> {
        let client = &mut self.client;
        receive(records, |bytes| client.read_tls(bytes));
        let mut plaintext =
            vec![0; client.process_new_packets().unwrap().plaintext_bytes_to_read()];
        client.reader().read_exact(&mut plaintext).unwrap();
        plaintext
    }
}

/// A connection's image around the state of its records.
fn travelling(tls: TlsImage) -> ConnectionImage {
    ConnectionImage {
        epoch: 1,
        tcp: TcpImage {
            local: "192.0.2.1:443".parse().unwrap(),
            peer: "192.0.2.2:5000".parse().unwrap(),
            send_sequence: 0,
            receive_sequence: 0,
            send_queue: SecretBytes::default(),
            mss: 1460,
            options: TcpOptions::default(),
            window: TcpWindow::default(),
        },
        received: SecretBytes::default(),
        opened: SecretBytes::default(),
        peer_finished: false,
        tls: Some(tls),
        client: ClientNotes::default(),
        steering: "192.0.2.1:9002".parse().unwrap(),
    }
}

fn connections(suite: CipherSuite, secrets: &Arc<Secrets>) -> (ClientConnection, ServerConnection) {
    let (certificate, key) = &*CERTIFICATE;
    let code = suite.code();
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| u16::from(suite.suite()) == code);
    let provider: Arc<CryptoProvider> = provider.into();
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key.clone().into()))
        .unwrap();
    server.enable_secret_extraction = true;
    server.key_log = secrets.clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(client.into(), "localhost".try_into().unwrap()).unwrap();
    client.set_buffer_limit(None);
    (client, ServerConnection::new(server.into()).unwrap())
}

fn receive(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    while !bytes.is_empty() {
        assert_ne!(read(&mut bytes).unwrap(), 0);
    }
}
