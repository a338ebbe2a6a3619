//! A stream whose every position can be told from its neighbourhood: a missing or repeated byte shows.

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use std::sync::OnceLock;

/// The stream repeats itself after so many bytes: a prime, so that no buffer's size divides it.
const PERIOD_BYTES: usize = 1_000_003;

/// Pieces of the stream are no longer.
pub const PIECE_BYTES_MAX: usize = 256 << 10;

/// The stream's bytes from `offset` on.
pub fn piece(offset: u64, bytes: usize) -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    assert!(bytes <= PIECE_BYTES_MAX);
    let stream = STREAM.get_or_init(|| {
        let mut random = Pcg64Mcg::seed_from_u64(0x5eed);
        let mut stream: Vec<u8> = (0..PERIOD_BYTES).map(|_| random.random()).collect();
        stream.extend_from_within(..PIECE_BYTES_MAX);
        stream
    });
    let start = usize::try_from(offset % u64::try_from(PERIOD_BYTES).unwrap()).unwrap();
    &stream[start..start + bytes]
}

/// Panics unless `received` is what the stream has at `offset`.
pub fn check(who: &str, offset: u64, received: &[u8]) {
    let expected = piece(offset, received.len());
    let wrong = received.iter().zip(expected).position(|(left, right)| left != right);
    assert_eq!(wrong, None, "{who}: wrong bytes after {offset}");
}
