//! What single connections meet: an older TLS, a node that drains.

use crate::{
    http_client::{Incoming, Outgoing, Server},
    laboratory::{eventually, is_possible, metric, metric_of, output, spec},
    program::{Program, command, finish},
};
use ashlar_lab::{CLIENT, Engine, FRONT_END, Lab, Role};
use ashlar_object::synthetic::byte_at;
use serde::{Deserialize, Serialize};
use std::{fs, process::Stdio, time::Duration};

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
    let moved = || metric(&lab, Role::FrontEnd, "ashlar_hand_offs_moved_total");
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
}

impl Reader {
    pub(crate) async fn run(self) -> u64 {
        let (mut incoming, mut outgoing) = self.server.connect(PATIENCE).await.unwrap();
        for number in 0..self.reads {
            let zeros = "0".repeat(number as usize % 8);
            let path = format!("/{zeros}{OBJECT_BYTES}");
            read(&path, &mut incoming, &mut outgoing).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.reads
    }
}

async fn read(path: &str, incoming: &mut Incoming, outgoing: &mut Outgoing) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
    outgoing.send(request.as_bytes()).await.unwrap();
    let answer = async {
        let head = incoming.head().await.unwrap();
        assert_eq!((head.status, head.body_bytes(false)), (200, OBJECT_BYTES), "{head:?}");
        assert!(!head.closes(), "{head:?}");
        let mut offset = 0;
        let look = |bytes: &[u8]| {
            for byte in bytes {
                assert_eq!(*byte, byte_at(offset), "at {offset}");
                offset += 1;
            }
        };
        incoming.body(OBJECT_BYTES, look).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap();
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
        let program = Program::Reader(Reader { server, reads: 400 });
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut command = command(&lab, CLIENT, &program);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        // One node after the other drains while all read, and each has some of the connections.
        for host in ["s1", "s2", "s3"] {
            let held = || metric_of(&lab, host, "ashlar_storage_http_connections").unwrap();
            let arrived = || metric_of(&lab, host, "ashlar_storage_http_requests_total").unwrap();
            let before = arrived();
            eventually("connections are there", || held() > 0 && arrived() > before);
            lab.stop_node(host).unwrap();
            lab.start_node(host).unwrap();
        }
        for reader in readers {
            let reads: u64 = finish(&program, reader);
            assert_eq!(reads, 400);
        }
    }
}
