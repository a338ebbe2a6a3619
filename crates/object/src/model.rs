//! What an object is, and what a write changes.

use crate::Key;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// The largest sum of names and values of user metadata, in bytes, as in S3.
pub const USER_METADATA_BYTES_MAX: usize = 2048;

/// The longest Content-Type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// The place of a write in its partition's order: 1, 2, 3, … without gaps.
///
/// The head gives the numbers; every replica persists and applies them in order. Zero stands for
/// "nothing yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub u64);

impl Version {
    /// Before the first write.
    pub const NONE: Self = Self(0);

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        // 2^64 writes at 10^9 a second take 584 years.
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The MD5 of an object's bytes: its strong entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag(pub [u8; 16]);

impl fmt::Display for ETag {
    /// The tag with its quotes, as in the header field.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for byte in self.0 {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str("\"")
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for ETag {
    type Err = ();

    /// Parses the form that [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or(())?;
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// Everything about an object but its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Length of the body in bytes.
    pub size_bytes: u64,
    /// MD5 of the body.
    pub etag: ETag,
    /// When the head accepted the write, in milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// The Content-Type that the writer gave, at most [`CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: Option<String>,
    /// User metadata (`x-amz-meta-*` fields): lower-case name without the prefix, and value; at
    /// most [`USER_METADATA_BYTES_MAX`] bytes together.
    pub user: Vec<(String, String)>,
}

/// Names a large body that is shipped and stored beside the metadata; the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageId(pub u128);

impl fmt::Display for StageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl FromStr for StageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Small: the bytes travel and are stored with the metadata.
    Inline(Bytes),
    /// Large: shipped along the chain before the write is numbered, stored in a file.
    Staged(StageId),
}

/// What a write does to its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The key names this object from now on.
    Put {
        /// The object.
        meta: ObjectMeta,
        /// Its bytes.
        body: Body,
    },
    /// The key names nothing from now on.
    Delete,
}

impl Change {
    /// The object's metadata, unless this is a deletion.
    pub fn meta(&self) -> Option<&ObjectMeta> {
        match self {
            Self::Put { meta, .. } => Some(meta),
            Self::Delete => None,
        }
    }

    /// The identifier of the staged body, if there is one.
    pub fn stage(&self) -> Option<StageId> {
        match self {
            Self::Put { body: Body::Staged(stage), .. } => Some(*stage),
            _ => None,
        }
    }
}

/// A write: which key, what change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The key.
    pub key: Key,
    /// What happens to it.
    pub change: Change,
}

/// A numbered write, as the chain orders and persists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the partition's order.
    pub version: Version,
    /// The write; shared because it waits in windows while it is written and sent.
    pub operation: Arc<Operation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_survives_its_text_form() {
        let tag = ETag([0xab; 16]);
        assert_eq!(tag.to_string().parse(), Ok(tag));
        for bad in [
            "",
            "\"\"",
            "abababababababababababababababab",
            "\"zz\"",
            "\"+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1\"",
        ] {
            assert_eq!(bad.parse::<ETag>(), Err(()), "{bad}");
        }
    }
}
