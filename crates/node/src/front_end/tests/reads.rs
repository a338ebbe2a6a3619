//! Reads: spread over replicas, retried, continued, streamed.

use super::{
    fake_node::{cut_after, serve_object},
    *,
};
use std::cell::RefCell;

#[test]
fn reads_are_spread_over_the_chain_and_tell_the_node_what_the_client_said() {
    let stack = Stack::new(3, answer_with_name);
    stack.wait_until_up();
    let mut client = stack.client();
    for _ in 0..30 {
        client.send(
            "GET /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\nConnection: X-Hop\r\n\
             X-Hop: 1\r\nX-Ashlar-Partitions: 3\r\nX-Ashlar-Request-Id: my-id\r\n\r\n",
        );
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "here\n"));
        assert_eq!(response.field("x-ashlar-request-id"), Some("my-id"));
    }
    let mut total = 0;
    for node in &stack.nodes {
        let seen = node.seen();
        assert!(!seen.is_empty(), "a node got nothing");
        total += seen.len();
        for request in seen {
            assert_eq!((&*request.method, &*request.target), ("GET", "/a%20b"));
            assert_eq!(request.field("host"), Some("h"));
            assert_eq!(request.field("range"), Some("bytes=0-1"));
            assert_eq!(request.field("x-ashlar-request-id"), Some("my-id"));
            for gone in ["x-hop", "connection", "x-ashlar-partitions"] {
                assert_eq!(request.field(gone), None);
            }
        }
    }
    assert_eq!(total, 30);
}

#[test]
fn only_replicas_of_the_key_are_asked() {
    let nodes: Vec<_> =
        (0..4).map(|n| FakeNode::start(move |seen| answer_with_name(n, seen))).collect();
    let config = config(&nodes, 2, "http = \"127.0.0.1:0\"", "");
    let stack = Stack::start(config, nodes);
    let mut client = stack.client();
    for number in 0..40 {
        let key = format!("key-{number}");
        let response = client.get(&format!("/{key}"));
        let node: usize = response.field("x-node").unwrap().parse().unwrap();
        assert!(stack.chain_of(&key).contains(&node));
    }
}

#[test]
fn a_head_gives_the_length_without_the_body() {
    let stack = Stack::new(1, |_, seen| {
        assert_eq!(seen.method, "HEAD");
        Reply::Whole(b"HTTP/1.1 200 OK\r\netag: \"a\"\r\ncontent-length: 1000\r\n\r\n".to_vec())
    });
    let mut client = stack.client();
    for _ in 0..2 {
        let response = client.request("HEAD", "/a");
        assert_eq!(response.field("content-length"), Some("1000"));
        assert_eq!(response.field("etag"), Some("\"a\""));
    }
    assert_eq!(stack.nodes[0].seen().len(), 2);
}

#[test]
fn what_a_storage_node_says_comes_through() {
    for status in [206, 304, 404, 412, 416] {
        let node = FakeNode::start(move |_| {
            Reply::Whole(response(
                status,
                &[("etag", "\"e\""), ("connection", "x-hop"), ("x-hop", "1")],
                b"",
            ))
        });
        let stack = Stack::with("", vec![node]);
        let response = stack.client().get("/a");
        assert_eq!((response.status, response.field("etag")), (status, Some("\"e\"")));
        assert_eq!(response.field("x-hop"), None);
    }
}

#[test]
fn a_read_goes_on_to_the_next_replica_until_one_answers() {
    let stack = Stack::new(4, |node, seen| match node {
        0 => Reply::Whole(response(503, &[], b"unavailable\n")),
        1 => Reply::Cut(Vec::new()),
        2 => Reply::Cut(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        _ => answer_with_name(node, seen),
    });
    let client = RefCell::new(stack.client());
    wait_for("every kind of failure", || {
        let response = client.borrow_mut().get("/a");
        assert_eq!((response.status, response.field("x-node")), (200, Some("3")));
        let failed = |node: usize, kind: &str| {
            let labels = format!("{{storage=\"s{node}\",kind=\"{kind}\"}}");
            stack.count(&format!("upstream_failures_total{labels}")) > 0
        };
        failed(0, "refused") && failed(1, "closed") && failed(2, "protocol")
    });
    assert!(stack.count("read_retries_total") > 0);
}

#[test]
fn each_replica_is_tried_at_most_once() {
    let stack = Stack::new(3, |_, _| Reply::Whole(response(503, &[], b"not now\n")));
    let response = stack.client().get("/a");
    assert_eq!((response.status, response.text()), (503, "not now\n"));
    assert!(stack.nodes.iter().all(|node| node.seen().len() == 1));
}

#[test]
fn a_node_that_is_gone_is_not_asked_and_comes_back() {
    let mut stack = Stack::new(2, answer_with_name);
    stack.wait_until_up();
    let gone = stack.nodes.remove(0);
    let address = gone.address;
    drop(gone);
    let mut client = stack.client();
    for _ in 0..10 {
        assert_eq!(client.get("/a").field("x-node"), Some("1"));
    }
    stack.wait_for_nodes_up(1);
    stack.nodes.insert(0, FakeNode::start_at(address, |seen| answer_with_name(0, seen)));
    stack.wait_until_up();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..10 {
        names.insert(client.get("/a").field("x-node").unwrap().to_string());
    }
    assert_eq!(names.len(), 2);
}

#[test]
fn without_a_replica_there_is_an_answer_at_once() {
    let mut stack = Stack::new(2, answer_with_name);
    stack.nodes.clear();
    stack.wait_for_nodes_up(0);
    let mut client = stack.client();
    for method in ["GET", "HEAD"] {
        let response = client.request(method, "/a");
        assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    }
    let problem = stack.started.health.ready().unwrap_err();
    assert!(problem.starts_with("no replica answers for 16 of 16 partitions"), "{problem}");
}

#[test]
fn a_connection_is_used_again_and_a_stale_one_replaced() {
    let stack = Stack::new(1, answer_with_name);
    stack.wait_until_up();
    let mut client = stack.client();
    for _ in 0..10 {
        client.get("/a");
    }
    let used: std::collections::BTreeSet<_> =
        stack.nodes[0].seen().iter().map(|seen| seen.connection).collect();
    assert!(used.len() <= 2, "{used:?}");
    for _ in 0..5 {
        stack.nodes[0].close_connections();
        assert_eq!(client.get("/a").status, 200);
    }
}

#[test]
fn a_body_that_breaks_off_goes_on_from_another_replica() {
    let stack = Stack::new(3, |_, seen| {
        let object = pattern(3_000_000);
        let whole = serve_object(seen, "\"tag\"", &object);
        match seen.range() {
            // Every source breaks off, each later than the one before.
            None => cut_after(1_000_000, whole),
            Some((start, _)) if start < 2_000_000 => cut_after(1_000_000, whole),
            Some(_) => Reply::Whole(whole),
        }
    });
    let mut client = stack.client();
    let response = client.get("/a");
    assert_eq!(response.status, 200);
    assert!(response.body == pattern(3_000_000));
    assert_eq!(stack.count("bodies_resumed_total"), 2);
    let continued: Vec<_> = stack.nodes.iter().flat_map(FakeNode::seen).collect();
    let ranges: Vec<_> = continued.iter().filter_map(|seen| seen.field("range")).collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges.contains(&"bytes=1000000-2999999"), "{ranges:?}");
    assert!(
        continued
            .iter()
            .all(|seen| seen.range().is_none() || seen.field("if-match") == Some("\"tag\""))
    );
    assert_eq!(client.get("/a").status, 200, "the client's connection is intact");
}

#[test]
fn a_range_that_breaks_off_goes_on_within_the_range() {
    let stack = Stack::new(2, |_, seen| {
        let object = pattern(1_000_000);
        let part = serve_object(seen, "\"tag\"", &object);
        match seen.range() {
            Some((100, 900_100)) => cut_after(400_000, part),
            _ => Reply::Whole(part),
        }
    });
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\nRange: bytes=100-900099\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 206);
    assert!(response.body == pattern(1_000_000)[100..900_100]);
}

#[test]
fn a_body_whose_object_has_changed_is_cut_not_completed() {
    let stack = Stack::new(2, |node, seen| {
        let etag = if seen.range().is_some() { "\"new\"".into() } else { format!("\"{node}\"") };
        let whole = serve_object(seen, &etag, &pattern(500_000));
        if seen.range().is_none() { cut_after(300_000, whole) } else { Reply::Whole(whole) }
    });
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().field("content-length"), Some("500000"));
    let body = client.rest();
    assert!(body == pattern(500_000)[..body.len()]);
    assert!(body.len() <= 300_000, "{} bytes came", body.len());
}

#[test]
fn a_body_that_nobody_can_continue_is_cut() {
    let stack = Stack::new(1, |_, seen| {
        cut_after(200_000, serve_object(seen, "\"tag\"", &pattern(500_000)))
    });
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert!(client.rest().len() <= 200_000);
}

#[test]
fn a_body_is_given_up_after_a_few_breaks_in_a_row() {
    let stack =
        Stack::new(2, |_, seen| cut_after(1000, serve_object(seen, "\"tag\"", &pattern(500_000))));
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert!(client.rest().len() <= 4000);
    assert_eq!(stack.count("bodies_resumed_total"), 3);
}

#[test]
fn a_slow_reader_holds_back_the_storage_node() {
    const OBJECT_BYTES: usize = 64 << 20;
    let stack = Stack::new(1, |_, seen| {
        Reply::Whole(serve_object(seen, "\"tag\"", &pattern(OBJECT_BYTES)))
    });
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    // The node stops when the sockets' buffers and ours are full, long before the object's end.
    let sent_bytes = settled("the node to be held back", || stack.nodes[0].sent_bytes());
    assert!(sent_bytes < OBJECT_BYTES as u64 / 2, "{sent_bytes} bytes were taken");
    assert!(client.rest_of(OBJECT_BYTES) == pattern(OBJECT_BYTES));
    assert_eq!(stack.count("bodies_resumed_total"), 0);
}

#[test]
fn a_silent_replica_costs_one_time_out() {
    let stack = Stack::new(2, |node, seen| match node {
        0 => Reply::Silence,
        _ => answer_with_name(node, seen),
    });
    wait_for("both are used", || stack.count("storage_nodes_up") == 2);
    let mut client = stack.client();
    for _ in 0..2 {
        assert_eq!(client.get("/a").field("x-node"), Some("1"));
    }
    assert_eq!(stack.nodes[0].seen().len(), 1);
    assert_eq!(stack.count("upstream_failures_total{storage=\"s0\",kind=\"timed_out\"}"), 1);
}
