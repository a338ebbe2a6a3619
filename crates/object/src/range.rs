//! Byte ranges (RFC 9110, section 14): one per request, first–last or suffix.

use std::ops::Range;

/// What a Range field means for an object of a known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeVerdict {
    /// No range, one that we do not understand or several: send the whole object with 200.
    Whole,
    /// 206: these bytes, never empty.
    Part(Range<u64>),
    /// 416.
    Unsatisfiable,
}

/// Reads the value of a Range field for an object of `size_bytes`.
///
/// Other units, malformed values and lists of ranges give [`RangeVerdict::Whole`]: the RFC lets a
/// server ignore what it does not serve.
pub fn select(field: Option<&str>, size_bytes: u64) -> RangeVerdict {
    let Some(spec) = field.and_then(|field| field.trim().strip_prefix("bytes=")) else {
        return RangeVerdict::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return RangeVerdict::Whole;
    };
    match (position(first), position(last)) {
        (Position::Absent, Position::At(length)) => {
            // A suffix longer than the object means all of it.
            let start = size_bytes.saturating_sub(length);
            part(start, size_bytes, size_bytes)
        }
        (Position::At(first), Position::Absent) => part(first, size_bytes, size_bytes),
        (Position::At(first), Position::At(last)) if first <= last => {
            part(first, last.saturating_add(1), size_bytes)
        }
        _ => RangeVerdict::Whole,
    }
}

enum Position {
    Absent,
    At(u64),
    Malformed,
}

fn position(text: &str) -> Position {
    if text.is_empty() {
        return Position::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Position::Malformed;
    }
    // More digits than a u64 holds lie behind the end of any object.
    Position::At(text.parse().unwrap_or(u64::MAX))
}

fn part(start: u64, end: u64, size_bytes: u64) -> RangeVerdict {
    let end = end.min(size_bytes);
    if start < end { RangeVerdict::Part(start..end) } else { RangeVerdict::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_rfc_gives_them() {
        for (field, size_bytes, verdict) in [
            ("bytes=0-499", 10_000, RangeVerdict::Part(0..500)),
            ("bytes=500-999", 10_000, RangeVerdict::Part(500..1000)),
            ("bytes=-500", 10_000, RangeVerdict::Part(9500..10_000)),
            ("bytes=9500-", 10_000, RangeVerdict::Part(9500..10_000)),
            ("bytes=0-0", 1, RangeVerdict::Part(0..1)),
            ("bytes=5-99999999999999999999999", 10, RangeVerdict::Part(5..10)),
            ("bytes=-99", 10, RangeVerdict::Part(0..10)),
            ("bytes=10-", 10, RangeVerdict::Unsatisfiable),
            ("bytes=-0", 10, RangeVerdict::Unsatisfiable),
            ("bytes=0-", 0, RangeVerdict::Unsatisfiable),
            ("bytes=5-4", 10, RangeVerdict::Whole),
            ("bytes=-", 10, RangeVerdict::Whole),
            ("bytes=0-1,3-4", 10, RangeVerdict::Whole),
            ("bytes=+1-2", 10, RangeVerdict::Whole),
            ("lines=0-1", 10, RangeVerdict::Whole),
        ] {
            assert_eq!(select(Some(field), size_bytes), verdict, "{field} of {size_bytes}");
        }
        assert_eq!(select(None, 10), RangeVerdict::Whole);
    }
}
