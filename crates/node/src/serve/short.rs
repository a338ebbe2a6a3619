//! Simple reads, answered from text to text.
//!
//! Most requests are a GET or HEAD with nothing special about them, and building and tearing down
//! general requests and responses is a good part of what they cost. A service that can answer such
//! a request straight from its text gets it here. Whatever is not simple (another method or version,
//! a body, a field that concerns the connection, anything malformed) goes to hyper, untouched, and
//! so does all that follows on that connection.

use super::{
    ConnectionInfo, Service,
    accept::Shared,
    client::{ClientIo, Progress},
    exchange::Exchange,
    metrics::Kind,
};
use crate::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use httparse::{Header, ParserConfig, Status};
use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes that are received in one go.
const RECEIVE_BYTES: usize = 16 * 1024;
/// The most fields of a simple request.
const FIELDS_MAX: usize = 64;
/// A body up to this size is copied behind its head: cheaper than sending two pieces.
const COPY_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// Where this thread receives: connections that wait need no buffer of their own.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
}

/// A GET or HEAD of HTTP/1.1 with one Host, without a body, and without a field that concerns the
/// connection except `Connection: keep-alive`.
pub(crate) struct ShortRequest<'a> {
    /// It is a HEAD.
    pub(crate) to_head: bool,
    /// The path, without the query: visible ASCII that begins with a slash.
    pub(crate) path: &'a str,
    /// The Host field.
    pub(crate) host: &'a [u8],
    /// All fields. Names are tokens, and values hold no line breaks.
    pub(crate) fields: &'a [Header<'a>],
}

/// The answer to a [`ShortRequest`].
pub(crate) struct ShortAnswer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The fields, one line each; they give the body's length.
    pub(crate) lines: Vec<u8>,
    /// The body; none in answer to a HEAD.
    pub(crate) body: Body,
}

impl ShortRequest<'_> {
    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| field.value)
    }
}

impl ShortAnswer {
    /// An answer whose length is known.
    pub(crate) fn of(response: Response<Body>, to_head: bool) -> Self {
        let (head, body) = response.into_parts();
        let length = body.size_hint().exact().expect("the body's length is known");
        let date = httpdate::HttpDate::from(SystemTime::now());
        let mut lines = format!("date: {date}\r\ncontent-length: {length}\r\n").into_bytes();
        for (name, value) in &head.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        let body = if to_head { Body::empty() } else { body };
        Self { status: head.status, lines, body }
    }

    /// The head as it is sent.
    fn head(&self, close: bool) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.lines.len() + COPY_BYTES_MAX / 4);
        let reason = self.status.canonical_reason().unwrap_or("Unknown");
        for part in ["HTTP/1.1 ", self.status.as_str(), " ", reason, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(&self.lines);
        if close {
            head.extend_from_slice(b"connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// How a connection goes on after its simple reads.
pub(super) enum Next {
    /// With hyper, which reads again what was not simple.
    Hyper,
    /// Not at all.
    End,
}

/// Answers simple reads until something else comes.
///
/// # Errors
/// When the connection breaks, or a body of which the client was told the length.
pub(super) async fn serve<S: Service>(
    io: &mut ClientIo,
    info: ConnectionInfo,
    progress: &Arc<Progress>,
    server: &Shared<S>,
) -> io::Result<Next> {
    let mut pending = Vec::new();
    loop {
        if !pending.is_empty() {
            // The next request has begun: the time-out of its head runs.
            progress.head_bytes.store(true, Relaxed);
        }
        let accept = |request: &ShortRequest<'_>| {
            let received = Instant::now();
            let answer = server.service.short(request, ConnectionInfo { received, ..info })?;
            let kind = if request.to_head { Kind::HEAD } else { Kind::GET };
            Some((answer, Exchange::start(kind, false, received, progress, &server.metrics)))
        };
        let limit_bytes = server.limits.header_bytes_max;
        let received =
            poll_fn(|context| match poll_request(context, io, &mut pending, limit_bytes, accept) {
                Poll::Pending if pending.is_empty() && server.shutdown.is_draining() => {
                    Poll::Ready(Ok(Received::End))
                }
                polled => polled,
            });
        let (answer, exchange) = match received.await? {
            Received::Simple(accepted) => accepted,
            Received::Other => {
                io.unread(pending);
                return Ok(Next::Hyper);
            }
            Received::End => return Ok(Next::End),
        };
        let answer = answer.await;
        exchange.answered(answer.status);
        let close = server.shutdown.is_draining();
        send(io, answer, close).await?;
        if close {
            return Ok(Next::End);
        }
    }
}

/// What has come.
enum Received<T> {
    /// A simple request, and what the service makes of it.
    Simple(T),
    /// Something that hyper must look at.
    Other,
    /// The client's end.
    End,
}

/// Receives until there is a request. What follows it, or all of it if it is not simple, is left in
/// `pending`.
fn poll_request<T>(
    context: &mut Context<'_>,
    io: &mut ClientIo,
    pending: &mut Vec<u8>,
    limit_bytes: usize,
    accept: impl Fn(&ShortRequest<'_>) -> Option<T>,
) -> Poll<io::Result<Received<T>>> {
    if !pending.is_empty()
        && let Some((received, used_bytes)) = examine(pending, limit_bytes, &accept)
    {
        take(pending, used_bytes);
        return Poll::Ready(Ok(received));
    }
    RECEIVED.with_borrow_mut(|buffer| {
        loop {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(Received::End));
            }
            let examined = if pending.is_empty() {
                // The usual case: nothing is copied.
                let examined = examine(bytes, limit_bytes, &accept);
                let used_bytes = examined.as_ref().map_or(0, |examined| examined.1);
                pending.extend_from_slice(&bytes[used_bytes..]);
                examined
            } else {
                pending.extend_from_slice(bytes);
                let examined = examine(pending, limit_bytes, &accept);
                let used_bytes = examined.as_ref().map_or(0, |examined| examined.1);
                take(pending, used_bytes);
                examined
            };
            if let Some((received, _)) = examined {
                return Poll::Ready(Ok(received));
            }
        }
    })
}

/// Removes the first bytes, and the memory after the last.
fn take(pending: &mut Vec<u8>, used_bytes: usize) {
    pending.drain(..used_bytes);
    if pending.is_empty() {
        *pending = Vec::new();
    }
}

/// What `bytes` begin with, and how many of them it takes; none if more must come first.
fn examine<T>(
    bytes: &[u8],
    limit_bytes: usize,
    accept: impl Fn(&ShortRequest<'_>) -> Option<T>,
) -> Option<(Received<T>, usize)> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parser = ParserConfig::default();
    let parsed = parser.parse_request_with_uninit_headers(&mut request, bytes, &mut fields);
    let head_bytes = match parsed {
        Ok(Status::Complete(head_bytes)) if head_bytes <= limit_bytes => head_bytes,
        Ok(Status::Partial) if bytes.len() <= limit_bytes => return None,
        _ => return Some((Received::Other, 0)),
    };
    match simple(&request).and_then(|request| accept(&request)) {
        Some(accepted) => Some((Received::Simple(accepted), head_bytes)),
        None => Some((Received::Other, 0)),
    }
}

/// The request, if it is simple.
fn simple<'a>(request: &'a httparse::Request<'_, 'a>) -> Option<ShortRequest<'a>> {
    let to_head = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?;
    let path = target.split('?').next()?;
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if request.version? != 1 || !path.starts_with('/') || !visible {
        return None;
    }
    let mut host = None;
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let is_simple = match field.name.len() {
            2 => !is("te"),
            4 if is("host") => host.replace(field.value).is_none(),
            6 => !is("expect"),
            7 => !is("trailer") && !is("upgrade"),
            10 if is("connection") => field.value.eq_ignore_ascii_case(b"keep-alive"),
            10 => !is("keep-alive"),
            14 => !is("content-length"),
            17 => !is("transfer-encoding"),
            _ => true,
        };
        if !is_simple {
            return None;
        }
    }
    Some(ShortRequest { to_head, path, host: host?, fields: request.headers })
}

/// Sends an answer, whole or not at all from some byte on.
async fn send(io: &mut ClientIo, mut answer: ShortAnswer, close: bool) -> io::Result<()> {
    let mut head = answer.head(close);
    // The head goes along with what is there of the body, and does not wait for more.
    let first = poll_fn(|context| {
        Poll::Ready(match poll_data(&mut answer.body, context) {
            Poll::Ready(data) => data.transpose(),
            Poll::Pending => Ok(Some(Bytes::new())),
        })
    });
    let first = first.await.map_err(io::Error::other)?;
    let mut data = first.unwrap_or_default();
    if data.len() <= COPY_BYTES_MAX {
        head.extend_from_slice(&data);
        data = Bytes::new();
    }
    write_both(io, &head, &data).await?;
    drop(head);
    while let Some(data) = poll_fn(|context| poll_data(&mut answer.body, context)).await {
        write_both(io, &[], &data.map_err(io::Error::other)?).await?;
    }
    io.flush().await
}

/// The next bytes of a body.
fn poll_data(
    body: &mut Body,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, crate::body::BodyError>>> {
    let frame = ready!(Pin::new(body).poll_frame(context));
    // Bodies of objects have no trailers.
    let data = |frame: Frame<Bytes>| frame.into_data().unwrap_or_default();
    Poll::Ready(frame.map(|frame| frame.map(data)))
}

/// Writes all of two slices, in as few system calls as it takes.
async fn write_both(io: &mut ClientIo, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    poll_fn(|context| {
        while !first.is_empty() || !second.is_empty() {
            let io = Pin::new(&mut *io);
            let written = if second.is_empty() {
                ready!(io.poll_write(context, first))?
            } else if first.is_empty() {
                ready!(io.poll_write(context, second))?
            } else {
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                ready!(io.poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// For the fuzzer: what is made of the first `cut` bytes agrees with what is made of all, and a
/// simple request is what it promises to be.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_request(bytes: &[u8], cut: usize, limit_bytes: usize) {
    let accept = |request: &ShortRequest<'_>| {
        assert!(request.path.starts_with('/'));
        assert!(request.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'));
        for field in request.fields {
            assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
            assert!(!field.name.eq_ignore_ascii_case("transfer-encoding"));
            assert!(!field.name.eq_ignore_ascii_case("content-length"));
        }
        Some(request.path.to_string())
    };
    let simple = |bytes| match examine(bytes, limit_bytes, accept) {
        Some((Received::Simple(path), used_bytes)) => Some((path, used_bytes)),
        _ => None,
    };
    let whole = simple(bytes);
    if let Some((_, used_bytes)) = &whole {
        assert!(*used_bytes <= bytes.len());
    }
    let part = simple(&bytes[..cut.min(bytes.len())]);
    if part.is_some() {
        assert_eq!(part, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_BYTES: usize = 1024;

    /// What is made of `bytes`: the path of a simple request, and the bytes that it took.
    fn made_of(bytes: &[u8]) -> Option<(Option<String>, usize)> {
        let path = |request: &ShortRequest<'_>| Some(request.path.to_string());
        let (received, used_bytes) = examine(bytes, LIMIT_BYTES, path)?;
        match received {
            Received::Simple(path) => Some((Some(path), used_bytes)),
            Received::Other | Received::End => Some((None, used_bytes)),
        }
    }

    #[test]
    fn a_simple_request_is_taken_when_it_is_whole_and_not_before() {
        let text = b"GET /a?b HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\nGET";
        let head_bytes = text.len() - 3;
        for cut in 0..head_bytes {
            assert_eq!(made_of(&text[..cut]), None, "{cut}");
        }
        assert_eq!(made_of(text), Some((Some("/a".into()), head_bytes)));
    }

    #[test]
    fn what_is_not_simple_is_left_whole_for_hyper() {
        let long = format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(LIMIT_BYTES));
        for text in [
            "PUT /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nhost: i\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, x\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
            "\0",
            &*long,
        ] {
            assert_eq!(made_of(text.as_bytes()), Some((None, 0)), "{text:?}");
        }
    }

    #[test]
    fn what_the_service_does_not_take_is_left_for_hyper() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let refuse = |_: &ShortRequest<'_>| None::<()>;
        assert!(matches!(examine(text, LIMIT_BYTES, refuse), Some((Received::Other, 0))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((_, used_bytes)) = made_of(&bytes) {
                prop_assert!(used_bytes <= bytes.len());
            }
        }
    }
}
