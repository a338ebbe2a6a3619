//! What the steps of a move cost: `cargo test --release -p ashlar-net --test cost -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_net::repair;
use std::time::{Duration, Instant};
use support::stream::Server;
use support::{Family, Host, NOBODY, Network};

const ROUNDS: usize = 2_000;

/// The durations of a step.
struct Step {
    name: &'static str,
    durations: Vec<Duration>,
}

impl Step {
    fn new(name: &'static str) -> Self {
        Self { name, durations: Vec::with_capacity(ROUNDS) }
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.durations.push(start.elapsed());
        result
    }

    fn report(mut self) {
        self.durations.sort();
        let at = |share: usize| self.durations[(self.durations.len() - 1) * share / 100];
        println!("  {:<8} p50 {:>9.1?}  p99 {:>9.1?}", self.name, at(50), at(99));
    }
}

/// One host exports a connection and imports it again.
#[test]
#[ignore = "measures, and checks nothing"]
fn cost_of_the_steps() {
    for queue_bytes in [0, 8 << 10] {
        let network = Network::create(Family::V4);
        let (_client, server) = network.connect();
        let mut server = Server::new(server);
        if queue_bytes > 0 {
            // What is sent once and never acknowledged stays in the queue.
            network.set_neighbour(Host::A, network.client_ip(), NOBODY);
            server.write_all(queue_bytes);
            server.wait_until_sent();
        }
        println!("send queue of {queue_bytes} bytes, {ROUNDS} rounds:");
        network.within(Host::A, || rounds(server));
    }
}

fn rounds(server: Server) {
    let mut steps = ["freeze", "export", "moved?", "close", "import", "go"].map(Step::new);
    let [freeze, export, moved, close, import, go] = &mut steps;
    let mut socket = server.socket;
    for _ in 0..ROUNDS {
        let frozen = freeze.time(|| repair::freeze(socket)).unwrap();
        let image = export.time(|| frozen.export()).unwrap();
        assert!(!moved.time(|| frozen.receive_sequence_moved(&image.tcp)).unwrap());
        close.time(|| frozen.close_silently());
        let imported = import.time(|| repair::import(&image.tcp, image.peer_finished)).unwrap();
        socket = go.time(|| imported.go()).unwrap();
    }
    steps.into_iter().for_each(Step::report);
}
