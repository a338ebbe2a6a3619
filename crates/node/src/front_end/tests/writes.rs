//! Writes: to the head, streamed, and what their failure means.

use super::*;
use std::{
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

#[test]
fn writes_go_to_the_head_of_the_chain() {
    let stack = Stack::new(3, take_and_answer);
    let mut client = stack.client();
    for number in 0..20 {
        let (key, body) = (format!("key-{number}"), format!("value {number}"));
        let head = stack.head_of(&key).to_string();
        let response = client.put(&format!("/{key}"), body.as_bytes());
        assert_eq!((response.status, response.field("x-node")), (200, Some(&*head)));
        let response = client.request("DELETE", &format!("/{key}"));
        assert_eq!((response.status, response.field("x-node")), (200, Some(&*head)));
    }
    for request in stack.nodes.iter().flat_map(FakeNode::seen) {
        let number = request.target.strip_prefix("/key-").unwrap();
        if request.method == "PUT" {
            assert_eq!(request.body.unwrap(), format!("value {number}").as_bytes());
            assert_eq!(
                request.fields["content-length"],
                format!("value {number}").len().to_string()
            );
        } else {
            assert_eq!(request.fields.get("content-length"), None);
        }
    }
}

#[test]
fn empty_and_chunked_bodies_arrive_as_they_are() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    assert_eq!(client.put("/empty", b"").status, 200);
    client.send("PUT /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n");
    client.send("4;extension\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen = stack.nodes[0].seen();
    assert_eq!(seen[0].field("content-length"), Some("0"));
    assert_eq!(
        (seen[1].field("transfer-encoding"), seen[1].field("content-length")),
        (Some("chunked"), None)
    );
    assert_eq!(seen[1].body.as_deref(), Some(&b"abcdefg"[..]));
}

#[test]
fn a_large_body_is_streamed() {
    let stack = Stack::new(1, take_and_answer);
    let body = pattern(20_000_000);
    assert_eq!(stack.client().put("/a", &body).status, 200);
    assert!(stack.nodes[0].seen()[0].body.as_ref().unwrap() == &body);
}

#[test]
fn a_storage_node_that_does_not_read_holds_back_the_client() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let node = FakeNode::start(move |seen| {
        if seen.body.is_none() {
            wait.lock().unwrap().recv().unwrap();
            return Reply::TakeBody;
        }
        answer_with_name(0, seen)
    });
    let stack = Stack::with("", vec![node]);
    const BODY_BYTES: usize = 64 << 20;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let mut client = stack.client();
    let sender = thread::spawn(move || {
        client.send(format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
        for piece in pattern(BODY_BYTES).chunks(64 * 1024) {
            client.send(piece);
            counter.fetch_add(piece.len(), SeqCst);
        }
        client.response().status
    });
    let taken_bytes = settled("the client to be held back", || taken.load(SeqCst) as u64);
    assert!(taken_bytes < BODY_BYTES as u64 / 2, "{taken_bytes} bytes were taken");
    go.send(()).unwrap();
    assert_eq!(sender.join().unwrap(), 200);
    assert!(stack.nodes[0].seen()[0].body.as_ref().unwrap() == &pattern(BODY_BYTES));
}

#[test]
fn a_body_is_asked_for_only_when_the_storage_node_asks() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("abc");
    assert_eq!(client.response().status, 200);
    let seen = &stack.nodes[0].seen()[0];
    assert_eq!(
        (seen.field("expect"), seen.body.as_deref()),
        (Some("100-continue"), Some(&b"abc"[..]))
    );
}

#[test]
fn a_refused_body_is_never_sent() {
    let stack = Stack::new(1, |_, _| Reply::Whole(response(412, &[], b"there is one\n")));
    let mut client = stack.client();
    client.send(
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000000\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status, response.text()), (412, "there is one\n"));
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_anyway() {
    let stack = Stack::new(1, |_, _| Reply::Whole(response(507, &[], b"full\n")));
    let mut client = stack.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
    client.send(pattern(1_000_000));
    let response = client.response();
    assert_eq!((response.status, response.text()), (507, "full\n"));
}

#[test]
fn a_write_whose_head_is_down_is_refused_with_certainty() {
    // A head that never listened to this front end: over a connection that was kept, a request could be taken whole
    // by a node that has just gone, and nobody could tell.
    let nodes: Vec<_> =
        (0..2).map(|node| FakeNode::start(move |seen| take_and_answer(node, seen))).collect();
    let config = config(&nodes, 2, "http = \"127.0.0.1:0\"", "");
    let map = &config.cluster.map;
    let head = usize::from(map.chain(map.partition_of(&Key::new("a").unwrap()))[0].0);
    let address = nodes[head].address;
    let others = nodes.into_iter().enumerate().filter(|(node, _)| *node != head);
    let nodes = others.map(|(_, node)| node).collect();
    wait_for("the head to be gone", || TcpStream::connect(address).is_err());
    let stack = Stack::start(config, nodes);
    // Until a check or a request finds out, the connection is refused.
    for _ in 0..2 {
        let response = stack.client().put("/a", b"abc");
        assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    }
    wait_for("the head to be found down", || {
        stack.client().put("/a", b"abc").text().contains("the head of the key's chain, is down")
    });
}

#[test]
fn a_write_that_may_have_happened_is_reported_as_unknown_and_not_repeated() {
    let stack = Stack::new(1, |_, seen| match (&*seen.method, &seen.body) {
        ("PUT", None) => Reply::TakeBody,
        ("GET", _) => answer_with_name(0, seen),
        _ => Reply::Cut(Vec::new()),
    });
    let mut client = stack.client();
    // The second time over a connection that was used before.
    for _ in 0..2 {
        let response = client.put("/a", b"abc");
        assert_eq!(response.status, 504);
        assert!(
            response.text().contains("it is unknown whether s0 has written"),
            "{}",
            response.text()
        );
        assert_eq!(client.request("DELETE", "/a").status, 504);
        assert_eq!(client.get("/a").status, 200);
    }
    let writes = stack.nodes[0].seen().iter().filter(|seen| seen.method != "GET").count();
    assert_eq!(writes, 4);
}

#[test]
fn a_write_cut_in_the_middle_has_certainly_not_happened() {
    let stack = Stack::new(1, |_, _| Reply::Cut(Vec::new()));
    let mut client = stack.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client.send(pattern(1000));
    let response = client.response();
    assert_eq!(response.status, 503);
    assert!(response.text().starts_with("nothing was written: s0"), "{}", response.text());
}

#[test]
fn answers_of_the_storage_node_come_through() {
    for status in [201, 204, 412, 413, 503, 504] {
        let node = FakeNode::start(move |seen| {
            if seen.method == "PUT" && seen.body.is_none() {
                return Reply::TakeBody;
            }
            Reply::Whole(response(status, &[("retry-after", "9")], b""))
        });
        let stack = Stack::with("", vec![node]);
        let response = stack.client().put("/a", b"abc");
        assert_eq!((response.status, response.field("retry-after")), (status, Some("9")));
        assert_eq!(stack.nodes[0].seen().len(), 1);
    }
}

#[test]
fn a_client_that_stalls_in_its_body_is_told_and_cut() {
    let stack = Stack::limited("stall_timeout_ms = 50", 1, take_and_answer);
    let mut client = stack.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    assert_eq!(client.rest(), b"");
    assert!(stack.nodes[0].seen().is_empty());
}

#[test]
fn a_client_that_goes_away_in_its_body_writes_nothing() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    client.finish();
    client.rest();
    assert!(stack.nodes[0].seen().is_empty());
}

#[test]
fn a_refusal_of_an_upload_says_that_the_connection_ends_unless_its_body_was_read() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
    let response = client.response();
    assert!(response.status >= 400, "{}", response.status);
    assert_eq!(response.field("connection"), Some("close"));

    let mut client = stack.client();
    client.send("POST /read HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.field("connection")), (405, None));
    assert_eq!(client.put("/a", b"b").status, 200);
}
