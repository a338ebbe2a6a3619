//! The cipher suites and the secrets that their keys are derived from.

use ring::{aead, hkdf};
use std::fmt;
use zeroize::Zeroizing;

/// The suites of TLS 1.3 that the cryptographic library has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128GcmSha256,
    /// TLS_AES_256_GCM_SHA384.
    Aes256GcmSha384,
    /// TLS_CHACHA20_POLY1305_SHA256.
    Chacha20Poly1305Sha256,
}

impl CipherSuite {
    /// Every suite.
    pub const ALL: [Self; 3] =
        [Self::Aes128GcmSha256, Self::Aes256GcmSha384, Self::Chacha20Poly1305Sha256];

    /// The suite's registered number (RFC 8446, appendix B.4).
    pub fn code(self) -> u16 {
        match self {
            Self::Aes128GcmSha256 => 0x1301,
            Self::Aes256GcmSha384 => 0x1302,
            Self::Chacha20Poly1305Sha256 => 0x1303,
        }
    }

    /// The suite of a registered number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }

    /// Bytes of a traffic secret: its hash's output.
    pub fn secret_bytes(self) -> usize {
        match self {
            Self::Aes128GcmSha256 | Self::Chacha20Poly1305Sha256 => 32,
            Self::Aes256GcmSha384 => 48,
        }
    }

    /// How many records a writer seals under one key before it changes it: below RFC 8446's limit
    /// for AES-GCM of 2^24.5 records (section 5.5). ChaCha20-Poly1305 has no such limit, but no
    /// sequence number may repeat.
    pub(super) fn records_per_key(self) -> u64 {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 => 1 << 24,
            Self::Chacha20Poly1305Sha256 => 1 << 48,
        }
    }

    /// The bound of a writer's sequence numbers: a used-up key still seals alerts and a KeyUpdate.
    pub(super) fn sequence_max(self) -> u64 {
        self.records_per_key() + RECORDS_IN_RESERVE
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128GcmSha256 => &aead::AES_128_GCM,
            Self::Aes256GcmSha384 => &aead::AES_256_GCM,
            Self::Chacha20Poly1305Sha256 => &aead::CHACHA20_POLY1305,
        }
    }

    pub(super) fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128GcmSha256 | Self::Chacha20Poly1305Sha256 => hkdf::HKDF_SHA256,
            Self::Aes256GcmSha384 => hkdf::HKDF_SHA384,
        }
    }
}

/// Records without application data that a used-up key may seal.
const RECORDS_IN_RESERVE: u64 = 1 << 10;
/// The longest traffic secret.
const SECRET_BYTES_MAX: usize = 48;

/// An application traffic secret of one direction (RFC 8446, section 7.1). Overwritten when it is
/// dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TrafficSecret {
    suite: CipherSuite,
    /// The suite's [`CipherSuite::secret_bytes`], then zeros.
    bytes: Zeroizing<[u8; SECRET_BYTES_MAX]>,
}

/// A secret has not the length of its suite's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a traffic secret of {suite:?} has {} bytes, not {bytes}", suite.secret_bytes())]
pub struct SecretLength {
    suite: CipherSuite,
    bytes: usize,
}

impl TrafficSecret {
    /// A secret of `suite`, as a key log or an extraction gives it.
    ///
    /// # Errors
    /// When `secret` has not [`CipherSuite::secret_bytes`].
    pub fn new(suite: CipherSuite, secret: &[u8]) -> Result<Self, SecretLength> {
        if secret.len() != suite.secret_bytes() {
            return Err(SecretLength { suite, bytes: secret.len() });
        }
        let mut bytes = Zeroizing::new([0; SECRET_BYTES_MAX]);
        bytes[..secret.len()].copy_from_slice(secret);
        Ok(Self { suite, bytes })
    }

    /// The suite whose keys it gives.
    pub fn suite(&self) -> CipherSuite {
        self.suite
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.suite.secret_bytes()]
    }

    /// The secret after a KeyUpdate (RFC 8446, section 7.2).
    pub(super) fn next(&self) -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES_MAX]);
        self.expand("traffic upd", &mut bytes[..self.suite.secret_bytes()]);
        Self { suite: self.suite, bytes }
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
    pub(super) fn expand(&self, label: &str, out: &mut [u8]) {
        const PREFIX: &str = "tls13 ";
        let length = u16::try_from(out.len()).expect("keys are short").to_be_bytes();
        let label_length = u8::try_from(PREFIX.len() + label.len()).expect("labels are short");
        let info: [&[u8]; 5] =
            [&length, &[label_length], PREFIX.as_bytes(), label.as_bytes(), &[0 /* context */]];
        hkdf::Prk::new_less_safe(self.suite.hkdf(), self.as_bytes())
            .expand(&info, OutputBytes(out.len()))
            .and_then(|output| output.fill(out))
            .expect("an output shorter than 255 hashes");
    }
}

impl fmt::Debug for TrafficSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TrafficSecret({:?}, …)", self.suite)
    }
}

/// How much HKDF shall give.
struct OutputBytes(usize);

impl hkdf::KeyType for OutputBytes {
    fn len(&self) -> usize {
        self.0
    }
}
