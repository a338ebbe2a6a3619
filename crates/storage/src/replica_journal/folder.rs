//! The directory that a journal is kept in; a simulated one in tests.

use crate::{
    StorageError,
    directory::{entries, lock, sync_directory},
    disk::open_file,
};
use redb::StorageBackend;
use std::{
    fmt::Debug,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Files by their names.
pub(crate) trait Folder: Debug + Send {
    /// Where it is, for messages.
    fn path(&self) -> &Path;
    /// The names of all files.
    fn names(&self) -> Result<Vec<String>, StorageError>;
    /// Opens a file to read and write it. With `is_new` it is made, and is empty whatever it was.
    fn open(&self, name: &str, is_new: bool) -> Result<Box<dyn StorageBackend>, StorageError>;
    /// Renames a file, in one step, over another one if there is one.
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;
    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), StorageError>;
    /// Makes what was made, renamed and removed durable.
    fn sync(&self) -> Result<(), StorageError>;
}

/// A locked directory of the file system.
#[derive(Debug)]
pub(super) struct RealFolder {
    root: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl RealFolder {
    /// Makes the directory `root`, if it is not there, durably, and locks it.
    pub(super) fn create(root: &Path) -> Result<Self, StorageError> {
        make_durably(root)?;
        Self::open(root)
    }

    /// Locks the directory `root`.
    pub(super) fn open(root: &Path) -> Result<Self, StorageError> {
        if !root.is_dir() {
            return Err(StorageError::NoJournal { path: root.to_path_buf() });
        }
        Ok(Self { root: root.to_path_buf(), _lock: lock(root)? })
    }
}

/// The names of all files in a directory.
pub(super) fn names_in(root: &Path) -> Result<Vec<String>, StorageError> {
    let names = entries(root)?.map(|entry| Ok(entry?.file_name().into_string()));
    // A name that is no text is not one of ours.
    names.filter_map(|name| name.map(Result::ok).transpose()).collect()
}

/// Makes a directory, and those that it is in, so that no power loss takes their names.
fn make_durably(root: &Path) -> Result<(), StorageError> {
    let parent = root.parent().map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    if !root.is_dir() {
        parent.map_or(Ok(()), make_durably)?;
        fs::create_dir(root).map_err(|error| StorageError::io(root, error))?;
    }
    // Also for one that was there: whoever made it may have ended before its name was durable.
    parent.map_or(Ok(()), sync_directory)
}

impl Folder for RealFolder {
    fn path(&self) -> &Path {
        &self.root
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        names_in(&self.root)
    }

    fn open(&self, name: &str, is_new: bool) -> Result<Box<dyn StorageBackend>, StorageError> {
        let path = self.root.join(name);
        if is_new && path.exists() {
            self.remove(name)?;
        }
        Ok(Box::new(open_file(&path, is_new)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let to = self.root.join(to);
        fs::rename(self.root.join(from), &to).map_err(|error| StorageError::io(&to, error))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.root.join(name);
        fs::remove_file(&path).map_err(|error| StorageError::io(&path, error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        sync_directory(&self.root)
    }
}
