//! SIGTERM: what is under way is finished, nothing new is taken, and the process exits with 0.

use crate::harness::{Curl, Store, Wire, content, eventually, tag};
use rustix::process::Signal;
use std::net::TcpStream;

/// Begins to PUT `/a`: the store has read the request and waits for the body.
fn begin_upload(store: &Store, length: usize) -> Wire {
    let mut upload = store.wire();
    upload.send(format!(
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(upload.reply().status, 100);
    upload
}

#[test]
fn requests_under_way_are_finished() {
    let mut store = Store::start();
    let large = content(9, 16 << 20);
    let file = store.file("large", &large);
    store.curl("/large").with(["-T", file.to_str().unwrap()]).run();

    let body = content(10, 1_000_000);
    let mut upload = begin_upload(&store, body.len());
    upload.send(&body[..500_000]);
    let mut download = store.wire();
    download.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = download.reply_head();
    assert_eq!((head.status, head.field("etag")), (200, &*tag(&large)));
    let mut idle = store.wire();
    idle.send("GET /missing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.reply().status, 404);

    store.process.signal(Signal::TERM);
    assert!(idle.is_ended(), "an idle connection ends");
    eventually("nothing new is taken", || TcpStream::connect(store.address()).err());
    assert!(store.process.is_running());

    upload.send(&body[500_000..]);
    let reply = upload.reply();
    assert_eq!((reply.status, reply.field("etag")), (201, &*tag(&body)));
    assert!(download.exactly(large.len()) == large, "the download is whole");
    assert!(store.process.ended().success());
}

#[test]
fn a_draining_store_says_so() {
    let mut store = Store::start();
    let mut upload = begin_upload(&store, 6);
    upload.send("abc");
    let readyz = format!("{}/readyz", store.admin);
    store.process.signal(Signal::TERM);
    eventually("it is not ready", || {
        let reply = Curl::new(&readyz).run();
        (reply.status == 503 && reply.text().contains("draining")).then_some(())
    });
    upload.send("def");
    assert_eq!(upload.reply().status, 201);
    assert!(store.process.ended().success());
}

#[test]
fn an_idle_store_ends_at_once_and_keeps_its_data() {
    let mut store = Store::start();
    store.curl("/a").put("abc").run();
    store.process.signal(Signal::INT);
    assert!(store.process.ended().success());
    let store = store.restart();
    assert_eq!(store.curl("/a").run().text(), "abc");
}
