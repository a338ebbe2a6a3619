//! The record layer's state as a value.

use super::{
    key::DirectionKey,
    reader::{Partial, RecordReader},
    suite::{CipherSuite, SecretLength, TrafficSecret},
    writer::RecordWriter,
};
use crate::codec::{Decoder, FieldError, Sink};

/// The protocol's version on the wire; no other one is moved.
const TLS_1_3: u16 = 0x0304;

/// Both directions of a connection's record layer, between two records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsImage {
    /// What the client seals.
    client: Direction,
    /// What we seal.
    server: Direction,
    /// The beginning of a message of the client.
    partial: Partial,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Direction {
    secret: TrafficSecret,
    /// The number of its next record.
    sequence: u64,
    /// An alert has ended it.
    closed: bool,
}

/// Why a handshake's result is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsImageError {
    /// A secret of another suite.
    #[error(transparent)]
    Secret(#[from] SecretLength),
    /// The key has sealed all that it may.
    #[error("the server's key has sealed {0} records: update it first")]
    KeyExhausted(u64),
}

impl TlsImage {
    /// The state after a handshake: both application traffic secrets of `suite`, and the number of
    /// the next record in each direction.
    ///
    /// # Errors
    /// When a secret has the wrong length or the server's key is used up.
    pub fn new(
        suite: CipherSuite,
        (client_secret, client_sequence): (&[u8], u64),
        (server_secret, server_sequence): (&[u8], u64),
    ) -> Result<Self, TlsImageError> {
        let direction = |secret, sequence| {
            let secret = TrafficSecret::new(suite, secret)?;
            Ok::<_, SecretLength>(Direction { secret, sequence, closed: false })
        };
        let image = Self {
            client: direction(client_secret, client_sequence)?,
            server: direction(server_secret, server_sequence)?,
            partial: Partial::default(),
        };
        if server_sequence >= suite.sequence_max() {
            return Err(TlsImageError::KeyExhausted(server_sequence));
        }
        Ok(image)
    }

    /// Takes the state out of a reader and a writer, which are gone then: only one owner may go on.
    ///
    /// # Panics
    /// When they are not of one connection.
    pub fn export(reader: RecordReader, writer: RecordWriter) -> Self {
        let (client_key, partial, client_closed) = reader.into_parts();
        let (server_key, server_closed) = writer.into_parts();
        assert_eq!(client_key.suite(), server_key.suite(), "two connections");
        let direction = |key: DirectionKey, closed| {
            let (secret, sequence) = key.into_parts();
            Direction { secret, sequence, closed }
        };
        Self {
            client: direction(client_key, client_closed),
            server: direction(server_key, server_closed),
            partial,
        }
    }

    /// Derives the keys and goes on.
    pub fn import(self) -> (RecordReader, RecordWriter) {
        let Self { client, server, partial } = self;
        let client_key = DirectionKey::new(client.secret, client.sequence);
        let server_key = DirectionKey::new(server.secret, server.sequence);
        (
            RecordReader::new(client_key, partial, client.closed),
            RecordWriter::new(server_key, server.closed),
        )
    }

    /// The connection's suite.
    pub fn suite(&self) -> CipherSuite {
        self.client.secret.suite()
    }

    pub(crate) fn write(&self, out: &mut impl Sink) {
        out.u16(TLS_1_3);
        out.u16(self.suite().code());
        for direction in [&self.client, &self.server] {
            out.bytes(direction.secret.as_bytes());
            out.u64(direction.sequence);
            out.flag(direction.closed);
        }
        out.u8(self.partial.bytes());
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, FieldError> {
        if from.u16("tls.version")? != TLS_1_3 {
            return Err(FieldError::invalid("tls.version", "is not TLS 1.3"));
        }
        let suite = CipherSuite::from_code(from.u16("tls.suite")?)
            .ok_or(FieldError::invalid("tls.suite", "is unknown"))?;
        let client = Direction {
            secret: secret(from, suite, "tls.client.secret")?,
            sequence: from.u64("tls.client.sequence")?,
            closed: from.flag("tls.client.closed")?,
        };
        let server = Direction {
            secret: secret(from, suite, "tls.server.secret")?,
            sequence: from.u64("tls.server.sequence")?,
            closed: from.flag("tls.server.closed")?,
        };
        if server.sequence >= suite.sequence_max() {
            return Err(FieldError::invalid("tls.server.sequence", "exceeds what a key may seal"));
        }
        let partial = Partial::new(from.u8("tls.partial")?)
            .ok_or(FieldError::invalid("tls.partial", "is longer than a message"))?;
        Ok(Self { client, server, partial })
    }
}

fn secret(
    from: &mut Decoder<'_>,
    suite: CipherSuite,
    field: &'static str,
) -> Result<TrafficSecret, FieldError> {
    TrafficSecret::new(suite, from.bytes(field, suite.secret_bytes())?)
        .map_err(|_| FieldError::invalid(field, "has not the length of the suite's hash"))
}
