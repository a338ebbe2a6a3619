//! Storage nodes in this process, and a client.

use super::{disk::FaultyDisk, wait_for};
use crate::{
    admin::Health,
    config::Config,
    metrics,
    peer::Identity,
    serve::{ServerMetrics, spawn_server},
    storage_node::{DiskService, open_on},
    threads::{ShutdownTrigger, Threads},
};
use ashlar_object::{Key, NodeIndex};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
};
use tokio::runtime::Handle;

/// Bodies above this are large.
pub(super) const INLINE_BYTES_MAX: usize = 1024;

/// Storage nodes, each of which holds everything.
pub(super) struct Cluster {
    /// The nodes that run, the first of all.
    pub(super) nodes: Vec<Node>,
    /// The others' ports, for tests to play them.
    pub(super) played: Vec<TcpListener>,
    config: Config,
    threads: Threads,
    _trigger: ShutdownTrigger,
}

pub(super) struct Node {
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) service: DiskService,
    http: SocketAddr,
}

impl Cluster {
    /// `running` nodes, and `played` more that only listen.
    pub(super) fn start(running: usize, played: usize) -> Self {
        let total = running + played;
        let mut peers: Vec<_> =
            (0..total).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let configs: Vec<_> = (0..total).map(|number| config(number, &peers)).collect();
        let threads = Threads::start("test", 2).unwrap();
        let (trigger, shutdown) = ShutdownTrigger::new();
        let mut registry = metrics::registry();
        let played = peers.split_off(running);
        let mut nodes = Vec::new();
        for (peer, config) in peers.into_iter().zip(&configs) {
            let handle = threads.handle(0);
            let _entered = handle.enter();
            peer.set_nonblocking(true).unwrap();
            let peer = tokio::net::TcpListener::from_std(peer).unwrap();
            let storage = config.storage.as_ref().unwrap();
            let disk = Arc::new(FaultyDisk::new());
            let service = open_on(disk.clone(), config, storage, peer, &mut registry).unwrap();
            let http = spawn_server(
                "127.0.0.1:0".parse().unwrap(),
                None,
                storage.limits,
                &threads,
                &shutdown,
                ServerMetrics::new(&mut registry, "storage"),
                service.clone(),
            );
            nodes.push(Node { disk, service, http: http.unwrap() });
        }
        let config = configs.into_iter().next().unwrap();
        Self { nodes, played, config, threads, _trigger: trigger }
    }

    /// Waits until every node does all of its work.
    pub(super) fn wait_until_complete(&self) {
        wait_for("the chains to take writes", || {
            self.nodes.iter().all(|node| node.service.complete().is_ok())
        });
    }

    /// Who `node` is to its peers.
    pub(super) fn identity(&self, node: usize) -> Identity {
        Identity { cluster: self.config.cluster.clone(), node: index(node) }
    }

    /// The nodes of the key's chain.
    pub(super) fn chain_of(&self, key: &str) -> Vec<usize> {
        let map = &self.config.cluster.map;
        let chain = map.chain(map.partition_of(&Key::new(key).unwrap()));
        chain.iter().map(|node| usize::from(node.0)).collect()
    }

    /// So many keys of different partitions whose chains start with these nodes.
    pub(super) fn keys_of(&self, chain: &[usize], count: usize) -> Vec<String> {
        let map = &self.config.cluster.map;
        let mut partitions = std::collections::BTreeSet::new();
        let names = (0..100_000).map(|number| format!("key-{number}"));
        let fits = |key: &String| {
            let partition = map.partition_of(&Key::new(key).unwrap());
            self.chain_of(key).starts_with(chain) && partitions.insert(partition)
        };
        let keys: Vec<_> = names.filter(fits).take(count).collect();
        assert_eq!(keys.len(), count, "there are not so many partitions of that chain");
        keys
    }

    /// An event loop that the nodes use.
    pub(super) fn event_loop(&self) -> Handle {
        self.threads.handle(1)
    }

    /// A connection to a node.
    pub(super) fn connect(&self, node: usize) -> TcpStream {
        TcpStream::connect(self.nodes[node].http).unwrap()
    }

    /// A request and its answer: status and body.
    pub(super) fn request(&self, node: usize, head: &str, body: &[u8]) -> (u16, String) {
        self.request_with(node, head, "", body)
    }

    /// As [`Cluster::request`], with more fields.
    pub(super) fn request_with(
        &self,
        node: usize,
        head: &str,
        fields: &str,
        body: &[u8],
    ) -> (u16, String) {
        let mut stream = self.connect(node);
        write!(stream, "{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}").unwrap();
        write!(stream, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        // A node that refuses a body may close before it has all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_string())
    }
}

/// A node by its number.
pub(super) fn index(node: usize) -> NodeIndex {
    NodeIndex(u16::try_from(node).unwrap())
}

fn config(number: usize, peers: &[TcpListener]) -> Config {
    let mut text =
        format!("[cluster]\nid = \"test\"\nreplicas = {}\npartitions = 64\n", peers.len());
    for (node, listener) in peers.iter().enumerate() {
        let peer = listener.local_addr().unwrap();
        text += &format!("[[cluster.storage]]\nname = \"s{node}\"\n");
        text += &format!("http = \"127.0.0.1:{}\"\npeer = \"{peer}\"\n", node + 1);
    }
    text += &format!("[node]\nname = \"s{number}\"\ndata = \"unused\"\n");
    text += &format!("[storage]\nengine = \"disk\"\ninline_bytes_max = {INLINE_BYTES_MAX}\n");
    Config::parse(&text, Path::new("")).unwrap()
}
