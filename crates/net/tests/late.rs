//! What a frozen socket receives behind its export reaches the new owner.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use ashlar_net::repair::{self, RepairError, unread_bytes};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{SockFilter, SockRef};
use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use support::pattern::{check, piece};
use support::stream::Server;
use support::{Family, Host, Network, REQUIREMENTS, wait_until};

/// `BPF_RET | BPF_K` with a length that no packet has.
const TAKE_EVERYTHING: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);

/// Bytes that are in the image.
const EXPORTED: usize = 3_001;
/// Bytes that come to the old owner behind it.
const LATE: usize = 40_001;
/// Bytes that come to the new owner, which lacks the late ones.
const AHEAD: usize = 5_003;

/// Whether a program that waits for a socket is woken.
fn is_woken(waiting: &OwnedFd) -> bool {
    let mut events = Vec::with_capacity(1);
    let timeout = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(waiting, spare_capacity(&mut events), Some(&timeout)).unwrap() > 0
}

/// What comes to the frozen socket from now on was past its filter.
fn let_in(frozen: &OwnedFd) {
    SockRef::from(frozen).attach_filter(&[TAKE_EVERYTHING]).unwrap();
}

#[test]
fn late_bytes_are_received_by_the_new_owner_once_and_in_order() {
    if !ledger("late_bytes_are_received_by_the_new_owner_once_and_in_order", &REQUIREMENTS) {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let network = Network::create(family);
        let (mut client, old) = network.connect();
        client.write_all(piece(0, EXPORTED)).unwrap();
        wait_until("all is received", || unread_bytes(&old).unwrap() == EXPORTED);
        let frozen = repair::freeze(old.try_clone().unwrap()).unwrap();
        let export = frozen.export().unwrap();
        assert!(frozen.received_since(export.marks()).unwrap().unwrap().is_empty());
        let imported = network.import(Host::B, &export);
        let mut server = Server::new(imported.go().unwrap());
        server.received = EXPORTED as u64;

        let_in(&old);
        client.write_all(piece(EXPORTED as u64, LATE)).unwrap();
        let all = EXPORTED + LATE;
        wait_until("the old owner hears", || unread_bytes(&old).unwrap() == all);
        wait_until("the client is told", || repair::unacknowledged_bytes(&client).unwrap() == 0);
        network.point(Host::B);
        client.write_all(piece(all as u64, AHEAD)).unwrap();
        let late = frozen.received_since(export.marks()).unwrap().unwrap();
        check("late", EXPORTED as u64, &late);
        assert_eq!(late.len(), LATE);
        frozen.close_silently();
        drop(old);

        let sequence = export.tcp.receive_sequence;
        let receive = |bytes| repair::receive(&server.socket, sequence, bytes);
        let waiting = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let (data, flags) = (EventData::new_u64(0), EventFlags::IN | EventFlags::ET);
        epoll::add(&waiting, &server.socket, data, flags).unwrap();
        assert!(!is_woken(&waiting), "nothing came to the new owner");
        receive(&late[..1_000]).unwrap();
        assert!(is_woken(&waiting));
        for _ in 0..2 {
            receive(&late).unwrap();
            assert!(unread_bytes(&server.socket).unwrap() >= LATE);
        }
        let beyond = sequence.wrapping_add((LATE + AHEAD + 1) as u32);
        let error = repair::receive(&server.socket, beyond, &late).unwrap_err();
        assert!(matches!(error, RepairError::Gap), "{error}");
        client.shutdown(Shutdown::Write).unwrap();
        server.drain();
        assert_eq!(server.received, (all + AHEAD) as u64);
    }
}

#[test]
fn a_late_end_of_the_stream_is_told_apart_from_bytes() {
    if !ledger("a_late_end_of_the_stream_is_told_apart_from_bytes", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let (mut client, old) = network.connect();
    let frozen = repair::freeze(old.try_clone().unwrap()).unwrap();
    let export = frozen.export().unwrap();
    let_in(&old);
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    wait_until("the client's FIN is received", || frozen.export().unwrap().peer_finished);
    assert_eq!(frozen.received_since(export.marks()).unwrap(), None);
}
