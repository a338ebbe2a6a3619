//! Conditional requests (RFC 9110, section 13).

use crate::harness::{Store, tag};
use std::{sync::Barrier, thread};

/// Clients at a time.
const THREADS: usize = 6;

#[test]
fn a_reader_that_has_the_object_does_not_get_it_again() {
    let store = Store::start();
    store.curl("/a").put("abc").run();
    let got = store.curl("/a").run();
    let etag = got.field("etag");
    for (field, status) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-None-Match: \"x\", W/{etag}"), 304),
        ("If-None-Match: *".into(), 304),
        ("If-None-Match: \"x\"".into(), 200),
        (format!("If-Modified-Since: {}", got.field("last-modified")), 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".into(), 200),
        ("If-Modified-Since: yesterday".into(), 200),
        (format!("If-Match: {etag}"), 200),
        ("If-Match: \"x\"".into(), 412),
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT".into(), 412),
    ] {
        let reply = store.curl("/a").header(&field).run();
        assert_eq!(reply.status, status, "{field}");
        if status == 304 {
            assert_eq!((reply.field("etag"), &*reply.text()), (etag, ""), "{field}");
        }
    }
    assert_eq!(store.curl("/b").header("If-Match: *").run().status, 412);
    assert_eq!(store.curl("/b").header("If-None-Match: *").run().status, 404);
}

#[test]
fn a_write_whose_condition_fails_changes_nothing() {
    let store = Store::start();
    let put = |field: &str| store.curl("/a").put("new").header(field).run().status;
    assert_eq!(put("If-Match: *"), 412);
    assert_eq!(store.curl("/a").run().status, 404);

    store.curl("/a").put("old").run();
    assert_eq!(put("If-None-Match: *"), 412);
    assert_eq!(put("If-Match: \"x\""), 412);
    assert_eq!(put(&format!("If-Match: W/{}", tag(b"old"))), 412, "weak tags prove nothing");
    assert_eq!(put("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 412);
    let delete = store.curl("/a").method("DELETE").header("If-Match: \"x\"").run();
    assert_eq!(delete.status, 412);
    assert_eq!(store.curl("/a").run().text(), "old");

    assert_eq!(put(&format!("If-Match: \"x\", {}", tag(b"old"))), 200);
    let delete = store.curl("/a").method("DELETE").header(&format!("If-Match: {}", tag(b"new")));
    assert_eq!(delete.run().status, 204);
}

#[test]
fn exactly_one_of_many_creators_wins() {
    let store = Store::start();
    for round in 0..10 {
        let path = format!("/lock/{round}");
        let start = Barrier::new(THREADS);
        let create = |owner: usize| {
            let request = format!(
                "PUT {path} HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\n\
                 {owner}"
            );
            let mut wire = store.wire();
            start.wait();
            wire.send(request);
            wire.reply().status
        };
        let statuses: Vec<u16> = thread::scope(|scope| {
            let creators: Vec<_> =
                (0..THREADS).map(|owner| scope.spawn(move || create(owner))).collect();
            creators.into_iter().map(|creator| creator.join().unwrap()).collect()
        });
        let mut sorted = statuses.clone();
        sorted.sort_unstable();
        assert_eq!((sorted[0], &sorted[1..]), (201, &[412; THREADS - 1][..]));
        let winner = statuses.iter().position(|status| *status == 201).unwrap();
        assert_eq!(store.curl(&path).run().text(), winner.to_string());
    }
}

#[test]
fn a_counter_that_many_increment_loses_nothing() {
    const INCREMENTS: u32 = 15;
    let store = Store::start();
    store.curl("/counter").put("0").run();
    let increment_often = || {
        let mut wire = store.wire();
        for _ in 0..INCREMENTS {
            loop {
                wire.send("GET /counter HTTP/1.1\r\nHost: a\r\n\r\n");
                let read = wire.reply();
                let next = (read.text().parse::<u32>().unwrap() + 1).to_string();
                wire.send(format!(
                    "PUT /counter HTTP/1.1\r\nHost: a\r\nIf-Match: {}\r\nContent-Length: \
                     {}\r\n\r\n{next}",
                    read.field("etag"),
                    next.len(),
                ));
                match wire.reply().status {
                    200 => break,
                    412 => {}
                    status => panic!("status {status}"),
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(increment_often);
        }
    });
    let total = THREADS as u32 * INCREMENTS;
    assert_eq!(store.curl("/counter").run().text(), total.to_string());
}
