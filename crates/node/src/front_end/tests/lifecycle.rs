//! Slow clients, full houses, drains and certificates.

use super::*;
use client::stream;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    net::TcpStream,
    sync::{Arc, mpsc},
};

#[test]
fn a_client_that_is_slow_with_its_head_is_cut() {
    let stack = Stack::limited("header_timeout_ms = 50", 1, answer_with_name);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\n");
    assert_eq!(client.rest(), b"");
    assert_eq!(stack.count("http_connections_timed_out_total"), 1);
}

#[test]
fn a_client_that_is_slow_with_its_second_head_is_cut() {
    let limits = "header_timeout_ms = 50\nidle_timeout_ms = 600000";
    let stack = Stack::limited(limits, 1, answer_with_name);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /a HT");
    assert_eq!(client.response().status, 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_idle_connection_is_closed() {
    let stack = Stack::limited("idle_timeout_ms = 50", 1, answer_with_name);
    let mut client = stack.client();
    assert_eq!(client.get("/a").status, 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let stack = Stack::limited("stall_timeout_ms = 100", 1, |_, _| {
        Reply::Whole(response(200, &[], &pattern(64 << 20)))
    });
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the cut", || stack.count("http_connections_timed_out_total") == 1);
    wait_for("the end", || stack.count("http_connections ") == 0);
    client.head();
    assert!(client.rest().len() < 64 << 20);
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let stack = Stack::limited("connections_max = 2", 1, answer_with_name);
    let mut clients: Vec<_> = (0..2).map(|_| stack.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/a").status, 200));
    let mut waiting = stack.client();
    waiting.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the limit", || stack.count("http_connections_delayed_total") == 1);
    assert_eq!(stack.count("http_connections "), 2);
    clients.pop();
    assert_eq!(waiting.response().status, 200);
}

#[test]
fn a_drain_finishes_requests_under_way_and_closes_idle_connections() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (arrived, arrivals) = mpsc::channel();
    let node = FakeNode::start(move |seen| {
        if seen.target == "/slow" {
            arrived.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        answer_with_name(0, seen)
    });
    let mut stack = Stack::with("", vec![node]);
    let (mut idle, mut busy, fresh) = (stack.client(), stack.client(), stream(stack.address()));
    assert_eq!(idle.get("/a").status, 200);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    arrivals.recv().unwrap();
    wait_for("three connections", || stack.count("http_connections ") == 3);
    stack.trigger.drain();
    assert_eq!(idle.rest(), b"");
    assert_eq!(Client::over(fresh).rest(), b"");
    wait_for("the listener to close", || TcpStream::connect(stack.address()).is_err());
    go.send(()).unwrap();
    let response = busy.response();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(busy.rest(), b"");
    assert!(stack.drain());
}

#[test]
fn a_request_that_has_begun_when_the_drain_starts_is_answered() {
    for request in [
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let stack = Stack::new(1, take_and_answer);
        let mut client = stack.client();
        let (start, rest) = request.split_at(9);
        client.send(start);
        wait_for("the start", || stack.count("http_received_bytes_total") == 9);
        stack.trigger.drain();
        client.send(rest);
        let response = client.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let mut stack = Stack::limited("drain_timeout_ms = 50", 1, |_, _| Reply::Silence);
    let mut client = stack.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the request", || stack.nodes[0].seen().len() == 1);
    assert!(stack.drain());
    assert_eq!(client.rest(), b"");
}

#[test]
fn two_front_ends_do_not_share_a_port() {
    let stack = Stack::new(1, answer_with_name);
    let listen = format!("http = \"{}\"", stack.address());
    let second = config(&stack.nodes, 1, &listen, "");
    let threads = Threads::start("second", 1).unwrap();
    let (_trigger, shutdown) = ShutdownTrigger::new();
    let refused = start(&second, &threads, &shutdown, &mut metrics::registry());
    let error = refused.err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on {}", stack.address())), "{error}");
}

/// A front end with HTTPS and a self-signed certificate in `directory`.
fn https(directory: &Path) -> Stack {
    let nodes = vec![FakeNode::start(|seen| {
        if seen.target == "/large" {
            return Reply::Whole(response(200, &[], &pattern(5_000_000)));
        }
        take_and_answer(0, seen)
    })];
    let mut config = config(&nodes, 1, "http = \"127.0.0.1:0\"", "");
    config.data = Some(directory.into());
    config.front_end.as_mut().unwrap().https = Some("127.0.0.1:0".parse().unwrap());
    Stack::start(config, nodes)
}

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// A client that trusts the certificate in `directory` and no other.
fn tls_client(
    stack: &Stack,
    directory: &Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> TlsClient {
    let mut roots = RootCertStore::empty();
    let certificate = directory.join("tls/certificate.pem");
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    Client::over(StreamOwned::new(connection, stream(stack.started.https.unwrap())))
}

#[test]
fn https_works_with_a_self_signed_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let stack = https(directory.path());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client = tls_client(&stack, directory.path(), version);
        assert_eq!(client.get("/a").text(), "here\n");
        assert_eq!(client.put("/a", &pattern(1_000_000)).status, 200);
        assert!(client.get("/large").body == pattern(5_000_000));
    }
    let puts = stack.nodes[0].seen().into_iter().filter(|seen| seen.method == "PUT");
    assert!(puts.map(|seen| seen.body.unwrap()).all(|body| body == pattern(1_000_000)));
}

#[test]
fn a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let stack = https(directory.path());
    let mut before = tls_client(&stack, directory.path(), &rustls::version::TLS13);
    assert_eq!(before.get("/a").status, 200);
    let reload = stack.started.reload.as_ref().unwrap();
    let path = directory.path().join("tls/certificate.pem");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "nonsense").unwrap();
    reload.reload();
    std::fs::write(&path, &good).unwrap();
    assert_eq!(tls_client(&stack, directory.path(), &rustls::version::TLS13).get("/a").status, 200);
    std::fs::remove_file(&path).unwrap();
    reload.reload();
    assert_ne!(std::fs::read(&path).unwrap(), good);
    assert_eq!(tls_client(&stack, directory.path(), &rustls::version::TLS13).get("/a").status, 200);
    assert_eq!(before.get("/a").status, 200, "open connections go on");
}

#[test]
fn what_is_no_tls_is_counted_and_closed() {
    let directory = tempfile::tempdir().unwrap();
    let stack = https(directory.path());
    let mut client = Client::connect(stack.started.https.unwrap());
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.rest();
    wait_for("the count", || stack.count("tls_handshakes_failed_total") == 1);
}

#[test]
fn readiness_follows_the_storage_nodes() {
    let stack = Stack::new(2, answer_with_name);
    wait_for("readiness", || stack.started.health.ready().is_ok());
    stack.nodes.iter().for_each(|node| node.set_serves(false));
    wait_for("unreadiness", || stack.started.health.ready().is_err());
    stack.nodes[0].set_serves(true);
    wait_for("readiness with one node", || stack.started.health.ready().is_ok());
}
