//! What single connections meet: an older TLS, a node that drains.

use crate::{
    http_client::{Server, client_config, read_synthetic},
    laboratory::{MOVED, eventually, is_possible, metric, metric_of, output, spec},
    program::{Program, command, finish, run},
};
use ashlar_lab::{CLIENT, Engine, FRONT_END, Lab, Role};
use ashlar_object::synthetic::byte_at;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, TcpStream},
    process::{Child, Stdio},
    time::Duration,
};

/// The objects' size.
const OBJECT_BYTES: u64 = 50_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn clients_with_tls_1_2_are_relayed_and_get_right_bytes() {
    if !is_possible("clients_with_tls_1_2_are_relayed_and_get_right_bytes") {
        return;
    }
    let spec = spec('j').storage_nodes(2).replicas(1).engine(Engine::Synthetic);
    let lab = Lab::up(&spec.threshold_bytes(0)).unwrap().down_on_drop();
    let address = lab.address(FRONT_END).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let expected: Vec<u8> = (0..1_000_000).map(byte_at).collect();
    let read = |version: &str| {
        let file = directory.path().join("body").to_str().unwrap().to_owned();
        // The zeros make names of objects of both storage nodes.
        for name in ["1000000", "01000000", "001000000", "0001000000"] {
            let url = format!("https://{address}/{name}");
            let arguments = [
                "-sSfk",
                "--tls-max",
                version,
                "-w",
                "%{http_version} %{errormsg}",
                "-o",
                &file,
                &url,
            ];
            let output = output(&lab, CLIENT, "curl", &arguments);
            assert!(output.status.success(), "{output:?}");
            assert!(fs::read(&file).unwrap() == expected, "TLS {version}, {name}");
        }
    };
    let moved = || metric(&lab, Role::FrontEnd, MOVED);
    read("1.2");
    assert_eq!(moved(), 0);
    read("1.3");
    assert_eq!(moved(), 4);
}

/// A client that reads objects over one connection, until it has read some while a node drained.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reader {
    server: Server,
    /// How often it reads; every read takes some milliseconds.
    reads: u64,
    /// The server may end the connection between two reads, in order.
    may_end: bool,
}

impl Reader {
    pub(crate) async fn run(self) -> u64 {
        let (mut incoming, mut outgoing) = self.server.connect(PATIENCE).await.unwrap();
        for number in 0..self.reads {
            let zeros = "0".repeat(number as usize % 8);
            let path = format!("/{zeros}{OBJECT_BYTES}");
            let connection = (&mut incoming, &mut outgoing);
            let closes = match read_synthetic(&path, OBJECT_BYTES, connection, PATIENCE).await {
                Ok(closes) => closes,
                // The request and the end of the connection crossed.
                Err(error) if self.may_end && is_end(&error) => return number,
                Err(error) => panic!("{error}"),
            };
            assert!(self.may_end || !closes);
            // What comes in the pause can only be the end.
            let end = tokio::time::timeout(Duration::from_millis(10), incoming.head()).await;
            if closes || self.may_end && end.is_ok() {
                if let Ok(end) = end {
                    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                }
                return number + 1;
            }
            assert!(end.is_err(), "{end:?}");
        }
        self.reads
    }
}

/// Whether a connection has ended in order, as its reader or its writer hears of it.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe)
}

/// A client that asks for new keys before every read of one connection.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rekeyer {
    server: Server,
    reads: u64,
}

impl Rekeyer {
    pub(crate) fn run(self) -> u64 {
        let stream = TcpStream::connect((self.server.address, 443)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::from(IpAddr::V4(self.server.address));
        let connection = ClientConnection::new(client_config(), name).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut body = vec![0; OBJECT_BYTES as usize];
        for number in 0..self.reads {
            let zeros = "0".repeat(number as usize % 8);
            if number > 0 {
                // Its answer, and the request, come together.
                stream.get_mut().conn.refresh_traffic_keys().unwrap();
            }
            let request = format!("GET /{zeros}{OBJECT_BYTES} HTTP/1.1\r\nHost: lab\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes()).unwrap();
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                assert!(stream.read_line(&mut line).unwrap() > 0, "the connection ends");
            }
            stream.read_exact(&mut body).unwrap();
            assert!(body.iter().zip(0..).all(|(byte, offset)| *byte == byte_at(offset)));
        }
        self.reads
    }
}

#[test]
fn connections_move_whose_clients_change_keys() {
    if !is_possible("connections_move_whose_clients_change_keys") {
        return;
    }
    let spec = spec('y').storage_nodes(3).replicas(1).engine(Engine::Synthetic);
    let lab = Lab::up(&spec.threshold_bytes(0)).unwrap().down_on_drop();
    let server = Server { address: lab.address(FRONT_END).unwrap(), secure: true };
    let reads: u64 = run(&lab, &Program::Rekeyer(Rekeyer { server, reads: 200 }));
    assert_eq!(reads, 200);
    assert!(metric(&lab, Role::Storage, MOVED) > 50);
}

/// Starts four readers.
fn readers(lab: &Lab, program: &Program) -> Vec<Child> {
    let reader = |_| {
        let mut command = command(lab, CLIENT, program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    (0..4).map(reader).collect()
}

#[test]
fn a_draining_storage_node_hands_its_connections_on() {
    if !is_possible("a_draining_storage_node_hands_its_connections_on") {
        return;
    }
    let spec = spec('k').storage_nodes(3).replicas(3).engine(Engine::Synthetic);
    let lab = Lab::up(&spec.threshold_bytes(0)).unwrap().down_on_drop();
    for secure in [false, true] {
        let server = Server { address: lab.address(FRONT_END).unwrap(), secure };
        let program = Program::Reader(Reader { server, reads: 400, may_end: false });
        let from_front_end = || metric(&lab, Role::FrontEnd, MOVED);
        let before = from_front_end();
        let readers = readers(&lab, &program);
        // One node after the other drains while all read, and each has some of the connections.
        for host in ["s1", "s2", "s3"] {
            let held = || metric_of(&lab, host, "ashlar_storage_http_connections").unwrap();
            let arrived = || metric_of(&lab, host, "ashlar_storage_http_requests_total").unwrap();
            let before = arrived();
            eventually("connections are there", || held() > 0 && arrived() > before);
            lab.stop_node(host).unwrap();
            lab.start_node(host).unwrap();
            // The next one drains when the front end would not be without replicas.
            let up = || metric(&lab, Role::FrontEnd, "ashlar_front_end_storage_nodes_up");
            eventually("the front end uses it again", || up() == 3);
        }
        for reader in readers {
            let reads: u64 = finish(&program, reader);
            assert_eq!(reads, 400);
        }
        assert!(from_front_end() >= before + 4, "the storage nodes had no moved connections");
    }
}

/// Its connections are at storage nodes, and nothing steers their frames once it has ended.
#[test]
fn a_draining_front_end_ends_its_moved_connections_in_order() {
    if !is_possible("a_draining_front_end_ends_its_moved_connections_in_order") {
        return;
    }
    let spec = spec('q').storage_nodes(3).replicas(1).engine(Engine::Synthetic);
    let lab = Lab::up(&spec.threshold_bytes(0)).unwrap().down_on_drop();
    for secure in [false, true] {
        let server = Server { address: lab.address(FRONT_END).unwrap(), secure };
        let program = Program::Reader(Reader { server, reads: 100_000, may_end: true });
        let moved = || metric(&lab, Role::Storage, MOVED);
        let before = moved();
        let readers = readers(&lab, &program);
        eventually("connections move", || moved() > before + 50);
        lab.stop_node(FRONT_END).unwrap();
        for reader in readers {
            let reads: u64 = finish(&program, reader);
            assert!((1..100_000).contains(&reads));
        }
        lab.start_node(FRONT_END).unwrap();
    }
}
