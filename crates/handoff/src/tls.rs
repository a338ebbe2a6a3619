//! TLS 1.3's record layer (RFC 8446, sections 4.6.3, 5, 6 and 7.2) for the server's side of a
//! connection whose handshake somebody else has done.
//!
//! A library does the handshake and gives the two application traffic secrets with their sequence
//! numbers: a [`TlsImage`]. From it come a [`RecordReader`] for what the client sends and a
//! [`RecordWriter`] for what we send; both go back into an image when the connection moves. Records
//! are opened and sealed in place, without allocation, under keys that are derived once.
//!
//! What the client may send after the handshake is application data, alerts and KeyUpdate: a server
//! that asked for no client certificate expects no other handshake message.
//!
//! # The caller's duties
//! 1. Cut the client's bytes at [`record_bytes`] and give each record to [`RecordReader::open`]
//!    once, in order.
//! 2. On an error, send [`RecordError::alert`] if it names one, and close.
//! 3. On [`Opened::KeyUpdate`] with `update_requested`, send [`RecordWriter::key_update`] before the
//!    next application data. One answers any number of requests.
//! 4. When [`RecordWriter::needs_key_update`], do the same. [`RecordWriter::append`] sees to it by
//!    itself.
//! 5. Send every byte that a writer returns, in order: the sequence numbers count them.
//! 6. An image that was handed over is dropped here: two owners that seal different bytes under one
//!    sequence number give the key away.
//!
//! Secrets, and the keys' raw bytes, are overwritten when they are dropped. The expanded keys inside
//! of the cryptographic library are not: it offers no way.

mod alert;
mod image;
mod key;
mod reader;
mod suite;
mod writer;

#[cfg(test)]
mod tests;

pub use alert::AlertDescription;
pub use image::{TlsImage, TlsImageError};
pub use reader::{IDLE_RECORDS_MAX, Opened, RecordError, RecordReader, record_bytes};
pub use suite::{CipherSuite, SecretLength, TrafficSecret};
pub use writer::{
    ALERT_RECORD_BYTES, KEY_UPDATE_RECORD_BYTES, RecordWriter, SealError, sealed_bytes,
};

/// Bytes of a record's header: its type, a version that means nothing any more, its length.
pub const HEADER_BYTES: usize = 5;
/// The most plaintext in one record.
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 14;
/// Bytes of a record's authentication tag, in every suite.
pub const TAG_BYTES: usize = 16;
/// What a sealed record holds behind its plaintext: the true type and the tag.
pub const TRAILER_BYTES: usize = 1 + TAG_BYTES;
/// The most bytes of a record, header included: the peer may pad and choose another cipher's tag.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + CIPHERTEXT_BYTES_MAX;

/// The most bytes behind a record's header (RFC 8446, section 5.2).
const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 256;
/// The version in every record's header: TLS 1.2's.
const LEGACY_VERSION: [u8; 2] = [3, 3];

/// A record's type (RFC 8446, section 5.1).
mod content_type {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
    /// From change_cipher_spec on.
    pub(super) const ALL: std::ops::RangeInclusive<u8> = 20..=APPLICATION_DATA;
}

/// The one handshake message that may still come: its type, its length, and what it says.
mod key_update {
    pub(super) const BYTES: usize = 5;
    pub(super) const HEADER: [u8; 4] = [24, 0, 0, 1];
    pub(super) const NOT_REQUESTED: u8 = 0;
    pub(super) const REQUESTED: u8 = 1;
}
