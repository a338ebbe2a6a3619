//! An HTTP/1.1 response parser without I/O: it is fed segments as they arrive, keeps nothing of a
//! body, and allocates only when a head is split over segments.

use super::chunked::ChunkedDecoder;
use std::mem::MaybeUninit;

/// The longest response head in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header lines of a response.
pub const HEADERS_MAX: usize = 64;

/// Why bytes are not a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The head breaks the grammar of HTTP/1.1 or has more than [`HEADERS_MAX`] lines.
    #[error("the response head is malformed")]
    Head,
    /// The head does not end within [`HEAD_BYTES_MAX`].
    #[error("the response head is longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// `Content-Length` is not one decimal number.
    #[error("the response's Content-Length is not one number")]
    ContentLength,
    /// `Transfer-Encoding` is something other than `chunked`.
    #[error("the response's Transfer-Encoding is not `chunked`")]
    TransferEncoding,
    /// A chunk size, or the line end after a chunk, breaks the grammar.
    #[error("the chunked framing is malformed")]
    Chunk,
    /// Bytes follow a response although no second request was sent.
    #[error("bytes follow the response")]
    Excess,
    /// The connection ended inside of a response.
    #[error("the connection ended inside of a response")]
    Truncated,
}

/// The parts of a final response that a load generator looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Bytes of body, without framing.
    pub body_bytes: u64,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
}

/// Where in a response the parser is.
#[derive(Debug)]
enum State {
    Head,
    Length { remaining: u64 },
    Chunked(ChunkedDecoder),
    UntilClose,
    Done,
}

/// Parses one response after the other on a connection; [`Self::start`] begins the next.
#[derive(Debug)]
pub struct ResponseParser {
    /// Where the parser is in the present response.
    state: State,
    /// The beginning of a head whose end has not arrived yet; empty otherwise.
    split_head: Vec<u8>,
    /// What is known of the present response so far.
    response: Response,
}

impl ResponseParser {
    /// A parser that expects the first response of a connection.
    pub fn new() -> Self {
        Self {
            state: State::Head,
            split_head: Vec::new(),
            response: Response { status: 0, body_bytes: 0, keep_alive: true },
        }
    }

    /// Expects the next response, to a GET or a PUT.
    pub fn start(&mut self) {
        self.state = State::Head;
        self.split_head.clear();
        self.response.body_bytes = 0;
    }

    /// Takes the next bytes of the connection and hands body bytes to `body` in order, in the
    /// pieces in which they came. Returns the response once it is complete.
    ///
    /// # Errors
    /// Bytes that are not one response. The connection is of no use afterwards.
    pub fn feed(
        &mut self,
        segment: &[u8],
        mut body: impl FnMut(&[u8]),
    ) -> Result<Option<Response>, Malformed> {
        let mut rest = segment;
        while matches!(self.state, State::Head) && !rest.is_empty() {
            rest = self.feed_head(rest)?;
        }
        rest = self.feed_body(rest, &mut body)?;
        match (&self.state, rest.is_empty()) {
            (State::Done, true) => Ok(Some(self.response)),
            (State::Done, false) => Err(Malformed::Excess),
            (_, _) => Ok(None),
        }
    }

    /// Tells the parser that the connection has ended, which completes a body without a length.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] inside of any other response.
    pub fn end_of_stream(&mut self) -> Result<Response, Malformed> {
        match self.state {
            State::UntilClose => {
                self.state = State::Done;
                Ok(self.response)
            }
            _ => Err(Malformed::Truncated),
        }
    }

    /// Bytes of body that the present response has had so far.
    pub fn body_bytes(&self) -> u64 {
        self.response.body_bytes
    }

    /// Whether no byte of the present response has arrived.
    pub fn is_untouched(&self) -> bool {
        matches!(self.state, State::Head) && self.split_head.is_empty()
    }

    /// Bytes which are certain to be plain body: they may be dropped without a look at them.
    pub fn skippable_bytes(&self) -> u64 {
        match self.state {
            State::Length { remaining } => remaining,
            _ => 0,
        }
    }

    /// Accounts for `count` body bytes that were dropped unseen. Returns the response once it is
    /// complete. `count` is at most [`Self::skippable_bytes`].
    pub fn skip(&mut self, count: u64) -> Option<Response> {
        assert!(count <= self.skippable_bytes(), "only body bytes are skipped");
        self.response.body_bytes += count;
        if let State::Length { remaining } = &mut self.state {
            *remaining -= count;
            if *remaining == 0 {
                self.state = State::Done;
                return Some(self.response);
            }
        }
        None
    }

    /// Consumes bytes of the head and returns those after it, or nothing if the head goes on.
    fn feed_head<'a>(&mut self, segment: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let kept = self.split_head.len();
        if kept == 0 {
            // The usual case: the whole head in one segment, parsed where it lies.
            return match parse_head(segment)? {
                Some((length, head)) => {
                    self.apply(head);
                    Ok(&segment[length..])
                }
                None => {
                    self.keep(segment)?;
                    Ok(&[])
                }
            };
        }
        let room = HEAD_BYTES_MAX - kept;
        let taken = segment.len().min(room);
        self.split_head.extend_from_slice(&segment[..taken]);
        match parse_head(&self.split_head)? {
            Some((length, head)) => {
                assert!(length > kept, "the head did not end in the kept bytes");
                self.split_head.clear();
                self.apply(head);
                Ok(&segment[length - kept..])
            }
            None if self.split_head.len() == HEAD_BYTES_MAX => Err(Malformed::HeadTooLong),
            None => Ok(&[]),
        }
    }

    fn keep(&mut self, segment: &[u8]) -> Result<(), Malformed> {
        if segment.len() >= HEAD_BYTES_MAX {
            return Err(Malformed::HeadTooLong);
        }
        self.split_head.extend_from_slice(segment);
        Ok(())
    }

    /// Goes on to the body that `head` announces; an interim response (1xx) is passed over.
    fn apply(&mut self, head: Head) {
        if (100..200).contains(&head.status) {
            return;
        }
        self.response.status = head.status;
        self.response.keep_alive = head.keep_alive && head.framing != Framing::UntilClose;
        self.state = match head.framing {
            Framing::Length(0) => State::Done,
            Framing::Length(remaining) => State::Length { remaining },
            Framing::Chunked => State::Chunked(ChunkedDecoder::new()),
            Framing::UntilClose => State::UntilClose,
        };
    }

    /// Consumes bytes of the body and returns those after it.
    fn feed_body<'a>(
        &mut self,
        segment: &'a [u8],
        body: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], Malformed> {
        let counted = &mut self.response.body_bytes;
        let mut deliver = |bytes: &[u8]| {
            *counted += bytes.len() as u64;
            body(bytes);
        };
        match &mut self.state {
            State::Head | State::Done => Ok(segment),
            State::UntilClose => {
                deliver(segment);
                Ok(&[])
            }
            State::Length { remaining } => {
                let available = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let (mine, rest) = segment.split_at(segment.len().min(available));
                deliver(mine);
                *remaining -= mine.len() as u64;
                if *remaining == 0 {
                    self.state = State::Done;
                }
                Ok(rest)
            }
            State::Chunked(decoder) => {
                let (rest, done) = decoder.feed(segment, &mut deliver)?;
                if done {
                    self.state = State::Done;
                }
                Ok(rest)
            }
        }
    }
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new()
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What a head says.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    framing: Framing,
    keep_alive: bool,
}

/// Parses a head at the beginning of `bytes`: its length and meaning, or `None` if it goes on.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers)
        .map_err(|_| Malformed::Head)?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    let code = parsed.code.ok_or(Malformed::Head)?;
    let mut content_length = None;
    let mut chunked = false;
    let mut keep_alive = parsed.version == Some(1);
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = decimal(header.value).ok_or(Malformed::ContentLength)?;
            if content_length.is_some_and(|earlier| earlier != value) {
                return Err(Malformed::ContentLength);
            }
            content_length = Some(value);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            if header.value.eq_ignore_ascii_case(b"close") {
                keep_alive = false;
            } else if header.value.eq_ignore_ascii_case(b"keep-alive") {
                keep_alive = true;
            }
        }
    }
    let framing = match (code, chunked, content_length) {
        (100..200 | 204 | 304, _, _) => Framing::Length(0),
        // A length beside chunks is how requests are smuggled.
        (_, true, Some(_)) => return Err(Malformed::ContentLength),
        (_, true, None) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClose,
    };
    let head = Head { status: code, framing, keep_alive };
    Ok(Some((length, head)))
}

/// A decimal number without a sign that fits 64 bits.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
