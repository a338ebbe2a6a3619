//! The front end from outside: real connections on loopback, storage nodes that play scripts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fake_node;
mod lifecycle;
mod listing;
mod protocol;
mod reads;
mod writes;

use super::{Started, start};
use crate::{
    config::Config,
    metrics::{self, Registry},
    threads::{ShutdownTrigger, Threads},
};
use ashlar_object::Key;
use client::Client;
use fake_node::{FakeNode, Reply, Seen, response};
use std::{
    cell::Cell,
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A front end before storage nodes.
struct Stack {
    nodes: Vec<FakeNode>,
    config: Config,
    started: Started,
    registry: Registry,
    threads: Option<Threads>,
    trigger: ShutdownTrigger,
}

impl Stack {
    /// A front end before nodes that all play `script`, which is told the node's number. Every
    /// node replicates everything.
    fn new(nodes: usize, script: fn(usize, &Seen) -> Reply) -> Self {
        let nodes = (0..nodes).map(|n| FakeNode::start(move |seen| script(n, seen))).collect();
        Self::with("", nodes)
    }

    /// As [`Stack::new`], with these limits.
    fn limited(limits: &str, nodes: usize, script: fn(usize, &Seen) -> Reply) -> Self {
        let nodes = (0..nodes).map(|n| FakeNode::start(move |seen| script(n, seen))).collect();
        Self::with(&format!("[front_end.limits]\n{limits}"), nodes)
    }

    fn with(more: &str, nodes: Vec<FakeNode>) -> Self {
        let config = config(&nodes, nodes.len(), "http = \"127.0.0.1:0\"", more);
        Self::start(config, nodes)
    }

    fn start(config: Config, nodes: Vec<FakeNode>) -> Self {
        let threads = Threads::start("test", config.threads).unwrap();
        let (trigger, shutdown) = ShutdownTrigger::new();
        let mut registry = metrics::registry();
        let started = start(&config, &threads, &shutdown, &mut registry).unwrap();
        Self { nodes, config, started, registry, threads: Some(threads), trigger }
    }

    fn address(&self) -> SocketAddr {
        self.started.http.unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// The node that heads the chain of a key.
    fn head_of(&self, key: &str) -> usize {
        self.chain_of(key)[0]
    }

    fn chain_of(&self, key: &str) -> Vec<usize> {
        let map = &self.config.cluster.map;
        let chain = map.chain(map.partition_of(&Key::new(key).unwrap()));
        chain.iter().map(|node| usize::from(node.0)).collect()
    }

    /// Waits until all nodes have been found up.
    fn wait_until_up(&self) {
        wait_for("all nodes to be up", || {
            let all = format!("storage_nodes_up {}\n", self.nodes.len());
            metrics::text(&self.registry).contains(&all)
        });
    }

    /// Waits until so many nodes are up.
    fn wait_for_nodes_up(&self, count: usize) {
        wait_for("nodes to go down", || self.count("storage_nodes_up") == count as u64);
    }

    /// The sum of all metrics whose name, without `ashlar_front_end_`, and labels start so.
    fn count(&self, start: &str) -> u64 {
        let start = format!("ashlar_front_end_{start}");
        let text = metrics::text(&self.registry);
        let lines = text.lines().filter(|line| line.starts_with(&start));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Drains; gives whether everything ended in time.
    fn drain(&mut self) -> bool {
        self.trigger.drain();
        self.threads.take().unwrap().join(PATIENCE)
    }
}

/// The configuration of a front end before `nodes`.
fn config(nodes: &[FakeNode], replicas: usize, listen: &str, more: &str) -> Config {
    let mut text = format!("[cluster]\nid = \"test\"\nreplicas = {replicas}\npartitions = 16\n");
    for (number, node) in nodes.iter().enumerate() {
        let (http, peer) = (node.address, format!("127.0.0.1:{}", number + 1));
        text += &format!(
            "[[cluster.storage]]\nname = \"s{number}\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n"
        );
    }
    text += &format!("[node]\nname = \"fe\"\nthreads = 2\n[front_end]\n{listen}\n{more}\n");
    Config::parse(&text, Path::new("")).unwrap()
}

/// Waits for a condition that must come true.
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Waits until a number has risen and rises no more.
fn settled(what: &str, number: impl Fn() -> u64) -> u64 {
    const QUIET: Duration = Duration::from_millis(300);
    let last = Cell::new((0, Instant::now()));
    wait_for(what, || {
        let now = number();
        if now != last.get().0 {
            last.set((now, Instant::now()));
        }
        now > 0 && last.get().1.elapsed() > QUIET
    });
    last.get().0
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    // A prime, so that pieces of any usual size differ.
    const PERIOD: u32 = 65_521;
    let period: Vec<_> =
        (0..PERIOD).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut bytes = period.repeat(length.div_ceil(period.len()));
    bytes.truncate(length);
    bytes
}

/// A script that names the node.
fn answer_with_name(node: usize, _: &Seen) -> Reply {
    Reply::Whole(response(200, &[("x-node", &node.to_string())], b"here\n"))
}

/// A script that takes bodies and names the node.
fn take_and_answer(node: usize, seen: &Seen) -> Reply {
    if seen.method == "PUT" && seen.body.is_none() {
        return Reply::TakeBody;
    }
    answer_with_name(node, seen)
}
