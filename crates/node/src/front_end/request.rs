//! What a client asks for, checked before anything is done about it.

use super::fields::{self, REQUEST_ID};
use crate::{
    body::{Body, RequestBody},
    response,
};
use ashlar_object::Key;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version, header, request};
use http_body::Body as _;
use std::cell::Cell;

/// The methods that an object has.
const ALLOWED: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
/// The longest request identifier that is taken from a client.
const ID_BYTES_MAX: usize = 64;
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
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's, if it is short and printable, or a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let short = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(short).cloned().map_or_else(Self::new, Self)
    }

    fn new() -> Self {
        thread_local! {
            static NEXT: Cell<u64> = Cell::new(rand::random());
        }
        // An odd step comes back to a number only after all others.
        let number = NEXT.replace(NEXT.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let digit = |at| b"0123456789abcdef"[(number >> (4 * at) & 0xf) as usize];
        let digits: [u8; 16] = std::array::from_fn(digit);
        Self(HeaderValue::from_bytes(&digits).expect("digits are printable"))
    }

    /// As a field's value.
    pub(super) fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// As text, for logs.
    pub(super) fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
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

/// The head of a client's request as a storage node gets it.
pub(super) fn relayed_head(
    head: &request::Parts,
    id: &RequestId,
    framing: Framing,
    expects_continue: bool,
) -> Bytes {
    let host = head.headers.get(header::HOST);
    let mut text = start(&head.method, &head.uri, host, id);
    fields::write_relayed(&head.headers, &mut text);
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            fields::write(&mut text, "content-length", length.to_string().as_bytes());
        }
        Framing::Chunked => fields::write(&mut text, "transfer-encoding", b"chunked"),
    }
    if expects_continue {
        fields::write(&mut text, "expect", b"100-continue");
    }
    end(text)
}

/// The head of a request of our own.
pub(super) fn own_head(
    uri: &Uri,
    host: Option<&HeaderValue>,
    id: &RequestId,
    fields: &[(&str, &[u8])],
) -> Bytes {
    let mut text = start(&Method::GET, uri, host, id);
    for (name, value) in fields {
        fields::write(&mut text, name, value);
    }
    end(text)
}

/// The request line up to the host. An object's query has no meaning, so it stays behind; the
/// root's is the listing.
fn start(method: &Method, uri: &Uri, host: Option<&HeaderValue>, id: &RequestId) -> Vec<u8> {
    let mut text = Vec::with_capacity(HEAD_BYTES);
    text.extend_from_slice(method.as_str().as_bytes());
    text.push(b' ');
    let target = match uri.path() {
        "/" => uri.path_and_query().map_or("/", |target| target.as_str()),
        path => path,
    };
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    fields::write(&mut text, "host", host.map_or(b"storage", HeaderValue::as_bytes));
    fields::write(&mut text, REQUEST_ID.as_str(), id.0.as_bytes());
    text
}

fn end(mut text: Vec<u8>) -> Bytes {
    text.extend_from_slice(b"\r\n");
    text.into()
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
        let id = |value: &str| {
            RequestId::of(&head("GET", "/", &[("x-ashlar-request-id", value)]).headers)
                .text()
                .to_string()
        };
        assert_eq!(id("abc-1"), "abc-1");
        for bad in ["", "a b", "é", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 16, "{bad}");
        }
        let many: HashSet<_> = (0..1000).map(|_| id("")).collect();
        assert_eq!(many.len(), 1000);
    }

    #[test]
    fn a_relayed_head_has_our_framing_and_no_query() {
        let put = head(
            "PUT",
            "/a%20b?versionId=1",
            &[("host", "h"), ("x-amz-meta-a", "b"), (REQUEST_ID.as_str(), "id")],
        );
        let id = RequestId::of(&put.headers);
        assert_eq!(
            relayed_head(&put, &id, Framing::Length(3), true),
            "PUT /a%20b HTTP/1.1\r\nhost: h\r\nx-ashlar-request-id: id\r\nx-amz-meta-a: b\r\n\
             content-length: 3\r\nexpect: 100-continue\r\n\r\n"
        );
        let chunked = relayed_head(&put, &id, Framing::Chunked, false);
        assert!(chunked.ends_with(b"transfer-encoding: chunked\r\n\r\n"));
    }
}
