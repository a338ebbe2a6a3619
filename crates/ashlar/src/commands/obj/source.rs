//! Reads what is put: a thread hands pieces of a file or of standard input to a request's body.

use crate::client::RequestBody;
use anyhow::{Context, ensure};
use ashlar_object::ETag;
use bytes::Bytes;
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use std::{
    fs::File,
    io::{self, Cursor, ErrorKind, Read},
    path::PathBuf,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait to be sent.
const PIECES_MAX: usize = 4;

/// How much of standard input is kept, so that a request can be repeated if that was all of it.
const INPUT_BYTES_MAX: u64 = 8 << 20;

/// Where the bytes of an object come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A regular file.
    File(PathBuf),
    /// All that standard input held.
    Bytes(Bytes),
    /// The beginning of standard input, which goes on: it cannot be read twice.
    Input(Bytes),
}

/// A source that is being read.
pub(super) struct Reading {
    /// The body of a request.
    pub(super) body: RequestBody,
    /// What went into the body; none if it was not taken whole.
    pub(super) summary: JoinHandle<Option<Summary>>,
}

/// What went into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The number of bytes.
    pub(super) size_bytes: u64,
    /// Their MD5.
    pub(super) etag: ETag,
}

impl Source {
    /// The source that an argument names: a hyphen is standard input.
    ///
    /// # Errors
    /// When standard input cannot be read.
    pub(super) async fn named(name: &str) -> anyhow::Result<Self> {
        if name != "-" {
            return Ok(Self::File(name.into()));
        }
        let beginning = spawn_blocking(|| {
            let mut bytes = Vec::new();
            io::stdin().take(INPUT_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = Bytes::from(beginning.await?.context("standard input")?);
        let is_all = (bytes.len() as u64) < INPUT_BYTES_MAX;
        Ok(if is_all { Self::Bytes(bytes) } else { Self::Input(bytes) })
    }

    /// Whether it can be read again.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Input(_))
    }

    /// The number of bytes, if that is known.
    ///
    /// # Errors
    /// When the file cannot be read, or is none.
    pub(super) fn size_bytes(&self) -> anyhow::Result<Option<u64>> {
        let path = match self {
            Self::File(path) => path,
            Self::Bytes(bytes) => return Ok(Some(bytes.len() as u64)),
            Self::Input(_) => return Ok(None),
        };
        let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        ensure!(!metadata.is_dir(), "{}: is a directory; give --recursive", path.display());
        ensure!(metadata.is_file(), "{}: is not a regular file; use -", path.display());
        Ok(Some(metadata.len()))
    }

    /// Starts to read; `bar` follows.
    ///
    /// # Errors
    /// When the file cannot be read, or is none.
    pub(super) fn read(&self, bar: ProgressBar) -> anyhow::Result<Reading> {
        let size_bytes = self.size_bytes()?;
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let body = RequestBody::stream(receiver, size_bytes);
        let summary = match self {
            Self::File(path) => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                spawn_blocking(move || pump(file, size_bytes, &sender, &bar))
            }
            Self::Bytes(bytes) => {
                let bytes = Cursor::new(bytes.clone());
                spawn_blocking(move || pump(bytes, size_bytes, &sender, &bar))
            }
            Self::Input(beginning) => {
                let input = Cursor::new(beginning.clone()).chain(io::stdin());
                spawn_blocking(move || pump(input, None, &sender, &bar))
            }
        };
        Ok(Reading { body, summary })
    }
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Sends all of `input`, exactly `size_bytes` if that is given.
fn pump(
    input: impl Read,
    size_bytes: Option<u64>,
    sender: &Sender,
    bar: &ProgressBar,
) -> Option<Summary> {
    let mut input = input.take(size_bytes.unwrap_or(u64::MAX));
    let mut hash = Md5::new();
    let mut total_bytes = 0;
    loop {
        let piece_bytes = input.limit().min(PIECE_BYTES as u64) as usize;
        let piece = match next_piece(&mut input, piece_bytes) {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => piece,
            Err(error) => {
                // If nobody listens any more, somebody else has a reason.
                let _ = sender.blocking_send(Err(error));
                return None;
            }
        };
        hash.update(&piece);
        total_bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
        sender.blocking_send(Ok(Bytes::from(piece))).ok()?;
    }
    if size_bytes.is_some_and(|size_bytes| size_bytes != total_bytes) {
        let error = io::Error::new(ErrorKind::UnexpectedEof, "the file shrank while it was read");
        let _ = sender.blocking_send(Err(error));
        return None;
    }
    Some(Summary { size_bytes: total_bytes, etag: ETag(hash.finalize().into()) })
}

/// The next `piece_bytes`, less at the end of the input.
fn next_piece(input: &mut impl Read, piece_bytes: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; piece_bytes];
    let mut filled = 0;
    while filled < piece_bytes {
        match input.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn pumped(input: &[u8], size_bytes: Option<u64>) -> (Option<Summary>, Vec<io::Result<Bytes>>) {
        let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
        let summary = pump(input, size_bytes, &sender, &ProgressBar::hidden());
        drop(sender);
        let pieces = std::iter::from_fn(|| receiver.blocking_recv()).collect();
        (summary, pieces)
    }

    #[test]
    fn all_bytes_are_sent_and_hashed() {
        let input = vec![7; PIECE_BYTES + 1];
        for size_bytes in [None, Some(input.len() as u64)] {
            let (summary, pieces) = pumped(&input, size_bytes);
            let sent: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
            assert_eq!(sent, input);
            assert_eq!(summary.unwrap().etag, ETag(Md5::digest(&input).into()));
        }
    }

    #[test]
    fn a_file_that_grows_is_cut_and_one_that_shrinks_is_an_error() {
        let (summary, pieces) = pumped(b"grown", Some(4));
        assert_eq!(summary.unwrap().size_bytes, 4);
        assert_eq!(pieces.len(), 1);
        let (summary, pieces) = pumped(b"shrunk", Some(7));
        assert_eq!(summary, None);
        let error = pieces.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
