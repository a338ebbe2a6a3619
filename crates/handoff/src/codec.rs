//! The layout that images and messages share: little-endian numbers, and byte strings behind their
//! length. A value is written twice: once into a [`Length`], then into a buffer of just that size.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

/// What is wrong with a field that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The bytes end within the field.
    #[error("{field} is cut short")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// The field exceeds its bound.
    #[error("{field} has {bytes} bytes, at most {bytes_max} may be")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The most there may be.
        bytes_max: usize,
    },
    /// The field's value means nothing.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it breaks, as the rest of a sentence.
        rule: &'static str,
    },
    /// Something follows the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl FieldError {
    /// A field whose value breaks `rule`.
    pub(crate) fn invalid(field: &'static str, rule: &'static str) -> Self {
        Self::Invalid { field, rule }
    }
}

/// Where a value is written to.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// Writes `value` behind a flag that says whether there is one.
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Writes a byte string whose bound was checked.
    fn bytes(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("a bounded length");
        self.u32(length);
        self.put(value);
    }

    fn address(&mut self, value: SocketAddr) {
        match value.ip() {
            IpAddr::V4(ip) => {
                self.u8(FAMILY_V4);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(FAMILY_V6);
                self.put(&ip.octets());
            }
        }
        self.u16(value.port());
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        debug_assert!(self.capacity() - self.len() >= bytes.len(), "a copy would be left behind");
        self.extend_from_slice(bytes);
    }
}

/// Takes fields from the front of what a peer sent.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, FieldError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, FieldError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, FieldError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, FieldError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, FieldError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FieldError::invalid(field, "is neither 0 nor 1")),
        }
    }

    /// Reads what [`Sink::option`] wrote.
    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, FieldError>,
    ) -> Result<Option<T>, FieldError> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Reads what [`Sink::bytes`] wrote; nothing is allocated for a length that is not there.
    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<&'a [u8], FieldError> {
        let bytes = self.u32(field)? as usize;
        if bytes > bytes_max {
            return Err(FieldError::TooLong { field, bytes, bytes_max });
        }
        let (value, rest) =
            self.rest.split_at_checked(bytes).ok_or(FieldError::Truncated { field })?;
        self.rest = rest;
        Ok(value)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<SocketAddr, FieldError> {
        let ip = match self.u8(field)? {
            FAMILY_V4 => IpAddr::from(Ipv4Addr::from(self.array::<4>(field)?)),
            FAMILY_V6 => IpAddr::from(Ipv6Addr::from(self.array::<16>(field)?)),
            _ => return Err(FieldError::invalid(field, "has an unknown address family")),
        };
        Ok(SocketAddr::new(ip, self.u16(field)?))
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), FieldError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(FieldError::Trailing { bytes }),
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FieldError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(FieldError::Truncated { field })?;
        self.rest = rest;
        Ok(*value)
    }
}
