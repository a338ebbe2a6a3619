#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

/// Feeds `bytes` in the given segments; the response, the body, and the bytes fed when it ended.
fn parse(segments: &[&[u8]]) -> Result<(Option<Response>, Vec<u8>), Malformed> {
    let mut parser = ResponseParser::new();
    let mut body = Vec::new();
    let mut response = None;
    for segment in segments {
        assert!(response.is_none(), "no segment follows a complete response");
        response = parser.feed(segment, |bytes| body.extend_from_slice(bytes))?;
    }
    Ok((response, body))
}

fn parse_one(bytes: &[u8]) -> Result<Option<Response>, Malformed> {
    parse(&[bytes]).map(|(response, _)| response)
}

#[test]
fn a_response_with_a_length_ends_after_it() {
    let (response, body) = parse(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]).unwrap();
    assert_eq!(body, b"hello");
    let expected = Response { status: 200, body_bytes: 5, keep_alive: true };
    assert_eq!(response, Some(expected));
}

#[test]
fn a_parser_serves_every_response_of_a_connection() {
    let mut parser = ResponseParser::new();
    for body_bytes in [3, 0, 7] {
        parser.start();
        assert!(parser.is_untouched());
        let body = vec![b'x'; body_bytes];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n");
        let response = parser.feed(&[head.as_bytes(), &body].concat(), |_| {}).unwrap();
        assert_eq!(response.unwrap().body_bytes, body_bytes as u64);
    }
}

#[test]
fn a_chunked_body_is_counted_without_its_framing() {
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;name=value\r\nhello\r\n6 \r\n world\r\n0\r\nTrailer: 1\r\n\r\n";
    let (response, body) = parse(&[text]).unwrap();
    assert_eq!(body, b"hello world");
    assert_eq!(response.unwrap().body_bytes, 11);
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let mut parser = ResponseParser::new();
    assert_eq!(parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc", |_| {}), Ok(None));
    let response = parser.end_of_stream().unwrap();
    assert_eq!(response.body_bytes, 3);
    assert!(!response.keep_alive);
}

#[test]
fn the_connection_option_and_the_version_decide_about_keep_alive() {
    let keep_alive = |head: &str| {
        let text = format!("{head}Content-Length: 0\r\n\r\n");
        parse_one(text.as_bytes()).unwrap().unwrap().keep_alive
    };
    assert!(keep_alive("HTTP/1.1 200 OK\r\n"));
    assert!(!keep_alive("HTTP/1.1 200 OK\r\nConnection: close\r\n"));
    assert!(!keep_alive("HTTP/1.0 200 OK\r\n"));
    assert!(keep_alive("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"));
}

#[test]
fn interim_responses_are_passed_over() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(parse_one(text).unwrap().unwrap().status, 201);
}

#[test]
fn a_response_that_has_no_body_needs_no_length() {
    let text = b"HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(parse_one(text).unwrap().unwrap().body_bytes, 0);
}

#[test]
fn body_bytes_can_be_dropped_unseen() {
    let mut parser = ResponseParser::new();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab";
    assert_eq!(parser.feed(head, |_| {}), Ok(None));
    assert_eq!(parser.skippable_bytes(), 998);
    assert_eq!(parser.skip(900), None);
    assert_eq!(parser.skip(98).unwrap().body_bytes, 1000);
    assert_eq!(parser.skippable_bytes(), 0);
}

#[test]
fn what_is_not_one_response_is_refused() {
    let refused = |text: &[u8]| parse_one(text).unwrap_err();
    let with = |header: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").into_bytes();
    assert_eq!(refused(b"SSH-2.0-OpenSSH\r\n"), Malformed::Head);
    assert_eq!(refused(&with("Content-Length: 1x")), Malformed::ContentLength);
    assert_eq!(refused(&with("Content-Length: +1")), Malformed::ContentLength);
    assert_eq!(refused(&with("Content-Length: 1\r\nContent-Length: 2")), Malformed::ContentLength);
    assert_eq!(refused(&with("Transfer-Encoding: gzip")), Malformed::TransferEncoding);
    let both = "Content-Length: 1\r\nTransfer-Encoding: chunked";
    assert_eq!(refused(&with(both)), Malformed::ContentLength);
    assert_eq!(refused(&[with("Content-Length: 1"), b"ab".to_vec()].concat()), Malformed::Excess);
    let chunked = with("Transfer-Encoding: chunked");
    assert_eq!(refused(&[&chunked, b"x\r\n".as_slice()].concat()), Malformed::Chunk);
    assert_eq!(refused(&[&chunked, b"-1\r\n".as_slice()].concat()), Malformed::Chunk);
    assert_eq!(refused(&[&chunked, b"1\r\nabc\r\n".as_slice()].concat()), Malformed::Chunk);
}

#[test]
fn heads_are_bounded() {
    let many_lines = "A: b\r\n".repeat(HEADERS_MAX + 1);
    let text = format!("HTTP/1.1 200 OK\r\n{many_lines}\r\n");
    assert_eq!(parse_one(text.as_bytes()), Err(Malformed::Head));

    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse_one(endless.as_bytes()), Err(Malformed::HeadTooLong));
    let halves = endless.as_bytes().split_at(endless.len() / 2);
    assert_eq!(parse(&[halves.0, halves.1]).unwrap_err(), Malformed::HeadTooLong);
}

#[test]
fn a_connection_must_not_end_inside_of_a_response() {
    for text in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"] {
        let mut parser = ResponseParser::new();
        assert_eq!(parser.feed(text.as_bytes(), |_| {}), Ok(None));
        assert_eq!(parser.end_of_stream(), Err(Malformed::Truncated));
    }
}

/// A response as text with its body, in one of the framings.
fn any_response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 0..2000);
    (body, 1usize..700, any::<bool>()).prop_map(|(body, chunk_bytes, chunked)| {
        let mut text = b"HTTP/1.1 200 OK\r\nServer: a\r\n".to_vec();
        if chunked {
            text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(chunk_bytes) {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
        } else {
            text.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            text.extend_from_slice(&body);
        }
        (text, body)
    })
}

proptest! {
    #[test]
    fn segmentation_does_not_matter(
        (text, body) in any_response(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let segments: Vec<&[u8]> = places.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        // Whole but for the last segment, which must be the one that completes it.
        let trimmed: Vec<&[u8]> = segments.into_iter().filter(|s| !s.is_empty()).collect();
        let (response, received) = parse(&trimmed).unwrap();
        prop_assert_eq!(response.unwrap().body_bytes, body.len() as u64);
        prop_assert_eq!(received, body);
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(
        segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..10),
        valid_head in any::<bool>(),
    ) {
        let mut parser = ResponseParser::new();
        if valid_head {
            parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", |_| {}).unwrap();
        }
        for segment in &segments {
            match parser.feed(segment, |_| {}) {
                Ok(None) => {}
                Ok(Some(_)) => parser.start(),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn a_damaged_response_is_answered_without_a_panic(
        (mut text, _) in any_response(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let index = place.index(text.len());
        text[index] = byte;
        let mut parser = ResponseParser::new();
        for segment in text.chunks(13) {
            if !matches!(parser.feed(segment, |_| {}), Ok(None)) {
                break;
            }
        }
    }
}
