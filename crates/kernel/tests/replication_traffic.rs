//! Replicas' frames over a cable: the kernel acknowledges and counts for a process that lives, and for no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_fastpath::replication::{HEADER_BYTES, Header, checksum_of, kind};
use ashlar_kernel::replication::{
    Bell, Counter, Fenced, MEMBERS_MAX, Mode, Programs, Settings, SharedGroup, Terms, fence, now_ns,
};
use ashlar_kernel::testing::{
    LEFT_ADDRESS, LEFT_INTERFACE, NamespacePair, RIGHT_ADDRESS, RIGHT_INTERFACE, Side, ledger,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::child;
use support::interfaces::attached_programs;
use support::replication::{BpfDirectory, GROUP, frame, header, load, requirements};
use zerocopy::FromBytes as _;

const LEFT: SocketAddrV4 = SocketAddrV4::new(LEFT_ADDRESS, 7_000);
const RIGHT: SocketAddrV4 = SocketAddrV4::new(RIGHT_ADDRESS, 7_000);
const LEFT_PLACE: u8 = 0;
const RIGHT_PLACE: u8 = 1;
const VIEW: u64 = 3;
/// Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(10);
const HOUR_NS: u64 = 3_600_000_000_000;

/// Digests that tell places apart.
fn digest(op: u64) -> u64 {
    op.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A frame with one entry.
fn prepare(view: u64, op: u64) -> Vec<u8> {
    let mut header = header(kind::PREPARE, view, op, digest(op));
    header.entries = 1.into();
    let body = [&digest(op - 1).to_le_bytes()[..], &[op as u8; 100]].concat();
    frame(header, &body)
}

fn prepare_ok(view: u64, place: u8, op: u64) -> Vec<u8> {
    let mut header = header(kind::PREPARE_OK, view, op, digest(op));
    header.sender = place;
    frame(header, &[])
}

/// Who leads and how many are needed; everything else is the same in all tests.
fn terms(place: u8, needed: u8) -> Terms {
    let mut members = [None; MEMBERS_MAX];
    members[usize::from(LEFT_PLACE)] = Some(LEFT);
    members[usize::from(RIGHT_PLACE)] = Some(RIGHT);
    Terms { view: VIEW, place, leader: LEFT_PLACE, needed, members }
}

/// Programs of the right host that follow the left one from the log's beginning.
fn follow(pin: &Path) -> (Programs, SharedGroup) {
    let mut programs = load(RIGHT, pin.to_owned());
    programs.attach_xdp(RIGHT_INTERFACE).unwrap();
    let mut group = programs.group(0);
    group.lock();
    group.configure(&terms(RIGHT_PLACE, 1));
    group.set_tail(0, digest(0));
    group.set_mode(Mode::Follow);
    group.unlock();
    group.extend_lease(now_ns() + HOUR_NS);
    (programs, group)
}

/// Two hosts with a socket each.
struct Hosts {
    pair: NamespacePair,
    directory: BpfDirectory,
    left: UdpSocket,
    right: UdpSocket,
    /// Virtual interfaces deliver what a driver sends by itself only past another such program.
    leader: Programs,
}

impl Hosts {
    fn create() -> Self {
        let pair = NamespacePair::create();
        let directory = BpfDirectory::mount();
        let socket = |side, address: SocketAddrV4| {
            let socket = pair.run(side, || UdpSocket::bind(address).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (left, right) = (socket(Side::Left, LEFT), socket(Side::Right, RIGHT));
        let leader = pair.run(Side::Left, || {
            let mut programs = load(LEFT, directory.path().join("leader"));
            programs.attach_xdp(LEFT_INTERFACE).unwrap();
            programs
        });
        Self { pair, directory, left, right, leader }
    }

    fn follow(&self) -> (Programs, SharedGroup) {
        self.pair.run(Side::Right, || follow(&self.directory.pin()))
    }

    /// Sends entries from the left, and expects the kernel's acknowledgement of everything up to `op`.
    fn acknowledged(&self, frame: &[u8], op: u64) {
        self.left.send_to(frame, RIGHT).unwrap();
        let (answer, from) = receive(&self.left);
        assert_eq!(from, RIGHT);
        assert_eq!(answer.len(), HEADER_BYTES);
        let header = Header::read_from_bytes(&answer).unwrap();
        assert_eq!(header.checksum.get(), checksum_of(&answer));
        let found = (header.kind, header.sender, header.view.get(), header.op.get());
        assert_eq!(found, (kind::PREPARE_OK, RIGHT_PLACE, VIEW, op));
        assert_eq!(header.digest.get(), digest(op));
        nothing_waits(&self.right);
    }

    /// Sends entries from the left, and expects them at the socket on the right.
    fn left_to_the_process(&self, frame: &[u8]) {
        self.left.send_to(frame, RIGHT).unwrap();
        assert_eq!(receive(&self.right), (frame.to_vec(), LEFT));
        nothing_waits(&self.left);
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddrV4) {
    let mut buffer = [0; 4_096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let std::net::SocketAddr::V4(from) = from else { panic!("{from}") };
    (buffer[..length].to_vec(), from)
}

fn nothing_waits(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    let result = socket.recv(&mut [0; 16]);
    socket.set_nonblocking(false).unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn count(programs: &Programs, counter: Counter) -> u64 {
    programs.counters().unwrap().get(counter)
}

#[test]
fn the_kernel_acknowledges_what_follows_and_leaves_the_rest_to_the_socket() {
    let name = "the_kernel_acknowledges_what_follows_and_leaves_the_rest_to_the_socket";
    if !ledger(name, &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let (programs, mut group) = hosts.follow();
    let mut taken = Vec::new();
    for op in 1..=20 {
        hosts.acknowledged(&prepare(VIEW, op), op);
        assert!(group.take(&mut taken));
        assert_eq!(taken, prepare(VIEW, op));
    }
    assert!(!group.take(&mut taken));
    hosts.left_to_the_process(&prepare(VIEW, 7));

    hosts.left_to_the_process(&prepare(VIEW, 22));
    hosts.left_to_the_process(&prepare(VIEW + 1, 21));
    hosts.left_to_the_process(&prepare(VIEW - 1, 21));
    let mut damaged = prepare(VIEW, 21);
    damaged[100] ^= 4;
    hosts.left_to_the_process(&damaged);
    group.lock();
    hosts.left_to_the_process(&prepare(VIEW, 21));
    assert_eq!(group.tail(), (20, digest(20)));
    group.unlock();
    group.extend_lease(now_ns());
    hosts.left_to_the_process(&prepare(VIEW, 21));
    assert!(!group.take(&mut taken));
    group.extend_lease(now_ns() + HOUR_NS);
    hosts.acknowledged(&prepare(VIEW, 21), 21);
    group.lock();
    group.set_mode(Mode::Off);
    group.unlock();
    hosts.left_to_the_process(&prepare(VIEW, 22));
    for (counter, expected) in [
        (Counter::PrepareAccepted, 21),
        (Counter::PrepareKnown, 1),
        (Counter::PrepareGap, 1),
        (Counter::PrepareOtherView, 2),
        (Counter::PrepareDamaged, 1),
        (Counter::Busy, 1),
        (Counter::PrepareLeaseOver, 1),
        (Counter::PrepareOff, 1),
        (Counter::Woken, 0),
    ] {
        assert_eq!(count(&programs, counter), expected, "{}", counter.name());
    }
    drop(group);
    drop(programs);
    let attached = attached_programs(&hosts.pair, Side::Right, RIGHT_INTERFACE);
    assert_eq!((attached, hosts.directory.pin().exists()), (0, false));
}

/// Whether the bell is rung within so long.
fn rings(bell: &Bell, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn a_process_that_sleeps_is_woken_once() {
    if !ledger("a_process_that_sleeps_is_woken_once", &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let (mut programs, mut group) = hosts.follow();
    let mut taken = Vec::new();
    let mut bell = programs.take_bell();
    assert!(group.fall_asleep());
    assert!(!rings(&bell, Duration::ZERO));
    for op in 1..=3 {
        hosts.acknowledged(&prepare(VIEW, op), op);
    }
    assert!(rings(&bell, PATIENCE));
    assert_eq!(count(&programs, Counter::Woken), 1);
    bell.drain();
    assert!(!rings(&bell, Duration::ZERO));
    assert!(!group.fall_asleep(), "there is something to take");
    for op in 1..=3 {
        assert!(group.take(&mut taken));
        assert_eq!(taken, prepare(VIEW, op));
    }
    assert!(group.fall_asleep());
    group.wake_up();
    hosts.acknowledged(&prepare(VIEW, 4), 4);
    assert!(!rings(&bell, Duration::ZERO));
}

#[test]
fn acknowledgements_are_counted_up_to_a_quorum() {
    if !ledger("acknowledgements_are_counted_up_to_a_quorum", &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let mut group = hosts.leader.group(0);
    let lead = |group: &mut SharedGroup, needed| {
        group.lock();
        group.configure(&terms(LEFT_PLACE, needed));
        group.clear_acknowledged();
        group.set_mode(Mode::Lead);
        group.unlock();
    };
    let send = |frame: &[u8]| hosts.right.send_to(frame, LEFT).unwrap();
    let passed = |frame: &[u8]| {
        send(frame);
        assert_eq!(receive(&hosts.left).0, frame);
    };
    lead(&mut group, 1);
    assert_eq!(group.acknowledged(RIGHT_PLACE), None);
    // A process that is awake looks for itself.
    send(&prepare_ok(VIEW, RIGHT_PLACE, 3));
    assert!(group.fall_asleep());
    passed(&prepare_ok(VIEW, RIGHT_PLACE, 4));
    assert_eq!(group.acknowledged(RIGHT_PLACE), Some((4, digest(4))));
    // Dropped: what comes next is the first to arrive.
    send(&prepare_ok(VIEW, RIGHT_PLACE, 4));
    send(&prepare_ok(VIEW, RIGHT_PLACE, 3));
    group.note_committed(6);
    send(&prepare_ok(VIEW, RIGHT_PLACE, 6));
    passed(&prepare_ok(VIEW + 1, RIGHT_PLACE, 9));
    passed(&prepare_ok(VIEW, RIGHT_PLACE + 1, 9));
    assert_eq!(group.acknowledged(RIGHT_PLACE), Some((6, digest(6))));
    lead(&mut group, 2);
    assert_eq!(group.acknowledged(RIGHT_PLACE), None);
    send(&prepare_ok(VIEW, RIGHT_PLACE, 8));
    let mut damaged = prepare_ok(VIEW, RIGHT_PLACE, 9);
    damaged[33] ^= 1;
    passed(&damaged);
    assert_eq!(group.acknowledged(RIGHT_PLACE), Some((8, digest(8))));
    for (counter, expected) in [
        (Counter::OkSignalled, 1),
        (Counter::OkKnown, 2),
        (Counter::OkNoted, 3),
        (Counter::OkOtherView, 1),
        (Counter::OkNotMember, 1),
        (Counter::OkDamaged, 1),
    ] {
        assert_eq!(count(&hosts.leader, counter), expected, "{}", counter.name());
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "runs as a child of after_its_death_a_process_acknowledges_nothing"]
fn child_that_follows_until_killed() {
    child::attach_until_killed(|way| {
        let (programs, mut group) = follow(&child::directory());
        if way == 1 {
            group.lock();
        }
        (programs, group)
    });
}

#[test]
fn after_its_death_a_process_acknowledges_nothing() {
    if !ledger("after_its_death_a_process_acknowledges_nothing", &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let pin = hosts.directory.pin();
    assert_eq!(fence(&pin).unwrap(), Fenced::default(), "nothing was there");
    for way in 0..2 {
        let child = child::start_with("child_that_follows_until_killed", &hosts.pair, way, &pin);
        if way == 0 {
            (1..=3).for_each(|op| hosts.acknowledged(&prepare(VIEW, op), op));
        } else {
            hosts.left_to_the_process(&prepare(VIEW, 1));
        }
        child::kill(child, || attached_programs(&hosts.pair, Side::Right, RIGHT_INTERFACE));
        hosts.left_to_the_process(&prepare(VIEW, 4));
        let taken = hosts.pair.run(Side::Right, || {
            Programs::load(&Settings { own: RIGHT, groups: vec![GROUP], pin: pin.clone() })
        });
        let error = taken.unwrap_err();
        assert!(error.to_string().ends_with("cannot name the memory"), "{error}");
        let fenced = fence(&pin).unwrap();
        let (locked, lost) = if way == 0 { (0, 3) } else { (1, 0) };
        assert_eq!(fenced, Fenced { groups: 1, locked, lost_frames: Some(lost) });
        assert!(!pin.exists());
    }
    let (_programs, group) = hosts.follow();
    hosts.acknowledged(&prepare(VIEW, 1), 1);
    drop(group);
    hosts.left_to_the_process(&prepare(VIEW, 2));
}

#[test]
fn fencing_ends_what_programs_that_are_attached_decide() {
    if !ledger("fencing_ends_what_programs_that_are_attached_decide", &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let (programs, group) = hosts.follow();
    hosts.acknowledged(&prepare(VIEW, 1), 1);
    fence(&hosts.directory.pin()).unwrap();
    hosts.left_to_the_process(&prepare(VIEW, 2));
    assert_eq!(count(&programs, Counter::Busy), 1);
    // It would wait for the lock for ever.
    std::mem::forget(group);
    let error = fence(hosts.directory.path()).unwrap_err();
    assert!(error.to_string().ends_with("cannot open the memory"), "{error}");
}

const ROUNDS: u32 = 500;
/// Long enough that frames come meanwhile, also where both threads share a processor.
const LOOKS: u32 = 1_000;

/// Sends entries without a pause, from behind the last that were acknowledged on.
fn stream(socket: &UdpSocket, stop: &AtomicBool) {
    let (mut acknowledged, mut buffer) = (0, [0; HEADER_BYTES]);
    socket.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for ahead in 1..=4 {
            socket.send_to(&prepare(VIEW, acknowledged + ahead), RIGHT).unwrap();
        }
        while socket.recv(&mut buffer).is_ok() {
            let header = Header::read_from_bytes(&buffer).unwrap();
            acknowledged = header.op.get().max(acknowledged);
        }
    }
}

/// Ends the stream, also when a test fails, which would wait for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_log_stands_still_while_its_process_holds_the_lock() {
    if !ledger("the_log_stands_still_while_its_process_holds_the_lock", &requirements()) {
        return;
    }
    let hosts = Hosts::create();
    let (programs, mut group) = hosts.follow();
    let stop = AtomicBool::new(false);
    let (mut last, mut moves, mut taken, mut frames) = (0, 0, Vec::new(), 0);
    thread::scope(|scope| {
        scope.spawn(|| stream(&hosts.left, &stop));
        let _stop = Stop(&stop);
        let mut rounds = 0;
        // Hundreds of rounds may pass on a busy machine before they meet.
        while rounds < ROUNDS || moves < 100 || count(&programs, Counter::Busy) == 0 {
            rounds += 1;
            group.lock();
            let tail = group.tail();
            assert_eq!(tail.1, digest(tail.0));
            for _ in 0..LOOKS {
                assert_eq!(group.tail(), tail, "it moved");
            }
            group.unlock();
            moves += u32::from(tail.0 > last);
            last = tail.0;
            while group.take(&mut taken) {
                frames += 1;
                assert_eq!(taken, prepare(VIEW, frames));
            }
            thread::yield_now();
        }
    });
}
