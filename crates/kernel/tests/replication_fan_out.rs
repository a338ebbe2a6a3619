//! One frame for all members of a group, at a bridge with a host for each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::replication::{
    Counter, FanOut, MEMBERS_MAX, Mode, Programs, SharedGroup, Terms,
};
use ashlar_kernel::testing::ledger;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;
use support::bridge::{Host, INTERFACE, Network};
use support::marked::send_marked;
use support::replication::{BpfDirectory, frame, header, load, requirements};

const PORT: u16 = 7_000;
const RECEIVERS: [Host; 3] = [Host::Bridge, Host::FrontEnd, Host::Owner];
/// The sender's place is the first; a member that nobody is has the last.
const NOBODY_PLACE: usize = 4;
/// Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Not all have the same port.
fn address(host: Host) -> SocketAddrV4 {
    let port = if host == Host::Owner { PORT + 1 } else { PORT };
    SocketAddrV4::new(host.ipv4(), port)
}

/// Members of a group, the first of which leads and has the programs.
struct Members {
    network: Network,
    _directory: BpfDirectory,
    programs: Programs,
    group: SharedGroup,
    sender: UdpSocket,
    receivers: Vec<UdpSocket>,
}

impl Members {
    fn create(checksums_are_computed: bool) -> Self {
        let network = Network::create();
        network.give_the_bridge_an_address();
        if checksums_are_computed {
            network.compute_checksums(Host::Client);
        }
        let directory = BpfDirectory::mount();
        let programs = network.run(Host::Client, || {
            let mut programs = load(address(Host::Client), directory.pin());
            programs.attach_tc(INTERFACE).unwrap();
            programs
        });
        let mut members = [None; MEMBERS_MAX];
        members[0] = Some(address(Host::Client));
        for (member, host) in members[1..].iter_mut().zip(RECEIVERS) {
            *member = Some(address(host));
        }
        members[NOBODY_PLACE] = Some(SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 77), PORT));
        let mut group = programs.group(0);
        group.lock();
        group.configure(&Terms { view: 1, place: 0, leader: 0, needed: 2, members });
        group.set_mode(Mode::Lead);
        group.unlock();
        let open = |host| network.run(host, || UdpSocket::bind(address(host)).unwrap());
        let (sender, receivers) = (open(Host::Client), RECEIVERS.map(open).into());
        Self { network, _directory: directory, programs, group, sender, receivers }
    }

    /// Sends to the first receiver, with copies for others.
    fn send(&self, payload: &[u8], places: u8, segment_bytes: Option<u16>) {
        let (to, mark) = (address(RECEIVERS[0]), FanOut::new(places).mark());
        let sent = send_marked(&self.sender, to, payload, mark, segment_bytes).unwrap();
        assert_eq!(sent, payload.len());
    }

    /// What a receiver gets next.
    fn received(&self, receiver: usize) -> Vec<u8> {
        let socket = &self.receivers[receiver];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (length, from) = socket
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{:?}: {error}", RECEIVERS[receiver]));
        assert_eq!(from, address(Host::Client).into());
        buffer.truncate(length);
        buffer
    }

    fn nothing_waits(&self) {
        for socket in &self.receivers {
            socket.set_nonblocking(true).unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
            socket.set_nonblocking(false).unwrap();
        }
    }

    fn count(&self, counter: Counter) -> u64 {
        self.programs.counters().unwrap().get(counter)
    }
}

/// A frame of so many bytes, as user space makes it.
fn frame_of(number: u8, bytes: usize) -> Vec<u8> {
    let header = header(2, 1, number.into(), 0);
    frame(header, &vec![number; bytes - 64])
}

#[test]
fn every_member_gets_the_frame_from_the_same_source() {
    if !ledger("every_member_gets_the_frame_from_the_same_source", &requirements()) {
        return;
    }
    for checksums_are_computed in [false, true] {
        let members = Members::create(checksums_are_computed);
        // The first one finds no Ethernet address known; none is lost.
        for number in 0..50 {
            let sent = frame_of(number, 64 + 27 * usize::from(number));
            members.send(&sent, 0b1100, None);
            for receiver in 0..RECEIVERS.len() {
                assert_eq!(members.received(receiver), sent, "{number} to {receiver}");
            }
        }
        members.nothing_waits();
        assert_eq!((members.count(Counter::FanOut), members.count(Counter::Copied)), (50, 100));
        assert_eq!(members.group.take_unreached(), 0);
    }
}

#[test]
fn a_train_of_frames_is_copied_as_one() {
    if !ledger("a_train_of_frames_is_copied_as_one", &requirements()) {
        return;
    }
    for checksums_are_computed in [false, true] {
        let members = Members::create(checksums_are_computed);
        let frames: Vec<_> = (0..20).map(|number| frame_of(number, 1_200)).collect();
        members.send(&frames.concat(), 0b1100, Some(1_200));
        for receiver in 0..RECEIVERS.len() {
            for frame in &frames {
                assert_eq!(members.received(receiver), *frame, "to {receiver}");
            }
        }
        members.nothing_waits();
        assert_eq!((members.count(Counter::FanOut), members.count(Counter::Copied)), (1, 2));
    }
}

#[test]
fn a_copy_for_nobody_hinders_none_of_the_others() {
    if !ledger("a_copy_for_nobody_hinders_none_of_the_others", &requirements()) {
        return;
    }
    let members = Members::create(false);
    let sent = frame_of(1, 200);
    // The fifth is a member that nobody answers for; those behind have no address.
    members.send(&sent, 0b0111_1100, None);
    for receiver in 0..RECEIVERS.len() {
        assert_eq!(members.received(receiver), sent);
    }
    assert_eq!(members.group.take_unreached(), 0b0110_0000);
    assert_eq!(members.group.take_unreached(), 0, "it is told once");
    assert_eq!((members.count(Counter::Copied), members.count(Counter::CopyUnresolved)), (3, 2));
}

#[test]
fn what_cannot_be_copied_is_sent_alone() {
    if !ledger("what_cannot_be_copied_is_sent_alone", &requirements()) {
        return;
    }
    let members = Members::create(false);
    let long = frame_of(1, 4_000);
    members.send(&long, 0b1100, None);
    assert_eq!(members.received(0), long);
    assert_eq!(members.group.take_unreached(), 0b1100);
    assert!(members.count(Counter::FanOutFragment) > 0);

    members.send(b"no frame of replication, which would be longer than this", 0b1100, None);
    members.received(0);
    let stranger = members.network.run(Host::Client, || UdpSocket::bind("0.0.0.0:0").unwrap());
    let mark = FanOut::new(0b1100).mark();
    let sent = frame_of(2, 200);
    send_marked(&stranger, address(RECEIVERS[0]), &sent, mark, None).unwrap();
    let mut buffer = [0; 300];
    assert_eq!(members.receivers[0].recv(&mut buffer).unwrap(), sent.len());
    assert_eq!(members.count(Counter::FanOutForeign), 2);
    assert_eq!((members.count(Counter::FanOut), members.count(Counter::Copied)), (0, 0));
    members.nothing_waits();
}
