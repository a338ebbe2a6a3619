//! A connection that is busy in both directions moves between two hosts, and every byte arrives once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use support::stream::{BusyClient, Server};
use support::{Family, Host, Network, REQUIREMENTS};

/// Between two moves, so many bytes go to the client.
const BYTES_BETWEEN_MOVES: u64 = 300_000;

fn move_a_busy_connection(network: &Network, moves: u32) {
    let (client, server) = network.connect();
    let (client, mut server) = (BusyClient::start(client), Server::new(server));
    let (mut send_queue, mut receive_queue) = (0, 0);
    for number in 1..=moves {
        let end = server.sent + BYTES_BETWEEN_MOVES;
        while server.sent < end {
            server.pump();
        }
        let queues = server.move_over(network);
        send_queue += queues.0;
        receive_queue += queues.1;
        assert!(!server.peer_finished, "after {number} moves");
    }
    client.stop();
    server.drain();
    let (sent, received) = (server.sent, server.received);
    drop(server);
    assert_eq!(client.join(), (received, sent));
    for host in Host::ALL {
        assert_eq!(network.tcp_counter(host, "OutRsts"), 0, "{host:?}");
    }
    assert!(send_queue + receive_queue > 0, "the queues were empty in every move");
}

#[test]
fn a_busy_connection_survives_a_hundred_moves() {
    if ledger("a_busy_connection_survives_a_hundred_moves", &REQUIREMENTS) {
        move_a_busy_connection(&Network::create(Family::V4), 100);
    }
}

#[test]
fn a_busy_connection_of_ipv6_survives_moves() {
    if ledger("a_busy_connection_of_ipv6_survives_moves", &REQUIREMENTS) {
        move_a_busy_connection(&Network::create(Family::V6), 20);
    }
}

#[test]
fn a_busy_connection_without_options_survives_moves() {
    if ledger("a_busy_connection_without_options_survives_moves", &REQUIREMENTS) {
        let network = Network::create(Family::V4);
        for option in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
            network.set_sysctl(Host::Client, option, "0");
        }
        move_a_busy_connection(&network, 20);
    }
}
