//! Synthetic objects for benchmarks: the key `N` names N bytes of deterministic content.

use crate::Key;

/// The largest synthetic object in bytes.
pub const SYNTHETIC_BYTES_MAX: u64 = 1 << 40;

/// The content repeats after this many bytes: a prime, so that blocks and records of any usual
/// size hold different bytes.
pub const PERIOD_BYTES: usize = 65_521;

/// The size that `key` names: decimal digits without a sign, at most [`SYNTHETIC_BYTES_MAX`].
pub fn size_of(key: &Key) -> Option<u64> {
    let digits = key.as_str();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|size| *size <= SYNTHETIC_BYTES_MAX)
}

/// The byte at `offset` of every synthetic object.
pub fn byte_at(offset: u64) -> u8 {
    let place = (offset % PERIOD_BYTES as u64) as u32;
    (place.wrapping_mul(2_654_435_761) >> 24) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_key_of_digits_is_a_size() {
        let size = |name| size_of(&Key::new(name).unwrap());
        assert_eq!(size("1000"), Some(1000));
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("1099511627776"), Some(SYNTHETIC_BYTES_MAX));
        assert_eq!(size("1099511627777"), None);
        assert_eq!(size("+1"), None);
        assert_eq!(size("1k"), None);
    }

    #[test]
    fn neighbouring_blocks_differ() {
        let block = |start: u64| (start..start + 64).map(byte_at).collect::<Vec<_>>();
        assert_ne!(block(0), block(64));
        assert_ne!(block(0), block(4096));
        assert_eq!(block(0), block(PERIOD_BYTES as u64));
    }
}
