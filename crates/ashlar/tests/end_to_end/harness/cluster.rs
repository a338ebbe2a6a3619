//! A cluster of processes on loopback: three storage nodes and a front end, each an `ashlar node`.

use super::{Curl, Process, Wire, ashlar, eventually, free_address};
use rustix::process::Signal;
use std::{net::SocketAddr, path::PathBuf};
use tempfile::TempDir;

/// The number of storage nodes, and of replicas.
pub(crate) const STORAGE_NODES: usize = 3;

/// A cluster; dropping it kills it and removes its data.
pub(crate) struct Cluster {
    front_end: Process,
    storage: Vec<Process>,
    http: SocketAddr,
    admin: SocketAddr,
    addresses: Vec<StorageAddresses>,
    directory: TempDir,
}

struct StorageAddresses {
    http: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
}

/// The `[cluster]` part of a configuration, the same for every node.
pub(crate) fn configuration(storage: &[(SocketAddr, SocketAddr)]) -> String {
    let mut text = format!("[cluster]\nid = \"test\"\nreplicas = {}\n", storage.len());
    for (index, (http, peer)) in storage.iter().enumerate() {
        let number = index + 1;
        text += &format!(
            "[[cluster.storage]]\nname = \"s{number}\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n"
        );
    }
    text
}

impl Cluster {
    /// A cluster that is ready to serve.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..STORAGE_NODES)
            .map(|_| StorageAddresses {
                http: free_address(),
                peer: free_address(),
                admin: free_address(),
            })
            .collect();
        let (http, admin) = (free_address(), free_address());
        let pairs: Vec<_> = addresses.iter().map(|node| (node.http, node.peer)).collect();
        let cluster = configuration(&pairs);
        for (index, node) in addresses.iter().enumerate() {
            let name = format!("s{}", index + 1);
            let role = format!("[storage]\nengine = \"disk\"\ncommit_timeout_ms = {COMMIT_MS}\n");
            write_node(&directory, &name, &cluster, node.admin, &role);
        }
        let role = format!("[front_end]\nhttp = \"{http}\"\n");
        write_node(&directory, "front-end", &cluster, admin, &role);
        let storage = (1..=STORAGE_NODES).map(|n| run_node(&directory, &format!("s{n}"))).collect();
        for node in &addresses {
            is_ready(node.admin);
        }
        let front_end = run_node(&directory, "front-end");
        is_ready(admin);
        Self { front_end, storage, http, admin, addresses, directory }
    }

    /// A request of curl to the front end.
    pub(crate) fn curl(&self, path: &str) -> Curl {
        Curl::new(&format!("http://{}{path}", self.http))
    }

    /// A connection to the front end.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.http)
    }

    /// A request of curl to one storage node.
    pub(crate) fn curl_storage(&self, index: usize, path: &str) -> Curl {
        Curl::new(&format!("http://{}{path}", self.addresses[index].http))
    }

    /// A connection to one storage node.
    pub(crate) fn wire_storage(&self, index: usize) -> Wire {
        Wire::connect(self.addresses[index].http)
    }

    /// The sum of a counter of the front end over all its labels.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let metrics = Curl::new(&format!("http://{}/metrics", self.admin)).run().text();
        let is_sample = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let samples: Vec<_> = metrics.lines().filter(is_sample).collect();
        assert!(!samples.is_empty(), "no counter {name} in:\n{metrics}");
        let value = |sample: &str| sample.rsplit(' ').next()?.parse::<u64>().ok();
        samples.iter().map(|sample| value(sample).expect("a whole number")).sum()
    }

    /// Kills a storage node with `kill -9`.
    pub(crate) fn kill_storage(&mut self, index: usize) {
        self.storage[index].kill();
    }

    /// Starts a storage node that was killed, and waits until it serves.
    pub(crate) fn restart_storage(&mut self, index: usize) {
        assert!(!self.storage[index].is_running());
        self.storage[index] = run_node(&self.directory, &format!("s{}", index + 1));
        is_ready(self.addresses[index].admin);
    }

    /// Ends every process with SIGTERM; each has to exit with 0.
    pub(crate) fn stop(mut self) {
        self.front_end.signal(Signal::TERM);
        assert!(self.front_end.ended().success());
        for node in &mut self.storage {
            node.signal(Signal::TERM);
            assert!(node.ended().success());
        }
    }
}

/// A write that waits for a lost replica is answered soon: the test waits for that answer.
const COMMIT_MS: u64 = 1000;

fn write_node(directory: &TempDir, name: &str, cluster: &str, admin: SocketAddr, role: &str) {
    let text = format!(
        "{cluster}[node]\nname = \"{name}\"\ndata = \"{name}\"\nthreads = 1\n[admin]\nlisten = \
         \"{admin}\"\n{role}"
    );
    std::fs::write(file(directory, name), text).unwrap();
}

fn run_node(directory: &TempDir, name: &str) -> Process {
    let file = file(directory, name);
    let log = directory.path().join(format!("{name}.log"));
    Process::start(&mut ashlar(&["node", "--config", file.to_str().unwrap()]), &log)
}

fn file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(format!("{name}.toml"))
}

fn is_ready(admin: SocketAddr) {
    let url = format!("http://{admin}/readyz");
    eventually("the node is ready", || {
        // Nobody listens at first.
        Curl::new(&url).attempt().ok().filter(|reply| reply.status == 200)
    });
}
