//! The secret that makes hosts a cluster, in a file, and what is derived from it.

use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The length of a cluster key, in bytes.
const KEY_BYTES: usize = 32;

/// More than this is not read from a key file: 64 digits, and some white space around them.
const FILE_BYTES_MAX: u64 = 256;

/// Separates keys derived here from whatever else the same secret is used for. Changing it changes every derived key.
const SALT: &[u8] = b"ashlar cluster key 1";

/// What the key that authenticates steering's control frames is derived for.
const STEERING_LABEL: &str = "steering";

/// The key of steering's control frames, 128 bits. Erased when dropped.
pub struct SteeringKey(Zeroizing<[u8; 16]>);

impl SteeringKey {
    /// The key itself.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SteeringKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SteeringKey(…)")
    }
}

/// Why there is no cluster key.
#[derive(Debug, thiserror::Error)]
pub enum ClusterKeyError {
    /// The file cannot be read.
    #[error("cluster.key_file: cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be written. A file that exists is never replaced.
    #[error("cluster.key_file: cannot create {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error("cluster.key_file: {} has mode {mode:03o}: others must not read it (chmod 600)", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("cluster.key_file: {} does not hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("cannot make a cluster key: the system gives no randomness")]
    Randomness,
}

/// What every host of a cluster holds and nobody else. Erased when dropped.
pub struct ClusterKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterKey(…)")
    }
}

impl ClusterKey {
    /// Takes a key from elsewhere. It must be random: nothing stretches it.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a key that nobody else has, for one process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random() -> Result<Self, ClusterKeyError> {
        let mut key = Self(Zeroizing::new([0; KEY_BYTES]));
        SystemRandom::new().fill(key.0.as_mut()).map_err(|_| ClusterKeyError::Randomness)?;
        Ok(key)
    }

    /// Makes a key and writes it to a new file that only its owner can read.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or the system gives no randomness.
    pub fn generate(path: &Path) -> Result<Self, ClusterKeyError> {
        let key = Self::random()?;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        for byte in key.0.iter() {
            write!(text, "{byte:02x}").expect("a string takes any text");
        }
        text.push('\n');
        let create = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        create().map_err(|source| ClusterKeyError::Create { path: path.into(), source })?;
        Ok(key)
    }

    /// Reads the key from its file: 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the file cannot be read, others than its owner can, or it holds something else.
    pub fn load(path: &Path) -> Result<Self, ClusterKeyError> {
        let unreadable = |source| ClusterKeyError::Read { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ClusterKeyError::Permissions { path: path.into(), mode });
        }
        let capacity = usize::try_from(FILE_BYTES_MAX).expect("a small number");
        let mut text = Zeroizing::new(Vec::with_capacity(capacity));
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
        parse(&text).ok_or_else(|| ClusterKeyError::Malformed { path: path.into() })
    }

    /// The key that authenticates steering's control frames.
    pub fn steering_key(&self) -> SteeringKey {
        SteeringKey(self.derive(STEERING_LABEL))
    }

    /// A key for one purpose: HKDF-SHA-256 (RFC 5869). Those of different labels or lengths tell nothing of each other.
    pub(super) fn derive<const LENGTH: usize>(&self, label: &str) -> Zeroizing<[u8; LENGTH]> {
        let secret: Prk = Salt::new(HKDF_SHA256, SALT).extract(self.0.as_ref());
        let mut derived = Zeroizing::new([0; LENGTH]);
        secret
            .expand(&[label.as_bytes()], OutputLength(LENGTH))
            .and_then(|output| output.fill(derived.as_mut()))
            .expect("the length is far below the function's maximum");
        derived
    }
}

/// How many bytes are derived.
struct OutputLength(usize);

impl KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

fn parse(text: &[u8]) -> Option<ClusterKey> {
    let digits = text.trim_ascii();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut key = ClusterKey(Zeroizing::new([0; KEY_BYTES]));
    for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    fn file_with(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_generated_key_is_read_back_and_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        let generated = ClusterKey::generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*ClusterKey::load(&path).unwrap().0, *generated.0);
        assert_ne!(*ClusterKey::random().unwrap().0, *generated.0);
    }

    #[test]
    fn a_key_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = file_with(directory.path(), "cluster.key", "precious", 0o600);
        assert!(matches!(ClusterKey::generate(&path), Err(ClusterKeyError::Create { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let text = "0f".repeat(32);
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let path = file_with(directory.path(), &format!("{mode:o}"), &text, mode);
            let error = ClusterKey::load(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("mode {mode:03o}")), "{error}");
        }
        let path = file_with(directory.path(), "read-only", &text, 0o400);
        assert_eq!(*ClusterKey::load(&path).unwrap().0, [0x0f; 32]);
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let digits = "0F".repeat(32);
        for text in [
            "",
            &digits[1..],
            &format!("{digits}0"),
            &digits.replace("F0", "+0"),
            &digits.repeat(9),
        ] {
            let path = file_with(directory.path(), "cluster.key", text, 0o600);
            let error = ClusterKey::load(&path).unwrap_err();
            assert!(matches!(error, ClusterKeyError::Malformed { .. }), "{text:?}: {error}");
        }
        let missing = ClusterKey::load(&directory.path().join("missing")).unwrap_err();
        assert!(missing.to_string().starts_with("cluster.key_file: cannot read"), "{missing}");
    }

    /// Hosts of different releases must derive the same. The values were computed with Python's hmac and hashlib.
    #[test]
    fn derived_keys_never_change() {
        let key = ClusterKey::from_bytes([7; KEY_BYTES]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(key.steering_key().as_bytes()), "a808b51fed78112b507ce6184f45073c");
        assert_eq!(
            hex(key.derive::<40>("another").as_ref()),
            "86ef199d15a0fab75e1a7bf539d1bffa0230f434e179eed695a7036570831e491d1fa2ca8ea9ec6b"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = ClusterKey::from_bytes([7; KEY_BYTES]);
        assert_eq!(format!("{key:?} {:?}", key.steering_key()), "ClusterKey(…) SteeringKey(…)");
    }
}
