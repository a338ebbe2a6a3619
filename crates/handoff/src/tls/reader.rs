//! Opening what the client sends.

use super::{
    AlertDescription, CIPHERTEXT_BYTES_MAX, HEADER_BYTES, PLAINTEXT_BYTES_MAX, content_type,
    key::DirectionKey, key_update,
};
use std::{fmt, ops::Range};

/// The most records in a row without application data: empty ones, KeyUpdates and pieces of them,
/// user_canceled. Each costs us work and the sender next to nothing.
pub const IDLE_RECORDS_MAX: u32 = 32;

/// The length of the first record in `bytes`, header included, as soon as its header is there: of
/// any record of TLS, those of a handshake too. A header that no record may have is a record by
/// itself, so that nobody waits for what it promises: whoever gets it refuses it.
pub fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let [content_type, _, _, high, low] = *bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let plausible = content_type::ALL.contains(&content_type) && length <= CIPHERTEXT_BYTES_MAX;
    Some(if plausible { HEADER_BYTES + length } else { HEADER_BYTES })
}

/// Opens the records of one direction.
pub struct RecordReader {
    key: DirectionKey,
    /// The beginning of a handshake message that goes on in the next record.
    partial: Partial,
    /// Records since the last application data.
    idle_records: u32,
    /// Nothing may follow: a closure alert or an error.
    closed: bool,
}

/// What a record held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Application data, at this range of the record; it may be empty.
    ApplicationData(Range<usize>),
    /// The client goes on under its next key, and so does the reader already.
    KeyUpdate {
        /// It wants us to change ours as well.
        update_requested: bool,
    },
    /// The client sends no more. What we send is still read.
    CloseNotify,
    /// The client gave up the connection, and why. Nothing is read or sent after it.
    Alert(AlertDescription),
    /// Nothing to act on: a piece of a message, or an alert without meaning.
    Nothing,
}

/// Why a record was refused. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not one whole record: a bug of the caller.
    #[error("{0} bytes are not one whole record")]
    NotOneRecord(usize),
    /// A record that was not sealed as the next one: tampered with, repeated, out of order.
    #[error("a record cannot be opened")]
    BadRecordMac,
    /// More than a record may hold.
    #[error("a record is too long")]
    Overflow,
    /// A record or message that may not come now, and what is wrong with it.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
    /// A message that cannot be parsed.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// A KeyUpdate that asks for neither of two things.
    #[error("a KeyUpdate with an unknown request")]
    IllegalKeyUpdate,
    /// The client has used up all sequence numbers.
    #[error("the sequence numbers are used up")]
    SequenceExhausted,
    /// Something came after the end; it is ignored (RFC 8446, section 6.1).
    #[error("the connection was closed before")]
    Closed,
}

impl RecordError {
    /// What the client is told, if anything.
    pub fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::BadRecordMac => Some(AlertDescription::BAD_RECORD_MAC),
            Self::Overflow => Some(AlertDescription::RECORD_OVERFLOW),
            Self::Unexpected(_) => Some(AlertDescription::UNEXPECTED_MESSAGE),
            Self::Malformed(_) => Some(AlertDescription::DECODE_ERROR),
            Self::IllegalKeyUpdate => Some(AlertDescription::ILLEGAL_PARAMETER),
            Self::NotOneRecord(_) | Self::SequenceExhausted => {
                Some(AlertDescription::INTERNAL_ERROR)
            }
            Self::Closed => None,
        }
    }
}

impl RecordReader {
    pub(super) fn new(key: DirectionKey, partial: Partial, closed: bool) -> Self {
        Self { key, partial, idle_records: 0, closed }
    }

    pub(super) fn into_parts(self) -> (DirectionKey, Partial, bool) {
        (self.key, self.partial, self.closed)
    }

    /// The number of the next record under the present key.
    pub fn sequence(&self) -> u64 {
        self.key.sequence()
    }

    /// Opens one whole record in place and says what it held. On an error the record's bytes are
    /// worthless, and so is the reader.
    ///
    /// # Errors
    /// [`RecordError`]: what the client did wrong.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordError> {
        if self.closed {
            return Err(RecordError::Closed);
        }
        let opened = self.open_next(record);
        self.closed = matches!(opened, Err(_) | Ok(Opened::CloseNotify | Opened::Alert(_)));
        opened
    }

    fn open_next(&mut self, record: &mut [u8]) -> Result<Opened, RecordError> {
        let (content_type, content) = self.decrypt(record)?;
        if content_type == content_type::APPLICATION_DATA && !content.is_empty() {
            self.idle_records = 0;
        } else {
            self.idle_records += 1;
            if self.idle_records > IDLE_RECORDS_MAX {
                return Err(RecordError::Unexpected("too many records without data"));
            }
        }
        if content_type != content_type::HANDSHAKE && !self.partial.is_empty() {
            return Err(RecordError::Unexpected("a record within a handshake message"));
        }
        match content_type {
            content_type::APPLICATION_DATA => Ok(Opened::ApplicationData(content)),
            content_type::HANDSHAKE => self.handshake(&record[content]),
            content_type::ALERT => alert(&record[content]),
            _ => Err(RecordError::Unexpected("a record of unknown type")),
        }
    }

    /// Takes the protection and the padding away.
    fn decrypt(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), RecordError> {
        let whole = record.len();
        let (header, sealed) =
            record.split_first_chunk_mut().ok_or(RecordError::NotOneRecord(whole))?;
        if ciphertext_bytes(*header)? != sealed.len() {
            return Err(RecordError::NotOneRecord(whole));
        }
        if self.key.sequence() == u64::MAX {
            return Err(RecordError::SequenceExhausted);
        }
        let plaintext = self.key.open(*header, sealed).ok_or(RecordError::BadRecordMac)?;
        if plaintext > PLAINTEXT_BYTES_MAX + 1 {
            return Err(RecordError::Overflow);
        }
        // Padding is zeros behind the type, which is none (RFC 8446, section 5.4).
        let content = sealed[..plaintext]
            .iter()
            .rposition(|byte| *byte != 0)
            .ok_or(RecordError::Unexpected("a record of padding only"))?;
        Ok((sealed[content], HEADER_BYTES..HEADER_BYTES + content))
    }

    fn handshake(&mut self, content: &[u8]) -> Result<Opened, RecordError> {
        if content.is_empty() {
            return Err(RecordError::Unexpected("an empty handshake record"));
        }
        for (index, byte) in content.iter().enumerate() {
            let message = self.partial.push(*byte)?;
            let Some(request) = message else { continue };
            if index + 1 < content.len() {
                // The rest would belong to the next key (RFC 8446, section 5.1).
                return Err(RecordError::Unexpected("a KeyUpdate that does not end its record"));
            }
            let update_requested = match request {
                key_update::NOT_REQUESTED => false,
                key_update::REQUESTED => true,
                _ => return Err(RecordError::IllegalKeyUpdate),
            };
            self.key.rotate();
            return Ok(Opened::KeyUpdate { update_requested });
        }
        Ok(Opened::Nothing)
    }
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RecordReader")
            .field("suite", &self.key.suite())
            .field("sequence", &self.key.sequence())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// How much of a KeyUpdate's header is there. Nothing else may begin, so its length tells all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Partial(u8);

impl Partial {
    /// Of which `bytes` have come; none if these are no beginning of a message.
    pub(super) fn new(bytes: u8) -> Option<Self> {
        (usize::from(bytes) < key_update::BYTES).then_some(Self(bytes))
    }

    pub(super) fn bytes(self) -> u8 {
        self.0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes the next byte; gives what the KeyUpdate asks for if it was its last.
    fn push(&mut self, byte: u8) -> Result<Option<u8>, RecordError> {
        let Some(expected) = key_update::HEADER.get(usize::from(self.0)) else {
            self.0 = 0;
            return Ok(Some(byte));
        };
        match (self.0, byte == *expected) {
            (_, true) => self.0 += 1,
            (0, false) => return Err(RecordError::Unexpected("a handshake message")),
            (_, false) => return Err(RecordError::Malformed("a KeyUpdate's length")),
        }
        Ok(None)
    }
}

/// The bytes behind a header, if it is one of a protected record.
fn ciphertext_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, RecordError> {
    let [content_type, _, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if content_type != content_type::APPLICATION_DATA {
        return Err(RecordError::Unexpected("an unprotected record"));
    }
    if length > CIPHERTEXT_BYTES_MAX {
        return Err(RecordError::Overflow);
    }
    Ok(length)
}

fn alert(content: &[u8]) -> Result<Opened, RecordError> {
    match *content {
        // Levels mean nothing any more: the description alone tells what follows.
        [_, description] => Ok(match AlertDescription(description) {
            AlertDescription::CLOSE_NOTIFY => Opened::CloseNotify,
            AlertDescription::USER_CANCELED => Opened::Nothing,
            other => Opened::Alert(other),
        }),
        [] => Err(RecordError::Unexpected("an empty alert record")),
        _ => Err(RecordError::Malformed("an alert's length")),
    }
}
