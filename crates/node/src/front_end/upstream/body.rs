//! The body of a storage node's response.

use super::{
    Failure, FailureKind,
    buffers::Buffer,
    connection::{Answer, Connection},
    pool::Occupied,
};
use crate::timer::StallTimer;
use ashlar_object::NodeIndex;
use bytes::Bytes;
use std::{
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

/// A client that takes a large piece more slowly than this gets small ones.
const PIECE_TIME_MAX: Duration = Duration::from_secs(1);

/// A response's body, as it comes. Dropping it before its end closes the connection.
pub(crate) struct UpstreamBody {
    /// None after the end, or after a failure.
    source: Option<(Connection, Occupied)>,
    node: NodeIndex,
    /// Bytes of the body that came with the head.
    rest: Bytes,
    /// Bytes of the body that have not been given out.
    remaining_bytes: u64,
    /// The connection can carry another request.
    reusable: bool,
    stall: StallTimer,
    /// When the last piece was given out, until it has been taken.
    last_piece: Option<Instant>,
    /// The client is slow.
    modest: bool,
}

impl UpstreamBody {
    /// The body of `answer`. `reusable` tells whether the request was sent whole.
    pub(super) fn new(
        answer: &mut Answer,
        connection: Connection,
        occupied: Occupied,
        reusable: bool,
        stall_timeout: Duration,
    ) -> Result<Self, Failure> {
        let rest = std::mem::take(&mut answer.rest);
        if rest.len() as u64 > answer.head.body_bytes {
            return Err(Failure::new(FailureKind::Protocol, "more bytes than the response has"));
        }
        let mut body = Self {
            node: occupied.node(),
            source: Some((connection, occupied)),
            remaining_bytes: answer.head.body_bytes,
            reusable: reusable && answer.head.keep_alive,
            rest,
            stall: StallTimer::new(stall_timeout),
            last_piece: None,
            modest: false,
        };
        if body.rest.len() as u64 == body.remaining_bytes {
            body.end();
        }
        Ok(body)
    }

    /// The node that sends it.
    pub(crate) fn node(&self) -> NodeIndex {
        self.node
    }

    /// Bytes that are still to be given out.
    pub(crate) fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// All of it, if it has come.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        (self.rest.len() as u64 == self.remaining_bytes).then(|| {
            self.remaining_bytes = 0;
            std::mem::take(&mut self.rest)
        })
    }

    /// The next piece; none after the last. After a failure nothing more comes.
    pub(crate) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        if self.remaining_bytes == 0 {
            return Poll::Ready(None);
        }
        if let Some(last) = self.last_piece.take() {
            self.modest |= last.elapsed() > PIECE_TIME_MAX;
        }
        let piece = if self.rest.is_empty() {
            match ready!(self.poll_receive(context)) {
                Ok(piece) => piece,
                Err(failure) => {
                    self.source = None;
                    return Poll::Ready(Some(Err(failure)));
                }
            }
        } else {
            std::mem::take(&mut self.rest)
        };
        self.remaining_bytes -= piece.len() as u64;
        if self.remaining_bytes == 0 {
            self.end();
        }
        Poll::Ready(Some(Ok(piece)))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        let Some((connection, _)) = &mut self.source else {
            return Poll::Ready(Err(Failure::closed("in the middle of a body")));
        };
        let received = loop {
            // A buffer is taken only when there is something to fill it with.
            let Poll::Ready(readable) = connection.poll_readable(context) else {
                ready!(self.stall.poll_wait(context));
                let failure = Failure::new(FailureKind::TimedOut, "the body stalls");
                return Poll::Ready(Err(failure));
            };
            readable.map_err(Failure::closed)?;
            let mut buffer = Buffer::take(self.remaining_bytes, self.modest);
            match connection.poll_read(context, buffer.vec()) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Failure::closed("in the middle of a body")));
                }
                Poll::Ready(Ok(_)) => break buffer,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::closed(error))),
                // The readiness was out of date.
                Poll::Pending => {}
            }
        };
        self.stall.progress();
        let piece = received.into_bytes();
        if piece.len() as u64 > self.remaining_bytes {
            let message = "more bytes than the response has";
            return Poll::Ready(Err(Failure::new(FailureKind::Protocol, message)));
        }
        self.last_piece = Some(Instant::now());
        Poll::Ready(Ok(piece))
    }

    /// Everything has come: the connection is free.
    fn end(&mut self) {
        if let Some((connection, occupied)) = self.source.take()
            && self.reusable
        {
            occupied.give_back(connection);
        }
    }
}
