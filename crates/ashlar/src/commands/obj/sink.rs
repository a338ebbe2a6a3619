//! Writes what is got: a thread writes pieces to a file, which appears under its name only when it
//! is whole, or to standard output.

use super::{show::output_written, source::Summary};
use anyhow::{Context, ensure};
use ashlar_object::ETag;
use bytes::Bytes;
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempPath;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

/// Pieces that wait to be written.
const PIECES_MAX: usize = 8;
/// What a new file allows, before the umask.
const MODE: u32 = 0o666;

/// Where the bytes of an object go.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Standard output.
    Output,
    /// A file, replaced if it exists.
    File(PathBuf),
}

/// A target that is being written.
pub(super) struct Sink {
    pieces: mpsc::Sender<Bytes>,
    writing: JoinHandle<io::Result<Summary>>,
    pending: Pending,
    target: Target,
}

/// A file that is whole but has not got its name; without [`Pending::keep`] it is removed.
pub(super) struct Pending(Option<(TempPath, PathBuf)>);

impl Target {
    /// The target that an argument names: a hyphen is standard output.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "-" => Self::Output,
            path => Self::File(path.into()),
        }
    }

    /// Makes room for the bytes to come; `bar` follows.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn open(&self, bar: ProgressBar) -> anyhow::Result<Sink> {
        match self {
            Self::Output => Ok(Sink::start(self, io::stdout(), Pending(None), bar)),
            Self::File(path) => {
                let (file, pending) = open(path).with_context(|| path.display().to_string())?;
                Ok(Sink::start(self, file, pending, bar))
            }
        }
    }
}

fn open(path: &Path) -> anyhow::Result<(File, Pending)> {
    // A link keeps pointing to the file, whose content changes.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if let Ok(metadata) = std::fs::metadata(&path) {
        ensure!(!metadata.is_dir(), "is a directory");
        if !metadata.is_file() {
            // Devices and pipes are written to, not replaced.
            let file = OpenOptions::new().write(true).open(&path)?;
            return Ok((file, Pending(None)));
        }
    }
    let name = path.file_name().context("has no file name")?;
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let (file, temporary) = tempfile::Builder::new()
        .prefix(&prefix(name))
        .suffix(".part")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(directory.unwrap_or(Path::new(".")))?
        .into_parts();
    Ok((file, Pending(Some((temporary, path)))))
}

/// Says which file it will be, within the limits of a file name.
fn prefix(name: &OsStr) -> String {
    const PREFIX_CHARS_MAX: usize = 40;
    let name: String = name.to_string_lossy().chars().take(PREFIX_CHARS_MAX).collect();
    format!(".{name}.")
}

impl Sink {
    fn start(
        target: &Target,
        output: impl Write + Send + 'static,
        pending: Pending,
        bar: ProgressBar,
    ) -> Self {
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let writing = spawn_blocking(move || write(output, receiver, &bar));
        Self { pieces, writing, pending, target: target.clone() }
    }

    /// Takes a piece to be written soon; false if that cannot be: [`Sink::finish`] says why.
    pub(super) async fn write(&mut self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub(super) async fn finish(self) -> anyhow::Result<(Summary, Pending)> {
        drop(self.pieces);
        let written = self.writing.await.context("the writer ended early")?;
        let summary = match &self.target {
            Target::Output => output_written(written)?,
            Target::File(path) => written.with_context(|| path.display().to_string())?,
        };
        Ok((summary, self.pending))
    }
}

impl Pending {
    /// Gives the file its name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        match self.0 {
            Some((temporary, path)) => {
                temporary.persist(&path).with_context(|| path.display().to_string())
            }
            None => Ok(()),
        }
    }
}

fn write(
    mut output: impl Write,
    mut pieces: mpsc::Receiver<Bytes>,
    bar: &ProgressBar,
) -> io::Result<Summary> {
    let mut hash = Md5::new();
    let mut size_bytes = 0;
    while let Some(piece) = pieces.blocking_recv() {
        output.write_all(&piece)?;
        hash.update(&piece);
        size_bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
    }
    output.flush()?;
    Ok(Summary { size_bytes, etag: ETag(hash.finalize().into()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    async fn written(path: &Path) -> anyhow::Result<(Summary, Pending)> {
        let mut sink = Target::File(path.into()).open(ProgressBar::hidden())?;
        assert!(sink.write(Bytes::from_static(b"new")).await);
        sink.finish().await
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_that_names_the_file() {
        let error = written(Path::new("/dev/full")).await.err().unwrap();
        assert!(format!("{error:#}").starts_with("/dev/full: No space left"), "{error:#}");
    }

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "old").unwrap();
        drop(written(&path).await.unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        written(&path).await.unwrap().1.keep().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_link_is_followed_and_a_device_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        written(&link).await.unwrap().1.keep().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
        let null = directory.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        written(&null).await.unwrap().1.keep().unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
