//! A frozen connection is mute, can be thawed, and vanishes without a word.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use ashlar_net::repair::{self, RepairError, unacknowledged_bytes, unread_bytes, unsent_bytes};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use socket2::{SockFilter, SockRef};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use support::pattern::piece;
use support::stream::{BusyClient, Server};
use support::{Family, Host, NOBODY, Network, REQUIREMENTS, wait_until};

#[test]
fn a_busy_connection_goes_on_after_every_thaw() {
    if !ledger("a_busy_connection_goes_on_after_every_thaw", &REQUIREMENTS) {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let network = Network::create(family);
        let (client, server) = network.connect();
        let (client, mut server) = (BusyClient::start(client), Server::new(server));
        for _ in 0..10 {
            let end = server.sent + 300_000;
            while server.sent < end {
                server.pump();
            }
            // The other host gets as far as it can without a `go`, then the move is called off.
            let frozen = server.freeze();
            let export = frozen.export().unwrap();
            network.import(Host::B, &export).close_silently();
            server.socket = frozen.thaw().unwrap();
        }
        client.stop();
        server.drain();
        let (sent, received) = (server.sent, server.received);
        drop(server);
        assert_eq!(client.join(), (received, sent));
        for host in Host::ALL {
            assert_eq!(network.tcp_counter(host, "OutRsts"), 0, "{host:?}");
        }
    }
}

#[test]
fn neither_freezing_nor_importing_nor_closing_says_a_word() {
    if !ledger("neither_freezing_nor_importing_nor_closing_says_a_word", &REQUIREMENTS) {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let network = Network::create(family);
        let (mut client, server) = network.connect();
        client.write_all(piece(0, 10_000)).unwrap();
        wait_until("all is received", || unread_bytes(&server).unwrap() == 10_000);
        // A delayed acknowledgement would go out of a frozen socket as well.
        wait_until("all is acknowledged", || unacknowledged_bytes(&client).unwrap() == 0);
        let said =
            |host| (network.tcp_counter(host, "OutSegs"), network.tcp_counter(host, "OutRsts"));
        let before = (said(Host::A), said(Host::B));

        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        // The client goes on into the silence.
        client.write_all(piece(10_000, 10_000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!frozen.receive_sequence_moved(&export.tcp).unwrap());
        // What it repeats must not meet a host that does not know the connection any more.
        network.set_neighbour(Host::Client, network.service_ip(), NOBODY);
        let imported = network.import(Host::B, &export);
        imported.close_silently();
        frozen.close_silently();
        assert_eq!((said(Host::A), said(Host::B)), before);
        assert!(network.socket_states(Host::A).is_empty());
        assert!(network.socket_states(Host::B).is_empty());
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// Steering points at the new owner, which never goes: what the client sent by then must not be missing at the old one.
#[test]
fn a_connection_can_be_taken_back_from_an_owner_that_did_not_go() {
    if !ledger("a_connection_can_be_taken_back_from_an_owner_that_did_not_go", &REQUIREMENTS) {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let network = Network::create(family);
        let (mut client, server) = network.connect();
        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        let imported = network.import(Host::B, &export);
        network.point(Host::B);
        client.write_all(piece(0, 10_000)).unwrap();
        wait_until("the client repeats itself", || {
            network.tcp_counter(Host::Client, "RetransSegs") > 1
        });
        assert_eq!(network.tcp_counter(Host::B, "OutSegs"), 0);

        // In this order: a host that does not know the connection would reset it.
        network.point(Host::A);
        imported.close_silently();
        let mut server = Server::new(frozen.thaw().unwrap());
        client.shutdown(Shutdown::Write).unwrap();
        server.drain();
        assert_eq!(server.received, 10_000);
    }
}

/// `BPF_RET | BPF_K` with a length that no packet has.
const TAKE_EVERYTHING: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);

#[test]
fn a_segment_that_slips_in_after_the_export_is_noticed() {
    if !ledger("a_segment_that_slips_in_after_the_export_is_noticed", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (mut client, server) = network.connect();
    let frozen = repair::freeze(server.as_fd()).unwrap();
    let export = frozen.export().unwrap();
    client.write_all(b"x").unwrap();
    assert!(!frozen.receive_sequence_moved(&export.tcp).unwrap());
    // As if the segment had been past the filter already.
    let let_in = || SockRef::from(&server).attach_filter(&[TAKE_EVERYTHING]).unwrap();
    let_in();
    wait_until("the client repeats it", || unread_bytes(&server).unwrap() == 1);
    assert!(frozen.receive_sequence_moved(&export.tcp).unwrap());
    assert_eq!(frozen.export().unwrap().received.as_slice(), b"x");

    let frozen = repair::freeze(frozen.thaw().unwrap()).unwrap();
    let export = frozen.export().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let_in();
    wait_until("the client's FIN is noticed, too", || {
        frozen.receive_sequence_moved(&export.tcp).unwrap()
    });
    assert!(frozen.export().unwrap().peer_finished);
}

#[test]
fn a_connection_that_is_still_here_cannot_be_imported_beside_itself() {
    if !ledger("a_connection_that_is_still_here_cannot_be_imported_beside_itself", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (_client, server) = network.connect();
    let frozen = repair::freeze(server).unwrap();
    let export = frozen.export().unwrap();
    let import = || network.within(Host::A, || repair::import(&export.tcp, false));
    let error = import().unwrap_err();
    assert!(matches!(error, RepairError::Kernel { step: "connect", .. }), "{error}");
    frozen.close_silently();
    import().unwrap().close_silently();
}

#[test]
fn a_connection_that_nobody_may_go_on_with_is_reset() {
    if !ledger("a_connection_that_nobody_may_go_on_with_is_reset", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (mut client, server) = network.connect();
    repair::freeze(server).unwrap().reset().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_service_can_be_listened_at_again_beside_imported_and_thawed_connections() {
    if !ledger(
        "a_service_can_be_listened_at_again_beside_imported_and_thawed_connections",
        &REQUIREMENTS,
    ) {
        return;
    }
    let network = Network::create(Family::V4);
    let (_client, server) = network.connect();
    let server = repair::freeze(server).unwrap().thaw().unwrap();
    drop(network.listen(Host::A));
    // Also beside a listener.
    let listener = network.listen(Host::B);
    let frozen = repair::freeze(server).unwrap();
    let export = frozen.export().unwrap();
    let _server = network.finish_move(frozen, &export, Host::B);
    drop(listener);
    network.listen(Host::B);
}

#[test]
fn what_cannot_move_is_refused_and_goes_on() {
    if !ledger("what_cannot_move_is_refused_and_goes_on", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (client, server) = network.connect();
    set_socket_recv_buffer_size(&client, 4096).unwrap();
    let mut server = Server::new(server);
    while unsent_bytes(&server.socket).unwrap() == 0 {
        server.pump();
    }
    let refused = repair::freeze(server.socket).unwrap_err();
    assert!(matches!(refused.error, RepairError::Unsent { bytes: 1.. }), "{refused}");
    server.socket = refused.socket;
    let client = BusyClient::start(client);
    client.stop();
    server.drain();
    let (sent, received) = (server.sent, server.received);
    SockRef::from(&server.socket).shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.join(), (received, sent));

    let refused = repair::freeze(server.socket).unwrap_err();
    let state = refused.error.to_string();
    assert!(
        state == "a connection in state LAST_ACK does not move" || state.contains("CLOSE"),
        "{state}"
    );
    let listener = network.listen(Host::A);
    let refused = repair::freeze(listener).unwrap_err();
    assert_eq!(refused.error.to_string(), "a connection in state LISTEN does not move");
    let pipe = rustix::pipe::pipe().unwrap().0;
    assert!(matches!(
        repair::freeze(pipe).unwrap_err().error,
        RepairError::Kernel { step: "TCP_INFO", .. }
    ));
}

#[test]
fn the_probe_succeeds_where_connections_can_be_moved() {
    if !ledger("the_probe_succeeds_where_connections_can_be_moved", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    network.within(Host::A, || {
        repair::probe().unwrap();
        repair::probe().unwrap();
    });
    assert_eq!(network.tcp_counter(Host::A, "OutSegs"), 0);
}
