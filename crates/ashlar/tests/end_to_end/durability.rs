//! What was acknowledged is there after `kill -9`.

use crate::harness::{Store, content, tag};

#[test]
fn a_large_object_survives_a_crash_byte_for_byte() {
    let store = Store::start();
    let bytes = content(6, 64 << 20);
    let file = store.file("large", &bytes);
    let put = store.curl("/large").with(["-T", file.to_str().unwrap()]).run();
    assert_eq!((put.status, put.field("etag")), (201, &*tag(&bytes)));

    let store = store.crash_and_restart();
    let got = store.curl("/large").run();
    assert_eq!((got.status, got.field("etag")), (200, &*tag(&bytes)));
    assert!(got.body == bytes, "the bytes are others");
}

#[test]
fn every_acknowledged_change_survives_a_crash() {
    let store = Store::start();
    for number in 0..50 {
        let path = format!("/k/{number}");
        assert_eq!(store.curl(&path).put(format!("first {number}")).run().status, 201);
        match number % 3 {
            0 => assert_eq!(store.curl(&path).method("DELETE").run().status, 204),
            1 => assert_eq!(store.curl(&path).put(format!("second {number}")).run().status, 200),
            _ => {}
        }
    }
    let before = store.curl("/").run();

    let store = store.crash_and_restart();
    assert_eq!(store.curl("/").run().json(), before.json());
    for number in 0..50 {
        let reply = store.curl(&format!("/k/{number}")).run();
        match number % 3 {
            0 => assert_eq!(reply.status, 404),
            1 => assert_eq!(reply.text(), format!("second {number}")),
            _ => assert_eq!(reply.text(), format!("first {number}")),
        }
    }
    // And the store goes on.
    let etag = tag(b"second 1");
    let put = store.curl("/k/1").put("third").header(&format!("If-Match: {etag}")).run();
    assert_eq!(put.status, 200);
}

#[test]
fn a_crash_in_the_middle_of_an_upload_leaves_the_old_object() {
    let store = Store::start();
    let old = content(7, 100_000);
    store.curl("/a").put(old.clone()).run();
    let mut wire = store.wire();
    wire.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
    wire.send(content(8, 4_000_000));

    let store = store.crash_and_restart();
    assert!(store.curl("/a").run().body == old);
    assert_eq!(store.curl("/a").put("new").run().status, 200);
}
