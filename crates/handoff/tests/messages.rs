//! What the owners tell each other, as bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_handoff::{
    FieldError, SecretBytes,
    image::{EPOCH_MAX, IMAGE_BYTES_MAX},
    protocol::{
        Cause, Exporter, ExporterOutput, MESSAGE_BYTES_MAX, Message, MessageError, MoveId, Outcome,
        Refusal, Timeouts,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(|image| Message::Offer { image: image.into() }),
        (select(&Refusal::ALL[..]), any::<bool>())
            .prop_map(|(reason, claimed)| Message::Refused { reason, claimed }),
        Just(Message::Taken),
        Just(Message::Cut),
        vec(any::<u8>(), 1..300).prop_map(|bytes| Message::Late { bytes: bytes.into() }),
    ]
}

#[test]
fn the_layout_does_not_change_by_accident() {
    let head = [1, 9, 0, 0, 0, 0, 0, 0, 0];
    let cases = [
        (Message::Offer { image: vec![7, 8].into() }, &[1, 2, 0, 0, 0, 7, 8][..]),
        (Message::Refused { reason: Refusal::Draining, claimed: false }, &[2, 1, 0]),
        (Message::Refused { reason: Refusal::Superseded, claimed: true }, &[2, 10, 1]),
        (Message::Taken, &[3]),
        (Message::Cut, &[4]),
        (Message::Late { bytes: vec![7, 8].into() }, &[5, 2, 0, 0, 0, 7, 8]),
    ];
    for (message, body) in cases {
        assert_eq!(**message.encode(MoveId(9)), [&head, body].concat());
    }
}

#[test]
fn the_largest_offer_fits() {
    let message = Message::Offer { image: vec![1; IMAGE_BYTES_MAX].into() };
    let encoded = message.encode(MoveId(u64::MAX));
    assert!(encoded.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(encoded.capacity(), encoded.len());
    assert_eq!(Message::decode(&encoded).unwrap(), (MoveId(u64::MAX), message));
}

#[test]
fn bad_fields_are_named() {
    let mut image_too_long = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    image_too_long.extend(u32::MAX.to_le_bytes());
    let cases: [(&[u8], &str); 7] = [
        (&[2], "the hand-off message has version 2, this node knows 1"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 9], "bad hand-off message: kind is unknown"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], "bad hand-off message: reason is unknown"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 11, 0], "bad hand-off message: reason is unknown"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2], "bad hand-off message: claimed is neither 0 nor 1"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0], "bad hand-off message: 1 bytes follow the last field"),
        (
            &image_too_long,
            "bad hand-off message: image has 4294967295 bytes, at most 2163712 may be",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Message::decode(bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_offer_is_shown_by_its_length() {
    let message = Message::Offer { image: SecretBytes::from(&b"secret"[..]) };
    assert_eq!(format!("{message:?}"), "Offer { image: … (6 bytes) }");
}

#[test]
fn a_flow_without_epochs_left_stays() {
    let epoch = EPOCH_MAX + 1;
    let mut exporter = Exporter::new(0, epoch, true, Timeouts::default());
    let outputs: Vec<_> = std::iter::from_fn(|| exporter.poll_output()).collect();
    let kept = Outcome::Kept { epoch, cause: Cause::NotExported };
    assert_eq!(outputs, [ExporterOutput::Thaw, ExporterOutput::Report(kept)]);
    assert!(exporter.is_finished());
}

#[test]
fn an_exporter_that_waits_too_shortly_is_a_mistake() {
    let defaults = Timeouts::default();
    assert!(defaults.is_consistent());
    let offer_ms = defaults.import_ms + defaults.claim_ms + defaults.leave_ms;
    assert!(Timeouts { offer_ms, ..defaults }.is_consistent());
    assert!(!Timeouts { offer_ms: offer_ms - 1, ..defaults }.is_consistent());
    assert!(!Timeouts { linger_ms: 0, ..defaults }.is_consistent());
    assert!(!Timeouts { introduce_ms: 0, ..defaults }.is_consistent());
    assert!(!Timeouts { claim_pause_max_ms: 4, ..defaults }.is_consistent());
}

proptest! {
    #[test]
    fn every_message_survives_the_journey(move_id in any::<u64>(), message in message()) {
        let encoded = message.encode(MoveId(move_id));
        prop_assert_eq!(encoded.capacity(), encoded.len());
        prop_assert_eq!(Message::decode(&encoded).unwrap(), (MoveId(move_id), message));
    }

    #[test]
    fn every_truncation_is_refused(message in message()) {
        let encoded = message.encode(MoveId(3));
        for end in 0..encoded.len() {
            let error = Message::decode(&encoded[..end]).unwrap_err();
            prop_assert!(matches!(error, MessageError::Field(FieldError::Truncated { .. })), "{}", error);
        }
    }

    #[test]
    fn garbage_is_refused_or_encodes_as_it_came(bytes in vec(any::<u8>(), 0..40)) {
        let mut bytes = bytes;
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        if let Ok((move_id, message)) = Message::decode(&bytes) {
            prop_assert_eq!(&**message.encode(move_id), &bytes);
        }
    }
}
