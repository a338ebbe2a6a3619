//! SipHash-2-4: the keyed hash that authenticates control frames. 64 bits of result, 128 bits of key.
//!
//! Written here because the kernel's verifier takes neither unbounded loops nor slices; checked against the published vectors.

/// The state between words.
#[derive(Clone, Copy)]
pub struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash {
    /// Starts a hash under a key.
    #[inline(always)]
    pub const fn new(key: [u64; 2]) -> Self {
        let [k0, k1] = key;
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    /// Takes in eight bytes of the message, the first one lowest.
    #[inline(always)]
    #[must_use]
    pub const fn word(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round().round();
        self.v0 ^= word;
        self
    }

    /// Ends the message: `rest` holds its last `length_bytes % 8` bytes, the first one lowest, and zeros above them.
    #[inline(always)]
    pub const fn finish(self, rest: u64, length_bytes: u64) -> u64 {
        let mut state = self.word(rest | length_bytes << 56);
        state.v2 ^= 0xff;
        state = state.round().round().round().round();
        state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }

    #[inline(always)]
    const fn round(mut self) -> Self {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
        self
    }
}
