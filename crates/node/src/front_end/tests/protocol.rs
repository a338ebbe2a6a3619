//! HTTP as clients speak it, well and badly.

use super::*;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stack = Stack::new(2, |_, seen| Reply::Whole(response(200, &[], seen.target.as_bytes())));
    let mut client = stack.client();
    let requests: String =
        (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for number in 0..50 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
}

#[test]
fn simple_and_other_requests_are_answered_in_order_on_one_connection() {
    let stack = Stack::new(2, |_, seen| Reply::Whole(response(200, &[], seen.target.as_bytes())));
    let mut client = stack.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "/1");
    // The second request begins in the first piece; the third is not simple.
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HT");
    assert_eq!(client.response().text(), "/2");
    client.send("TP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    assert_eq!(client.response().text(), "/3");
    assert_eq!(client.response().text(), "/4");
    client.send("GET /5 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "/5");
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_otherwise() {
    let stack = Stack::new(1, answer_with_name);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "here\n"));
    client.send("GET /a HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "here\n");
    assert_eq!(client.rest(), b"");
    assert_eq!(stack.nodes[0].seen()[0].field("host"), Some("storage"));
}

#[test]
fn a_client_that_wants_the_connection_closed_gets_that() {
    let stack = Stack::new(1, answer_with_name);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_may_close_its_side_after_its_last_request() {
    let stack = Stack::new(1, answer_with_name);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish();
    assert_eq!(client.response().text(), "here\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn what_is_malformed_or_not_meant_for_us_is_refused() {
    let long_head = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let endless_head = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200_000));
    let many_fields = format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    let long_key = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "k".repeat(1025));
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
        ("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        ("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        ("TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (&*long_key, 400),
        (&*long_head, 431),
        (&*endless_head, 431),
        (&*many_fields, 431),
    ] {
        let stack = Stack::new(1, answer_with_name);
        let mut client = stack.client();
        client.send(request);
        let shown = &request[..request.len().min(60)];
        assert_eq!(client.response().status, status, "{shown:?}");
        assert!(stack.nodes[0].seen().is_empty(), "{shown:?} reached a storage node");
    }
}

#[test]
fn a_message_framed_in_two_ways_cannot_smuggle_another() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    client.send(
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let first = client.response();
    client.rest();
    let seen = stack.nodes[0].seen();
    if first.status == 200 {
        assert_eq!(seen[0].field("content-length"), None);
        assert_eq!(seen[0].body.as_deref(), Some(&b""[..]));
    }
    assert!(seen.iter().all(|request| request.method == "PUT" || request.target == "/smuggled"));
}

#[test]
fn methods_are_told() {
    let stack = Stack::new(1, answer_with_name);
    let mut client = stack.client();
    let allowed = "GET, HEAD, PUT, DELETE, OPTIONS";
    for target in ["*", "/a"] {
        let response = client.request("OPTIONS", target);
        assert_eq!((response.status, response.field("allow")), (204, Some(allowed)));
    }
    assert_eq!(client.request("PATCH", "/a").field("allow"), Some(allowed));
}

#[test]
fn requests_and_bytes_are_counted() {
    let stack = Stack::new(1, take_and_answer);
    let mut client = stack.client();
    client.get("/a");
    client.put("/a", &pattern(1000));
    client.request("POST", "/a");
    wait_for("the counts", || stack.count("http_request_duration_seconds_count") == 3);
    for (start, count) in [
        ("http_requests_total{method=\"get\",status=\"2xx\"}", 1),
        ("http_requests_total{method=\"put\",status=\"2xx\"}", 1),
        ("http_requests_total{method=\"other\",status=\"4xx\"}", 1),
        ("http_connections ", 1),
        ("http_connections_accepted_total", 1),
    ] {
        assert_eq!(stack.count(start), count, "{start}");
    }
    assert!(stack.count("http_received_bytes_total") > 1000);
    assert!(stack.count("http_sent_bytes_total") > 100);
}
