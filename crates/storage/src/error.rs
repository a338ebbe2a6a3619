//! What can go wrong with a disk.

use std::{io, path::Path, path::PathBuf};

/// Why the storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What the disk holds is not what was written.
    #[error("{what} is damaged: {detail}")]
    Corrupt {
        /// What is damaged: a file, or a row and its key.
        what: String,
        /// How that shows.
        detail: String,
    },
    /// The body is not here (any more): take a new snapshot and look again.
    #[error("the body has been released")]
    Gone,
    /// Another process uses the data directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory is not one of ours, or of a version that this program does not know.
    #[error("{}: {detail}", path.display())]
    Format {
        /// The file or directory that tells.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No journal was created here, or it is lost.
    #[error("there is no journal in {}", path.display())]
    NoJournal {
        /// The journal's directory.
        path: PathBuf,
    },
    /// Too little space is left; nothing has been written.
    #[error("no space left in {}", path.display())]
    NoSpace {
        /// The data directory.
        path: PathBuf,
    },
}

impl StorageError {
    /// Whether the same call may succeed later without anybody repairing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Gone | Self::NoSpace { .. } | Self::Locked { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::Interrupted,
            Self::Corrupt { .. } | Self::Format { .. } | Self::NoJournal { .. } => false,
        }
    }

    /// Whether the disk holds something else than what was written: another replica has to help.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// An error of the operating system at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { path, source },
        }
    }

    /// Something was to be written to `path` after a write or a sync there had failed.
    pub(crate) fn failed_before(path: &Path) -> Self {
        let source = io::Error::other("an earlier write failed; only a new start can tell how");
        Self::Io { path: path.to_path_buf(), source }
    }

    /// Damage to `what`.
    pub(crate) fn corrupt(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), detail: detail.into() }
    }
}
