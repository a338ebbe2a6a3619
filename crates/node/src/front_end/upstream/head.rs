//! The head of a storage node's response, and how its body ends.

use crate::front_end::fields::{self, ConnectionOptions, is_hop_by_hop};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use std::mem::MaybeUninit;

/// The longest head of a response.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most fields of a response's head.
const FIELDS_MAX: usize = 64;
/// The lines of most heads fit.
const LINES_BYTES: usize = 512;

/// The head of a response, without the fields that concern only the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// How the request went.
    pub(crate) status: StatusCode,
    /// The fields to relay, one line each.
    pub(crate) lines: Vec<u8>,
    /// Bytes of the body that follow.
    pub(crate) body_bytes: u64,
    /// Whether the connection can carry another request after the body.
    pub(super) keep_alive: bool,
}

/// Why a response cannot be relayed: its sender is no storage node or is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// Not HTTP/1.
    #[error("the response is malformed: {0}")]
    Malformed(#[from] httparse::Error),
    /// The head does not end.
    #[error("the response's head exceeds {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// The status is none.
    #[error("the response has no valid status")]
    Status,
    /// The body's length is missing, not a number or given twice. Storage nodes always know it.
    #[error("the response has no valid length")]
    Length,
}

/// Reads a response's head from the start of `bytes`, and gives its length in bytes; none if more
/// bytes must come first. `to_head` tells whether the request was a HEAD.
///
/// # Errors
/// When the response cannot be relayed.
pub(super) fn parse(
    bytes: &[u8],
    to_head: bool,
) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let head_bytes = match parsed? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial => return Err(HeadError::TooLong),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Status)?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let (options, length) = framing(response.headers)?;
    let mut lines = Vec::with_capacity(LINES_BYTES);
    for field in response.headers.iter() {
        if !is_hop_by_hop(field.name) && !options.names(field.name) {
            fields::write(&mut lines, field.name, field.value);
        }
    }
    let bodiless = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body_bytes = if bodiless { 0 } else { length.ok_or(HeadError::Length)? };
    let keep_alive = options.persists(version);
    Ok(Some((ResponseHead { status, lines, body_bytes, keep_alive }, head_bytes)))
}

/// What the fields say about the connection and the body's length; no length if the body is framed
/// in a way that storage nodes do not use.
fn framing(fields: &[httparse::Header<'_>]) -> Result<(ConnectionOptions, Option<u64>), HeadError> {
    let mut options = ConnectionOptions::default();
    let (mut length, mut coded) = (None, false);
    for field in fields {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => options.add(field.value),
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let number = number(field.value).ok_or(HeadError::Length)?;
                if length.replace(number).is_some() {
                    return Err(HeadError::Length);
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => coded = true,
            _ => {}
        }
    }
    Ok((options, length.filter(|_| !coded)))
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl ResponseHead {
    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }

    /// The fields as a map.
    pub(crate) fn headers(&self) -> HeaderMap {
        let field = |(name, value): (&str, &[u8])| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        self.fields().filter_map(field).collect()
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Names and values hold no line breaks, and names no colon: that is how they were parsed.
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
    }
}

#[cfg(test)]
impl ResponseHead {
    /// The head of a whole response.
    pub(crate) fn of_text(text: &str) -> Self {
        let parsed = parse(text.as_bytes(), false).expect("the test gives a good response");
        parsed.expect("the test gives a whole head").0
    }
}

/// For the fuzzer: what is read of the first `cut` bytes agrees with what is read of all.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_response_head(bytes: &[u8], cut: usize, to_head: bool) {
    let part = parse(&bytes[..cut.min(bytes.len())], to_head);
    let whole = parse(bytes, to_head);
    match part {
        Ok(None) | Err(HeadError::TooLong) => {}
        part => assert_eq!(part, whole),
    }
    if let Ok(Some((head, head_bytes))) = whole {
        assert!(head_bytes <= bytes.len());
        assert!(!head.headers().keys().any(|name| is_hop_by_hop(name.as_str())));
        let lines = head.lines.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(head.fields().count(), lines);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, to_head: bool) -> Result<Option<(ResponseHead, usize)>, HeadError> {
        parse(text.as_bytes(), to_head)
    }

    #[test]
    fn a_head_gives_its_fields_and_the_length_of_its_body() {
        let text = "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: 3\r\n\
                    Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nabc";
        let (head, head_bytes) = read(text, false).unwrap().unwrap();
        assert_eq!(&text[head_bytes..], "abc");
        assert_eq!((head.status.as_u16(), head.body_bytes, head.keep_alive), (206, 3, true));
        assert_eq!(head.lines, b"ETag: \"a\"\r\nContent-Length: 3\r\n");
        assert_eq!(head.field("etag"), Some(&b"\"a\""[..]));
        assert_eq!(head.field("x-hop"), None);
        let headers = head.headers();
        assert_eq!((headers.len(), headers["etag"].as_bytes()), (2, &b"\"a\""[..]));
    }

    #[test]
    fn some_responses_have_no_body_whatever_their_length_says() {
        for (text, to_head) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 100 Continue\r\n\r\n", false),
        ] {
            assert_eq!(read(text, to_head).unwrap().unwrap().0.body_bytes, 0, "{text}");
        }
    }

    #[test]
    fn the_connection_ends_when_the_head_says_so() {
        for (line, keep_alive) in [
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.1 200 OK\r\nconnection: close", false),
            ("HTTP/1.0 200 OK", false),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive", true),
        ] {
            let text = format!("{line}\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(read(&text, false).unwrap().unwrap().0.keep_alive, keep_alive, "{line}");
        }
    }

    #[test]
    fn responses_that_cannot_be_framed_are_refused() {
        for fields in [
            "",
            "content-length: \r\n",
            "content-length: +1\r\n",
            "content-length: 1, 1\r\n",
            "content-length: 18446744073709551616\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "transfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert_eq!(read(&text, false), Err(HeadError::Length), "{fields:?}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused_and_a_head_without_end_as_well() {
        assert!(matches!(read("SSH-2.0-OpenSSH\r\n", false), Err(HeadError::Malformed(_))));
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(&endless, false), Err(HeadError::TooLong));
        assert_eq!(read(&endless[..100], false), Ok(None));
    }

    proptest! {
        /// However a response is cut, its head is read once it is whole, and always the same.
        #[test]
        fn a_head_is_incomplete_until_it_is_whole(length in any::<u64>(), value in "[ -~]{0,40}") {
            let value = value.trim();
            let text = format!("HTTP/1.1 200 OK\r\na: {value}\r\ncontent-length: {length}\r\n\r\n");
            for cut in 0..text.len() {
                prop_assert_eq!(read(&text[..cut], false), Ok(None));
            }
            let (head, head_bytes) = read(&(text.clone() + "rest"), false).unwrap().unwrap();
            prop_assert_eq!((head.body_bytes, head_bytes), (length, text.len()));
            prop_assert_eq!(head.field("a"), Some(value.as_bytes()));
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, false);
        }
    }
}
