//! The replication program, run by the kernel on single packets, does what the shared decisions say: fate, bytes, memory and counters.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_fastpath::replication::{
    Acknowledged, Control, Counter, Counters, FOLLOWED, LOCK_FREE, LOCK_KERNEL, LOCK_OWNER,
    MODE_FOLLOW, MODE_LEAD, MODE_OFF, NO_PLACE, SCHEMA_VERSION, SLOTS, kind, member_bits,
};
use ashlar_kernel::replication::now_ns;
use ashlar_kernel::testing::ledger;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use std::net::{Ipv4Addr, SocketAddrV4};
use support::replication::{
    BpfDirectory, ControlValue, Route, frame, header, load, open_controls, packet, requirements,
};
use support::replication_model::Model;

const PACKETS: u32 = 60_000;
const PACKETS_OF_THE_LONG_RUN: u32 = 1_000_000;
const SEED: u64 = 0x0dd5_70e5;
/// The clock is read twice, on a machine that may have something else to do in between.
const CLOCKS_APART_NS: u64 = 3_600_000_000_000;
const MEMBERS: u8 = 5;
const OWN_PLACE: u8 = 1;

fn member(place: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1 + place), 7_000 + u16::from(place))
}

fn bits(address: SocketAddrV4) -> u64 {
    member_bits(address.ip().octets(), address.port())
}

/// Draws memory and packets so that they nearly fit.
struct Source(Pcg64Mcg);

impl Source {
    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        *values.choose(&mut self.0).unwrap()
    }

    fn rarely(&mut self) -> bool {
        self.0.random_ratio(1, 16)
    }

    /// Changes what programs decide by.
    fn control(&mut self, before: &Control) -> Control {
        let mut control = *before;
        control.lock = match self.0.random_range(0..24) {
            0 => LOCK_KERNEL,
            1 => LOCK_OWNER,
            _ => LOCK_FREE,
        };
        control.mode = self.one_of(&[MODE_FOLLOW, MODE_FOLLOW, MODE_LEAD, MODE_LEAD, MODE_OFF]);
        control.view = self.one_of(&[3, 3, 3, 4]);
        control.place = OWN_PLACE.into();
        control.leader = self.0.random_range(0..8);
        control.needed = self.0.random_range(1..4);
        let now_ns = now_ns();
        control.lease_until_ns =
            if self.rarely() { now_ns - CLOCKS_APART_NS } else { now_ns + CLOCKS_APART_NS };
        let waiting = if self.rarely() { u64::from(SLOTS) } else { self.0.random_range(0..100) };
        control.accepted = self.0.random_range(u64::from(SLOTS)..4 * u64::from(SLOTS));
        control.drained = control.accepted - waiting;
        control.is_asleep = self.0.random_range(0..2);
        control.tail_op = self.0.random_range(0..20);
        control.tail_digest = self.0.random_range(70..74);
        control.signalled_op = self.0.random_range(0..20);
        for known in &mut control.acknowledged {
            let next_op = self.0.random_range(0..20);
            *known = Acknowledged { next_op, digest: self.0.random() };
        }
        control.members = [0; 8];
        for place in 0..MEMBERS {
            control.members[usize::from(place)] =
                if self.rarely() { 0 } else { bits(member(place)) };
        }
        control
    }

    fn packet(&mut self, control: &Control) -> Vec<u8> {
        let kind = self.one_of(&[
            kind::PREPARE,
            kind::PREPARE,
            kind::PREPARE,
            kind::PREPARE_OK,
            kind::PREPARE_OK,
            0,
        ]);
        let near = |op: u64, random: i64| op.saturating_add_signed(random);
        let offset = self.one_of(&[1, 1, 1, 1, 0, -1, 2, 7]);
        let op = if self.rarely() && self.rarely() {
            u64::MAX - self.0.random_range(0..3)
        } else {
            near(control.tail_op, offset)
        };
        let mut header = header(kind, self.one_of(&[3, 3, 3, 4]), op, self.0.random());
        let claimed = self.0.random_range(0..MEMBERS + 1);
        header.detail = self.one_of(&[0, 0, FOLLOWED, 2]);
        header.sender = if self.rarely() { self.one_of(&[NO_PLACE, 7, 8]) } else { claimed };
        if self.rarely() {
            header.group = 6.into();
        }
        let place = match kind {
            kind::PREPARE if !self.rarely() => control.leader as u8,
            _ if !self.rarely() => claimed,
            _ => self.0.random_range(0..MEMBERS),
        };
        let mut body = Vec::new();
        if kind == kind::PREPARE {
            header.entries = self.one_of(&[1, 1, 2, 3, 3, 40, 0]).into();
            let previous: u64 = if self.rarely() { self.0.random() } else { control.tail_digest };
            body.extend(previous.to_le_bytes());
            let length = self.one_of(&[0, 64, 700, 1_390, 1_944, 2_300]);
            body.resize(8 + self.0.random_range(0..=length), 0);
            self.0.fill(&mut body[8..]);
            if self.rarely() && self.rarely() {
                body.truncate(self.0.random_range(0..8));
            }
        } else if self.rarely() {
            body.resize(self.0.random_range(0..100), 7);
        }
        let mut frame = frame(header, &body);
        if self.rarely() {
            let byte = self.0.random_range(0..frame.len());
            frame[byte] ^= 1 << self.0.random_range(0..8);
        }
        self.addressed(&frame, member(place))
    }

    fn addressed(&mut self, frame: &[u8], source: SocketAddrV4) -> Vec<u8> {
        let own = member(OWN_PLACE);
        let destination = if self.rarely() { member(0) } else { own };
        let route =
            Route { stations: [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]], source, destination };
        let mut packet = packet(&route, frame);
        if self.rarely() {
            // Anywhere: also where other protocols, options and fragments are told.
            let byte = self.0.random_range(0..packet.len());
            packet[byte] = self.0.random();
        }
        match self.0.random_range(0..32) {
            0 => packet.truncate(self.0.random_range(14..=packet.len())),
            1 => packet.resize(packet.len() + self.0.random_range(1..40), 0xee),
            _ => {}
        }
        packet
    }
}

fn compare_random_packets(packets: u32) {
    let directory = BpfDirectory::mount();
    let mut programs = load(member(OWN_PLACE), directory.pin());
    let mut controls = open_controls(&directory.pin());
    let (mut group, mut bell) = (programs.group(0), programs.take_bell());
    let mut source = Source(Pcg64Mcg::seed_from_u64(SEED));
    let fresh = Control { version: SCHEMA_VERSION.into(), ..Control::default() };
    assert_eq!(controls.get(&0, 0).unwrap().0, fresh);
    let mut model =
        Model { own: bits(member(OWN_PLACE)), control: fresh, counters: Counters::default() };
    let mut taken = Vec::new();
    for number in 0..packets {
        model.control = source.control(&model.control);
        controls.set(0, ControlValue(model.control), 0).unwrap();
        let packet = source.packet(&model.control);
        let before = model.control;
        let run = programs.test_run(&packet).unwrap();
        let expected = model.run(&packet, now_ns());
        let about = || format!("packet {number}: {:?} {before:?} {packet:02x?}", expected.counter);
        assert_eq!(run.fate, expected.fate, "{}", about());
        assert!(run.frame == expected.packet, "{:02x?}: {}", run.frame, about());
        assert_eq!(controls.get(&0, 0).unwrap().0, model.control, "{}", about());
        if let Some(frame) = expected.accepted {
            model.control.drained = model.control.accepted - 1;
            controls.set(0, ControlValue(model.control), 0).unwrap();
            assert!(group.take(&mut taken));
            assert!(taken == frame, "{taken:02x?}: {}", about());
            assert!(!group.take(&mut taken));
            bell.drain();
        }
        if number % 64 == 0 {
            assert_eq!(programs.counters().unwrap(), model.counters, "{}", about());
        }
    }
    assert_eq!(programs.counters().unwrap(), model.counters);
    everything_happened(&model.counters);
    // The lock may be anybody's now.
    controls.set(0, ControlValue(fresh), 0).unwrap();
}

/// The comparison is worth something only if everything was compared.
fn everything_happened(counters: &Counters) {
    let impossible_here = [
        Counter::Unconfigured,
        Counter::PrepareUnanswered,
        Counter::FanOut,
        Counter::FanOutFragment,
        Counter::FanOutForeign,
        Counter::Copied,
        Counter::CopyUnresolved,
        Counter::CopyFailed,
    ];
    for (counter, count) in counters.iter() {
        let enough = if impossible_here.contains(&counter) { count == 0 } else { count > 20 };
        assert!(enough, "{}: {count}", counter.name());
    }
}

#[test]
fn replication_xdp_decides_as_user_space_on_random_packets() {
    if ledger("replication_xdp_decides_as_user_space_on_random_packets", &requirements()) {
        compare_random_packets(PACKETS);
    }
}

#[test]
#[ignore = "takes a minute; the same as above on more packets"]
fn replication_xdp_decides_as_user_space_on_a_million_packets() {
    if ledger("replication_xdp_decides_as_user_space_on_a_million_packets", &requirements()) {
        compare_random_packets(PACKETS_OF_THE_LONG_RUN);
    }
}
