//! Keys: names of objects in one flat space.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The longest key in bytes, as in S3.
pub const KEY_BYTES_MAX: usize = 1024;

/// The name of an object: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8 without NUL.
///
/// Slashes have no meaning but the one that a listing's delimiter gives them. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct Key(Arc<str>);

/// Why a name cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty.
    #[error("the key is empty")]
    Empty,
    /// The name has more than [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {0} bytes, the limit is {KEY_BYTES_MAX}")]
    TooLong(usize),
    /// The name is not UTF-8 after percent-decoding.
    #[error("the key is not UTF-8")]
    NotUtf8,
    /// The name holds a NUL.
    #[error("the key holds a NUL byte")]
    Nul,
}

impl Key {
    /// Checks `name` and makes it a key.
    ///
    /// # Errors
    /// When `name` is empty, too long or holds a NUL.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }

    /// The key that a request's path names: all of it after the first slash, percent-decoded.
    ///
    /// # Errors
    /// As [`Key::new`], and when the decoded bytes are not UTF-8.
    pub fn from_path(path: &str) -> Result<Self, KeyError> {
        let encoded = path.strip_prefix('/').unwrap_or(path);
        let name = percent_encoding::percent_decode_str(encoded)
            .decode_utf8()
            .map_err(|_| KeyError::NotUtf8)?;
        Self::new(&name)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key's bytes; keys are ordered by them.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The path of a request for this key, percent-encoded, with its leading slash.
    pub fn to_path(&self) -> String {
        format!("/{}", percent_encoding::utf8_percent_encode(&self.0, PATH_ENCODED))
    }

    fn check(name: &str) -> Result<(), KeyError> {
        if name.is_empty() {
            return Err(KeyError::Empty);
        }
        if name.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong(name.len()));
        }
        if name.as_bytes().contains(&0) {
            return Err(KeyError::Nul);
        }
        Ok(())
    }
}

impl TryFrom<Arc<str>> for Key {
    type Error = KeyError;

    fn try_from(name: Arc<str>) -> Result<Self, KeyError> {
        Self::check(&name)?;
        Ok(Self(name))
    }
}

impl From<Key> for Arc<str> {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

/// What must be encoded in a path: all but RFC 3986's unreserved characters and the slash.
const PATH_ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_whole_path_is_the_key() {
        assert_eq!(Key::from_path("/foo").unwrap().as_str(), "foo");
        assert_eq!(Key::from_path("//a/../b/").unwrap().as_str(), "/a/../b/");
        assert_eq!(Key::from_path("/a%20b%C3%A9").unwrap().as_str(), "a bé");
    }

    #[test]
    fn names_that_cannot_be_keys_are_refused() {
        assert_eq!(Key::from_path("/"), Err(KeyError::Empty));
        assert_eq!(Key::from_path("/%ff"), Err(KeyError::NotUtf8));
        assert_eq!(Key::from_path("/a%00"), Err(KeyError::Nul));
        assert_eq!(Key::new(&"x".repeat(1025)), Err(KeyError::TooLong(1025)));
        assert!(Key::new(&"x".repeat(1024)).is_ok());
    }

    #[test]
    fn a_path_made_from_a_key_names_that_key() {
        for name in ["a", "a b/c%d?e#f", "é/ü", "/", "a+b&c=d"] {
            let key = Key::new(name).unwrap();
            assert_eq!(Key::from_path(&key.to_path()).unwrap(), key);
        }
    }
}
