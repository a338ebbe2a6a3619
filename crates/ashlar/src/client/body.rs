//! The body of a request: nothing, or pieces that a reader thread sends.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// A request's body.
pub(crate) struct RequestBody {
    /// None: the body is empty.
    pieces: Option<mpsc::Receiver<io::Result<Bytes>>>,
    /// What is still to come, if that is known; the request then has a Content-Length.
    remaining_bytes: Option<u64>,
    progress: Arc<Progress>,
}

/// How much of a body has been taken.
#[derive(Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    done: AtomicBool,
}

impl Progress {
    /// Bytes taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether all has been taken.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        let progress = Progress { done: AtomicBool::new(true), ..Progress::default() };
        Self { pieces: None, remaining_bytes: Some(0), progress: Arc::new(progress) }
    }

    /// A body of `pieces`, which add up to `size_bytes` if that is given. An error among them
    /// breaks the request off.
    pub(crate) fn stream(
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        size_bytes: Option<u64>,
    ) -> Self {
        // Nobody asks a body that has no bytes.
        let done = AtomicBool::new(size_bytes == Some(0));
        let progress = Arc::new(Progress { done, ..Progress::default() });
        Self { pieces: Some(pieces), remaining_bytes: size_bytes, progress }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        pieces.poll_recv(context).map(|piece| match piece {
            Some(Ok(bytes)) => {
                self.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
                if let Some(remaining) = &mut self.remaining_bytes {
                    *remaining = remaining.saturating_sub(bytes.len() as u64);
                }
                if self.remaining_bytes == Some(0) {
                    self.progress.done.store(true, Relaxed);
                }
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                self.progress.done.store(true, Relaxed);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none() || self.remaining_bytes == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
