//! Reading the tables.

use super::{NumberKey, Value, VersionKey, failure, number_bytes};
use crate::{Place, Snapshot, StorageError, Stored, StoredChange, record};
use ashlar_object::{
    Key, Version,
    chain::Newest,
    list::{Bound, Step},
};
use bytes::Bytes;
use redb::{AccessGuard, ReadOnlyTable, ReadableTableMetadata as _};
use std::{path::Path, sync::Arc};

/// A consistent view of the versions and their bodies.
pub(crate) struct View {
    pub(super) versions: ReadOnlyTable<VersionKey, Value>,
    pub(super) bodies: ReadOnlyTable<NumberKey, Value>,
    pub(super) path: Arc<Path>,
}

/// A row of `versions`: its key and what it says, or why it cannot be read.
pub(crate) type VersionRow = (Vec<u8>, Version, Result<Stored, StorageError>);

impl View {
    /// The newest version of a key.
    pub(crate) fn newest(&self, key: &Key) -> Result<Option<Newest>, StorageError> {
        let Some(row) = self.rows_of(key)?.next_back() else {
            return Ok(None);
        };
        let (_, version, stored) = self.read(row)?;
        let meta = match stored?.change {
            StoredChange::Put { meta, .. } => Some(meta),
            StoredChange::Delete => None,
        };
        Ok(Some(Newest { version, meta }))
    }

    /// One version of a key.
    pub(crate) fn version(
        &self,
        key: &Key,
        version: Version,
    ) -> Result<Option<Stored>, StorageError> {
        let value = self.versions.get((key.as_bytes(), version.0));
        let value = value.map_err(|error| failure(&self.path, error))?;
        value.map(|value| decode(key.as_bytes(), version, value.value())).transpose()
    }

    /// How many versions there are.
    pub(crate) fn versions_count(&self) -> Result<u64, StorageError> {
        let count = self.versions.len();
        count.map_err(|error| failure(&self.path, error))
    }

    /// All rows from the first key at or after `from` on, damaged ones too.
    pub(crate) fn rows<'v>(
        &'v self,
        from: &Bound,
    ) -> Result<impl Iterator<Item = Result<VersionRow, StorageError>> + use<'v>, StorageError>
    {
        let rows = self.versions.range((from.as_bytes(), 0)..);
        let rows = rows.map_err(|error| failure(&self.path, error))?;
        Ok(rows.map(|row| self.read(row)))
    }

    fn rows_of(&self, key: &Key) -> Result<redb::Range<'static, VersionKey, Value>, StorageError> {
        self.versions
            .range((key.as_bytes(), 0)..=(key.as_bytes(), u64::MAX))
            .map_err(|error| failure(&self.path, error))
    }

    fn read(&self, row: RedbRow) -> Result<VersionRow, StorageError> {
        let (at, value) = row.map_err(|error| failure(&self.path, error))?;
        let (key, version) = at.value();
        let version = Version(version);
        let stored = decode(key, version, value.value());
        Ok((key.to_vec(), version, stored))
    }
}

type RedbRow =
    Result<(AccessGuard<'static, VersionKey>, AccessGuard<'static, Value>), redb::StorageError>;

impl Snapshot for View {
    fn versions(&self, key: &Key) -> Result<Vec<Stored>, StorageError> {
        self.rows_of(key)?.map(|row| self.read(row)?.2).collect()
    }

    fn inline_body(&self, key: &Key, stored: &Stored) -> Result<Bytes, StorageError> {
        let number = (stored.partition.0, stored.version.0);
        let damaged = |detail: &str| {
            let what = format!("the body of {key:?} version {}", stored.version);
            StorageError::corrupt(what, detail)
        };
        let StoredChange::Put { meta, place } = &stored.change else {
            panic!("a deletion has no body");
        };
        assert_eq!(*place, Place::Inline, "a large body is in a file");
        let value = self.bodies.get(number);
        let value =
            value.map_err(|error| failure(&self.path, error))?.ok_or_else(|| damaged("missing"))?;
        let body = record::open("bodies", &[&number_bytes(number.0, number.1)], value.value())
            .map_err(|_| damaged("its checksum does not match"))?;
        if body.len() as u64 != meta.size_bytes {
            return Err(damaged("its length does not match"));
        }
        Ok(Bytes::copy_from_slice(body))
    }

    fn scan(
        &self,
        from: &Bound,
        visit: &mut dyn FnMut(&Key, &[Stored]) -> Step,
    ) -> Result<(), StorageError> {
        let mut from = from.clone();
        'seek: loop {
            let mut rows = self.rows(&from)?.peekable();
            while let Some(row) = rows.next() {
                let (name, _, stored) = row?;
                let key = parse_key(&name)?;
                let mut versions = vec![stored?];
                let of_key =
                    |row: &Result<VersionRow, _>| matches!(row, Ok((key, ..)) if *key == name);
                while let Some(row) = rows.next_if(of_key) {
                    versions.push(row?.2?);
                }
                match visit(&key, &versions) {
                    Step::Next => {}
                    Step::Seek(bound) => {
                        assert!(bound.as_bytes() > key.as_bytes(), "a scan goes forward");
                        from = bound;
                        continue 'seek;
                    }
                    Step::Stop => return Ok(()),
                }
            }
            return Ok(());
        }
    }
}

/// The key in a row's key.
pub(crate) fn parse_key(name: &[u8]) -> Result<Key, StorageError> {
    std::str::from_utf8(name).ok().and_then(|name| Key::new(name).ok()).ok_or_else(|| {
        let what = format!("row {} of versions", name.escape_ascii());
        StorageError::corrupt(what, "its key is none")
    })
}

fn decode(key: &[u8], version: Version, value: &[u8]) -> Result<Stored, StorageError> {
    let sealed_for: &[&[u8]] = &[key, &version.0.to_le_bytes()];
    record::decode_version("versions", sealed_for, version, value)
}
