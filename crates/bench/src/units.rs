//! Sizes as people write them: `1KiB`, `64KiB`, `1MiB`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Suffixes with their factors, longest first where one ends another.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// A number of bytes, shown with the largest binary unit that divides it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Why a text is not a size.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a size: write a whole number and one of B, KiB, MiB, GiB, kB, MB, GB")]
pub struct NotASize(String);

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let refused = || NotASize(text.to_owned());
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
            .unwrap_or((text, 1));
        // `parse` alone would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let count: u64 = digits.parse().map_err(|_| refused())?;
        count.checked_mul(factor).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (suffix, factor) = UNITS[..3]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(formatter, "{}{suffix}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_size_is_read_with_or_without_a_unit() {
        let bytes = |text: &str| text.parse::<ByteSize>().unwrap().bytes();
        assert_eq!(bytes("0"), 0);
        assert_eq!(bytes("1000"), 1000);
        assert_eq!(bytes("512B"), 512);
        assert_eq!(bytes("1KiB"), 1024);
        assert_eq!(bytes("64KiB"), 65_536);
        assert_eq!(bytes("1MiB"), 1_048_576);
        assert_eq!(bytes("3MB"), 3_000_000);
    }

    #[test]
    fn other_text_is_refused_and_named() {
        for text in ["", "KiB", "-1", "+1KiB", "1.5MiB", "1 KiB", "1kib", "99999999999GiB"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn a_size_is_shown_with_the_largest_unit_that_divides_it() {
        assert_eq!(ByteSize(1024).to_string(), "1KiB");
        assert_eq!(ByteSize(1 << 20).to_string(), "1MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
        assert_eq!(ByteSize(1536).to_string(), "1536B");
        assert_eq!(ByteSize(0).to_string(), "0B");
    }
}
