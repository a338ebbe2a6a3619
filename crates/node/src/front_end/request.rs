//! What a client asks for, checked before anything is done about it.

use super::fields::{self, ConnectionOptions, REQUEST_ID};
use crate::{
    body::{Body, RequestBody},
    response,
    storage_node::RELAY_MAX_HEADER,
};
use ashlar_object::{Key, PartitionIndex};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request};
use http_body::Body as _;
use std::cell::Cell;

/// The methods that an object has.
const ALLOWED: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
/// The longest request identifier that is taken from a client.
const ID_BYTES_MAX: usize = 64;
/// Digits of an identifier that is made here.
const NEW_ID_DIGITS: usize = 16;
/// Most requests' heads fit.
const HEAD_BYTES: usize = 512;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// GET or HEAD of an object.
    Read(Key),
    /// PUT or DELETE of an object.
    Write(Key),
    /// GET or HEAD of the root.
    List,
    /// OPTIONS.
    Options,
}

impl Target {
    /// Checks a request's head.
    ///
    /// # Errors
    /// With the response that refuses it.
    pub(super) fn of(head: &request::Parts, has_body: bool) -> Result<Self, Box<Response<Body>>> {
        check_host(head)?;
        let path = head.uri.path();
        let read = match head.method {
            Method::GET | Method::HEAD => true,
            Method::PUT | Method::DELETE => false,
            Method::OPTIONS => return Ok(Self::Options),
            _ => return Err(Box::new(method_not_allowed(&head.method))),
        };
        if has_body && head.method != Method::PUT {
            return Err(bad_request(format!("{} takes no body", head.method)));
        }
        if read && path == "/" {
            return Ok(Self::List);
        }
        let key = Key::from_path(path).map_err(|error| bad_request(error.to_string()))?;
        Ok(if read { Self::Read(key) } else { Self::Write(key) })
    }
}

/// One Host, and one at all since HTTP/1.1 (RFC 9112, section 3.2): hosts on the way must not
/// disagree on whom a request is for.
fn check_host(head: &request::Parts) -> Result<(), Box<Response<Body>>> {
    match head.headers.get_all(header::HOST).iter().count() {
        1 => Ok(()),
        0 if head.version < Version::HTTP_11 => Ok(()),
        0 => Err(bad_request("the Host field is missing".into())),
        _ => Err(bad_request("there is more than one Host field".into())),
    }
}

fn bad_request(message: String) -> Box<Response<Body>> {
    Box::new(response::text(StatusCode::BAD_REQUEST, message))
}

fn method_not_allowed(method: &Method) -> Response<Body> {
    let message = format!("{method} is not one of {ALLOWED}");
    allow(response::text(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// The answer to OPTIONS.
pub(super) fn options() -> Response<Body> {
    allow(response::empty(StatusCode::NO_CONTENT))
}

fn allow(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED));
    response
}

/// Names one request in the logs of every host that it passes.
#[derive(Clone, Copy)]
pub(super) struct RequestId {
    text: [u8; ID_BYTES_MAX],
    length: usize,
}

impl RequestId {
    /// The client's, if it is short and printable, or a new one.
    pub(super) fn of(given: Option<&[u8]>) -> Self {
        let short = |given: &&[u8]| {
            (1..=ID_BYTES_MAX).contains(&given.len()) && given.iter().all(u8::is_ascii_graphic)
        };
        let mut text = [0; ID_BYTES_MAX];
        let length = match given.filter(short) {
            Some(given) => {
                text[..given.len()].copy_from_slice(given);
                given.len()
            }
            None => {
                let number = next_number();
                for (at, digit) in text[..NEW_ID_DIGITS].iter_mut().enumerate() {
                    *digit = b"0123456789abcdef"[(number >> (4 * at) & 0xf) as usize];
                }
                NEW_ID_DIGITS
            }
        };
        Self { text, length }
    }

    /// As bytes of printable ASCII.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// As text, for logs.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).expect("it is ASCII")
    }

    /// As a field's value.
    pub(super) fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.bytes()).expect("it is printable")
    }
}

/// Another number for each call in this process, and hardly one of another process's.
fn next_number() -> u64 {
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(rand::random());
    }
    // An odd step comes back to a number only after all others.
    NEXT.replace(NEXT.get().wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// How the body of a relayed request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body, and no word about it.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks: the client does not know the length either.
    Chunked,
}

impl Framing {
    /// That of a body which may be empty.
    pub(super) fn of(body: &RequestBody) -> Self {
        body.size_hint().exact().map_or(Self::Chunked, Self::Length)
    }
}

/// The head of a request to a storage node, as it is being written.
pub(super) struct HeadWriter(Vec<u8>);

impl HeadWriter {
    /// Starts with the request line and what every request has. An object's query has no meaning:
    /// `target` is a path, or the root's with the query of a listing.
    pub(super) fn new(method: &str, target: &str, host: Option<&[u8]>, id: &RequestId) -> Self {
        let mut text = Vec::with_capacity(HEAD_BYTES);
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        let mut head = Self(text);
        head.field("host", host.unwrap_or(b"storage"));
        head.field(REQUEST_ID, id.bytes());
        head
    }

    /// Goes on after what a head has that begins with `start`.
    pub(super) fn resume(start: &[u8]) -> Self {
        Self(start.to_vec())
    }

    /// Writes a field.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        fields::write(&mut self.0, name, value);
    }

    /// Writes the client's fields that are relayed.
    pub(super) fn relay<'f>(
        &mut self,
        fields: impl Iterator<Item = (&'f str, &'f [u8])>,
        options: &ConnectionOptions,
    ) {
        fields::write_relayed(fields, options, &mut self.0);
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The head.
    pub(super) fn finish(mut self) -> Bytes {
        self.0.extend_from_slice(b"\r\n");
        self.0.into()
    }
}

/// A read, ready to be sent to a replica.
pub(super) struct ReadRequest {
    pub(super) partition: PartitionIndex,
    /// It is a HEAD.
    pub(super) to_head: bool,
    /// What a storage node gets.
    pub(super) head: Bytes,
    /// Bytes of the head that any request for the same object begins with.
    pub(super) start_bytes: usize,
    pub(super) id: RequestId,
    /// A body may be too long to come here: then the node that has it says so instead.
    pub(super) asks_for_size: bool,
}

/// What is read.
pub(super) struct Wanted<'a> {
    pub(super) partition: PartitionIndex,
    /// Its head only.
    pub(super) to_head: bool,
    pub(super) path: &'a str,
    pub(super) host: Option<&'a [u8]>,
    /// The node that has a longer body says so instead of sending it.
    pub(super) relay_bytes_max: Option<u64>,
}

impl ReadRequest {
    /// A read with the client's fields.
    pub(super) fn new<'f>(
        wanted: &Wanted<'_>,
        fields: impl Iterator<Item = (&'f str, &'f [u8])>,
        options: &ConnectionOptions,
        id: RequestId,
    ) -> Self {
        let Wanted { partition, to_head, path, host, relay_bytes_max } = *wanted;
        let mut head = HeadWriter::new(if to_head { "HEAD" } else { "GET" }, path, host, &id);
        let start_bytes = head.len();
        head.relay(fields, options);
        let relay_bytes_max = relay_bytes_max.filter(|_| !to_head);
        if let Some(bytes_max) = relay_bytes_max {
            head.field(RELAY_MAX_HEADER.as_str(), bytes_max.to_string().as_bytes());
        }
        let asks_for_size = relay_bytes_max.is_some();
        Self { partition, to_head, head: head.finish(), start_bytes, id, asks_for_size }
    }

    /// A read as hyper has parsed it.
    pub(super) fn of(partition: PartitionIndex, head: &request::Parts, id: RequestId) -> Self {
        let to_head = head.method == Method::HEAD;
        let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
        let options = ConnectionOptions::of(&head.headers);
        let (path, relay_bytes_max) = (head.uri.path(), None);
        let wanted = Wanted { partition, to_head, path, host, relay_bytes_max };
        Self::new(&wanted, pairs(&head.headers), &options, id)
    }

    /// The path, for logs.
    pub(super) fn path(&self) -> &str {
        let line = self.head.split(|byte| *byte == b' ').nth(1);
        line.and_then(|path| std::str::from_utf8(path).ok()).unwrap_or_default()
    }
}

/// The head of a client's write as a storage node gets it.
pub(super) fn write_head(
    head: &request::Parts,
    id: &RequestId,
    framing: Framing,
    expects_continue: bool,
) -> Bytes {
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let mut text = HeadWriter::new(head.method.as_str(), head.uri.path(), host, id);
    text.relay(pairs(&head.headers), &ConnectionOptions::of(&head.headers));
    match framing {
        Framing::None => {}
        Framing::Length(length) => text.field("content-length", length.to_string().as_bytes()),
        Framing::Chunked => text.field("transfer-encoding", b"chunked"),
    }
    if expects_continue {
        text.field("expect", b"100-continue");
    }
    text.finish()
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::Request;
    use std::collections::HashSet;

    fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn target(method: &str, path: &str) -> Result<Target, u16> {
        let head = head(method, path, &[("host", "a")]);
        Target::of(&head, false).map_err(|response| response.status().as_u16())
    }

    #[test]
    fn method_and_path_give_the_target() {
        let key = Key::new("a/b c").unwrap();
        assert_eq!(target("GET", "/a/b%20c?x=y"), Ok(Target::Read(key.clone())));
        assert_eq!(target("HEAD", "http://host/a/b%20c"), Ok(Target::Read(key.clone())));
        assert_eq!(target("PUT", "/a/b%20c"), Ok(Target::Write(key.clone())));
        assert_eq!(target("DELETE", "/a/b%20c"), Ok(Target::Write(key)));
        assert_eq!(target("GET", "/?prefix=a"), Ok(Target::List));
        assert_eq!(target("OPTIONS", "*"), Ok(Target::Options));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (method, path, status) in [
            ("POST", "/a", 405),
            ("TRACE", "/a", 405),
            ("BREW", "/a", 405),
            ("CONNECT", "host:1", 405),
            ("PUT", "/", 400),
            ("GET", "/%ff", 400),
            ("GET", "/%00", 400),
        ] {
            assert_eq!(target(method, path), Err(status), "{method} {path}");
        }
        let too_long = format!("/{}", "a".repeat(1025));
        assert_eq!(target("GET", &too_long), Err(400));
        let refused = Target::of(&head("POST", "/", &[("host", "a")]), false).unwrap_err();
        assert_eq!(refused.headers()[header::ALLOW], ALLOWED);
        assert!(Target::of(&head("GET", "/a", &[("host", "a")]), true).is_err());
    }

    #[test]
    fn there_is_one_host() {
        let twice = head("GET", "/a", &[("host", "a"), ("host", "a")]);
        assert_eq!(Target::of(&twice, false).unwrap_err().status(), 400);
        let mut none = head("GET", "/a", &[]);
        assert_eq!(Target::of(&none, false).unwrap_err().status(), 400);
        none.version = Version::HTTP_10;
        assert!(Target::of(&none, false).is_ok());
    }

    #[test]
    fn a_sensible_identifier_is_kept_and_others_are_replaced() {
        let id = |given: &str| RequestId::of(Some(given.as_bytes())).text().to_string();
        assert_eq!(id("abc-1"), "abc-1");
        for bad in ["", "a b", "é", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 16, "{bad}");
        }
        let many: HashSet<_> = (0..1000).map(|_| id("")).collect();
        assert_eq!(many.len(), 1000);
    }

    #[test]
    fn a_write_has_our_framing_and_no_query() {
        let put = head(
            "PUT",
            "/a%20b?versionId=1",
            &[("host", "h"), ("x-amz-meta-a", "b"), ("connection", "x-hop"), ("x-hop", "1")],
        );
        let id = RequestId::of(Some(b"id"));
        assert_eq!(
            write_head(&put, &id, Framing::Length(3), true),
            "PUT /a%20b HTTP/1.1\r\nhost: h\r\nx-ashlar-request-id: id\r\nx-amz-meta-a: b\r\n\
             content-length: 3\r\nexpect: 100-continue\r\n\r\n"
        );
        let chunked = write_head(&put, &id, Framing::Chunked, false);
        assert!(chunked.ends_with(b"transfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_read_can_be_asked_for_again_with_other_fields() {
        let get = head("GET", "/a?b", &[("host", "h"), ("range", "bytes=0-1")]);
        let read = ReadRequest::of(PartitionIndex(0), &get, RequestId::of(Some(b"id")));
        let start = "GET /a HTTP/1.1\r\nhost: h\r\nx-ashlar-request-id: id\r\n";
        assert_eq!(read.head, format!("{start}range: bytes=0-1\r\n\r\n"));
        assert_eq!(&read.head[..read.start_bytes], start.as_bytes());
        assert_eq!(read.path(), "/a");
    }
}
