#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use ashlar_vr::{Answer, ClientId, DoViewChange, Entry, EpochStart, Kind, SnapshotPart, View};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::{collection::vec, option, prelude::*, sample::select};

const SCOPE: Scope = Scope { cluster: 0x1122_3344_5566_7788, group: 9 };

fn view() -> impl Strategy<Value = View> {
    (0_u32..1 << 20, 0_u64..1 << 30).prop_map(|(epoch, number)| View::new(epoch, number))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
        (1_u128 << 100..u128::MAX).prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn request() -> impl Strategy<Value = Request> {
    let kinds = select(vec![Kind::Operation, Kind::Register, Kind::Reconfigure]);
    (any::<u64>(), any::<u64>(), 0_u64..1 << 60, 0_u64..65, kinds, body()).prop_map(
        |(client, session, number, open, kind, body)| Request {
            client: ClientId(client),
            session,
            number,
            acknowledged: number.saturating_sub(open),
            kind,
            body,
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    (1_u64..1 << 60, vec((view(), any::<u64>(), request(), any::<u64>()), 1..6)).prop_map(
        |(first, all)| {
            let entry = |(at, (view, time_ms, request, digest))| Entry {
                op: first + at as u64,
                view,
                time_ms,
                request,
                digest,
            };
            all.into_iter().enumerate().map(entry).collect()
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let word = any::<u64>;
    prop_oneof![
        (view(), word(), word(), any::<bool>(), entries()).prop_map(
            |(view, commit, previous, is_followed, entries)| Message::Prepare {
                view,
                commit,
                previous,
                is_followed,
                entries
            }
        ),
        (view(), word(), word()).prop_map(|(view, op, digest)| Message::PrepareOk {
            view,
            op,
            digest
        }),
        (view(), word()).prop_map(|(view, op)| Message::Missing { view, op }),
        (view(), word(), word(), word(), word()).prop_map(
            |(view, commit, head_op, head_digest, round)| Message::Commit {
                view,
                commit,
                head_op,
                head_digest,
                round
            }
        ),
        (view(), word()).prop_map(|(view, round)| Message::CommitOk { view, round }),
        (view(), view()).prop_map(|(view, present)| Message::StartViewChange { view, present }),
        (view(), view(), word(), word(), vec(word(), 0..9)).prop_map(
            |(view, last_normal, commit, head_op, holes)| {
                Message::DoViewChange(DoViewChange { view, last_normal, commit, head_op, holes })
            }
        ),
        (view(), word(), word(), word()).prop_map(|(view, commit, head_op, head_digest)| {
            Message::StartView { view, commit, head_op, head_digest }
        }),
        (word(), word()).prop_map(|(first_op, last_op)| Message::GetState { first_op, last_op }),
        entries().prop_map(|entries| Message::NewState { entries }),
        (word(), word()).prop_map(|(op, offset)| Message::GetSnapshot { op, offset }),
        (word(), word(), word(), word(), body()).prop_map(
            |(op, total_bytes, checksum, offset, bytes)| {
                Message::Snapshot(SnapshotPart { op, total_bytes, checksum, offset, bytes })
            }
        ),
        (word(), view()).prop_map(|(nonce, view)| Message::Recovery { nonce, view }),
        (view(), word(), option::of((word(), word(), word())))
            .prop_map(|(view, nonce, leader)| Message::RecoveryResponse { view, nonce, leader }),
        (view(), word(), word(), vec(address(), 0..=7)).prop_map(|(view, op, digest, members)| {
            Message::StartEpoch(EpochStart { view, op, digest, members })
        }),
        view().prop_map(|view| Message::EpochStarted { view }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let answer = prop_oneof![
        body().prop_map(Answer::Executed),
        Just(Answer::NoSession),
        option::of(address()).prop_map(Answer::NotLeader),
    ];
    let found = prop_oneof![
        (any::<u64>(), body()).prop_map(|(op, bytes)| ReadAnswer::Answered { op, bytes }),
        option::of(address()).prop_map(ReadAnswer::NotLeader),
        Just(ReadAnswer::TooOld),
    ];
    prop_oneof![
        8 => message().prop_map(Frame::Replica),
        1 => request().prop_map(Frame::Request),
        1 => (any::<u64>(), any::<u64>(), view(), answer).prop_map(|(client, number, view, answer)| {
            Frame::Reply(Reply { client: ClientId(client), number, view, answer })
        }),
        1 => (any::<u64>(), option::of(any::<u64>()), body())
            .prop_map(|(id, age_us, question)| Frame::Read(Read { id, age_us, question })),
        1 => (any::<u64>(), view(), found)
            .prop_map(|(id, view, answer)| Frame::Found(Found { id, view, answer })),
        1 => Just(Frame::GetMembers),
        1 => (view(), vec(address(), 1..=7))
            .prop_map(|(view, members)| Frame::Members(Epoch { view, members })),
    ]
}

fn encoded(sender: Option<usize>, frame: &Frame) -> Bytes {
    let mut out = Vec::new();
    encode(SCOPE, sender, frame, &mut out);
    out.into()
}

#[test]
fn the_layout_does_not_change_by_accident() {
    let message = Message::PrepareOk { view: View::new(2, 3), op: 4, digest: 5 };
    let bytes = encoded(Some(1), &Frame::Replica(message));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (head, checksum, tail) = (&hex[..112], &hex[112..120], &hex[120..]);
    let expected = [
        "41535652",
        "02",
        "03",
        "00",
        "01",
        "8877665544332211",
        "09000000",
        "00000000",
        "0300000000020000",
        "0400000000000000",
        "0000000000000000",
        "0500000000000000",
    ];
    assert_eq!((head, tail), (&*expected.concat(), "00000000"));
    assert_ne!(checksum, "00000000");
}

proptest! {
    #[test]
    fn every_frame_survives_the_journey(sender in option::of(0_usize..7), frame in frame()) {
        let bytes = encoded(sender, &frame);
        prop_assert_eq!(decode(SCOPE.cluster, &bytes), Ok((SCOPE, sender, frame)));
        prop_assert_eq!(decode(1, &bytes), Err(DecodeError::OtherCluster));
    }

    #[test]
    fn a_frame_with_any_flipped_bit_is_refused(frame in frame(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = encoded(None, &frame).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(decode(SCOPE.cluster, &bytes.into()).is_err());
    }

    #[test]
    fn no_bytes_with_a_right_checksum_do_harm(kind in any::<u8>(), detail in any::<u8>(), words in any::<[u64; 4]>(), entries in any::<u16>(), body in vec(any::<u8>(), 0..300)) {
        let header = Header {
            magic: ashlar_fastpath::replication::MAGIC.into(),
            version: ashlar_fastpath::replication::VERSION,
            kind,
            detail,
            cluster: SCOPE.cluster.into(),
            view: words[0].into(),
            op: words[1].into(),
            commit: words[2].into(),
            digest: words[3].into(),
            entries: entries.into(),
            ..Header::default()
        };
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(body);
        encode::seal(header, &mut bytes);
        let bytes = Bytes::from(bytes);
        let _ = Reassembly::default().take(SCOPE.cluster, SocketAddr::from(([1, 1, 1, 1], 1)), bytes.clone());
        if let Ok((scope, sender, frame)) = decode(SCOPE.cluster, &bytes) {
            // Whatever a replica makes of it, it can be said again.
            let mut again = Vec::new();
            encode(scope, sender, &frame, &mut again);
        }
    }

    #[test]
    fn frames_in_one_datagram_are_told_apart(frames in vec(frame(), 1..6)) {
        let all: Vec<Bytes> = frames.iter().map(|frame| encoded(None, frame)).collect();
        let mut datagram = Bytes::from(all.concat());
        for frame in &all {
            prop_assert_eq!(&take_frame(&mut datagram), frame);
        }
        prop_assert!(datagram.is_empty());
    }

    #[test]
    fn taking_frames_off_any_bytes_comes_to_an_end_and_loses_none(bytes in vec(any::<u8>(), 0..400), lengths in vec(0_u32..100, 0..4)) {
        // Bytes at random would never say a length that fits.
        let mut bytes = bytes;
        for (at, length) in lengths.iter().enumerate() {
            if let Some(field) = bytes.get_mut(at * 100 + 20..at * 100 + 24) {
                field.copy_from_slice(&length.to_le_bytes());
            }
        }
        let mut rest = Bytes::from(bytes.clone());
        let mut taken = Vec::new();
        while !rest.is_empty() {
            let frame = take_frame(&mut rest);
            prop_assert!(!frame.is_empty());
            taken.extend_from_slice(&frame);
        }
        prop_assert_eq!(taken, bytes);
    }

    #[test]
    fn parts_make_the_frame_in_any_order_and_with_copies(
        bytes in 100_usize..20_000, limit in 200_usize..2_000, order in any::<u64>(),
    ) {
        let from = SocketAddr::from(([127, 0, 0, 1], 5));
        let question = Bytes::from((0..bytes).map(|at| at as u8).collect::<Vec<_>>());
        let frame = encoded(None, &Frame::Read(Read { id: 1, age_us: None, question }));
        let (mut parts, mut piece) = (Vec::new(), Vec::new());
        Fragments::new(limit).cut(&frame, &mut piece, |part| parts.push(Bytes::copy_from_slice(part)));
        prop_assert!(parts.iter().all(|part| part.len() <= limit));
        let mut random = order | 1;
        for at in 0..parts.len() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let other = random as usize % parts.len();
            parts.swap(at, other);
        }
        let mut reassembly = Reassembly::default();
        let last = parts.pop().unwrap();
        for part in parts.iter().chain(&parts) {
            prop_assert_eq!(reassembly.take(SCOPE.cluster, from, part.clone()), Ok(None));
        }
        prop_assert_eq!(reassembly.take(SCOPE.cluster, from, last), Ok(Some(frame)));
        prop_assert!(reassembly.is_empty());
        prop_assert_eq!(reassembly.kept_bytes(), 0);
    }
}

#[test]
fn members_are_one_to_seven() {
    let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
    for (count, error) in [
        (0, DecodeError::Invalid { field: "members" }),
        (8, DecodeError::TooLong { field: "members" }),
    ] {
        let members = (0..count).map(address).collect();
        let frame = Frame::Members(Epoch { view: View::new(1, 0), members });
        assert_eq!(decode(SCOPE.cluster, &encoded(None, &frame)), Err(error));
    }
}

#[test]
fn what_is_kept_of_parts_is_bounded_whoever_sends() {
    let question = Bytes::from(vec![7; 100_000]);
    let frame = encoded(None, &Frame::Read(Read { id: 1, age_us: None, question }));
    let (mut fragments, mut reassembly) = (Fragments::new(1_000), Reassembly::default());
    let mut piece = Vec::new();
    for sender in 0..3_000_u16 {
        let from = SocketAddr::from(([127, 0, 0, 1], sender));
        for _ in 0..6 {
            let mut is_first = true;
            fragments.cut(&frame, &mut piece, |part| {
                if std::mem::take(&mut is_first) {
                    let part = Bytes::copy_from_slice(part);
                    assert_eq!(reassembly.take(SCOPE.cluster, from, part), Ok(None));
                }
            });
        }
        assert!(reassembly.kept_bytes() <= 64 << 20);
        if sender < 100 {
            // Four of each sender, and nobody had to give way.
            assert_eq!(reassembly.kept_bytes(), 4 * frame.len() * (usize::from(sender) + 1));
        }
    }
}
