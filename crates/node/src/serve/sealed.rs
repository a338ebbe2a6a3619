//! A TLS 1.3 connection whose record layer can be taken to another host.

use ashlar_handoff::tls::{
    Opened, RECORD_BYTES_MAX, RecordError, RecordReader, RecordWriter, SealError, TlsImage,
    record_bytes,
};
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes that are received in one go.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Plaintext that is sealed before any of it is sent.
const SEAL_BYTES_MAX: usize = 128 * 1024;
/// A buffer of this size is kept for the next response.
const KEPT_BYTES_MAX: usize = 4 * 1024;
const _: () = assert!(RECEIVE_BYTES > RECORD_BYTES_MAX);

thread_local! {
    /// Where this thread receives: connections that wait need no buffer of their own.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
}

/// The stream. What is written is sent by the next write or flush at the latest.
pub(crate) struct SealedStream {
    stream: TcpStream,
    reader: RecordReader,
    writer: RecordWriter,
    /// Records as they came; an opened one first, if there is one.
    received: Vec<u8>,
    /// The opened record's length, and what nobody has read of it.
    opened: Option<(usize, Range<usize>)>,
    /// Plaintext from before the connection moved here, of which nobody has read this much.
    plaintext: Vec<u8>,
    /// The client's records have ended.
    finished: bool,
    /// No more can be received: the end was, before the connection moved here.
    ends: bool,
    /// Records to send, of which this many bytes have been sent.
    sealed: Vec<u8>,
    sent_bytes: usize,
}

/// A stream taken apart; all that was written has been sent.
pub(crate) struct SealedParts {
    pub(crate) stream: TcpStream,
    pub(crate) tls: TlsImage,
    /// Plaintext that nobody has read.
    pub(crate) opened: Vec<u8>,
    /// Records that nobody has opened.
    pub(crate) received: Vec<u8>,
    /// No more can be received.
    pub(crate) finished: bool,
}

impl SealedStream {
    /// Goes on where `image` was taken, with `opened` plaintext and `received` records before what
    /// the stream will give.
    pub(crate) fn new(
        stream: TcpStream,
        image: TlsImage,
        opened: Vec<u8>,
        received: Vec<u8>,
    ) -> Self {
        let (reader, writer) = image.import();
        Self {
            stream,
            reader,
            writer,
            received,
            opened: None,
            plaintext: opened,
            finished: false,
            ends: false,
            sealed: Vec::new(),
            sent_bytes: 0,
        }
    }

    /// The connection below.
    pub(super) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// The same, and the client sends no more than what has been received, if `finished`.
    pub(crate) fn finished_if(mut self, finished: bool) -> Self {
        self.ends = finished;
        self
    }

    /// Takes the stream apart.
    ///
    /// # Panics
    /// When it was written to and not flushed.
    pub(crate) fn into_parts(mut self) -> SealedParts {
        assert!(self.sealed.is_empty(), "what is written must be flushed");
        let mut opened = self.plaintext;
        if let Some((record_bytes, rest)) = self.opened.take() {
            opened.extend_from_slice(&self.received[rest]);
            self.received.drain(..record_bytes);
        }
        let tls = TlsImage::export(self.reader, self.writer);
        let finished = self.ends || self.finished;
        if self.finished {
            // What comes behind the end means nothing.
            self.received.clear();
        }
        SealedParts { stream: self.stream, tls, opened, received: self.received, finished }
    }

    /// Opens the next record, if it is whole. Gives whether there may be something to read.
    fn open(&mut self) -> io::Result<bool> {
        let Some(length) = record_bytes(&self.received) else { return Ok(false) };
        if self.received.len() < length {
            return Ok(false);
        }
        match self.reader.open(&mut self.received[..length]) {
            Ok(Opened::ApplicationData(range)) => self.opened = Some((length, range)),
            Ok(opened) => {
                self.received.drain(..length);
                self.note(&opened)?;
            }
            Err(error) => return Err(self.refuse(error)),
        }
        Ok(true)
    }

    /// Acts on what is no application data.
    fn note(&mut self, opened: &Opened) -> io::Result<()> {
        match opened {
            Opened::KeyUpdate { update_requested: true } => {
                let record = self.writer.key_update(false).map_err(closed)?;
                self.sealed.extend_from_slice(&record);
            }
            Opened::CloseNotify => self.finished = true,
            Opened::Alert(alert) => {
                let message = format!("the client gave up with alert {}", alert.0);
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, message));
            }
            Opened::KeyUpdate { .. } | Opened::Nothing | Opened::ApplicationData(_) => {}
        }
        Ok(())
    }

    /// Tells the client what it did wrong, as far as it takes it at once.
    fn refuse(&mut self, error: RecordError) -> io::Error {
        if let Some(alert) = error.alert()
            && let Ok(record) = self.writer.alert(alert)
        {
            self.sealed.extend_from_slice(&record);
            let rest = &self.sealed[self.sent_bytes..];
            // The connection ends with or without it.
            let _ = self.stream.try_write(rest);
        }
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Copies what has been opened.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if !self.plaintext.is_empty() {
            let bytes = self.plaintext.len().min(buffer.remaining());
            buffer.put_slice(&self.plaintext[..bytes]);
            self.plaintext.drain(..bytes);
            return true;
        }
        let Some((record_bytes, rest)) = &mut self.opened else { return false };
        let bytes = rest.len().min(buffer.remaining());
        buffer.put_slice(&self.received[rest.start..rest.start + bytes]);
        rest.start += bytes;
        if rest.start == rest.end {
            self.received.drain(..*record_bytes);
            if self.received.is_empty() {
                self.received = Vec::new();
            }
            self.opened = None;
        }
        bytes > 0
    }

    /// Receives more records. Gives whether the client has sent its last byte.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        RECEIVED.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            self.received.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().is_empty()))
        })
    }

    /// Sends what has been sealed.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent_bytes < self.sealed.len() {
            let rest = &self.sealed[self.sent_bytes..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.sent_bytes += bytes,
            }
        }
        self.sent_bytes = 0;
        self.sealed.clear();
        Poll::Ready(Ok(()))
    }

    /// Seals as much of `slices` as may be held back.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, SealError> {
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(SEAL_BYTES_MAX - taken)];
            self.writer.append(part, &mut self.sealed)?;
            taken += part.len();
        }
        Ok(taken)
    }
}

fn closed(error: SealError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl AsyncRead for SealedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            while buffer.remaining() > 0 && self.take(buffer) {}
            let has_read = buffer.filled().len() > before;
            if buffer.remaining() == 0 || (has_read && self.opened.is_some()) || self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.open()? {
                continue;
            }
            // An answer to a KeyUpdate goes out with what follows; it must not hold up the reader.
            if has_read {
                return Poll::Ready(Ok(()));
            }
            self.finished = self.ends || ready!(self.poll_receive(context))?;
        }
    }
}

impl AsyncWrite for SealedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let taken = self.seal(slices).map_err(closed)?;
        // What the socket does not take now waits for the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        if self.sealed.capacity() > KEPT_BYTES_MAX {
            self.sealed = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Ok(record) = self.writer.close_notify() {
            self.sealed.extend_from_slice(&record);
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
