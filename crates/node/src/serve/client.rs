//! What hyper reads from and writes to.

use super::{afterword::Afterword, metrics::ServerMetrics, sealed::SealedStream, short};
use crate::config::Limits;
use ashlar_net::repair;
use socket2::SockRef;
use std::{
    io,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A client's connection, encrypted or not.
pub(crate) enum ClientStream {
    Plain(TcpStream),
    /// Encrypted by the library that did the handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// Encrypted by a record layer that can move to another host.
    Sealed(Box<SealedStream>),
}

impl ClientStream {
    /// What the stream is carried by.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Sealed(stream) => stream.get_ref(),
        }
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        // Without it, the client hears of the end in order.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
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
    /// The client sends no more than `unread`; the stream itself may not know.
    finished: bool,
    /// The connection stays on this host.
    is_fixed: bool,
    /// Where the owner before this one says what its socket received too late.
    afterword: Option<Arc<Afterword>>,
    progress: Arc<Progress>,
    metrics: ServerMetrics,
}

impl ClientIo {
    pub(super) fn new(
        stream: ClientStream,
        progress: Arc<Progress>,
        metrics: ServerMetrics,
    ) -> Self {
        let (stream, unread) = (Some(stream), Vec::new());
        let (finished, is_fixed, afterword) = (false, false, None);
        Self { stream, unread, finished, is_fixed, afterword, progress, metrics }
    }

    /// Lets the next reader read `bytes` first.
    pub(super) fn unread(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.unread);
        self.unread = bytes;
    }

    /// Keeps the connection on this host.
    pub(super) fn fix(&mut self) {
        self.is_fixed = true;
    }

    /// Hears what the owner before this one says.
    pub(super) fn listen_to(&mut self, afterword: Option<&Arc<Afterword>>) {
        self.afterword = afterword.cloned();
    }

    /// Lets the socket receive what the owner before this one's received too late. If that cannot be
    /// done, the connection is cut.
    pub(super) fn receive_late(&mut self) -> io::Result<()> {
        let Some(afterword) = &self.afterword else { return Ok(()) };
        let Some(late) = afterword.take_late() else { return Ok(()) };
        let stream = self.stream.as_ref().expect("the stream is there until the drop");
        repair::receive(stream.socket(), late.sequence, &late.bytes).map_err(|error| {
            afterword.cut();
            io::Error::other(error)
        })
    }

    /// Whether the connection can be moved to another host.
    pub(super) fn can_move(&self) -> bool {
        let moves = matches!(self.stream, Some(ClientStream::Plain(_) | ClientStream::Sealed(_)));
        moves && !self.is_fixed
    }

    /// Whether there is something to be read again.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Notes that the client sends no more than what was read already.
    pub(super) fn finish_if(&mut self, finished: bool) {
        self.finished |= finished;
    }

    /// Whether the client sends no more than what was read already.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The length of the head that what is to be read again begins with.
    pub(super) fn head_bytes(&self, limits: &Limits) -> Option<usize> {
        let mut fields = [httparse::EMPTY_HEADER; short::FIELDS_MAX];
        match httparse::Request::new(&mut fields).parse(&self.unread) {
            Ok(httparse::Status::Complete(bytes)) if bytes <= limits.header_bytes_max => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Takes what was read and is to be read again.
    pub(super) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Takes the stream out: nothing is left to read from or write to.
    pub(super) fn into_stream(mut self) -> ClientStream {
        self.stream.take().expect("the stream is there until the drop")
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
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.finished {
            self.progress.end_of_stream.store(true, Relaxed);
            return Poll::Ready(Ok(()));
        }
        self.receive_late()?;
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
        self.progress.write_blocked.store(flushed.is_pending(), Relaxed);
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
            Self::Sealed(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::metrics;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn pair() -> (ClientIo, Arc<Progress>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let progress = Arc::new(Progress::default());
        let metrics = ServerMetrics::new(&mut metrics::registry(), "test");
        (
            ClientIo::new(ClientStream::Plain(stream), Arc::clone(&progress), metrics),
            progress,
            client,
        )
    }

    #[tokio::test]
    async fn a_client_that_took_everything_is_not_waited_for() {
        let (mut io, progress, _client) = pair().await;
        // As after a flush that had to wait.
        progress.write_blocked.store(true, Relaxed);
        io.flush().await.unwrap();
        assert!(!progress.write_blocked.load(Relaxed));
    }

    #[tokio::test]
    async fn what_was_read_too_far_is_read_again_before_the_rest_and_the_end() {
        let (mut io, progress, mut client) = pair().await;
        client.write_all(b"def").await.unwrap();
        io.unread(b"c".to_vec());
        io.unread(b"ab".to_vec());
        let mut bytes = [0; 6];
        io.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"abcdef");
        io.unread(b"g".to_vec());
        io.finish_if(true);
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&rest[..], progress.end_of_stream.load(Relaxed)), (&b"g"[..], true));
    }
}
