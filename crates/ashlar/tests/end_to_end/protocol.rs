//! HTTP/1.1 and 1.0 byte for byte, where curl cannot go.

use crate::harness::{Store, content, tag};
use std::{thread, time::Duration};

#[test]
fn pipelined_requests_are_answered_in_order() {
    let store = Store::start();
    let mut wire = store.wire();
    wire.send(
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /missing HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /a HTTP/1.1\r\nHost: a\r\nRange: bytes=1-1\r\n\r\n\
         DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let replies: Vec<_> = (0..6).map(|_| wire.reply()).collect();
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [201, 200, 404, 206, 204, 404]);
    assert_eq!((replies[1].text(), replies[3].text()), ("abc".into(), "b".into()));
    assert!(wire.is_ended());
}

#[test]
fn a_connection_carries_many_requests_of_all_kinds() {
    let store = Store::start();
    let large = content(3, 200_000);
    let mut wire = store.wire();
    for round in 0..20 {
        let path = format!("/many/{round}");
        wire.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"));
        wire.send(&large);
        assert_eq!(wire.reply().status, 201);
        wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = wire.reply_head();
        assert_eq!((head.status, head.field("content-length")), (200, "200000"), "{path}");
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(wire.reply().body == large);
    }
}

#[test]
fn a_client_of_1_0_is_served_and_its_connection_ends() {
    let store = Store::start();
    store.curl("/a").put("abc").run();
    let mut wire = store.wire();
    wire.send("GET /a HTTP/1.0\r\n\r\n");
    let reply = wire.reply();
    assert_eq!((reply.status, &*reply.text(), reply.field("content-length")), (200, "abc", "3"));
    assert!(wire.is_ended());

    let mut wire = store.wire();
    for _ in 0..2 {
        wire.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(wire.reply().text(), "abc");
    }
}

#[test]
fn a_chunked_body_is_put_together() {
    let store = Store::start();
    let mut wire = store.wire();
    wire.send("PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send("3\r\nabc\r\n");
    wire.send("A;name=value\r\n0123456789\r\n");
    wire.send("0\r\nTrailer-Field: x\r\n\r\n");
    assert_eq!(wire.reply().status, 201);
    assert_eq!(store.curl("/a").run().text(), "abc0123456789");

    let large = content(4, 300_000);
    wire.send("PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in large.chunks(7777) {
        wire.send(format!("{:x}\r\n", chunk.len()));
        wire.send(chunk);
        wire.send("\r\n");
    }
    wire.send("0\r\n\r\n");
    assert_eq!(wire.reply().field("etag"), tag(&large));
    assert!(store.curl("/b").run().body == large);
}

#[test]
fn a_body_with_both_framings_is_taken_as_chunked_by_everybody() {
    let store = Store::start();
    let mut wire = store.wire();
    // RFC 9112, section 6.3: whoever went by the length would see other requests after it.
    wire.send(
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nabcde\r\n0\r\n\r\n",
    );
    assert_eq!(wire.reply().field("etag"), tag(b"abcde"));
    assert_eq!(store.curl("/a").run().text(), "abcde");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_or_not_to() {
    let store = Store::start();
    let ask = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut wire = store.wire();
    wire.send(ask("/a"));
    assert_eq!(wire.reply().status, 100);
    wire.send("abc");
    assert_eq!(wire.reply().status, 201);

    let mut wire = store.wire();
    wire.send(ask("/%ff"));
    assert_eq!(wire.reply().status, 400, "without a 100 before it");
}

#[test]
fn a_slow_client_is_waited_for() {
    const PIECES: usize = 16;
    let store = Store::start();
    let body = content(23, PIECES * 10);
    let upload = |number: usize| {
        let mut wire = store.wire();
        wire.send(format!(
            "PUT /slow/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        for piece in body.chunks(10) {
            // Longer, all together, than the store looks away from an idle connection.
            thread::sleep(Duration::from_millis(200));
            wire.send(piece);
        }
        assert_eq!(wire.reply().field("etag"), tag(&body));
    };
    thread::scope(|scope| {
        for number in 0..4 {
            let upload = &upload;
            scope.spawn(move || upload(number));
        }
    });
}

#[test]
fn a_body_that_breaks_off_leaves_the_old_object() {
    let store = Store::start();
    for (size, framing) in [
        (1000, "Content-Length: 1000"),
        (1_000_000, "Content-Length: 1000000"),
        (1000, "Transfer-Encoding: chunked"),
        (1_000_000, "Transfer-Encoding: chunked"),
    ] {
        store.curl("/a").put("old").run();
        let half = content(5, size / 2);
        let mut wire = store.wire();
        wire.send(format!("PUT /a HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        if framing.starts_with("Transfer") {
            wire.send(format!("{:x}\r\n", half.len()));
        }
        wire.send(&half);
        wire.close_sending();
        // Either a refusal or the end, but no success.
        assert!(wire.ends_without_success(), "{framing}");
        assert_eq!(store.curl("/a").run().text(), "old", "{framing}");
        let listed = store.curl("/").run().json();
        assert_eq!(listed["objects"][0]["size_bytes"], 3);
    }
}

#[test]
fn malformed_requests_are_refused_and_the_next_client_is_served() {
    let store = Store::start();
    store.curl("/a").put("abc").run();
    let long_line = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many_fields = format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: x\r\n".repeat(5000));
    let put =
        |fields: &str, body: &str| format!("PUT /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    for (request, statuses) in [
        ("GARBAGE\r\n\r\n".to_string(), &[400][..]),
        ("GET /a\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/3.0\r\nHost: a\r\n\r\n".into(), &[400, 505]),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\nHost : a\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n".into(), &[400]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n".into(), &[400]),
        (put("Content-Length: x", "xyz"), &[400]),
        (put("Content-Length: -1", "xyz"), &[400]),
        (put("Content-Length: +3", "xyz"), &[400]),
        (put("Content-Length: 99999999999999999999", "xyz"), &[400, 413]),
        (put("Content-Length: 3\r\nContent-Length: 4", "xyzx"), &[400]),
        (put("Transfer-Encoding: gzip", "xyz"), &[400, 501]),
        (put("Transfer-Encoding: chunked, gzip", "xyz"), &[400, 501]),
        (put("Transfer-Encoding: chunked", "zz\r\nxyz\r\n0\r\n\r\n"), &[400, 408]),
        (put("Transfer-Encoding: chunked", "3\r\nxyzzy\r\n0\r\n\r\n"), &[400, 408]),
        (long_line, &[431]),
        (many_fields, &[400, 431]),
    ] {
        let mut wire = store.wire();
        let shown: String = request.chars().take(100).collect();
        wire.send(request);
        let status = wire.reply().status;
        assert!(statuses.contains(&status), "{shown:?}: {status}");
        let after = store.curl("/a").run();
        assert_eq!((after.status, &*after.text()), (200, "abc"), "after {shown:?}");
    }
}
