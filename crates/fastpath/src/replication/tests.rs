#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec::Vec;
use xxhash_rust::xxh64::xxh64;
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn a_checksum_is_that_of_the_padded_frame_without_its_own_field() {
    for length in [64_usize, 72, 95, 96, 97, 200, 1_452, 2_016] {
        let frame: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        let mut padded = frame.clone();
        padded[56..60].fill(0);
        padded.resize(length.div_ceil(STRIPE_BYTES) * STRIPE_BYTES, 0);
        assert_eq!(checksum_of(&frame), xxh64(&padded, 0) as u32, "{length} bytes");
    }
}

/// A backup that has everything up to place 7, and a frame with places 8 to 10.
fn case() -> (Prepare, Follower) {
    let frame = Prepare {
        source: member_bits([10, 0, 0, 1], 7_000),
        view: 3,
        op: 8,
        entries: 3,
        previous: 77,
        digest: 1_010,
        bytes: 400,
    };
    let state = Follower {
        mode: MODE_FOLLOW,
        view: 3,
        leader: frame.source,
        lease_until_ns: 100,
        now_ns: 99,
        tail_op: 7,
        tail_digest: 77,
        accepted: 20,
        drained: 20,
    };
    (frame, state)
}

#[test]
fn what_follows_the_tail_is_accepted_and_what_is_here_is_known() {
    let (frame, state) = case();
    assert_eq!(judge_prepare(&frame, &state), PrepareVerdict::Accept);
    let here = Follower { tail_op: 10, tail_digest: 5, ..state };
    assert_eq!(judge_prepare(&frame, &here), PrepareVerdict::Known);
}

#[test]
fn everything_else_is_left_to_user_space() {
    let (frame, state) = case();
    let of_state = |state: Follower| judge_prepare(&frame, &state);
    let of_frame = |frame: Prepare| judge_prepare(&frame, &state);
    // A control that nobody has written says nothing.
    assert_eq!(of_state(Follower::default()), PrepareVerdict::Off);
    assert_eq!(of_state(Follower { mode: MODE_LEAD, ..state }), PrepareVerdict::Off);
    assert_eq!(of_frame(Prepare { view: 2, ..frame }), PrepareVerdict::OtherView);
    assert_eq!(of_frame(Prepare { view: 4, ..frame }), PrepareVerdict::OtherView);
    assert_eq!(of_frame(Prepare { source: 0, ..frame }), PrepareVerdict::NotLeader);
    assert_eq!(of_state(Follower { now_ns: 100, ..state }), PrepareVerdict::LeaseOver);
    assert_eq!(of_frame(Prepare { bytes: 2_017, ..frame }), PrepareVerdict::Length);
    assert_eq!(of_frame(Prepare { entries: 0, ..frame }), PrepareVerdict::Length);
    assert_eq!(of_frame(Prepare { op: 9, ..frame }), PrepareVerdict::Gap);
    assert_eq!(of_frame(Prepare { op: 7, ..frame }), PrepareVerdict::Gap, "partly here");
    assert_eq!(of_frame(Prepare { op: u64::MAX, ..frame }), PrepareVerdict::Gap);
    assert_eq!(of_frame(Prepare { previous: 76, ..frame }), PrepareVerdict::OtherLog);
    let full = Follower { accepted: 20 + u64::from(SLOTS), ..state };
    assert_eq!(of_state(full), PrepareVerdict::Full);
    assert_eq!(of_state(Follower { drained: 21, ..full }), PrepareVerdict::Accept);
}

#[test]
fn an_acknowledgement_is_noted_once_and_only_from_whom_it_says() {
    let sender = member_bits([10, 0, 0, 2], 7_000);
    let frame = Acknowledgement { source: sender, place: 1, view: 3, op: 9, digest: 5 };
    let known = Acknowledged { next_op: 9, digest: 4 };
    let state = Leader { mode: MODE_LEAD, view: 3, place: 0, sender, known };
    use AcknowledgementVerdict as Verdict;
    assert_eq!(judge_acknowledgement(&frame, &state), Verdict::Note);
    let again = Leader { known: Acknowledged { next_op: 10, digest: 5 }, ..state };
    assert_eq!(judge_acknowledgement(&frame, &again), Verdict::Known);
    let none = Leader { known: Acknowledged::default(), ..state };
    let of_nothing = Acknowledgement { op: 0, ..frame };
    assert_eq!(judge_acknowledgement(&of_nothing, &none), Verdict::Note);
    assert_eq!(judge_acknowledgement(&frame, &Leader::default()), Verdict::Off);
    let older = Acknowledgement { view: 2, ..frame };
    assert_eq!(judge_acknowledgement(&older, &state), Verdict::OtherView);
    for wrong in [
        Acknowledgement { source: 1, ..frame },
        Acknowledgement { place: 0, ..frame },
        Acknowledgement { place: 255, ..frame },
        Acknowledgement { op: u64::MAX, ..frame },
    ] {
        assert_eq!(judge_acknowledgement(&wrong, &state), Verdict::NotMember, "{wrong:?}");
    }
    let nobody = Leader { sender: 0, ..state };
    assert_eq!(judge_acknowledgement(&frame, &nobody), Verdict::NotMember);
}

#[test]
fn a_quorum_is_reached_once_for_what_it_has() {
    let five = [0, 0, 11, 8, 10, 0, 0, 0];
    assert_eq!(reaches_quorum(five, 2, 7), Some(9), "places 2 and 4");
    assert_eq!(reaches_quorum(five, 2, 9), None);
    assert_eq!(reaches_quorum(five, 1, 9), Some(10));
    assert_eq!(reaches_quorum(five, 3, 6), Some(7));
    assert_eq!(reaches_quorum([0; 8], 0, 0), None, "nobody has said anything");
    assert_eq!(reaches_quorum([0, 1, 0, 0, 0, 0, 0, 0], 1, 0), None, "place 0 is before all");
}

#[test]
fn a_mark_names_places_and_other_marks_do_not() {
    let to = FanOut::new(0b1010);
    assert_eq!(FanOut::of_mark(to.mark()), Some(to));
    assert!(to.contains(1) && to.contains(3) && !to.contains(0) && !to.contains(35));
    assert_eq!(FanOut::of_mark(0), None);
    assert_eq!(FanOut::of_mark(to.mark() | 0x100), None);
}

/// A frame with a body of eight bytes, from 10.0.0.1 to 10.0.0.2.
fn datagram() -> Datagram {
    let mut bytes = Vec::new();
    bytes.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    bytes.extend([0x45, 0, 0, 100, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
    bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend([0x1b, 0x58, 0x1b, 0x59, 0, 80, 0, 0]);
    let header = Header {
        magic: MAGIC.into(),
        version: VERSION,
        kind: kind::PREPARE,
        sender: 0,
        cluster: 0xc1.into(),
        group: 4.into(),
        body_bytes: 8.into(),
        view: 3.into(),
        op: 8.into(),
        entries: 1.into(),
        ..Header::default()
    };
    bytes.extend_from_slice(header.as_bytes());
    FromBytes::read_from_bytes(&bytes[..]).unwrap()
}

#[test]
fn a_frame_becomes_its_own_acknowledgement() {
    let mut datagram = datagram();
    assert!(datagram.is_frame());
    assert_eq!(datagram.frame_bytes(114), Ok(72));
    assert_eq!(datagram.source(), member_bits([10, 0, 0, 1], 7_000));
    assert_eq!(datagram.destination(), member_bits([10, 0, 0, 2], 7_001));
    assert_eq!(datagram.group(), GroupKey { cluster: 0xc1, group: 4 });
    datagram.acknowledge(1, 8, 99);
    assert!(datagram.is_frame() && datagram.is_intact());
    assert_eq!(datagram.frame_bytes(106), Ok(64));
    assert_eq!(datagram.source(), member_bits([10, 0, 0, 2], 7_001));
    assert_eq!(datagram.destination(), member_bits([10, 0, 0, 1], 7_000));
    assert_eq!(datagram.as_bytes()[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let said = datagram.acknowledgement();
    assert_eq!((said.place, said.view, said.op, said.digest), (1, 3, 8, 99));
    let header = &datagram.as_bytes()[HEADERS_BYTES as usize..];
    assert_eq!(datagram.header.checksum.get(), checksum_of(header));
    let words = datagram.as_bytes()[14..34].chunks(2);
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the sum with its complement");
}

#[test]
fn lengths_that_contradict_each_other_are_malformed() {
    let whole = datagram();
    assert_eq!(whole.frame_bytes(113), Err(Malformed), "cut off");
    assert_eq!(whole.frame_bytes(200), Ok(72), "padded");
    let mut bytes = whole.as_bytes().to_vec();
    for field in [16, 38, 62] {
        bytes[field + 1] ^= 1;
        let datagram: Datagram = FromBytes::read_from_bytes(&bytes[..]).unwrap();
        assert_eq!(datagram.frame_bytes(300), Err(Malformed), "byte {field}");
        bytes[field + 1] ^= 1;
    }
}

#[test]
fn a_mark_names_places_or_a_copy_or_nothing_of_ours() {
    let places = FanOut::new(0b0101_0010);
    assert_eq!(FanOut::of_mark(places.mark()), Some(places));
    let named: Vec<_> = (0..40).filter(|place| places.contains(*place)).collect();
    assert_eq!((named, places.places()), ([1, 4, 6].into(), 0b0101_0010));
    for mark in [0, 1, 0xff, COPY_MARK] {
        assert_eq!(FanOut::of_mark(mark), None);
    }
}

#[test]
fn parts_of_a_datagram_are_no_frames() {
    let mut bytes = [0; DATAGRAM_HEADER_BYTES as usize];
    bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    bytes[23] = 17;
    bytes[42..47].copy_from_slice(&[b'A', b'S', b'V', b'R', VERSION]);
    let of_fragment = |fragment: u16| {
        let mut bytes = bytes;
        bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        let datagram = Datagram::read_from_bytes(&bytes).unwrap();
        (datagram.begins_frame(), datagram.is_fragment(), datagram.is_frame())
    };
    assert_eq!(of_fragment(0), (true, false, true));
    assert_eq!(of_fragment(0x4000), (true, false, true), "not to be taken apart");
    assert_eq!(of_fragment(0x2000), (true, true, false), "the first part");
    assert_eq!(of_fragment(0x2001), (false, true, false), "one behind it");
    assert_eq!(of_fragment(0x0010), (false, true, false), "the last part");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 106),
        length_bytes in 0_u32..4_000,
    ) {
        let mut datagram: Datagram = FromBytes::read_from_bytes(&bytes[..]).unwrap();
        let _ = (datagram.is_frame(), datagram.frame_bytes(length_bytes), datagram.is_intact());
        datagram.acknowledge(1, 2, 3);
        prop_assert!(datagram.is_intact());
    }

    #[test]
    fn nothing_is_accepted_that_does_not_follow(
        mode in 0_u64..3, view in 0_u64..2, op in 0_u64..6, entries in 0_u64..3, tail in 0_u64..6,
        previous in 0_u64..2, now_ns in 0_u64..2, drained in 0_u64..2, source in 0_u64..2,
    ) {
        let frame = Prepare { source, view, op, entries, previous, digest: 9, bytes: 100 };
        let state = Follower {
            mode, view: 1, leader: 1, lease_until_ns: 1, now_ns, tail_op: tail, tail_digest: 1,
            accepted: u64::from(SLOTS), drained,
        };
        let may = mode == MODE_FOLLOW && view == 1 && source == 1 && now_ns == 0 && entries > 0;
        match judge_prepare(&frame, &state) {
            PrepareVerdict::Accept => {
                prop_assert!(may && op == tail + 1 && previous == 1 && drained == 1);
            }
            PrepareVerdict::Known => prop_assert!(may && op + entries - 1 <= tail),
            _ => {}
        }
    }

    #[test]
    fn a_sum_follows_an_address(words in any::<[u16; 4]>(), from: u32, to: u32) {
        let sum = |address: u32| {
            let halves = [address as u16, (address >> 16) as u16];
            words.iter().chain(&halves).fold(0_u32, |sum, word| {
                let sum = sum + u32::from(*word);
                (sum & 0xffff) + (sum >> 16)
            })
        };
        let found = u32::from(sum_with_other_address(sum(from) as u16, from, to));
        // There are two zeros.
        prop_assert_eq!(found % 0xffff, sum(to) % 0xffff);
    }
}
