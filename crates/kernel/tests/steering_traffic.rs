//! Real connections over a bridge: a client, a front end that steers, an owner that answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::chaos::{Attachment, Chaos, XdpMode};
use ashlar_kernel::steering::{
    Attach, ControlKey, Counter, FlowKey, Operation, Reply, Request, ResultCode, Steering,
};
use ashlar_kernel::testing::ledger;
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::time::Duration;
use support::REQUIREMENTS;
use support::bridge::{Host, INTERFACE, Network, SERVICE_IPV4, SERVICE_IPV6};
use support::steering::{key, settings};
use support::traffic::{
    CLIENT_PORT, OWNER, client, connect_again, connect_anew, connect_from, connect_to_the_owner,
    control_socket, count, greeting, receive_reply, serve, service,
};

const OTHER_SENDER: u16 = 3;
/// After so long without a reply there will be none.
const SILENCE: Duration = Duration::from_millis(300);

/// The front end steers; everything that the way of attaching demands of the others is done.
fn steering(network: &Network, attach: Attach) -> (Steering, Option<Chaos>) {
    let mut pass_program = None;
    if let Attach::Xdp(_) = attach {
        network.compute_checksums(Host::Client);
        // A virtual interface takes frames that a driver's program sends only where another such program is.
        pass_program = Some(network.run(Host::Bridge, || {
            let mut chaos = Chaos::load().unwrap();
            chaos.attach(Host::FrontEnd.name(), Attachment::Xdp(XdpMode::Native)).unwrap();
            chaos
        }));
    }
    let steering = network.run(Host::FrontEnd, || {
        let mut steering = Steering::load(&settings()).unwrap();
        steering.attach(INTERFACE, attach).unwrap();
        assert_eq!(steering.mac(), Host::FrontEnd.mac());
        steering
    });
    (steering, pass_program)
}

fn connections_go_to_the_owner_of_their_flow(attach: Attach) {
    let network = Network::create();
    let (mut steering, _pass_program) = steering(&network, attach);
    for is_ipv6 in [false, true] {
        let steered = connect_to_the_owner(&network, &mut steering, is_ipv6);
        connect_anew(&network, &mut steering, is_ipv6, steered);
    }
    assert_eq!(count(&steering, Counter::ForgottenBySyn), 2);
    assert_eq!(count(&steering, Counter::WriteFailed), 0);
}

#[test]
fn connections_go_to_the_owner_of_their_flow_by_tc() {
    if ledger("connections_go_to_the_owner_of_their_flow_by_tc", &REQUIREMENTS) {
        connections_go_to_the_owner_of_their_flow(Attach::Tc);
    }
}

#[test]
fn connections_go_to_the_owner_of_their_flow_by_native_xdp() {
    if ledger("connections_go_to_the_owner_of_their_flow_by_native_xdp", &REQUIREMENTS) {
        connections_go_to_the_owner_of_their_flow(Attach::Xdp(XdpMode::Native));
    }
}

#[test]
fn connections_go_to_the_owner_of_their_flow_by_generic_xdp() {
    if ledger("connections_go_to_the_owner_of_their_flow_by_generic_xdp", &REQUIREMENTS) {
        connections_go_to_the_owner_of_their_flow(Attach::Xdp(XdpMode::Generic));
    }
}

/// A control client on the owner's host.
struct Control {
    socket: UdpSocket,
    counter: u64,
}

impl Control {
    fn connect(network: &Network, is_ipv6: bool) -> Self {
        let socket = control_socket(network, Host::Owner, Host::FrontEnd, is_ipv6);
        Self { socket, counter: 1_000 }
    }

    fn send(&self, key: &ControlKey, counter: u64, incarnation: u64, operation: Operation) {
        let request = Request { sender: OTHER_SENDER, counter, incarnation, operation };
        self.socket.send(request.seal(key).bytes()).unwrap();
    }

    fn ask(&mut self, incarnation: u64, operation: Operation) -> Reply {
        self.counter += 1;
        self.send(&key(), self.counter, incarnation, operation);
        let reply = receive_reply(&self.socket);
        assert_eq!((reply.sender, reply.counter), (OTHER_SENDER, self.counter));
        reply
    }

    fn hears_nothing(&self) -> bool {
        self.socket.set_read_timeout(Some(SILENCE)).unwrap();
        self.socket.recv(&mut [0; 200]).is_err()
    }
}

fn other_hosts_get_answers(attach: Attach) {
    let network = Network::create();
    let (mut steering, _pass_program) = steering(&network, attach);
    // The control address is the service's here, and the owner must reach it at the front end.
    network.run(Host::Owner, forget_the_service);
    let incarnation = steering.incarnation();
    for is_ipv6 in [false, true] {
        let mut control = Control::connect(&network, is_ipv6);
        control.counter += u64::from(is_ipv6) * 1_000;
        let flow = FlowKey::new(client(is_ipv6, CLIENT_PORT), service(is_ipv6));
        let point = |epoch| Operation::Point { flow, owner: OWNER, epoch, closing: false };
        let place = format!("{attach:?}, IPv6 {is_ipv6}");

        let told = control.ask(0, Operation::Query { flow });
        assert_eq!((told.result, told.incarnation), (ResultCode::WrongIncarnation, incarnation));
        let applied = control.ask(incarnation, point(1));
        assert_eq!(applied.state.unwrap().owner, OWNER, "{place}");
        assert_eq!(applied.result, ResultCode::Applied, "{place}");
        let own = steering.execute(&Operation::Query { flow }).unwrap();
        assert_eq!(own.state, applied.state, "{place}");

        let forged = count(&steering, Counter::ControlForged);
        control.send(&ControlKey::new([1; 16]), control.counter + 1, incarnation, point(9));
        assert!(control.hears_nothing(), "{place}");
        assert_eq!(count(&steering, Counter::ControlForged), forged + 1, "{place}");

        let replayed = count(&steering, Counter::ControlReplayed);
        control.send(&key(), control.counter, incarnation, point(9));
        assert!(control.hears_nothing(), "{place}");
        assert_eq!(count(&steering, Counter::ControlReplayed), replayed + 1, "{place}");

        let forgotten = control.ask(incarnation, Operation::Forget { flow, epoch: 1 });
        assert_eq!(forgotten.result, ResultCode::Applied, "{place}");
    }
    assert_eq!(steering.flows().unwrap().count(), 0);
}

/// Takes the service's addresses from the owner: its own stack would answer for them.
fn forget_the_service() {
    for address in [format!("{SERVICE_IPV4}/32"), format!("{SERVICE_IPV6}/128")] {
        let status = std::process::Command::new("ip")
            .args(["addr", "del", &address, "dev", "lo"])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

#[test]
fn other_hosts_get_answers_by_tc() {
    if ledger("other_hosts_get_answers_by_tc", &REQUIREMENTS) {
        other_hosts_get_answers(Attach::Tc);
    }
}

#[test]
fn other_hosts_get_answers_by_native_xdp() {
    if ledger("other_hosts_get_answers_by_native_xdp", &REQUIREMENTS) {
        other_hosts_get_answers(Attach::Xdp(XdpMode::Native));
    }
}

#[test]
fn a_reset_ends_a_flow_and_its_next_connection_starts_anew() {
    if !ledger("a_reset_ends_a_flow_and_its_next_connection_starts_anew", &REQUIREMENTS) {
        return;
    }
    let network = Network::create();
    let (mut steering, _) = steering(&network, Attach::Tc);
    serve(&network, Host::FrontEnd, false);
    serve(&network, Host::Owner, false);
    let (from, to) = (client(false, CLIENT_PORT), service(false));
    let flow = FlowKey::new(from, to);
    steering.execute(&Operation::Point { flow, owner: OWNER, epoch: 1, closing: false }).unwrap();
    let mut stream = connect_from(&network, from, to).unwrap();
    assert_eq!(greeting(&mut stream), "owner");
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let mut next = connect_again(&network, from, to);
    assert_eq!(greeting(&mut next), "front");
    assert_eq!(count(&steering, Counter::ForgottenBySyn), 1);
}

#[test]
fn the_flows_of_a_dead_owner_are_reset_by_the_front_end() {
    if !ledger("the_flows_of_a_dead_owner_are_reset_by_the_front_end", &REQUIREMENTS) {
        return;
    }
    let network = Network::create();
    let (mut steering, _) = steering(&network, Attach::Tc);
    serve(&network, Host::Owner, false);
    let (from, to) = (client(false, CLIENT_PORT), service(false));
    let flow = FlowKey::new(from, to);
    steering.execute(&Operation::Point { flow, owner: OWNER, epoch: 1, closing: false }).unwrap();
    let mut stream = connect_from(&network, from, to).unwrap();
    assert_eq!(greeting(&mut stream), "owner");
    assert_eq!(steering.forget_owner(OWNER.id).unwrap(), 1);
    stream.write_all(b"is anybody there?").unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
