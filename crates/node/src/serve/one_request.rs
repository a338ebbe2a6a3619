//! A connection as hyper sees it that may serve one request of it and no more.
//!
//! A connection moves between two requests, so hyper must neither read beyond the end of one nor
//! close the connection behind it. It sees the bytes of one request and then the end of the stream;
//! what comes after them stays with [`ClientIo`]. Hyper alone judges the request: how its body is
//! framed is what hyper says it is, and a disagreement over where it ends closes the connection.

use super::client::ClientIo;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most of a refused upload that mostly comes along with its head.
pub(super) const REST_BYTES_MAX: u64 = 64 * 1024;

/// How the rest of a request is found in the bytes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Bytes of the head.
    Head(u64),
    /// Hyper has the head and has not said how the body is framed.
    Unknown,
    /// Bytes of a body of known length.
    Length(u64),
    /// In the line that gives a chunk's size, with the value so far.
    Size(u64),
    /// In the rest of that line; the chunk has that size.
    Extension(u64),
    /// Bytes of a chunk and its line's end.
    Chunk(u64),
    /// In the lines behind the last chunk; whether the line is empty so far.
    Trailer { empty: bool },
    /// Nothing is left.
    Nothing,
}

impl Rest {
    /// Counts how many of `bytes` belong to the request. Only counts: hyper judges.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let left = (bytes.len() - taken) as u64;
            let used = match self {
                Self::Unknown | Self::Nothing => break,
                Self::Head(rest) | Self::Length(rest) | Self::Chunk(rest) => left.min(*rest),
                Self::Size(_) | Self::Extension(_) | Self::Trailer { .. } => 1,
            };
            self.advance(used, bytes[taken]);
            taken += used as usize;
        }
        taken
    }

    /// Goes on over `used` bytes, the first of which is `byte`.
    fn advance(&mut self, used: u64, byte: u8) {
        *self = match *self {
            Self::Head(rest) if rest == used => Self::Unknown,
            Self::Head(rest) => Self::Head(rest - used),
            Self::Length(rest) if rest == used => Self::Nothing,
            Self::Length(rest) => Self::Length(rest - used),
            Self::Size(size) => match (byte as char).to_digit(16) {
                // Hyper refuses sizes that do not fit.
                Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(digit.into())),
                None if byte == b'\n' => Self::sized(size),
                None => Self::Extension(size),
            },
            Self::Extension(size) if byte == b'\n' => Self::sized(size),
            Self::Extension(size) => Self::Extension(size),
            Self::Chunk(rest) if rest == used => Self::Size(0),
            Self::Chunk(rest) => Self::Chunk(rest - used),
            Self::Trailer { empty } => match byte {
                b'\n' if empty => Self::Nothing,
                b'\n' => Self::Trailer { empty: true },
                b'\r' => Self::Trailer { empty },
                _ => Self::Trailer { empty: false },
            },
            Self::Unknown | Self::Nothing => unreachable!("nothing is taken"),
        };
    }

    /// Behind the line that gives a chunk's size.
    fn sized(size: u64) -> Self {
        match size {
            0 => Self::Trailer { empty: true },
            size => Self::Chunk(size.saturating_add(2)),
        }
    }

    /// The most bytes that may be read without looking at them.
    fn opaque_bytes(self) -> Option<u64> {
        match self {
            Self::Head(rest) | Self::Length(rest) | Self::Chunk(rest) => Some(rest),
            _ => None,
        }
    }
}

/// What hyper, the service and the connection must agree on.
#[derive(Debug)]
pub(super) struct State {
    /// What is still to come of the request.
    rest: Rest,
    /// Hyper has asked for the next request: this one is answered, and the answer is flushed.
    idle: bool,
    /// Requests that hyper has shown to the service.
    calls: usize,
    /// Bytes were written and not flushed.
    unflushed: bool,
    /// Bytes were flushed since somebody looked.
    flushed: bool,
}

/// A handle to the state; all who hold one run on the same task.
#[derive(Clone)]
pub(super) struct Agreement(Arc<Mutex<State>>);

impl Agreement {
    /// For a request whose head is that long.
    pub(super) fn new(head_bytes: usize) -> Self {
        let rest = Rest::Head(head_bytes as u64);
        let (idle, calls, unflushed, flushed) = (false, 0, false, false);
        Self(Arc::new(Mutex::new(State { rest, idle, calls, unflushed, flushed })))
    }

    /// Hyper has parsed the head: the body is of `length`, or chunked if that is unknown.
    pub(super) fn parsed(&self, length: Option<u64>) {
        let mut state = self.state();
        state.calls += 1;
        state.rest = match length {
            Some(0) => Rest::Nothing,
            Some(length) => Rest::Length(length),
            None => Rest::Size(0),
        };
    }

    /// Whether the request was read whole, or so far that hyper reads the rest behind the response, if it
    /// is there.
    pub(super) fn is_nearly_read(&self) -> bool {
        match self.state().rest {
            Rest::Nothing => true,
            Rest::Length(rest) => rest <= REST_BYTES_MAX,
            _ => false,
        }
    }

    /// Whether the request was answered whole, and the connection can go on.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state();
        state.idle && state.calls == 1 && !state.unflushed && state.rest == Rest::Nothing
    }

    /// Whether hyper must be polled again: it becomes idle inside a flush, and reads on only then.
    pub(super) fn take_flushed(&self) -> bool {
        let mut state = self.state();
        std::mem::take(&mut state.flushed) && state.rest == Rest::Nothing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream as hyper may see it.
pub(super) struct OneRequest {
    pub(super) io: ClientIo,
    pub(super) agreement: Agreement,
}

impl AsyncRead for OneRequest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut rest = self.agreement.state().rest;
        match rest {
            Rest::Nothing => self.agreement.state().idle = true,
            // The end of the stream in the middle of a message is an error for hyper.
            Rest::Unknown => {}
            _ => {
                let room = buffer.remaining() as u64;
                let limit = rest.opaque_bytes().unwrap_or(room).min(room) as usize;
                let start = buffer.filled().len();
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit));
                ready!(Pin::new(&mut self.io).poll_read(context, &mut part))?;
                let taken = rest.take(part.filled());
                self.io.unread(part.filled()[taken..].to_vec());
                buffer.set_filled(start + taken);
                self.agreement.state().rest = rest;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OneRequest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.agreement.state().unflushed = true;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.agreement.state().unflushed = true;
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        let mut state = self.agreement.state();
        // Hyper flushes only when it has nothing more to write.
        state.flushed |= std::mem::take(&mut state.unflushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever gets the stream back ends it, if it is to end.
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_chunked_body_is_found() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A;x=\"y\"\r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n",
            "1\n\n\r\n0\r\n\r\n",
        ] {
            let text = format!("{body}GET /next HTTP/1.1\r\n");
            let mut rest = Rest::Size(0);
            assert_eq!(rest.take(text.as_bytes()), body.len(), "{body:?}");
            assert_eq!(rest, Rest::Nothing);
        }
    }

    #[test]
    fn a_head_ends_where_it_was_said_to_and_hyper_says_what_follows() {
        let mut rest = Rest::Head(5);
        assert_eq!(rest.take(b"abcdefgh"), 5);
        assert_eq!((rest, rest.take(b"fgh")), (Rest::Unknown, 0));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            chunks in proptest::collection::vec(1_usize..40, 0..5),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let mut body = String::new();
            for chunk in chunks {
                body += &format!("{chunk:x}\r\n{}\r\n", "0".repeat(chunk));
            }
            body += "0\r\n\r\n";
            let all = body.clone() + "rest";
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(all.len())).collect();
            cuts.push(all.len());
            cuts.sort_unstable();
            let (mut rest, mut start, mut taken) = (Rest::Size(0), 0, 0);
            for cut in cuts {
                taken += rest.take(&all.as_bytes()[start..cut]);
                start = cut;
            }
            prop_assert_eq!((taken, rest), (body.len(), Rest::Nothing));
        }
    }
}
