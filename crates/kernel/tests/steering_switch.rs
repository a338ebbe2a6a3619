//! Steering on a switch: connections that pass it go to the owners of their flows, through the bridge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::chaos::XdpMode;
use ashlar_kernel::steering::{
    Attach, Counter, FlowKey, Operation, Owner, Reply, Request, ResultCode, Settings, Steering,
};
use ashlar_kernel::testing::ledger;
use std::io::{self, Read as _, Write as _};
use support::REQUIREMENTS;
use support::bridge::{BRIDGE, Host, Network};
use support::steering::{key, settings};
use support::traffic::{
    CLIENT_PORT, OWNER, client, connect_anew, connect_from, connect_to_the_owner, control_socket,
    count, echo, greeting, receive_reply, serve, service,
};

/// The front end, as steering names it.
const FRONT_END: Owner = Owner { mac: Host::FrontEnd.mac(), id: 2 };

fn steering(network: &Network, attach: Attach) -> Steering {
    network.give_the_bridge_an_address();
    network.run(Host::Bridge, || {
        let mut settings: Settings = settings();
        settings.control.ipv4 = Some(Host::Bridge.ipv4());
        settings.control.ipv6 = Some(Host::Bridge.ipv6());
        let mut steering = Steering::load(&settings).unwrap();
        steering.attach_to_ports(BRIDGE, &[Host::Client.name().to_owned()], attach).unwrap();
        assert_eq!(steering.mac(), Host::Bridge.mac());
        steering.check_attached().unwrap();
        steering
    })
}

fn point(steering: &mut Steering, flow: FlowKey, owner: Owner, epoch: u64) {
    let operation = Operation::Point { flow, owner, epoch, closing: false };
    assert_eq!(steering.execute(&operation).unwrap().result, ResultCode::Applied);
}

fn connections_pass_to_the_owner_of_their_flow(attach: Attach) {
    let network = Network::create();
    let mut steering = steering(&network, attach);
    for is_ipv6 in [false, true] {
        let steered = connect_to_the_owner(&network, &mut steering, is_ipv6);
        // The bridge knows where everybody is, the client too, of whom it saw nothing but steered frames for a while.
        for host in [Host::Client, Host::FrontEnd, Host::Owner] {
            assert_eq!(network.learned_port(host.mac()).as_deref(), Some(host.name()));
        }
        connect_anew(&network, &mut steering, is_ipv6, steered);
    }
    assert_eq!(count(&steering, Counter::ForgottenBySyn), 2);
    assert_eq!(count(&steering, Counter::WriteFailed), 0);
}

#[test]
fn connections_pass_to_the_owner_of_their_flow_by_tc() {
    if ledger("connections_pass_to_the_owner_of_their_flow_by_tc", &REQUIREMENTS) {
        connections_pass_to_the_owner_of_their_flow(Attach::Tc);
    }
}

#[test]
fn connections_pass_to_the_owner_of_their_flow_by_native_xdp() {
    if ledger("connections_pass_to_the_owner_of_their_flow_by_native_xdp", &REQUIREMENTS) {
        connections_pass_to_the_owner_of_their_flow(Attach::Xdp(XdpMode::Native));
    }
}

#[test]
fn connections_pass_to_the_owner_of_their_flow_by_generic_xdp() {
    if ledger("connections_pass_to_the_owner_of_their_flow_by_generic_xdp", &REQUIREMENTS) {
        connections_pass_to_the_owner_of_their_flow(Attach::Xdp(XdpMode::Generic));
    }
}

#[test]
fn a_flow_that_came_back_passes_to_the_front_end_untouched() {
    if !ledger("a_flow_that_came_back_passes_to_the_front_end_untouched", &REQUIREMENTS) {
        return;
    }
    let network = Network::create();
    let mut steering = steering(&network, Attach::Tc);
    serve(&network, Host::FrontEnd, false);
    let (from, to) = (client(false, CLIENT_PORT), service(false));
    let flow = FlowKey::new(from, to);
    point(&mut steering, flow, OWNER, 1);
    point(&mut steering, flow, FRONT_END, 2);
    let mut stream = connect_from(&network, from, to).unwrap();
    assert_eq!(greeting(&mut stream), "front");
    echo(&stream);
    assert!(count(&steering, Counter::OwnedHere) > 10);
    assert_eq!(count(&steering, Counter::Steered), 0);
}

#[test]
fn without_its_table_a_connection_meets_a_reset() {
    if !ledger("without_its_table_a_connection_meets_a_reset", &REQUIREMENTS) {
        return;
    }
    let network = Network::create();
    let mut steering = steering(&network, Attach::Tc);
    serve(&network, Host::Owner, false);
    let (from, to) = (client(false, CLIENT_PORT), service(false));
    point(&mut steering, FlowKey::new(from, to), OWNER, 1);
    let mut stream = connect_from(&network, from, to).unwrap();
    assert_eq!(greeting(&mut stream), "owner");
    drop(steering);
    stream.write_all(b"is anybody there?").unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// A request from a host to the switch's control address.
fn ask(network: &Network, host: Host, is_ipv6: bool, request: Request) -> Reply {
    let socket = control_socket(network, host, Host::Bridge, is_ipv6);
    socket.send(request.seal(&key()).bytes()).unwrap();
    receive_reply(&socket)
}

#[test]
fn hosts_at_every_port_get_answers_from_one_table() {
    if !ledger("hosts_at_every_port_get_answers_from_one_table", &REQUIREMENTS) {
        return;
    }
    for attach in [Attach::Tc, Attach::Xdp(XdpMode::Native)] {
        let network = Network::create();
        let mut steering = steering(&network, attach);
        let incarnation = steering.incarnation();
        let flow = FlowKey::new(client(false, CLIENT_PORT), service(false));
        let mut epoch = 0;
        for is_ipv6 in [false, true] {
            // The client's port has a program of its own, the others have none.
            for (sender, host) in (3..).zip([Host::Owner, Host::FrontEnd, Host::Client]) {
                epoch += 1;
                let operation = Operation::Point { flow, owner: OWNER, epoch, closing: false };
                let request = Request { sender, counter: epoch, incarnation, operation };
                let reply = ask(&network, host, is_ipv6, request);
                assert_eq!(reply.result, ResultCode::Applied, "{attach:?} {host:?} {is_ipv6}");
                let state = steering.execute(&Operation::Query { flow }).unwrap().state.unwrap();
                assert_eq!((state.owner, state.epoch), (OWNER, epoch));
            }
        }
    }
}
