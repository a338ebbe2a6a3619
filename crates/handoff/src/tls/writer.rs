//! Sealing what we send.

use super::{
    AlertDescription, HEADER_BYTES, LEGACY_VERSION, PLAINTEXT_BYTES_MAX, TAG_BYTES, TRAILER_BYTES,
    content_type, key::DirectionKey, key_update,
};
use std::{fmt, ops::Range};

/// Bytes of the record that [`RecordWriter::key_update`] gives.
pub const KEY_UPDATE_RECORD_BYTES: usize = HEADER_BYTES + key_update::BYTES + TRAILER_BYTES;
/// Bytes of the record that [`RecordWriter::alert`] gives.
pub const ALERT_RECORD_BYTES: usize = HEADER_BYTES + ALERT_BYTES + TRAILER_BYTES;

const ALERT_BYTES: usize = 2;

/// How many bytes the records of `plaintext_bytes` have, a KeyUpdate not counted. Nothing needs no
/// record.
pub fn sealed_bytes(plaintext_bytes: usize) -> usize {
    let records = plaintext_bytes.div_ceil(PLAINTEXT_BYTES_MAX);
    plaintext_bytes + records * (HEADER_BYTES + TRAILER_BYTES)
}

/// Seals the records of one direction.
pub struct RecordWriter {
    key: DirectionKey,
    /// A closure alert was sealed; nothing may follow.
    closed: bool,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// [`RecordWriter::needs_key_update`] was not heeded.
    #[error("the key has sealed all records that it may: update it")]
    KeyExhausted,
    /// An alert has ended what we send.
    #[error("an alert has ended this direction")]
    Closed,
}

impl RecordWriter {
    pub(super) fn new(key: DirectionKey, closed: bool) -> Self {
        Self { key, closed }
    }

    pub(super) fn into_parts(self) -> (DirectionKey, bool) {
        (self.key, self.closed)
    }

    /// The number of the next record under the present key.
    pub fn sequence(&self) -> u64 {
        self.key.sequence()
    }

    /// Whether the key must be changed before more application data is sealed.
    pub fn needs_key_update(&self) -> bool {
        self.key.sequence() >= self.key.suite().records_per_key()
    }

    /// Seals the plaintext at `payload` where it lies. [`HEADER_BYTES`] before and
    /// [`TRAILER_BYTES`] behind it are overwritten: together they are the record, whose range is
    /// returned.
    ///
    /// # Errors
    /// [`SealError`]; the buffer is as it was.
    ///
    /// # Panics
    /// When there is no room around the payload, or more than [`PLAINTEXT_BYTES_MAX`] of it.
    pub fn seal_in_place(
        &mut self,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        if self.needs_key_update() {
            return Err(SealError::KeyExhausted);
        }
        assert!(payload.len() <= PLAINTEXT_BYTES_MAX, "a record holds 16,384 bytes");
        assert!(payload.start >= HEADER_BYTES, "no room for the header");
        let record = payload.start - HEADER_BYTES..payload.end + TRAILER_BYTES;
        assert!(record.end <= buffer.len(), "no room for the tag");
        self.seal_record(content_type::APPLICATION_DATA, &mut buffer[record.clone()]);
        Ok(record)
    }

    /// Appends the records of `plaintext` to `out`, and a KeyUpdate where one is due.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn append(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        out.reserve(sealed_bytes(plaintext.len()));
        for content in plaintext.chunks(PLAINTEXT_BYTES_MAX) {
            if self.needs_key_update() {
                out.extend_from_slice(&self.key_update(false)?);
            }
            let start = out.len();
            out.extend_from_slice(&[0; HEADER_BYTES]);
            out.extend_from_slice(content);
            out.extend_from_slice(&[0; TRAILER_BYTES]);
            self.seal_record(content_type::APPLICATION_DATA, &mut out[start..]);
        }
        Ok(())
    }

    /// Seals a KeyUpdate and goes on under the next key; with `request_update` the client shall
    /// change its own as well.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn key_update(
        &mut self,
        request_update: bool,
    ) -> Result<[u8; KEY_UPDATE_RECORD_BYTES], SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        let [kind, high, middle, low] = key_update::HEADER;
        let request =
            if request_update { key_update::REQUESTED } else { key_update::NOT_REQUESTED };
        let record = self.record(content_type::HANDSHAKE, [kind, high, middle, low, request]);
        self.key.rotate();
        Ok(record)
    }

    /// Seals an alert. All but user_canceled end what we send.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn alert(
        &mut self,
        description: AlertDescription,
    ) -> Result<[u8; ALERT_RECORD_BYTES], SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        self.closed = description != AlertDescription::USER_CANCELED;
        Ok(self.record(content_type::ALERT, [description.level(), description.0]))
    }

    /// Seals the alert that ends what we send without an error.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn close_notify(&mut self) -> Result<[u8; ALERT_RECORD_BYTES], SealError> {
        self.alert(AlertDescription::CLOSE_NOTIFY)
    }

    /// A short record by itself.
    fn record<const CONTENT: usize, const RECORD: usize>(
        &mut self,
        content_type: u8,
        content: [u8; CONTENT],
    ) -> [u8; RECORD] {
        const { assert!(RECORD == HEADER_BYTES + CONTENT + TRAILER_BYTES) };
        let mut record = [0; RECORD];
        record[HEADER_BYTES..HEADER_BYTES + CONTENT].copy_from_slice(&content);
        self.seal_record(content_type, &mut record);
        record
    }

    /// Seals a record whose content is in place already.
    fn seal_record(&mut self, content_type: u8, record: &mut [u8]) {
        let sequence_max = self.key.suite().sequence_max();
        assert!(self.key.sequence() < sequence_max, "the key has sealed more than it may");
        let length = u16::try_from(record.len() - HEADER_BYTES).expect("a record is short");
        let [major, minor] = LEGACY_VERSION;
        let [high, low] = length.to_be_bytes();
        let header = [content_type::APPLICATION_DATA, major, minor, high, low];
        record[..HEADER_BYTES].copy_from_slice(&header);
        let (plaintext, tag) = record[HEADER_BYTES..].split_at_mut(usize::from(length) - TAG_BYTES);
        *plaintext.last_mut().expect("the type follows the content") = content_type;
        tag.copy_from_slice(&self.key.seal(header, plaintext));
    }
}

impl fmt::Debug for RecordWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RecordWriter")
            .field("suite", &self.key.suite())
            .field("sequence", &self.key.sequence())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
