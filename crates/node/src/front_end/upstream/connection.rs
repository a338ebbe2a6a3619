//! A connection to a storage node, which carries one request after the other.

use super::{
    Failure, FailureKind,
    head::{self, ResponseHead},
    outgoing::{Outgoing, SendError},
};
use crate::timer::LazyTimer;
use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use rustix::{io::Errno, net::RecvFlags};
use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// The buffer of a connection: enough for heads and small bodies.
const BUFFER_BYTES: usize = 16 * 1024;
/// A read asks for at least as much: the rest of the buffer is used until then.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Responses that a storage node may send ahead of the real one, such as 100.
const INTERIM_MAX: usize = 8;

/// A connection to a storage node.
pub(super) struct Connection {
    stream: TcpStream,
    /// What has come of the next response.
    received: BytesMut,
    timer: LazyTimer,
    /// When its last response ended, on its pool's clock.
    pub(super) last_used: u64,
}

/// How long a storage node may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// From the request's last byte to the response's head.
    pub(crate) response: Duration,
    /// To take another byte of the request.
    pub(crate) stall: Duration,
}

/// The response to a request: its head and what came along of its body.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    /// More than the body's bytes means that the storage node and we disagree on the framing.
    pub(super) rest: Bytes,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: BytesMut::new(), timer: LazyTimer::default(), last_used: 0 })
    }

    /// Whether an idle connection still is: a storage node that sends without being asked, or has
    /// closed its side, is not. Costs a system call only if the event loop has seen something
    /// happen.
    pub(super) fn is_idle(&self) -> bool {
        let nothing = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.received.is_empty() && self.stream.try_read(&mut [0]).is_err_and(nothing)
    }

    /// As [`Connection::is_idle`], also if the event loop has not looked yet.
    pub(super) fn is_idle_now(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.stream, &mut [0], flags);
        self.received.is_empty() && peeked.is_err_and(|error| error == Errno::WOULDBLOCK)
    }

    /// Sends a request and receives the head of its response, maybe before all has been sent.
    pub(super) async fn exchange(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        timeouts: Timeouts,
    ) -> Result<Answer, Failure> {
        // The deadline of the request before must not pass while this one waits for its client.
        self.timer.set(None);
        let mut wait = Wait { waits_for: WaitsFor::Client, timeouts, interim: 0, deaf: false };
        poll_fn(|context| self.poll_exchange(context, outgoing, &mut wait)).await
    }

    fn poll_exchange(
        &mut self,
        context: &mut Context<'_>,
        outgoing: &mut Outgoing<'_>,
        wait: &mut Wait,
    ) -> Poll<Result<Answer, Failure>> {
        loop {
            if !wait.deaf {
                match outgoing.poll_send(&mut self.stream, context) {
                    Poll::Ready(Err(SendError::Client(error))) => {
                        return Poll::Ready(Err(Failure::client(error)));
                    }
                    // A storage node that refuses a body may close before it has all of it, but
                    // not before it has said why.
                    Poll::Ready(Err(SendError::Node)) => wait.deaf = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            let Poll::Ready(head) = self.poll_head(context, outgoing.to_head)? else {
                return self.poll_timer(context, outgoing, wait).map(Err);
            };
            if !head.status.is_informational() {
                // The buffer stays with the connection, for the next response.
                let rest = self.received.split().freeze();
                return Poll::Ready(Ok(Answer { head, rest }));
            }
            wait.interim += 1;
            if wait.interim > INTERIM_MAX {
                let message = "too many interim responses";
                return Poll::Ready(Err(Failure::new(FailureKind::Protocol, message)));
            }
            if head.status == StatusCode::CONTINUE {
                outgoing.go_on();
            }
        }
    }

    /// Receives until a head is whole.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        to_head: bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if !self.received.is_empty() {
                let parsed = head::parse(&self.received, to_head)
                    .map_err(|error| Failure::new(FailureKind::Protocol, error))?;
                if let Some((head, head_bytes)) = parsed {
                    self.received.advance(head_bytes);
                    return Poll::Ready(Ok(head));
                }
            }
            if self.received.capacity() - self.received.len() < READ_BYTES_MIN {
                self.received.reserve(BUFFER_BYTES);
            }
            let read = pin!(self.stream.read_buf(&mut self.received)).poll(context);
            match ready!(read) {
                Ok(0) => return Poll::Ready(Err(Failure::closed("before a response"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Failure::closed(error))),
            }
        }
    }

    /// Ready when the storage node has taken too long.
    fn poll_timer(
        &mut self,
        context: &mut Context<'_>,
        outgoing: &Outgoing<'_>,
        wait: &mut Wait,
    ) -> Poll<Failure> {
        let waits_for = if wait.deaf {
            WaitsFor::Response
        } else if outgoing.is_send_blocked() {
            WaitsFor::Room(outgoing.sent_bytes)
        } else if outgoing.awaits_client() {
            WaitsFor::Client
        } else {
            WaitsFor::Response
        };
        if waits_for != wait.waits_for {
            wait.waits_for = waits_for;
            let timeout = match waits_for {
                WaitsFor::Room(_) => Some(wait.timeouts.stall),
                WaitsFor::Response => Some(wait.timeouts.response),
                WaitsFor::Client => None,
            };
            self.timer.set(timeout.map(|timeout| Instant::now() + timeout));
        }
        ready!(self.timer.poll(context));
        let message = match waits_for {
            WaitsFor::Room(_) => "the request is not taken",
            _ => "no response",
        };
        Poll::Ready(Failure::new(FailureKind::TimedOut, message))
    }

    /// Whether bytes of a body, or its end, can be received.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    /// Receives bytes of a body.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(buffer)).poll(context)
    }
}

/// What an exchange waits for, and since when.
struct Wait {
    waits_for: WaitsFor,
    timeouts: Timeouts,
    /// Interim responses so far.
    interim: usize,
    /// The storage node takes nothing any more.
    deaf: bool,
}

/// Another byte taken makes a new wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// The client, which has its own time-out.
    Client,
    /// The storage node to take bytes after this many.
    Room(u64),
    /// The storage node's answer.
    Response,
}
