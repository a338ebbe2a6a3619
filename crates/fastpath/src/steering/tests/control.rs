//! Control frames: made, checked, refused.

use super::*;
use proptest::prelude::*;
use std::panic::catch_unwind;

fn request(operation: Operation) -> Request {
    Request { sender: 7, counter: 42, incarnation: INCARNATION, operation }
}

fn point() -> Operation {
    Operation::Point { flow: flow(1), owner: ONE, epoch: 5, closing: false }
}

/// Makes a reply as the kernel does.
fn answered(mut frame: ControlFrame, result: ResultCode, state: &EntryOrNone) -> ControlFrame {
    frame.turn(result, state, INCARNATION, key().words());
    frame
}

#[test]
fn the_layout_never_changes() {
    // Hosts of different releases talk to each other: a change here needs a new version.
    let frame = request(point()).seal(&key());
    let bytes = frame.bytes();
    assert_eq!(bytes[..8], [b'A', b'S', b'H', b's', 1, 1, 1, 0]);
    assert_eq!(bytes[8..16], [7, 0, 1, 0, 1, 0, 80, 0], "sender, owner, ports");
    assert_eq!(bytes[16..24], 42_u64.to_le_bytes());
    assert_eq!(bytes[24..32], INCARNATION.to_le_bytes());
    assert_eq!(bytes[32..40], 5_u64.to_le_bytes());
    assert_eq!(bytes[40..48], [0; 8], "no time");
    assert_eq!(bytes[58..64], [0xff, 0xff, 10, 77, 0, 99]);
    assert_eq!(bytes[74..80], [0xff, 0xff, 10, 77, 0, 10]);
    assert_eq!(bytes[80..88], [2, 0, 0, 0, 0, 0x11, 0, 0]);
    assert_eq!(bytes[88..], 0xf834_74e8_d5c3_38ee_u64.to_le_bytes());
}

#[test]
fn a_sealed_request_says_what_was_asked() {
    let frame = request(point()).seal(&key());
    assert_eq!(frame.check(key().words()), Ok(()));
    assert_eq!((frame.sender(), frame.counter(), frame.incarnation()), (7, 42, INCARNATION));
    assert_eq!((frame.flow(), frame.owner(), frame.epoch()), (flow(1), ONE, 5));
}

#[test]
fn a_reply_tells_the_state() {
    let state = Entry { closing: 1, ..entry(&flow(1), TWO, 9) };
    let frame = request(point()).seal(&key());
    let frame = answered(frame, ResultCode::StaleEpoch, &EntryOrNone::some(state));
    let expected = Reply {
        sender: 7,
        counter: 42,
        incarnation: INCARNATION,
        operation: OperationCode::Point,
        result: ResultCode::StaleEpoch,
        flow: flow(1),
        state: Some(FlowState { owner: TWO, epoch: 9, closing: true, last_seen_ns: SECOND_NS }),
    };
    assert_eq!(Reply::open(frame.bytes(), &key()), Ok(expected));
    for result in ResultCode::ALL {
        let frame = answered(request(point()).seal(&key()), result, &EntryOrNone::NONE);
        let reply = Reply::open(frame.bytes(), &key()).unwrap();
        assert_eq!((reply.result, reply.state), (result, None));
    }
}

#[test]
fn neither_direction_passes_for_the_other() {
    let frame = request(point()).seal(&key());
    assert_eq!(Reply::open(frame.bytes(), &key()), Err(ControlError::Malformed));
    let reply = answered(frame, ResultCode::Applied, &EntryOrNone::NONE);
    assert_eq!(reply.check(key().words()), Err(ControlError::Malformed));
    // Nor with the direction changed on the way.
    let mut turned = *frame.bytes();
    turned[5] = 2;
    assert_eq!(Reply::open(&turned, &key()), Err(ControlError::Forged));
}

#[test]
fn another_key_or_length_is_refused() {
    let frame = request(point()).seal(&ControlKey::new([1; 16]));
    assert_eq!(frame.check(key().words()), Err(ControlError::Forged));
    let reply = answered(frame, ResultCode::Applied, &EntryOrNone::NONE);
    for length in [0, 8, 95] {
        assert_eq!(Reply::open(&reply.bytes()[..length], &key()), Err(ControlError::Malformed));
    }
    let longer = [&reply.bytes()[..], &[0]].concat();
    assert_eq!(Reply::open(&longer, &key()), Err(ControlError::Malformed));
}

#[test]
fn a_sealed_frame_out_of_bounds_is_malformed() {
    let change = |offset: usize, value: u8| {
        let mut frame = request(point()).seal(&key());
        let word = &mut frame.words_mut()[offset / 8];
        let mut bytes = word.to_ne_bytes();
        bytes[offset % 8] = value;
        *word = u64::from_ne_bytes(bytes);
        frame.seal_again(&key());
        frame.check(key().words())
    };
    assert_eq!(change(6, 2), Ok(()), "a Forget");
    assert_eq!(change(6, 5), Ok(()), "a Claim");
    for (offset, value) in [(6, 0), (6, 6), (7, 1), (32, 0), (80, 3), (87, 1)] {
        assert_eq!(change(offset, value), Err(ControlError::Malformed), "byte {offset}");
    }
    for (offset, value) in [(0, 0), (4, 2), (5, 0)] {
        assert_eq!(change(offset, value), Err(ControlError::Malformed), "byte {offset}");
    }
}

#[test]
fn nobody_seals_nonsense() {
    let Operation::Point { flow, owner, .. } = point() else { unreachable!() };
    let group = Owner { mac: MacAddress([1, 0, 0, 0, 0, 1]), id: 1 };
    for operation in [
        Operation::Point { flow, owner, epoch: 0, closing: false },
        Operation::Point { flow, owner: group, epoch: 1, closing: false },
        Operation::Point { flow, owner: Owner::from_bits(0), epoch: 1, closing: false },
        Operation::Claim { flow, owner, epoch: 0, closing: false },
        Operation::Claim { flow, owner: group, epoch: 1, closing: false },
        Operation::Forget { flow, epoch: 0 },
        Operation::Expire { flow, epoch: 0, last_seen_ns: 0 },
    ] {
        assert!(catch_unwind(|| request(operation).seal(&key())).is_err(), "{operation:?}");
    }
}

#[test]
fn a_key_does_not_show() {
    assert_eq!(std::format!("{:?}", key()), "ControlKey(…)");
    assert!(!std::format!("{:?}", config()).contains("key"));
}

#[test]
fn counters_are_taken_once_within_the_window() {
    let take = |window: &mut ReplayWindow, counter| match window.accept(counter) {
        Freshness::Fresh(after) => {
            *window = after;
            true
        }
        Freshness::Replayed => false,
    };
    let mut window = ReplayWindow::default();
    assert!(!take(&mut window, 0), "0 is no counter");
    assert!(take(&mut window, 100));
    assert!(!take(&mut window, 100));
    assert!(take(&mut window, 37), "63 behind");
    assert!(!take(&mut window, 37));
    assert!(!take(&mut window, 36), "64 behind");
    assert!(take(&mut window, 164));
    assert!(!take(&mut window, 100), "64 behind by now");
    assert!(take(&mut window, u64::MAX));
    assert!(!take(&mut window, 164));
}

proptest! {
    #[test]
    fn a_changed_bit_is_seen(byte in 0..CONTROL_FRAME_BYTES, bit in 0..8_u8) {
        let mut frame = request(point()).seal(&key());
        frame.words_mut()[byte / 8] ^= u64::from_ne_bytes(core::array::from_fn(|index| {
            if index == byte % 8 { 1 << bit } else { 0 }
        }));
        prop_assert!(frame.check(key().words()).is_err());
    }

    #[test]
    fn a_window_takes_what_a_list_of_all_counters_takes(counters in proptest::collection::vec(1..200_u64, 0..300)) {
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        for counter in counters {
            let highest = seen.last().copied().unwrap_or(0);
            let is_new = !seen.contains(&counter) && counter + WINDOW_COUNTERS > highest;
            match window.accept(counter) {
                Freshness::Fresh(after) => {
                    prop_assert!(is_new, "{counter}");
                    window = after;
                    seen.insert(counter);
                }
                Freshness::Replayed => prop_assert!(!is_new, "{counter}"),
            }
        }
    }
}
