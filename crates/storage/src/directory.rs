//! The data directory: what lies where, who may use it, how much space is left.
//!
//! | name            | holds |
//! |-----------------|-------|
//! | `lock`          | nothing; locked by the process that uses the directory |
//! | `format`        | the version of everything below |
//! | `journal`       | the latest batches ([`crate::journal`]) |
//! | `metadata.redb` | metadata and small bodies ([`crate::metadata`]) |
//! | `staging/`      | large bodies being received |
//! | `blobs/XX/ID`   | large bodies, complete and synced ([`crate::blob`]) |

use crate::{StorageError, engine::SWEEP_SLICES};
use ashlar_object::StageId;
use std::{
    collections::BTreeSet,
    fs::{self, DirEntry, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// The version of the layout that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// What the format file says before the version.
const FORMAT_NAME: &str = "ashlar-storage";
/// How many directories the blobs are spread over.
const BLOB_DIRECTORIES: u128 = SWEEP_SLICES as u128;

/// A locked data directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The data directory.
    root: PathBuf,
    /// Space that must be free, in bytes, for new objects to be taken.
    reserve_bytes: u64,
    /// Tells files in staging apart that are received for the same identifier.
    staged: AtomicU64,
    /// Bodies whose name in `blobs/` is not known to be synced.
    publishing: Mutex<BTreeSet<StageId>>,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Directory {
    /// Opens or creates the data directory `root` and locks it.
    pub(crate) fn open(root: &Path, reserve_bytes: u64) -> Result<Self, StorageError> {
        fs::create_dir_all(root).map_err(|error| StorageError::io(root, error))?;
        let directory = Self {
            root: root.to_path_buf(),
            reserve_bytes,
            staged: AtomicU64::new(0),
            publishing: Mutex::default(),
            _lock: lock(root)?,
        };
        let format = directory.format_path();
        match fs::read_to_string(&format) {
            Ok(text) => check_format(&format, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => directory.create()?,
            Err(error) => return Err(StorageError::io(&format, error)),
        }
        Ok(directory)
    }

    /// The data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The key-value store.
    pub(crate) fn metadata_path(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// The journal.
    pub(crate) fn journal_path(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// A complete large body.
    pub(crate) fn blob_path(&self, id: StageId) -> PathBuf {
        blob_directory(&self.blobs_path(), id.0 % BLOB_DIRECTORIES).join(id.to_string())
    }

    /// A new name for a body that is being received.
    pub(crate) fn staging_path(&self, id: StageId) -> PathBuf {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        self.staging_directory().join(format!("{id}.{number}"))
    }

    /// Moves a body that was received and synced to its place, durably. Returns whether it moved: one
    /// that is already there may be in use and is the same.
    pub(crate) fn publish(&self, received: &Path, id: StageId) -> Result<bool, StorageError> {
        let blob = self.blob_path(id);
        let io = |error| StorageError::io(&blob, error);
        let publishing = || self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        publishing().insert(id);
        let moves = !blob.try_exists().map_err(io)?;
        if moves {
            fs::rename(received, &blob).map_err(io)?;
        }
        sync_directory(blob.parent().expect("a blob is in a directory"))?;
        // After an error it stays unknown, until it is received again.
        publishing().remove(&id);
        Ok(moves)
    }

    /// Whether a body is in its place, durably.
    pub(crate) fn is_published(&self, id: StageId) -> Result<bool, StorageError> {
        let blob = self.blob_path(id);
        let exists = blob.try_exists().map_err(|error| StorageError::io(&blob, error))?;
        // In this order: one that came between the two looks is marked until it is synced.
        let publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(exists && !publishing.contains(&id))
    }

    /// Whether there is room for new objects.
    pub(crate) fn has_space(&self) -> Result<bool, StorageError> {
        Ok(self.free_bytes()? >= self.reserve_bytes)
    }

    /// Makes sure that there is room for new objects.
    pub(crate) fn check_space(&self) -> Result<(), StorageError> {
        self.check_free(self.reserve_bytes)
    }

    /// Makes sure that there is room for a write that was numbered while there was room: it may
    /// use half of the reserve, lest it should block the deletions behind it.
    pub(crate) fn check_space_for_numbered(&self) -> Result<(), StorageError> {
        self.check_free(self.reserve_bytes / 2)
    }

    fn check_free(&self, bytes: u64) -> Result<(), StorageError> {
        if self.free_bytes()? < bytes {
            return Err(StorageError::NoSpace { path: self.root.clone() });
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        let free = rustix::fs::statvfs(&self.root)
            .map_err(|error| StorageError::io(&self.root, error.into()))?;
        // What only root may use does not count: it is for repairs.
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }

    /// Removes what was being received when the last process ended.
    pub(crate) fn wipe_staging(&self) -> Result<(), StorageError> {
        let staging = self.staging_directory();
        for entry in entries(&staging)? {
            let path = entry?.path();
            fs::remove_file(&path).map_err(|error| StorageError::io(&path, error))?;
        }
        Ok(())
    }

    /// Offers every complete body. Files of other names are left alone.
    pub(crate) fn visit_blobs(
        &self,
        visit: &mut dyn FnMut(StageId) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for index in 0..=u8::MAX {
            self.visit_blob_files(index, &mut |id, _| visit(id))?;
        }
        Ok(())
    }

    /// Offers the complete bodies of one directory that have not been written to for `age`.
    pub(crate) fn visit_old_blobs(
        &self,
        index: u8,
        age: Duration,
        visit: &mut dyn FnMut(StageId) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let now = SystemTime::now();
        self.visit_blob_files(index, &mut |id, entry| {
            let modified = match entry.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) => modified,
                // It was released meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(StorageError::io(&entry.path(), error)),
            };
            // A clock that was set back makes a body younger, which only keeps it for longer.
            let is_old = now.duration_since(modified).unwrap_or_default() >= age;
            if is_old { visit(id) } else { Ok(()) }
        })
    }

    fn visit_blob_files(
        &self,
        index: u8,
        visit: &mut dyn FnMut(StageId, &DirEntry) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for entry in entries(&blob_directory(&self.blobs_path(), u128::from(index)))? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(id) if self.blob_path(id) == entry.path() => visit(id, &entry)?,
                _ => tracing::warn!(path = %entry.path().display(), "not a file of ours"),
            }
        }
        Ok(())
    }

    /// Removes a complete body; one that is not there is no error.
    pub(crate) fn remove_blob(&self, id: StageId) -> Result<(), StorageError> {
        let path = self.blob_path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Makes the directory ours. The format file comes last: without it nothing has been stored.
    fn create(&self) -> Result<(), StorageError> {
        for path in [self.metadata_path(), self.journal_path()] {
            if path.exists() {
                let detail = "there is data but no format file".into();
                return Err(StorageError::Format { path, detail });
            }
        }
        let blobs = self.blobs_path();
        let parts = (0..BLOB_DIRECTORIES).map(|index| blob_directory(&blobs, index));
        for path in [self.staging_directory(), blobs.clone()].into_iter().chain(parts) {
            fs::create_dir_all(&path).map_err(|error| StorageError::io(&path, error))?;
        }
        sync_directory(&blobs)?;
        let fresh = self.root.join("format.new");
        let text = format!("{FORMAT_NAME} {FORMAT}\n");
        File::create(&fresh)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&fresh, self.format_path()))
            .map_err(|error| StorageError::io(&fresh, error))?;
        sync_directory(&self.root)
    }

    fn format_path(&self) -> PathBuf {
        self.root.join("format")
    }

    fn staging_directory(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn blobs_path(&self) -> PathBuf {
        self.root.join("blobs")
    }
}

/// Makes what was created, renamed or removed in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| StorageError::io(path, error))
}

fn blob_directory(blobs: &Path, index: u128) -> PathBuf {
    blobs.join(format!("{index:02x}"))
}

pub(crate) fn entries(
    path: &Path,
) -> Result<impl Iterator<Item = Result<DirEntry, StorageError>>, StorageError> {
    let entries = fs::read_dir(path).map_err(|error| StorageError::io(path, error))?;
    Ok(entries.map(move |entry| entry.map_err(|error| StorageError::io(path, error))))
}

pub(crate) fn lock(root: &Path) -> Result<File, StorageError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StorageError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path: root.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(StorageError::io(&path, error)),
    }
}

fn check_format(path: &Path, text: &str) -> Result<(), StorageError> {
    let version = text
        .trim_end()
        .strip_prefix(FORMAT_NAME)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|version| version.parse::<u32>().ok());
    let detail = match version {
        Some(FORMAT) => return Ok(()),
        Some(version) => format!("this program knows format {FORMAT}, the data has {version}"),
        None => "not a format file of ours".into(),
    };
    let path = path.to_path_buf();
    Err(StorageError::Format { path, detail })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_directory_in_use_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let first = Directory::open(root.path(), 0).unwrap();
        let second = Directory::open(root.path(), 0).unwrap_err();
        assert!(matches!(second, StorageError::Locked { .. }), "{second}");
        drop(first);
        Directory::open(root.path(), 0).unwrap();
    }

    #[test]
    fn another_format_is_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(Directory::open(root.path(), 0).unwrap());
        for text in ["ashlar-storage 2\n", "ashlar-storage", "", "something else"] {
            fs::write(root.path().join("format"), text).unwrap();
            let refused = Directory::open(root.path(), 0).unwrap_err();
            assert!(matches!(refused, StorageError::Format { .. }), "{refused}");
        }
    }

    #[test]
    fn data_without_a_format_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(Directory::open(root.path(), 0).unwrap());
        fs::write(root.path().join("metadata.redb"), "x").unwrap();
        fs::remove_file(root.path().join("format")).unwrap();
        let refused = Directory::open(root.path(), 0).unwrap_err();
        assert!(matches!(refused, StorageError::Format { .. }), "{refused}");
    }

    #[test]
    fn an_interrupted_creation_is_taken_up_again() {
        let root = tempfile::tempdir().unwrap();
        drop(Directory::open(root.path(), 0).unwrap());
        fs::remove_file(root.path().join("format")).unwrap();
        fs::remove_dir(root.path().join("blobs/7f")).unwrap();
        let directory = Directory::open(root.path(), 0).unwrap();
        directory.visit_blobs(&mut |_| Ok(())).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_before_it_is_written_to() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path(), u64::MAX).unwrap();
        let full = directory.check_space().unwrap_err();
        assert!(matches!(full, StorageError::NoSpace { .. }) && full.is_transient());
    }
}
