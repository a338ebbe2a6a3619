//! The key of one direction and the number of its next record.

use super::{
    HEADER_BYTES, TAG_BYTES,
    suite::{CipherSuite, TrafficSecret},
};
use ring::aead;
use zeroize::Zeroizing;

/// The length of every nonce.
const NONCE_BYTES: usize = 12;
/// The longest key.
const KEY_BYTES_MAX: usize = 32;

/// The protection of one direction.
pub(super) struct DirectionKey {
    /// Kept for the next KeyUpdate and for the image.
    secret: TrafficSecret,
    /// Derived from it once.
    key: aead::LessSafeKey,
    iv: Zeroizing<[u8; NONCE_BYTES]>,
    /// The number of the next record under this key.
    sequence: u64,
}

impl DirectionKey {
    pub(super) fn new(secret: TrafficSecret, sequence: u64) -> Self {
        let algorithm = secret.suite().aead();
        let mut key_bytes = Zeroizing::new([0; KEY_BYTES_MAX]);
        let key_bytes = &mut key_bytes[..algorithm.key_len()];
        secret.expand("key", key_bytes);
        let key = aead::UnboundKey::new(algorithm, key_bytes).expect("a key of the right length");
        let mut iv = Zeroizing::new([0; NONCE_BYTES]);
        secret.expand("iv", &mut *iv);
        Self { secret, key: aead::LessSafeKey::new(key), iv, sequence }
    }

    pub(super) fn suite(&self) -> CipherSuite {
        self.secret.suite()
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Goes on to the next key, as both ends do at a KeyUpdate.
    pub(super) fn rotate(&mut self) {
        *self = Self::new(self.secret.next(), 0);
    }

    /// What the image keeps.
    pub(super) fn into_parts(self) -> (TrafficSecret, u64) {
        (self.secret, self.sequence)
    }

    /// Opens `sealed`, ciphertext and tag, in place. Gives the plaintext's length, or nothing if it
    /// was not sealed as the next record under this key.
    pub(super) fn open(&mut self, header: [u8; HEADER_BYTES], sealed: &mut [u8]) -> Option<usize> {
        let nonce = self.nonce();
        let plaintext = self.key.open_in_place(nonce, aead::Aad::from(header), sealed).ok()?.len();
        self.advance();
        Some(plaintext)
    }

    /// Seals `plaintext` in place; the tag belongs behind it.
    pub(super) fn seal(
        &mut self,
        header: [u8; HEADER_BYTES],
        plaintext: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let nonce = self.nonce();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aead::Aad::from(header), plaintext)
            .expect("a record is far shorter than an AEAD's bound");
        self.advance();
        tag.as_ref().try_into().expect("every suite's tag is of this length")
    }

    /// RFC 8446, section 5.3.
    fn nonce(&self) -> aead::Nonce {
        let mut nonce = *self.iv;
        for (byte, sequence) in nonce[NONCE_BYTES - 8..].iter_mut().zip(self.sequence.to_be_bytes())
        {
            *byte ^= sequence;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }

    /// The callers stop long before the last number.
    fn advance(&mut self) {
        self.sequence = self.sequence.checked_add(1).expect("a sequence number must not repeat");
    }
}
