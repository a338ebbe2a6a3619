//! An object's bytes on their way out.

use super::lookup::Source;
use crate::body::{Body, BodyError};
use ashlar_object::synthetic::{PERIOD_BYTES, byte_at};
use ashlar_storage::{Blob, StorageError};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// Bytes that are read from a file at a time; a connection holds at most this much.
const READ_BYTES: usize = 256 * 1024;

/// The bytes `range` of an object.
pub(super) fn body(source: Source, range: Range<u64>) -> Body {
    match source {
        Source::Inline(bytes) => Body::full(bytes.slice(range.start as usize..range.end as usize)),
        Source::Blob(blob) => Body::boxed(BlobBody { blob, range, reading: None }),
        Source::Synthetic => Body::boxed(SyntheticBody { range }),
    }
}

/// A part of a file, read off the event loop, one piece at a time.
struct BlobBody {
    blob: Arc<dyn Blob>,
    /// What is still to be read.
    range: Range<u64>,
    /// The read under way.
    reading: Option<JoinHandle<Result<Bytes, StorageError>>>,
}

impl http_body::Body for BlobBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let (blob, offset) = (self.blob.clone(), self.range.start);
        let bytes_max = (self.range.end - offset).min(READ_BYTES as u64) as usize;
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || blob.read_at(offset, bytes_max))
        });
        let result = match ready!(Pin::new(reading).poll(context)) {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.reading = None;
        Poll::Ready(Some(match result {
            Ok(bytes) => {
                assert!(!bytes.is_empty(), "the file ends before its length");
                self.range.start += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                tracing::error!(%error, "cannot read an object's body; the response is cut off");
                Err(BodyError::new(error))
            }
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }
}

/// A part of a synthetic object: slices of one table, no copies.
struct SyntheticBody {
    /// What is still to be sent.
    range: Range<u64>,
}

/// The content repeated often enough that a slice of [`READ_BYTES`] can start anywhere.
static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    let length = PERIOD_BYTES + READ_BYTES;
    (0..length as u64).map(byte_at).collect::<Vec<_>>().into()
});

impl http_body::Body for SyntheticBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let start = (self.range.start % PERIOD_BYTES as u64) as usize;
        let length = (self.range.end - self.range.start).min(READ_BYTES as u64) as usize;
        self.range.start += length as u64;
        Poll::Ready(Some(Ok(Frame::data(CONTENT.slice(start..start + length)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_part_of_a_synthetic_object_is_that_part() {
        let range = 65_000..65_000 + 700_000;
        let bytes = body(Source::Synthetic, range.clone()).collect().await.unwrap().to_bytes();
        assert!(range.map(byte_at).eq(bytes.iter().copied()));
    }
}
