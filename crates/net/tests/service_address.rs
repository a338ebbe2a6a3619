//! A host takes packets for a front end's listener, and is not to be noticed otherwise.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use ashlar_net::repair;
use ashlar_net::service_address::interface_of;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use support::pattern::piece;
use support::stream::Server;
use support::{Family, Host, INTERFACE, Network, PATIENCE, REQUIREMENTS, wait_until};

const FAMILIES: [(Family, &str); 2] = [(Family::V4, "-4"), (Family::V6, "-6")];

/// The host's rules and routes of ours, a line each.
fn entries(network: &Network, host: Host, family: &str) -> Vec<String> {
    let rules = network.ip(host, &format!("{family} rule show priority 7471"));
    let routes = network.ip(host, &format!("{family} route show table all type local"));
    let routes = routes.lines().filter(|line| line.contains("table 7471"));
    rules.lines().chain(routes).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_route_comes_once_and_goes_with_whoever_added_it() {
    if !ledger("a_route_comes_once_and_goes_with_whoever_added_it", &REQUIREMENTS) {
        return;
    }
    for (family, option) in FAMILIES {
        let network = Network::create(family);
        let entries = || entries(&network, Host::Client, option);
        let listener = |port| SocketAddr::new(network.service_ip(), port);
        let first = network.prepare(Host::Client, listener(80));
        let of_one = entries();
        assert_eq!(of_one.len(), 2, "{of_one:?}");
        assert!(of_one[0].contains("ipproto tcp dport 80"), "{of_one:?}");

        let second = network.prepare(Host::Client, listener(443));
        assert_eq!(entries().len(), 4);
        let first_again = network.prepare(Host::Client, listener(80));
        assert_eq!(entries().len(), 4);
        drop(first_again);
        drop(second);
        assert_eq!(entries(), of_one);
        drop(first);
        assert!(entries().is_empty());
    }
}

#[test]
fn what_a_killed_process_left_is_used_again_and_does_not_pile_up() {
    if !ledger("what_a_killed_process_left_is_used_again_and_does_not_pile_up", &REQUIREMENTS) {
        return;
    }
    for (family, option) in FAMILIES {
        let network = Network::create(family);
        let entries = || entries(&network, Host::Client, option);
        mem::forget(network.prepare(Host::Client, network.service()));
        let left = entries();
        assert_eq!(left.len(), 2, "{left:?}");
        for _ in 0..3 {
            mem::forget(network.prepare(Host::Client, network.service()));
            assert_eq!(entries(), left);
        }
        // One half is enough to begin with, too.
        network.ip(Host::Client, &format!("{option} rule del priority 7471"));
        let route = network.prepare(Host::Client, network.service());
        assert_eq!(entries(), left);
        drop(route);
        assert_eq!(entries(), left[1..]);
    }
}

/// The service address is the front end's own, and it may have no other.
#[test]
fn a_storage_node_reaches_the_front_end_by_every_other_port() {
    if !ledger("a_storage_node_reaches_the_front_end_by_every_other_port", &REQUIREMENTS) {
        return;
    }
    for (family, _) in FAMILIES {
        let network = Network::create(family);
        let front_end = |port| SocketAddr::new(network.service_ip(), port);
        let connect = |port| network.within(Host::B, || TcpStream::connect(front_end(port)));
        let listener = network.within(Host::A, || TcpListener::bind(front_end(9900))).unwrap();
        connect(9900).unwrap().write_all(b"x").unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();

        // And the other way round: the front end is a client of storage nodes with the same address.
        let own = match family {
            Family::V4 => IpAddr::from(Host::B.v4()),
            Family::V6 => Host::B.v6().into(),
        };
        let listener = network.within(Host::B, || TcpListener::bind((own, 9000))).unwrap();
        let mut client = network.within(Host::A, || TcpStream::connect((own, 9000))).unwrap();
        assert_eq!(client.local_addr().unwrap().ip(), network.service_ip());
        listener.accept().unwrap().0.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();

        // The price: to the listener, it is no client.
        let _service = network.listen(Host::A);
        let refused = [ErrorKind::ConnectionRefused, ErrorKind::NetworkUnreachable];
        assert!(refused.contains(&connect(80).unwrap_err().kind()));
    }
}

#[test]
fn a_host_that_carries_the_address_goes_on_as_before() {
    if !ledger("a_host_that_carries_the_address_goes_on_as_before", &REQUIREMENTS) {
        return;
    }
    for (family, _) in FAMILIES {
        let network = Network::create(family);
        let carrier = || network.within(Host::A, || interface_of(network.service_ip())).unwrap();
        let before = carrier().unwrap();
        assert_eq!(before.name, INTERFACE);
        assert_eq!(before.hardware_address, [2, 0, 0, 0, 0, 3]);
        let _route = network.prepare(Host::A, network.service());
        assert_eq!(carrier(), Some(before));
        let (mut client, server) = network.connect();
        Server::new(server).write_all(10);
        client.read_exact(&mut [0; 10]).unwrap();
    }
}

/// The front end is silent, and the client asks for its address: nobody may answer, with the settings that a host has from the start.
#[test]
fn no_storage_node_answers_for_the_service_address() {
    if !ledger("no_storage_node_answers_for_the_service_address", &REQUIREMENTS) {
        return;
    }
    for (family, _) in FAMILIES {
        let network = network_that_asks(family);
        network.ip(Host::A, &format!("link set {INTERFACE} down"));
        let own = match family {
            Family::V4 => IpAddr::from(Host::B.v4()),
            Family::V6 => Host::B.v6().into(),
        };
        for address in [network.service_ip(), own] {
            network.ip(Host::Client, &format!("neigh del {address} dev {INTERFACE}"));
            let unspecified: IpAddr = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            network.within(Host::Client, || {
                UdpSocket::bind((unspecified, 0)).unwrap().send_to(b"?", (address, 9)).unwrap();
            });
        }
        let entry = |address: IpAddr| network.ip(Host::Client, &format!("neigh show {address}"));
        // Host B answers for its own address, so that silence about the other one means something.
        wait_until("the host's own address is answered for", || {
            entry(own).contains(&Host::B.mac())
        });
        wait_until("the client has given up", || entry(network.service_ip()).contains("FAILED"));
    }
}

/// A client that hears a question from the service address would send everything to who asked, until it forgets.
#[test]
fn a_new_owner_asks_for_the_client_in_its_own_name() {
    if !ledger("a_new_owner_asks_for_the_client_in_its_own_name", &REQUIREMENTS) {
        return;
    }
    for (family, _) in FAMILIES {
        let network = network_that_asks(family);
        let (mut client, server) = network.connect();
        let frozen = repair::freeze(server).unwrap();
        let export = frozen.export().unwrap();
        let questions = Questions::listen(&network, family);
        network.ip(Host::B, &format!("neigh del {} dev {INTERFACE}", network.client_ip()));
        let mut server = Server::new(network.finish_move(frozen, &export, Host::B));
        server.write_all(1_000);
        let mut received = [0; 1_000];
        client.read_exact(&mut received).unwrap();
        support::pattern::check("client", 0, &received);
        client.write_all(piece(0, 10)).unwrap();
        wait_until("the client is heard", || {
            server.read();
            server.received == 10
        });
        let asker = questions.next_asker();
        assert_ne!(asker, network.service_ip());
        assert!([IpAddr::from(Host::B.v4()), link_local(Host::B).into()].contains(&asker));
    }
}

/// Neighbours of IPv6 ask from link-local addresses, which the test network does not have.
fn network_that_asks(family: Family) -> Network {
    let network = Network::create(family);
    for host in Host::ALL {
        network.ip(host, &format!("addr add {}/64 dev {INTERFACE} nodad", link_local(host)));
    }
    network
}

fn link_local(host: Host) -> Ipv6Addr {
    let own = host.v6().segments();
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, own[7])
}

/// Neighbours' questions of host B, as the client hears them.
struct Questions {
    socket: Socket,
    family: Family,
}

impl Questions {
    fn listen(network: &Network, family: Family) -> Self {
        let kind: u16 = match family {
            Family::V4 => 0x0806,
            Family::V6 => 0x86dd,
        };
        let protocol = Protocol::from(i32::from(kind.to_be()));
        let socket =
            network.within(Host::Client, || Socket::new(Domain::PACKET, Type::RAW, Some(protocol)));
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, family }
    }

    /// In whose name the next question is asked.
    fn next_asker(&self) -> IpAddr {
        let deadline = Instant::now() + PATIENCE;
        let mut frame = [0; 2048];
        while Instant::now() < deadline {
            let Ok(bytes) = (&self.socket).read(&mut frame) else { continue };
            if let Some(asker) = self.asker(&frame[..bytes]) {
                return asker;
            }
        }
        panic!("nobody has asked");
    }

    fn asker(&self, frame: &[u8]) -> Option<IpAddr> {
        const ETHERNET_BYTES: usize = 14;
        const NEIGHBOUR_SOLICITATION: u8 = 135;
        if frame.get(6..12)? != [2, 0, 0, 0, 0, 4] {
            return None;
        }
        let packet = &frame[ETHERNET_BYTES..];
        match self.family {
            Family::V4 => {
                let sender: [u8; 4] = packet.get(14..18)?.try_into().ok()?;
                (packet[6..8] == [0, 1]).then(|| sender.into())
            }
            Family::V6 => {
                let sender: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
                (packet.get(40) == Some(&NEIGHBOUR_SOLICITATION)).then(|| sender.into())
            }
        }
    }
}
