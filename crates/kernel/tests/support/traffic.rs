//! A service that says on which host it is, and its clients.

use super::bridge::{Host, Network, SERVICE_IPV4, SERVICE_IPV6};
use super::eventually;
use super::steering::{CONTROL_PORT, key};
use ashlar_kernel::steering::{Counter, FlowKey, Operation, Owner, Reply, ResultCode, Steering};
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

pub(crate) const SERVICE_PORT: u16 = 80;
pub(crate) const CLIENT_PORT: u16 = 40_000;
pub(crate) const TIME_MAX: Duration = Duration::from_secs(10);
/// Several windows' worth each way: frames of many packets in one, where the interface does that.
pub(crate) const PAYLOAD_BYTES: usize = 4 << 20;

pub(crate) const OWNER: Owner = Owner { mac: Host::Owner.mac(), id: 21 };

pub(crate) fn service(is_ipv6: bool) -> SocketAddr {
    let address: IpAddr = if is_ipv6 { SERVICE_IPV6.into() } else { SERVICE_IPV4.into() };
    SocketAddr::from((address, SERVICE_PORT))
}

pub(crate) fn client(is_ipv6: bool, port: u16) -> SocketAddr {
    SocketAddr::from((Host::Client.address(is_ipv6), port))
}

/// A service on a host: it says who it is, then sends back what it gets until the client has finished. Lives until the test ends.
pub(crate) fn serve(network: &Network, host: Host, is_ipv6: bool) {
    let listener = network.run(host, || TcpListener::bind(service(is_ipv6)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut from = stream.try_clone().unwrap();
                // A client that resets ends the service of it, nothing else.
                let _ = writeln!(stream, "{:6}", host.name());
                let _ = io::copy(&mut from, &mut stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
}

/// Connects from a port that is known before.
pub(crate) fn connect_from(
    network: &Network,
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<TcpStream> {
    network.run(Host::Client, || {
        let family = if from.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from)?;
        set_socket_timeout(&socket, Timeout::Send, Some(TIME_MAX))?;
        connect(&socket, &to)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIME_MAX))?;
        Ok(stream)
    })
}

/// Who answers on a connection.
pub(crate) fn greeting(stream: &mut TcpStream) -> String {
    let mut line = [0; 7];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Sends much, both ways at once, and compares.
pub(crate) fn echo(stream: &TcpStream) {
    let sent: Vec<u8> = (0..PAYLOAD_BYTES).map(|index| (index * 7 + index / 4_093) as u8).collect();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&*stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&*stream).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} bytes came back of {PAYLOAD_BYTES}", received.len());
}

/// Connects from a port whose earlier connection has ended, as soon as the client has forgotten it: its name can be taken by force from
/// then on (TIME_WAIT), not before.
pub(crate) fn connect_again(network: &Network, from: SocketAddr, to: SocketAddr) -> TcpStream {
    let mut connected = None;
    eventually("the port is free", || match connect_from(network, from, to) {
        Ok(stream) => connected.replace(stream).is_none(),
        Err(error) => {
            let is_taken = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse];
            assert!(is_taken.contains(&error.kind()), "{from}: {error}");
            false
        }
    });
    connected.unwrap()
}

/// A connection whose flow has an owner goes there, one whose flow nobody knows to the front end. Returns the owner's, at whose end the
/// client has finished.
pub(crate) fn connect_to_the_owner(
    network: &Network,
    steering: &mut Steering,
    is_ipv6: bool,
) -> TcpStream {
    for host in [Host::FrontEnd, Host::Owner] {
        serve(network, host, is_ipv6);
    }
    let (from, to) = (client(is_ipv6, CLIENT_PORT), service(is_ipv6));
    let flow = FlowKey::new(from, to);
    let point = Operation::Point { flow, owner: OWNER, epoch: 1, closing: false };
    assert_eq!(steering.execute(&point).unwrap().result, ResultCode::Applied);

    let mut unknown = connect_from(network, client(is_ipv6, CLIENT_PORT + 1), to).unwrap();
    assert_eq!(greeting(&mut unknown), Host::FrontEnd.name());
    let before = count(steering, Counter::Steered);
    let mut steered = connect_from(network, from, to).unwrap();
    assert_eq!(greeting(&mut steered), Host::Owner.name());
    echo(&steered);
    echo(&unknown);
    assert!(count(steering, Counter::Steered) > before + 10);
    steered
}

/// The client's FIN was seen on its way; the next connection of this name starts at the front end.
pub(crate) fn connect_anew(
    network: &Network,
    steering: &mut Steering,
    is_ipv6: bool,
    steered: TcpStream,
) {
    let (from, to) = (client(is_ipv6, CLIENT_PORT), service(is_ipv6));
    let query = Operation::Query { flow: FlowKey::new(from, to) };
    let state = steering.execute(&query).unwrap().state.unwrap();
    assert!(state.closing, "{state:?}");
    drop(steered);
    let mut next = connect_again(network, from, to);
    assert_eq!(greeting(&mut next), Host::FrontEnd.name());
    echo(&next);
    assert_eq!(steering.execute(&query).unwrap().result, ResultCode::UnknownFlow);
}

/// A client of steering's control address, which is a host's.
pub(crate) fn control_socket(network: &Network, from: Host, to: Host, is_ipv6: bool) -> UdpSocket {
    network.run(from, || {
        // The service's address may be on this host, too: the client must ask from its own.
        let socket = UdpSocket::bind((from.address(is_ipv6), 0)).unwrap();
        socket.connect((to.address(is_ipv6), CONTROL_PORT)).unwrap();
        socket
    })
}

/// Waits for steering's answer.
pub(crate) fn receive_reply(socket: &UdpSocket) -> Reply {
    socket.set_read_timeout(Some(TIME_MAX)).unwrap();
    let mut bytes = [0; 200];
    let length = socket.recv(&mut bytes).expect("a reply");
    Reply::open(&bytes[..length], &key()).unwrap()
}

pub(crate) fn count(steering: &Steering, counter: Counter) -> u64 {
    steering.counters().unwrap().get(counter)
}
