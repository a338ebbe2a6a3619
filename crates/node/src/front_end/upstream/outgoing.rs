//! A request on its way to a storage node.

use crate::body::{BodyError, RequestBody};
use bytes::{Buf, Bytes};
use http_body::Body as _;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::AsyncWrite, net::TcpStream};

/// Bytes of a body that may wait to be sent before more are taken from the client.
const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// The most pieces that one system call sends.
const SLICES_MAX: usize = 8;

/// A request's body.
pub(crate) enum Content<'a> {
    /// None.
    None,
    /// As many bytes as the head says.
    Sized(&'a mut RequestBody),
    /// Bytes whose number is not known yet: they are sent in chunks.
    Chunked(&'a mut RequestBody),
}

/// A request, and how much of it has been sent.
pub(crate) struct Outgoing<'a> {
    head: Bytes,
    content: Content<'a>,
    /// Reading twice is no different from reading once.
    pub(super) repeatable: bool,
    /// The request is a HEAD.
    pub(super) to_head: bool,
    /// The body is held back until the storage node asks for it.
    awaits_continue: bool,
    /// What of the head has not been sent.
    unsent_head: Bytes,
    /// What has been taken from the client and not been sent.
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
    /// All of the body has been taken from the client.
    body_taken: bool,
    /// A byte of the body has been sent.
    body_sent: bool,
    /// Bytes sent.
    pub(super) sent_bytes: u64,
}

/// Why a request cannot be sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client does not deliver its body.
    Client(BodyError),
    /// The storage node does not take it; what it sends tells why.
    Node,
}

impl<'a> Outgoing<'a> {
    /// A GET, or a HEAD, with the given head.
    pub(crate) fn read(head: Bytes, to_head: bool) -> Self {
        Self { repeatable: true, to_head, ..Self::write(head, Content::None, false) }
    }

    /// A request that changes something. The head promises what `content` delivers; if the client
    /// waits with its body until it is asked for it, so does the request.
    pub(crate) fn write(head: Bytes, content: Content<'a>, awaits_continue: bool) -> Self {
        Self {
            body_taken: matches!(content, Content::None),
            awaits_continue: awaits_continue && !matches!(content, Content::None),
            unsent_head: head.clone(),
            head,
            content,
            repeatable: false,
            to_head: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            body_sent: false,
            sent_bytes: 0,
        }
    }

    /// Whether the storage node may have got all of the request, and therefore acted on it.
    pub(crate) fn is_sent(&self) -> bool {
        self.body_taken && self.unsent_head.is_empty() && self.queue.is_empty()
    }

    /// Whether the request can start again on another connection: what was sent had no effect that
    /// a repetition could double, and nothing that must be sent again is gone.
    pub(super) fn can_restart(&self) -> bool {
        self.repeatable || (!self.is_sent() && !self.body_sent)
    }

    /// Starts again.
    pub(super) fn restart(&mut self) {
        assert!(self.can_restart(), "the request has been sent in part");
        self.unsent_head = self.head.clone();
        self.sent_bytes = 0;
    }

    /// The storage node asks for the body.
    pub(super) fn go_on(&mut self) {
        self.awaits_continue = false;
    }

    /// Whether nothing can be sent before the storage node or the client sends something.
    pub(super) fn is_send_blocked(&self) -> bool {
        !self.unsent_head.is_empty() || !self.queue.is_empty()
    }

    /// Whether the rest of the body is still to come from the client.
    pub(super) fn awaits_client(&self) -> bool {
        !self.body_taken && !self.awaits_continue
    }

    /// Sends what can be sent. Ready when all is.
    pub(super) fn poll_send(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // What the client has sent goes along with the head.
            self.fill(context).map_err(SendError::Client)?;
            if !self.is_send_blocked() {
                return if self.body_taken { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let sent = ready!(self.poll_write(stream, context)).map_err(|_| SendError::Node)?;
            self.advance(sent);
        }
    }

    /// Takes from the client what fits into the queue.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        while !self.body_taken && !self.awaits_continue && self.queue_bytes < QUEUE_BYTES_MAX {
            let (body, chunked) = match &mut self.content {
                Content::None => return Ok(()),
                Content::Sized(body) => (body, false),
                Content::Chunked(body) => (body, true),
            };
            let Poll::Ready(frame) = Pin::new(&mut **body).poll_frame(context) else {
                return Ok(());
            };
            match frame.transpose()?.map(http_body::Frame::into_data) {
                Some(Ok(data)) if chunked => {
                    self.enqueue(format!("{:x}\r\n", data.len()).into());
                    self.enqueue(data);
                    self.enqueue(Bytes::from_static(b"\r\n"));
                }
                Some(Ok(data)) => self.enqueue(data),
                // Trailers concern the connection.
                Some(Err(_)) => {}
                None => {
                    self.body_taken = true;
                    if chunked {
                        self.enqueue(Bytes::from_static(b"0\r\n\r\n"));
                    }
                }
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.queue_bytes += data.len();
            self.queue.push_back(data);
        }
    }

    fn poll_write(
        &self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.queue.is_empty() {
            return Pin::new(stream).poll_write(context, &self.unsent_head);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = std::iter::once(&self.unsent_head).chain(&self.queue);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        Pin::new(stream).poll_write_vectored(context, &slices[..count])
    }

    /// Notes that `sent` more bytes are sent.
    fn advance(&mut self, sent: usize) {
        self.sent_bytes += sent as u64;
        let of_head = sent.min(self.unsent_head.len());
        self.unsent_head.advance(of_head);
        let mut of_queue = sent - of_head;
        self.body_sent |= of_queue > 0;
        self.queue_bytes -= of_queue;
        while let Some(piece) = self.queue.front_mut() {
            let part = of_queue.min(piece.len());
            piece.advance(part);
            of_queue -= part;
            if !piece.is_empty() {
                break;
            }
            self.queue.pop_front();
        }
    }
}
