//! A connection of the generator: TCP, with or without TLS, driven for little processor time.
//!
//! All connections of a thread read into one buffer, large enough that a big body takes few
//! system calls, and hand its bytes straight to the parser. A body that nobody looks at is not
//! even copied out of the kernel (plain TCP only).

use super::failure::Failure;
use super::target::{Target, TlsFacts};
use rustix::net::RecvFlags;
use rustls::ClientConnection;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, BufRead, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The read buffer that the connections of a thread share.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// From this many bytes on it pays to let the kernel drop them: two system calls instead of one.
const DISCARD_BYTES_MIN: u64 = 32 * 1024;

thread_local! {
    /// Borrowed only between two awaits: no connection keeps bytes in it.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER_BYTES]);
}

/// What takes the bytes that arrive on a connection.
pub(super) trait Sink {
    /// Takes plaintext bytes; true once no more are wanted.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Failure>;
    /// How many of the next bytes may be dropped unseen.
    fn skippable_bytes(&self) -> u64;
    /// Bytes were dropped; true once no more are wanted.
    fn skipped(&mut self, count: u64) -> bool;
    /// The connection has ended.
    fn end_of_stream(&mut self) -> Result<(), Failure>;
}

/// A connection to the target.
#[derive(Debug)]
pub(super) struct Transport {
    stream: TcpStream,
    /// Present over HTTPS. Boxed: a session is large and plain connections are many.
    session: Option<Box<ClientConnection>>,
    /// Ciphertext on its way out; kept for its allocation.
    ciphertext: Vec<u8>,
}

impl Transport {
    /// Connects, and over HTTPS makes a full handshake.
    pub(super) async fn connect(target: &Target, connection: usize) -> Result<Self, Failure> {
        let address = target.address(connection);
        let stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let session = match &target.tls {
            None => None,
            Some(tls) => {
                let config = Arc::clone(&tls.config);
                let session =
                    ClientConnection::new(config, tls.server_name.clone()).map_err(Failure::Tls)?;
                Some(Box::new(session))
            }
        };
        let mut transport = Self { stream, session, ciphertext: Vec::new() };
        transport.handshake().await?;
        Ok(transport)
    }

    /// What was negotiated, over HTTPS.
    pub(super) fn tls_facts(&self) -> Option<TlsFacts> {
        let session = self.session.as_ref()?;
        Some(TlsFacts {
            version: format!("{:?}", session.protocol_version()?),
            cipher_suite: format!("{:?}", session.negotiated_cipher_suite()?.suite()),
        })
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(session) = &mut self.session else {
            return self.stream.write_all(bytes).await.map_err(Failure::Io);
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            // Takes what its buffer limit allows.
            let count = session.writer().write(rest).map_err(Failure::Io)?;
            rest = &rest[count..];
            flush(session, &mut self.ciphertext, &mut self.stream).await?;
        }
        Ok(())
    }

    /// Receives until `sink` wants no more or the connection ends.
    pub(super) async fn receive(&mut self, sink: &mut impl Sink) -> Result<(), Failure> {
        loop {
            let done = match &mut self.session {
                None => poll_fn(|context| poll_plain(&mut self.stream, context, sink)).await?,
                Some(session) => {
                    let stream = &mut self.stream;
                    let done = poll_fn(|context| poll_tls(stream, session, context, sink)).await?;
                    flush(session, &mut self.ciphertext, &mut self.stream).await?;
                    done
                }
            };
            if done {
                return Ok(());
            }
        }
    }

    /// Waits until the server closes the connection or sends something unasked.
    pub(super) async fn broken(&self) {
        // Whatever makes it readable ends the wait; the caller only counts.
        let _ = self.stream.readable().await;
    }

    async fn handshake(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let mut nothing = Refusal;
        flush(session, &mut self.ciphertext, &mut self.stream).await?;
        while session.is_handshaking() {
            let stream = &mut self.stream;
            poll_fn(|context| poll_tls(stream, session, context, &mut nothing)).await?;
            flush(session, &mut self.ciphertext, &mut self.stream).await?;
        }
        Ok(())
    }
}

/// Reads once from a plain connection; whether the sink wants no more.
fn poll_plain(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    sink: &mut impl Sink,
) -> Poll<Result<bool, Failure>> {
    if sink.skippable_bytes() >= DISCARD_BYTES_MIN {
        let count = ready!(poll_discard(stream, context, sink.skippable_bytes()))?;
        return Poll::Ready(match count {
            0 => sink.end_of_stream().map(|()| true),
            count => Ok(sink.skipped(count)),
        });
    }
    READ_BUFFER.with_borrow_mut(|buffer| {
        let received = ready!(poll_read(stream, context, buffer))?;
        Poll::Ready(match received {
            [] => sink.end_of_stream().map(|()| true),
            bytes => sink.take(bytes),
        })
    })
}

/// Reads once from a TLS connection; whether the sink wants no more.
fn poll_tls(
    stream: &mut TcpStream,
    session: &mut ClientConnection,
    context: &mut Context<'_>,
    sink: &mut impl Sink,
) -> Poll<Result<bool, Failure>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut ciphertext: &[u8] = ready!(poll_read(stream, context, buffer))?;
        if ciphertext.is_empty() {
            return Poll::Ready(sink.end_of_stream().map(|()| true));
        }
        let mut done = false;
        while !ciphertext.is_empty() {
            session.read_tls(&mut ciphertext).map_err(Failure::Io)?;
            let state = session.process_new_packets().map_err(Failure::Tls)?;
            let mut remaining = state.plaintext_bytes_to_read();
            let mut reader = session.reader();
            while remaining > 0 {
                let plaintext = reader.fill_buf().map_err(Failure::Io)?;
                let count = plaintext.len();
                done = sink.take(plaintext)?;
                reader.consume(count);
                remaining -= count;
            }
            if state.peer_has_closed() && !done {
                return Poll::Ready(sink.end_of_stream().map(|()| true));
            }
        }
        Poll::Ready(Ok(done))
    })
}

/// Reads once into `buffer`; empty at the end of the stream.
fn poll_read<'a>(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    buffer: &'a mut [u8],
) -> Poll<Result<&'a [u8], Failure>> {
    let mut filled = ReadBuf::new(buffer);
    // Unlike `try_read`, this knows that a short read has drained the socket, and saves the next
    // system call.
    ready!(Pin::new(stream).poll_read(context, &mut filled)).map_err(Failure::Io)?;
    let count = filled.filled().len();
    Poll::Ready(Ok(&buffer[..count]))
}

/// Has the kernel drop up to `limit` received bytes; 0 at the end of the stream.
fn poll_discard(
    stream: &TcpStream,
    context: &mut Context<'_>,
    limit: u64,
) -> Poll<Result<u64, Failure>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let count = limit.min(buffer.len() as u64) as usize;
        loop {
            ready!(stream.poll_read_ready(context)).map_err(Failure::Io)?;
            let dropped = stream.try_io(Interest::READABLE, || {
                // On a TCP socket MSG_TRUNC consumes without copying (tcp(7)).
                let (_, dropped) =
                    rustix::net::recv(stream, &mut buffer[..count], RecvFlags::TRUNC)?;
                Ok(dropped as u64)
            });
            match dropped {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other.map_err(Failure::Io)),
            }
        }
    })
}

/// Sends what the session wants to send.
async fn flush(
    session: &mut ClientConnection,
    ciphertext: &mut Vec<u8>,
    stream: &mut TcpStream,
) -> Result<(), Failure> {
    while session.wants_write() {
        ciphertext.clear();
        session.write_tls(ciphertext).map_err(Failure::Io)?;
        stream.write_all(ciphertext).await.map_err(Failure::Io)?;
    }
    Ok(())
}

/// The sink of a handshake, before any answer was asked for.
struct Refusal;

impl Sink for Refusal {
    fn take(&mut self, _bytes: &[u8]) -> Result<bool, Failure> {
        Err(Failure::Malformed(super::response::Malformed::Excess))
    }

    fn skippable_bytes(&self) -> u64 {
        0
    }

    fn skipped(&mut self, _count: u64) -> bool {
        unreachable!("nothing may be skipped")
    }

    fn end_of_stream(&mut self) -> Result<(), Failure> {
        Err(Failure::Closed)
    }
}
