//! Reading a body piece by piece.

use super::{ADDRESS_BYTES, DecodeError};
use bytes::Bytes;
use core::net::{Ipv6Addr, SocketAddr};

/// What is left of a body.
pub(super) struct Body(pub(super) Bytes);

impl Body {
    pub(super) fn take(&mut self, bytes: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.0.len() < bytes {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.0.split_to(bytes))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let bytes = self.take(8, field)?;
        Ok(u64::from_le_bytes(bytes[..].try_into().expect("eight were taken")))
    }

    pub(super) fn address(&mut self, field: &'static str) -> Result<SocketAddr, DecodeError> {
        let bytes = self.take(ADDRESS_BYTES, field)?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let octets: [u8; 16] = bytes[4..].try_into().expect("twenty were taken");
        let ip = Ipv6Addr::from(octets);
        match half(0) {
            4 => {
                let v4 = ip.to_ipv4_mapped().ok_or(DecodeError::Invalid { field })?;
                Ok(SocketAddr::from((v4, half(2))))
            }
            6 => Ok(SocketAddr::from((ip, half(2)))),
            _ => Err(DecodeError::Invalid { field }),
        }
    }

    /// Everything that is left, at most so much.
    pub(super) fn rest(self, bytes_max: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.0.len() > bytes_max {
            return Err(DecodeError::TooLong { field });
        }
        Ok(self.0)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
