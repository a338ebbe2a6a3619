//! The head of a storage node's response, and how its body ends.

use crate::front_end::fields::{ConnectionOptions, is_hop_by_hop};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use std::mem::MaybeUninit;

/// The longest head of a response.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most fields of a response's head.
const FIELDS_MAX: usize = 64;

/// The head of a response, without the fields that concern only the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// How the request went.
    pub(crate) status: StatusCode,
    /// The fields to relay.
    pub(crate) headers: HeaderMap,
    /// Bytes of the body that follow.
    pub(crate) body_bytes: u64,
    /// Whether the connection can carry another request after the body.
    pub(crate) keep_alive: bool,
}

/// Why a response cannot be relayed: its sender is no storage node or is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// Not HTTP/1.
    #[error("the response is malformed: {0}")]
    Malformed(#[from] httparse::Error),
    /// The head does not end.
    #[error("the response's head exceeds {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// The status, or the name or value of a field.
    #[error("the response's head is invalid")]
    Invalid,
    /// The body's length is missing, not a number or given twice. Storage nodes always know it.
    #[error("the response has no valid length")]
    Length,
}

impl From<http::Error> for HeadError {
    fn from(_: http::Error) -> Self {
        Self::Invalid
    }
}

/// Reads a response's head from the start of `bytes`, and gives its length in bytes; none if more
/// bytes must come first. `to_head` tells whether the request was a HEAD.
///
/// # Errors
/// When the response cannot be relayed.
pub(crate) fn parse(
    bytes: &Bytes,
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
    let code = response.code.ok_or(HeadError::Invalid)?;
    let status = StatusCode::from_u16(code).map_err(http::Error::from)?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut relayed = Relayed::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(http::Error::from)?;
        // The value shares the memory that it was received into.
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        relayed.add(name, value.map_err(http::Error::from)?)?;
    }
    Ok(Some((relayed.finish(status, version, to_head)?, head_bytes)))
}

/// For the fuzzer: what is read of the first `cut` bytes agrees with what is read of all.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_response_head(bytes: &Bytes, cut: usize, to_head: bool) {
    let part = parse(&bytes.slice(..cut.min(bytes.len())), to_head);
    let whole = parse(bytes, to_head);
    match part {
        Ok(None) | Err(HeadError::TooLong) => {}
        part => assert_eq!(part, whole),
    }
    if let Ok(Some((head, head_bytes))) = whole {
        assert!(head_bytes <= bytes.len());
        assert!(!head.headers.keys().any(is_hop_by_hop));
    }
}

/// Collects the fields of a head.
struct Relayed {
    headers: HeaderMap,
    options: ConnectionOptions,
    length: Option<u64>,
    /// The body is framed in a way that storage nodes do not use.
    coded: bool,
}

impl Relayed {
    fn with_capacity(fields: usize) -> Self {
        Self {
            headers: HeaderMap::with_capacity(fields),
            options: ConnectionOptions::default(),
            length: None,
            coded: false,
        }
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadError> {
        match name {
            header::CONNECTION => self.options.add(&value),
            header::TRANSFER_ENCODING => self.coded = true,
            header::CONTENT_LENGTH => {
                let length = length(value.as_bytes()).ok_or(HeadError::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(HeadError::Length);
                }
                self.headers.insert(name, value);
            }
            name if is_hop_by_hop(&name) => {}
            name => {
                self.headers.append(name, value);
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        status: StatusCode,
        version: Version,
        to_head: bool,
    ) -> Result<ResponseHead, HeadError> {
        for name in &self.options.named {
            self.headers.remove(name);
        }
        let bodiless = to_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body_bytes = match (bodiless, self.coded, self.length) {
            (true, _, _) => 0,
            (false, false, Some(length)) => length,
            (false, _, _) => return Err(HeadError::Length),
        };
        let keep_alive = self.options.persists(version);
        Ok(ResponseHead { status, headers: self.headers, body_bytes, keep_alive })
    }
}

/// A Content-Length: digits and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, to_head: bool) -> Result<Option<(ResponseHead, usize)>, HeadError> {
        parse(&Bytes::copy_from_slice(text.as_bytes()), to_head)
    }

    #[test]
    fn a_head_gives_its_fields_and_the_length_of_its_body() {
        let text = "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: 3\r\n\
                    Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nabc";
        let (head, head_bytes) = read(text, false).unwrap().unwrap();
        assert_eq!(&text[head_bytes..], "abc");
        assert_eq!((head.status.as_u16(), head.body_bytes, head.keep_alive), (206, 3, true));
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["etag", "content-length"]);
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
            let error = read(&text, false).unwrap_err();
            assert!(
                matches!(error, HeadError::Length | HeadError::Invalid),
                "{fields:?} gave {error:?}"
            );
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
            prop_assert_eq!(head.headers["a"].as_bytes(), value.as_bytes());
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Bytes::from(bytes), false);
        }
    }
}
