//! What hyper reads from and writes to.

use super::metrics::ServerMetrics;
use std::{
    io,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A client's connection, encrypted or not.
pub(super) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a connection does and waits for; shared by the parts of one connection, which all run on
/// one thread.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests that hyper has read the heads of.
    pub(super) requests: AtomicU64,
    /// Responses that hyper has taken the last bytes of.
    pub(super) responses: AtomicU64,
    /// Bytes have come since the last request's head.
    pub(super) head_bytes: AtomicBool,
    /// The last request has a body, of which some may not have been read.
    pub(super) has_body: AtomicBool,
    /// The client has sent all that it will.
    pub(super) end_of_stream: AtomicBool,
    /// The client does not take what there is to send.
    pub(super) write_blocked: AtomicBool,
    /// Bytes that the client took.
    pub(super) written_bytes: AtomicU64,
    /// The stream, once hyper is done with it.
    parked: Mutex<Option<ClientStream>>,
}

impl Progress {
    /// The stream that hyper has let go of.
    pub(super) fn take_parked(&self) -> Option<ClientStream> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a request is being answered.
    pub(super) fn is_serving(&self) -> bool {
        self.requests.load(Relaxed) != self.responses.load(Relaxed)
    }

    fn wrote(&self, bytes: usize) {
        // Only this connection's thread writes: no read-modify-write is needed.
        let sum = self.written_bytes.load(Relaxed) + bytes as u64;
        self.written_bytes.store(sum, Relaxed);
    }
}

/// The stream as hyper sees it. Dropping it parks the stream in its [`Progress`].
pub(super) struct ClientIo {
    /// Present until the drop.
    stream: Option<ClientStream>,
    /// Bytes that were read already and are to be read again.
    unread: Vec<u8>,
    progress: Arc<Progress>,
    metrics: ServerMetrics,
}

impl ClientIo {
    pub(super) fn new(
        stream: ClientStream,
        progress: Arc<Progress>,
        metrics: ServerMetrics,
    ) -> Self {
        Self { stream: Some(stream), unread: Vec::new(), progress, metrics }
    }

    /// Lets the next reader read `bytes` first.
    pub(super) fn unread(&mut self, bytes: Vec<u8>) {
        assert!(self.unread.is_empty(), "nothing is read twice");
        self.unread = bytes;
    }

    fn stream(&mut self) -> Pin<&mut ClientStream> {
        Pin::new(self.stream.as_mut().expect("the stream is there until the drop"))
    }

    /// Notes how a write went.
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.progress.write_blocked.store(written.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = written {
            self.progress.wrote(bytes);
            self.metrics.counts().sent_bytes.add(bytes as u64);
        }
        written
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        let mut parked = self.progress.parked.lock().unwrap_or_else(PoisonError::into_inner);
        *parked = self.stream.take();
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let bytes = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..bytes]);
            self.unread.drain(..bytes);
            return Poll::Ready(Ok(()));
        }
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = self.stream().poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            let bytes = buffer.filled().len() - before;
            if bytes == 0 && room > 0 {
                self.progress.end_of_stream.store(true, Relaxed);
            } else if !self.progress.is_serving() {
                self.progress.head_bytes.store(true, Relaxed);
            }
            self.metrics.counts().received_bytes.add(bytes as u64);
        }
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(context);
        if flushed.is_pending() {
            self.progress.write_blocked.store(true, Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task ends the stream: it may have to linger.
        self.poll_flush(context)
    }
}

/// Hands each call to the stream at hand.
macro_rules! either {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Self::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(context))
    }
}
