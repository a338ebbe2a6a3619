//! The values in the key-value store: each sealed with a checksum that covers its key too.
//!
//! A sealed value is a CRC32C (4 bytes, little-endian), a format number (1 byte) and the payload.
//! The checksum covers the row's key, so that a row that turns up under another key is found.

use crate::{Place, StorageError, Stored, StoredChange};
use ashlar_object::{Key, ObjectMeta, PartitionIndex, StageId, Version};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The format of the payloads that this program writes and reads.
const FORMAT: u8 = 1;
/// Bytes before the payload.
const HEADER_BYTES: usize = 5;

/// How far a partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The highest version persisted.
    pub(crate) applied: Version,
    /// The highest version known to be committed.
    pub(crate) committed: Version,
    /// Whether the replica agreed with its neighbours on what it must hold.
    pub(crate) joined: bool,
}

/// Which version a large body belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobOwner {
    /// The key.
    pub(crate) key: Key,
    /// Its version.
    pub(crate) version: Version,
}

/// The row of a version, as it is stored.
#[derive(Serialize, Deserialize)]
struct VersionRow {
    partition: u16,
    /// None is a deletion.
    put: Option<(ObjectMeta, PlaceRow)>,
}

#[derive(Serialize, Deserialize)]
enum PlaceRow {
    Inline,
    Staged(StageId),
}

/// What a row is, for messages about it.
fn name(table: &str, key: &[&[u8]]) -> String {
    let bytes: Vec<u8> = key.concat();
    format!("row {} of {table}", bytes.escape_ascii())
}

/// Seals `payload` to be stored under `key`, given in parts.
pub(crate) fn seal(key: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len());
    value.extend_from_slice(&checksum(key, FORMAT, payload).to_le_bytes());
    value.push(FORMAT);
    value.extend_from_slice(payload);
    value
}

/// The payload of a sealed value. `table` names the table in errors.
pub(crate) fn open<'v>(
    table: &str,
    key: &[&[u8]],
    value: &'v [u8],
) -> Result<&'v [u8], StorageError> {
    let Some((header, payload)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(StorageError::corrupt(name(table, key), "cut short"));
    };
    let [a, b, c, d, format] = *header;
    if u32::from_le_bytes([a, b, c, d]) != checksum(key, format, payload) {
        let detail = "its checksum does not match";
        return Err(StorageError::corrupt(name(table, key), detail));
    }
    if format != FORMAT {
        let detail = format!("unknown format {format}");
        return Err(StorageError::corrupt(name(table, key), detail));
    }
    Ok(payload)
}

/// Seals a structure.
pub(crate) fn encode<T: Serialize>(key: &[&[u8]], row: &T) -> Vec<u8> {
    let payload = postcard::to_stdvec(row).expect("a row can be encoded");
    seal(key, &payload)
}

/// Opens a sealed structure.
pub(crate) fn decode<T: DeserializeOwned>(
    table: &str,
    key: &[&[u8]],
    value: &[u8],
) -> Result<T, StorageError> {
    let payload = open(table, key, value)?;
    postcard::from_bytes(payload)
        .map_err(|error| StorageError::corrupt(name(table, key), error.to_string()))
}

/// The value of a version's row.
pub(crate) fn encode_version(key: &[&[u8]], stored: &Stored) -> Vec<u8> {
    let put = match &stored.change {
        StoredChange::Put { meta, place } => {
            let place = match place {
                Place::Inline => PlaceRow::Inline,
                Place::Staged(id) => PlaceRow::Staged(*id),
            };
            Some((meta.clone(), place))
        }
        StoredChange::Delete => None,
    };
    let partition = stored.partition.0;
    encode(key, &VersionRow { partition, put })
}

/// The version in a row's value.
pub(crate) fn decode_version(
    table: &str,
    key: &[&[u8]],
    version: Version,
    value: &[u8],
) -> Result<Stored, StorageError> {
    let row: VersionRow = decode(table, key, value)?;
    let change = match row.put {
        Some((meta, place)) => {
            let place = match place {
                PlaceRow::Inline => Place::Inline,
                PlaceRow::Staged(id) => Place::Staged(id),
            };
            StoredChange::Put { meta, place }
        }
        None => StoredChange::Delete,
    };
    Ok(Stored { version, partition: PartitionIndex(row.partition), change })
}

fn checksum(key: &[&[u8]], format: u8, payload: &[u8]) -> u32 {
    let of_key = key.iter().fold(0, |checksum, part| crc32c::crc32c_append(checksum, part));
    crc32c::crc32c_append(crc32c::crc32c_append(of_key, &[format]), payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::ETag;
    use proptest::prelude::*;

    const KEY: &[&[u8]] = &[b"key", &[7, 0]];

    fn stored() -> Stored {
        let meta = ObjectMeta {
            size_bytes: 300,
            etag: ETag([0xab; 16]),
            modified_ms: 1,
            content_type: Some("text/plain".into()),
            user: vec![("a".into(), "b".into())],
        };
        Stored {
            version: Version(7),
            partition: PartitionIndex(3),
            change: StoredChange::Put { meta, place: Place::Staged(StageId(5)) },
        }
    }

    /// Data that was written once must be readable for ever: a change here is a new format.
    #[test]
    fn the_stored_form_of_a_version_stays_as_it_is() {
        let value = encode_version(KEY, &stored());
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "13fe087f01\
            0301ac02abababababababababababababababab01010a746578742f706c61696e01016101620105";
        assert_eq!(hex, expected);
        assert_eq!(decode_version("versions", KEY, Version(7), &value).unwrap(), stored());
    }

    #[test]
    fn a_row_under_another_key_is_found() {
        let value = encode_version(KEY, &stored());
        let other: &[&[u8]] = &[b"kez", &[7, 0]];
        let error = decode_version("versions", other, Version(7), &value).unwrap_err();
        assert!(error.is_corruption());
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(bit in 0usize..45 * 8) {
            let mut value = encode_version(KEY, &stored());
            prop_assert_eq!(value.len(), 45);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_version("versions", KEY, Version(7), &value).is_err());
        }

        #[test]
        fn garbage_is_refused(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode_version("versions", KEY, Version(7), &value).is_err());
        }
    }
}
