//! What is in a connection's queues, and its half-closed state, move with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use ashlar_net::repair::{self, unacknowledged_bytes, unread_bytes, unsent_bytes};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;
use std::{mem, thread};
use support::pattern::{check, piece};
use support::stream::{Server, read_to_the_end};
use support::{Family, Host, NOBODY, Network, REQUIREMENTS, wait_until};

/// Nothing that is on its way takes longer between namespaces.
const LONGER_THAN_A_ROUND_TRIP: Duration = Duration::from_millis(20);

const BOTH_FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn bytes_that_the_client_never_got_are_sent_by_the_new_owner() {
    if !ledger("bytes_that_the_client_never_got_are_sent_by_the_new_owner", &REQUIREMENTS) {
        return;
    }
    const BYTES: u64 = 9_001;
    for family in BOTH_FAMILIES {
        let network = Network::create(family);
        let (client, server) = network.connect();
        let mut server = Server::new(server);
        // Host A's answers get lost from here on.
        network.set_neighbour(Host::A, network.client_ip(), NOBODY);
        server.write_all(BYTES);
        server.wait_until_sent();
        assert_eq!(unacknowledged_bytes(&server.socket).unwrap() as u64, BYTES);

        let frozen = server.freeze();
        let export = frozen.export().unwrap();
        assert_eq!(export.tcp.send_queue.as_slice(), piece(0, 9_001));
        server.socket = network.finish_move(frozen, &export, Host::B);
        let reader = thread::spawn(|| read_to_the_end(client));
        server.write_all(1_000_000);
        let sent = server.sent;
        drop(server);
        assert_eq!(reader.join().unwrap(), sent);
    }
}

#[test]
fn bytes_that_nobody_has_read_are_in_the_export_and_the_next_ones_at_the_new_owner() {
    if !ledger(
        "bytes_that_nobody_has_read_are_in_the_export_and_the_next_ones_at_the_new_owner",
        &REQUIREMENTS,
    ) {
        return;
    }
    const BYTES: usize = 50_001;
    for family in BOTH_FAMILIES {
        let network = Network::create(family);
        let (mut client, server) = network.connect();
        client.write_all(piece(0, BYTES)).unwrap();
        wait_until("all is received", || unread_bytes(&server).unwrap() == BYTES);

        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        check("export", 0, &export.received);
        assert_eq!(export.received.len(), BYTES);
        assert!(!export.peer_finished);
        let mut server = Server::new(network.finish_move(frozen, &export, Host::B));
        server.received = BYTES as u64;
        client.write_all(piece(BYTES as u64, BYTES)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        server.drain();
        assert_eq!(server.received, 2 * BYTES as u64);
    }
}

/// The client has filled the old owner's window and waits: nothing but the new owner's window can wake it.
#[test]
fn a_window_that_was_full_is_opened_by_the_new_owner() {
    if !ledger("a_window_that_was_full_is_opened_by_the_new_owner", &REQUIREMENTS) {
        return;
    }
    const BYTES: u64 = 3_000_000;
    for (scaling, family) in [("1", Family::V4), ("0", Family::V4), ("1", Family::V6)] {
        let network = Network::create(family);
        network.set_sysctl(Host::Client, "tcp_window_scaling", scaling);
        let (mut client, server) = network.connect();
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while sent < BYTES {
                client.write_all(piece(sent, 30_000)).unwrap();
                sent += 30_000;
            }
            client
        });
        let mut unread = 0;
        wait_until("the window is full", || {
            thread::sleep(LONGER_THAN_A_ROUND_TRIP);
            let before = mem::replace(&mut unread, unread_bytes(&server).unwrap());
            unread > 0 && unread == before
        });

        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        let mut server = Server::new(network.finish_move(frozen, &export, Host::B));
        // The probe, and the window: not only when the client asks for it by itself, a fifth of a second later.
        let said = network.tcp_counter(Host::B, "OutSegs");
        assert!(said >= 2, "{said} segments");
        server.received = export.received.len() as u64;
        drop(writer.join_while(|| server.read()));
        server.drain();
        assert_eq!(server.received, BYTES);
    }
}

/// Waiting for a thread while something else goes on.
trait JoinWhile<T> {
    fn join_while(self, work: impl FnMut()) -> T;
}

impl<T> JoinWhile<T> for thread::JoinHandle<T> {
    fn join_while(self, mut work: impl FnMut()) -> T {
        wait_until("the thread ends", || {
            work();
            self.is_finished()
        });
        self.join().unwrap()
    }
}

#[test]
fn a_client_that_has_finished_gets_its_answer_from_the_new_owner() {
    if !ledger("a_client_that_has_finished_gets_its_answer_from_the_new_owner", &REQUIREMENTS) {
        return;
    }
    for family in BOTH_FAMILIES {
        let network = Network::create(family);
        let (mut client, server) = network.connect();
        client.write_all(piece(0, 1_000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        poll(&mut [PollFd::new(&server, PollFlags::RDHUP)], None).unwrap();

        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        assert!(export.peer_finished);
        check("export", 0, &export.received);
        assert_eq!(export.received.len(), 1_000);
        let mut server = Server::new(network.finish_move(frozen, &export, Host::B));
        let reader = thread::spawn(|| read_to_the_end(client));
        server.write_all(1_000_000);
        // And once more, to where it came from: a socket behind the FIN can move like any other.
        server.wait_until_sent();
        let frozen = repair::freeze(server.socket).unwrap();
        let mut export = frozen.export().unwrap();
        assert!(!export.peer_finished, "the kernel does not know it any more");
        assert!(export.received.is_empty());
        export.peer_finished = true;
        server.socket = network.finish_move(frozen, &export, Host::A);
        server.write_all(1_000_000);
        drop(server);
        assert_eq!(reader.join().unwrap(), 2_000_000);
        // The kernel does not wait long for a FIN that came before.
        wait_until("no socket is left", || network.socket_states(Host::A).is_empty());
        assert_eq!(network.tcp_counter(Host::A, "OutRsts"), 0);
        assert_eq!(network.tcp_counter(Host::Client, "OutRsts"), 0);
    }
}

#[test]
fn only_what_was_negotiated_is_in_an_image_of_any_generation() {
    if !ledger("only_what_was_negotiated_is_in_an_image_of_any_generation", &REQUIREMENTS) {
        return;
    }
    for negotiated in [true, false] {
        let network = Network::create(Family::V4);
        if !negotiated {
            for option in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
                network.set_sysctl(Host::Client, option, "0");
            }
        }
        let (_client, mut server) = network.connect();
        let mut first = None;
        for host in [Host::B, Host::A, Host::B] {
            assert_eq!(unsent_bytes(&server).unwrap(), 0);
            let frozen = repair::freeze(server).unwrap();
            let export = frozen.export().unwrap();
            let options = export.tcp.options;
            assert_eq!(options.window_scale.is_some(), negotiated);
            assert_eq!(options.selective_acknowledgement, negotiated);
            assert_eq!(options.timestamp.is_some(), negotiated);
            assert_eq!(export.tcp.mss, 1460);
            let lasting = (options.window_scale, export.tcp.local, export.tcp.peer);
            assert_eq!(*first.get_or_insert(lasting), lasting);
            server = network.finish_move(frozen, &export, host);
        }
    }
}

/// An export can be made as often as one likes, and the client's bytes are not consumed by it.
#[test]
fn an_export_changes_nothing() {
    if !ledger("an_export_changes_nothing", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (mut client, server) = network.connect();
    client.write_all(piece(0, 5_000)).unwrap();
    wait_until("all is received", || unread_bytes(&server).unwrap() == 5_000);
    let frozen = repair::freeze(server).unwrap();
    let (mut first, mut second) = (frozen.export().unwrap(), frozen.export().unwrap());
    // A clock goes on.
    first.tcp.options.timestamp = None;
    second.tcp.options.timestamp = None;
    assert_eq!(first, second);
    let mut server = Server::new(frozen.thaw().unwrap());
    server.read();
    assert_eq!(server.received, 5_000);
    server.write_all(10);
    let mut answer = [0; 10];
    client.read_exact(&mut answer).unwrap();
    check("client", 0, &answer);
}
