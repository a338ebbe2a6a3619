//! The bytes of objects: known from the key and the offset, so that they can be checked.

use ashlar_object::synthetic::{PERIOD_BYTES, byte_at};

/// A prime near the golden section of the period: keys start at well-spread places.
const STRIDE: u64 = 40_487;

/// The content of every object of a run: the synthetic pattern, begun at a place that depends on
/// the key. Synthetic objects begin at its beginning.
#[derive(Debug)]
pub(super) struct Content {
    /// Two periods, so that a piece of up to one period lies in one slice wherever it begins.
    pattern: Box<[u8]>,
}

impl Content {
    /// Computes the pattern.
    pub(super) fn new() -> Self {
        let pattern = (0..2 * PERIOD_BYTES as u64).map(byte_at).collect();
        Self { pattern }
    }

    /// Where in the pattern the object of a key number begins.
    pub(super) fn origin(key: u64) -> u64 {
        key.wrapping_mul(STRIDE) % PERIOD_BYTES as u64
    }

    /// The bytes from `offset` of an object that begins at `origin`: at most `length` of them,
    /// at least one unless `length` is 0.
    pub(super) fn piece(&self, origin: u64, offset: u64, length: u64) -> &[u8] {
        let place = ((origin + offset) % PERIOD_BYTES as u64) as usize;
        let count = length.min(PERIOD_BYTES as u64) as usize;
        &self.pattern[place..place + count]
    }

    /// Whether `received` is what an object that begins at `origin` has at `offset`.
    pub(super) fn matches(&self, origin: u64, offset: u64, received: &[u8]) -> bool {
        let mut offset = offset;
        received.chunks(PERIOD_BYTES).all(|chunk| {
            let expected = self.piece(origin, offset, chunk.len() as u64);
            offset += chunk.len() as u64;
            chunk == expected
        })
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object as a server would hold it.
    fn object(origin: u64, bytes: u64) -> Vec<u8> {
        (origin..origin + bytes).map(byte_at).collect()
    }

    #[test]
    fn an_object_matches_in_any_pieces() {
        let content = Content::new();
        let bytes = object(Content::origin(12), 200_000);
        for size in [1000, 65_521, 70_000, 200_000] {
            let mut offset = 0;
            for received in bytes.chunks(size) {
                assert!(content.matches(Content::origin(12), offset, received));
                offset += received.len() as u64;
            }
        }
    }

    #[test]
    fn a_changed_a_shifted_and_a_foreign_byte_are_seen() {
        let content = Content::new();
        let mut bytes = object(0, 100_000);
        assert!(content.matches(0, 0, &bytes));
        assert!(!content.matches(0, 1, &bytes));
        assert!(!content.matches(Content::origin(1), 0, &bytes));
        bytes[99_999] ^= 1;
        assert!(!content.matches(0, 0, &bytes));
    }

    #[test]
    fn pieces_put_together_are_the_object() {
        let content = Content::new();
        let mut written = Vec::new();
        while written.len() < 150_000 {
            let offset = written.len() as u64;
            written.extend_from_slice(content.piece(5, offset, 150_000 - offset));
        }
        assert_eq!(written, object(5, 150_000));
    }
}
