//! Simple reads, answered from text to text, and requests that are not for this host.
//!
//! Most requests are a GET or HEAD with nothing special about them, and building and tearing down
//! general requests and responses is a good part of what they cost. A service that can answer such
//! a request straight from its text gets it here. Whatever is not simple (another method or version,
//! a body, a field that concerns the connection, anything malformed) goes to hyper, untouched.
//!
//! A connection that can move to another host is asked about at every head; if it is to move, all
//! bytes from that head on are left for the host that it moves to.

use super::{
    ConnectionInfo, Place, Service, Target,
    accept::Shared,
    client::{ClientIo, Progress},
    exchange::Exchange,
    metrics::Kind,
};
use crate::{body::Body, threads::Shutdown};
use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
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
pub(super) const FIELDS_MAX: usize = 64;
/// A body up to this size is copied behind its head: cheaper than sending two pieces.
const COPY_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// Where this thread receives: connections that wait need no buffer of their own.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
}

/// A GET or HEAD of HTTP/1.1 with one Host, without a body, and without a field that concerns the
/// connection except one `Connection: keep-alive` or `close`.
pub(crate) struct ShortRequest<'a> {
    /// It is a HEAD.
    pub(crate) to_head: bool,
    /// The path, without the query: visible ASCII that begins with a slash.
    pub(crate) path: &'a str,
    /// The Host field.
    pub(crate) host: &'a [u8],
    /// All fields. Names are tokens, and values hold no line breaks.
    pub(crate) fields: &'a [Header<'a>],
    /// The client wants the connection closed after it.
    pub(crate) closes: bool,
}

/// The head of a request, simple or not.
pub(crate) struct RequestHead<'a> {
    /// The method.
    pub(crate) method: &'a str,
    /// The target as it was sent.
    pub(crate) target: &'a str,
    /// All fields. Names are tokens, and values hold no line breaks.
    pub(crate) fields: &'a [Header<'a>],
}

/// What became of a [`ShortRequest`].
pub(crate) enum Shortcut {
    /// It is answered.
    Answer(ShortAnswer),
    /// The connection moves there, where somebody gets the request as it came. Only if the connection
    /// can move.
    Move(Target),
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
        field(self.fields, name)
    }
}

impl RequestHead<'_> {
    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        field(self.fields, name)
    }
}

fn field<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

impl ShortAnswer {
    /// An answer whose length is known.
    pub(crate) fn of(response: Response<Body>, to_head: bool) -> Self {
        let (head, body) = response.into_parts();
        let date = httpdate::HttpDate::from(SystemTime::now());
        let mut lines = format!("date: {date}\r\n").into_bytes();
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bodiless && !head.headers.contains_key(CONTENT_LENGTH) {
            let length = body.size_hint().exact().expect("the body's length is known");
            lines.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
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
    /// On another node, which reads again from a request's head on.
    Move(Target),
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
    shutdown: &Shutdown,
    server: &Shared<S>,
) -> io::Result<Next> {
    let mut pending = io.take_unread();
    let mut info = info;
    loop {
        if !pending.is_empty() {
            // The next request has begun: the time-out of its head runs.
            progress.head_bytes.store(true, Relaxed);
        }
        let judge = |head: &RequestHead<'_>, simple: Option<&ShortRequest<'_>>| {
            let info = ConnectionInfo { received: Instant::now(), ..info };
            if let Some(refuge) = refuge(info, shutdown, server) {
                return Verdict::Move(refuge);
            }
            if info.can_move
                && let Place::At(target) = server.service.place(head, info)
            {
                return Verdict::Move(target);
            }
            let shortcut = simple.and_then(|request| server.service.short(request, info));
            let (Some(shortcut), Some(request)) = (shortcut, simple) else {
                return Verdict::Hyper;
            };
            let kind = if request.to_head { Kind::HEAD } else { Kind::GET };
            let exchange = Exchange::start(kind, false, info.received, progress, &server.metrics);
            Verdict::Take(Taken { shortcut, exchange, closes: request.closes })
        };
        let reader = Reader { limit_bytes: server.limits.header_bytes_max, keep: info.can_move };
        let received = poll_fn(|context| match reader.poll(context, io, &mut pending, judge) {
            Poll::Pending if pending.is_empty() && shutdown.is_draining() => {
                Poll::Ready(Ok(Received::End))
            }
            polled => polled,
        });
        let next = match received.await? {
            Received::Request(Verdict::Take(taken), head_bytes) => {
                let Taken { shortcut, exchange, closes } = taken;
                match shortcut.await {
                    Shortcut::Answer(answer) => {
                        take(&mut pending, if info.can_move { head_bytes } else { 0 });
                        exchange.answered(answer.status);
                        let stays = !shutdown.is_draining();
                        let close = closes || !stays && refuge(info, shutdown, server).is_none();
                        send(io, answer, close).await?;
                        drop(exchange);
                        info.can_move = io.can_move();
                        if close {
                            return Ok(Next::End);
                        }
                        continue;
                    }
                    Shortcut::Move(target) => {
                        assert!(info.can_move, "only a connection that can move is told to");
                        exchange.withdraw();
                        Next::Move(target)
                    }
                }
            }
            Received::Request(Verdict::Hyper, _) => Next::Hyper,
            Received::Request(Verdict::Move(target), _) => Next::Move(target),
            Received::End => {
                let refuge = refuge(info, shutdown, server);
                let is_idle = !progress.end_of_stream.load(Relaxed);
                return Ok(refuge.filter(|_| is_idle).map_or(Next::End, Next::Move));
            }
        };
        io.unread(pending);
        return Ok(next);
    }
}

/// Where a connection goes on that this process will not serve for long; none while it will, and if there
/// is no such place.
pub(super) fn refuge<S: Service>(
    info: ConnectionInfo,
    shutdown: &Shutdown,
    server: &Shared<S>,
) -> Option<Target> {
    let leaves = info.can_move && shutdown.is_draining();
    leaves.then(|| server.service.refuge(info)).flatten()
}

/// A simple request that the service answers.
struct Taken<F> {
    shortcut: F,
    exchange: Exchange,
    /// The client wants the connection closed after it.
    closes: bool,
}

/// What is made of a request's head.
enum Verdict<T> {
    /// It is answered here.
    Take(T),
    /// Hyper must look at it.
    Hyper,
    /// It is for another node.
    Move(Target),
}

/// What has come.
enum Received<T> {
    /// A request, and its head's length.
    Request(Verdict<T>, usize),
    /// The client's end.
    End,
}

/// How heads are received.
#[derive(Clone, Copy)]
struct Reader {
    /// The longest head.
    limit_bytes: usize,
    /// Heads that are taken stay in `pending` all the same: they may yet have to go elsewhere.
    keep: bool,
}

impl Reader {
    /// Receives until there is a request. What follows a head that is taken, or else all, is left in
    /// `pending`.
    fn poll<T>(
        self,
        context: &mut Context<'_>,
        io: &mut ClientIo,
        pending: &mut Vec<u8>,
        judge: impl Fn(&RequestHead<'_>, Option<&ShortRequest<'_>>) -> Verdict<T>,
    ) -> Poll<io::Result<Received<T>>> {
        if !pending.is_empty()
            && let Some((verdict, head_bytes)) = self.examine(pending, &judge)
        {
            take(pending, self.used_bytes(&verdict, head_bytes));
            return Poll::Ready(Ok(Received::Request(verdict, head_bytes)));
        }
        RECEIVED.with_borrow_mut(|buffer| {
            loop {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Received::End));
                }
                // The usual case: only a request came, and nothing is copied.
                let fresh = pending.is_empty();
                if !fresh {
                    pending.extend_from_slice(bytes);
                }
                let all = if fresh { bytes } else { &pending[..] };
                let examined = self.examine(all, &judge);
                let used_bytes = match &examined {
                    Some((verdict, head_bytes)) => self.used_bytes(verdict, *head_bytes),
                    None => 0,
                };
                if fresh {
                    pending.extend_from_slice(&bytes[used_bytes..]);
                } else {
                    take(pending, used_bytes);
                }
                if let Some((verdict, head_bytes)) = examined {
                    return Poll::Ready(Ok(Received::Request(verdict, head_bytes)));
                }
            }
        })
    }

    /// Bytes of a head that need not be kept.
    fn used_bytes<T>(self, verdict: &Verdict<T>, head_bytes: usize) -> usize {
        if matches!(verdict, Verdict::Take(_)) && !self.keep { head_bytes } else { 0 }
    }

    /// What `bytes` begin with, and the length of its head; none if more must come first.
    fn examine<T>(
        self,
        bytes: &[u8],
        judge: impl Fn(&RequestHead<'_>, Option<&ShortRequest<'_>>) -> Verdict<T>,
    ) -> Option<(Verdict<T>, usize)> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let parser = ParserConfig::default();
        let parsed = parser.parse_request_with_uninit_headers(&mut request, bytes, &mut fields);
        let head_bytes = match parsed {
            Ok(Status::Complete(head_bytes)) if head_bytes <= self.limit_bytes => head_bytes,
            Ok(Status::Partial) if bytes.len() <= self.limit_bytes => return None,
            _ => return Some((Verdict::Hyper, 0)),
        };
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Some((Verdict::Hyper, 0));
        };
        let head = RequestHead { method, target, fields: request.headers };
        let simple = simple(&head, request.version == Some(1));
        Some((judge(&head, simple.as_ref()), head_bytes))
    }
}

/// Removes the first bytes, and the memory after the last.
fn take(pending: &mut Vec<u8>, used_bytes: usize) {
    pending.drain(..used_bytes);
    if pending.is_empty() {
        *pending = Vec::new();
    }
}

/// The request, if it is simple.
fn simple<'a>(head: &RequestHead<'a>, is_http_1_1: bool) -> Option<ShortRequest<'a>> {
    let to_head = match head.method {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let path = head.target.split('?').next()?;
    let visible = head.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_http_1_1 || !path.starts_with('/') || !visible {
        return None;
    }
    let (mut host, mut closes) = (None, false);
    for field in head.fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let is_simple = match field.name.len() {
            2 => !is("te"),
            4 if is("host") => host.replace(field.value).is_none(),
            6 => !is("expect"),
            7 => !is("trailer") && !is("upgrade"),
            10 if is("connection") => {
                closes |= field.value.eq_ignore_ascii_case(b"close");
                closes || field.value.eq_ignore_ascii_case(b"keep-alive")
            }
            10 => !is("keep-alive"),
            14 => !is("content-length"),
            17 => !is("transfer-encoding"),
            _ => true,
        };
        if !is_simple {
            return None;
        }
    }
    Some(ShortRequest { to_head, path, host: host?, fields: head.fields, closes })
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
    let judge = |head: &RequestHead<'_>, request: Option<&ShortRequest<'_>>| {
        for field in head.fields {
            assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
        }
        let Some(request) = request else { return Verdict::Hyper };
        assert!(request.path.starts_with('/'));
        assert!(request.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'));
        assert_eq!(head.field("transfer-encoding").or(head.field("content-length")), None);
        Verdict::Take(request.path.to_string())
    };
    let reader = Reader { limit_bytes, keep: false };
    let simple = |bytes| match reader.examine(bytes, judge) {
        Some((Verdict::Take(path), head_bytes)) => Some((path, head_bytes)),
        _ => None,
    };
    let whole = simple(bytes);
    if let Some((_, head_bytes)) = &whole {
        assert!(*head_bytes <= bytes.len());
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

    const READER: Reader = Reader { limit_bytes: 1024, keep: false };

    /// What is made of `bytes`: the path of a simple request, and the bytes of its head.
    fn made_of(bytes: &[u8]) -> Option<(Option<String>, usize)> {
        let judge = |_: &RequestHead<'_>, simple: Option<&ShortRequest<'_>>| match simple {
            Some(request) => Verdict::Take(request.path.to_string()),
            None => Verdict::Hyper,
        };
        let (verdict, head_bytes) = READER.examine(bytes, judge)?;
        match verdict {
            Verdict::Take(path) => Some((Some(path), head_bytes)),
            Verdict::Hyper | Verdict::Move(_) => {
                Some((None, READER.used_bytes(&verdict, head_bytes)))
            }
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
        let long = format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(READER.limit_bytes));
        for text in [
            "PUT /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nhost: i\r\n\r\n",
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
    fn the_end_of_the_connection_is_noticed() {
        for (options, closes) in [
            ("", Some(false)),
            ("Connection: keep-alive\r\n", Some(false)),
            ("Connection: close\r\n", Some(true)),
            ("Connection: close\r\nConnection: keep-alive\r\n", Some(true)),
            ("Connection: close, x\r\n", None),
        ] {
            let text = format!("GET /a HTTP/1.1\r\nHost: h\r\n{options}\r\n");
            let judge = |_: &RequestHead<'_>, simple: Option<&ShortRequest<'_>>| {
                Verdict::Take(simple.map(|request| request.closes))
            };
            let (verdict, _) = READER.examine(text.as_bytes(), judge).expect("it is whole");
            assert!(matches!(verdict, Verdict::Take(seen) if seen == closes), "{options:?}");
        }
    }

    #[test]
    fn a_head_that_is_for_another_node_is_left_whole() {
        let text = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc";
        let reader = Reader { keep: true, ..READER };
        let judge = |head: &RequestHead<'_>, _: Option<&ShortRequest<'_>>| {
            assert_eq!((head.method, head.target), ("PUT", "/a"));
            assert_eq!(head.field("content-length"), Some(&b"9"[..]));
            Verdict::<()>::Move(Target::Origin)
        };
        let (verdict, head_bytes) = reader.examine(text, judge).expect("the head is whole");
        assert!(matches!(verdict, Verdict::Move(Target::Origin)));
        assert_eq!(reader.used_bytes(&verdict, head_bytes), 0);
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
