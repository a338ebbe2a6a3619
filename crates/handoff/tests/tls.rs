//! The record layer against rustls, in memory, in every suite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod session;

use ashlar_handoff::tls::{AlertDescription, CipherSuite, Opened, RecordError, sealed_bytes};
use proptest::{collection::vec, prelude::*, sample::select};
use session::Session;

/// What either end may do, or befall them.
#[derive(Clone, Copy, Debug)]
enum Step {
    ClientWrites(usize),
    ServerWrites(usize),
    ClientUpdatesKeys,
    ServerUpdatesKeys { request: bool },
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![4 => 0..200_usize, 1 => 0..60_000_usize, 1 => Just(1 << 14)];
    prop_oneof![
        3 => size().prop_map(Step::ClientWrites),
        3 => size().prop_map(Step::ServerWrites),
        1 => Just(Step::ClientUpdatesKeys),
        1 => any::<bool>().prop_map(|request| Step::ServerUpdatesKeys { request }),
        2 => Just(Step::Move),
    ]
}

fn content(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from((index * 31 + seed * 7) % 256).unwrap()).collect()
}

/// Plays the steps and checks every byte at once.
fn play(mut session: Session, steps: &[Step]) -> Session {
    for (seed, step) in steps.iter().enumerate() {
        let read;
        match *step {
            Step::ClientWrites(bytes) => {
                session.client_writes(&content(seed, bytes));
                (session, read) = session.server_reads();
                assert!(read == content(seed, bytes), "the client's bytes at step {seed}");
            }
            Step::ServerWrites(bytes) => {
                (session, read) = session.server_writes(&content(seed, bytes));
                assert!(read == content(seed, bytes), "the server's bytes at step {seed}");
            }
            Step::ClientUpdatesKeys => {
                session.client.refresh_traffic_keys().unwrap();
                session.update_owed |= true;
            }
            Step::ServerUpdatesKeys { request } => {
                let record = session.writer.key_update(request).unwrap();
                session.client_reads(&record);
            }
            Step::Move => session = session.moves(),
        }
    }
    session
}

#[test]
fn a_connection_moves_at_every_boundary() {
    let steps = [
        Step::ClientWrites(100),
        Step::ServerWrites(100_000),
        Step::ClientUpdatesKeys,
        Step::ClientWrites(40_000),
        Step::ServerUpdatesKeys { request: true },
        Step::ServerWrites(40_000),
        Step::ClientWrites(1),
        Step::ServerUpdatesKeys { request: false },
        Step::ServerWrites(1),
    ];
    for suite in CipherSuite::ALL {
        let session = Session { restless: true, ..Session::new(suite) };
        play(session, &steps);
    }
}

#[test]
fn a_request_for_new_keys_is_answered_by_the_next_owner() {
    for suite in CipherSuite::ALL {
        let mut session = Session::new(suite);
        session.client.refresh_traffic_keys().unwrap();
        let (session, _) = session.server_reads();
        assert!(session.update_owed);
        let (session, read) = session.moves().server_writes(b"under new keys");
        assert_eq!(read, b"under new keys");
        assert_eq!(session.writer.sequence(), 1, "the key was changed");
    }
}

#[test]
fn both_ends_close_in_good_order_across_a_move() {
    for suite in CipherSuite::ALL {
        let mut session = Session::new(suite);
        session.client.send_close_notify();
        let mut records = session.client_records();
        assert_eq!(session.reader.open(&mut records[0]), Ok(Opened::CloseNotify));
        // The client has closed its direction only.
        let (session, read) = session.moves().server_writes(b"the rest");
        assert_eq!(read, b"the rest");
        let mut session = session.moves();
        assert_eq!(session.reader.open(&mut [0; 30]), Err(RecordError::Closed));
        let record = session.writer.close_notify().unwrap();
        let client = &mut session.client;
        client.read_tls(&mut &record[..]).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn an_alert_reaches_the_client_by_its_name() {
    let mut session = Session::new(CipherSuite::Chacha20Poly1305Sha256);
    let record = session.writer.alert(AlertDescription::BAD_RECORD_MAC).unwrap();
    session.client.read_tls(&mut &record[..]).unwrap();
    let error = session.client.process_new_packets().unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[test]
fn an_alert_of_the_client_is_told() {
    let mut session = Session::new(CipherSuite::Aes128GcmSha256);
    // A record that the client cannot open makes it complain.
    let mut record = session.writer.close_notify().unwrap();
    record[8] ^= 1;
    session.client.read_tls(&mut &record[..]).unwrap();
    session.client.process_new_packets().unwrap_err();
    let mut records = session.client_records();
    let opened = session.reader.open(&mut records[0]);
    assert_eq!(opened, Ok(Opened::Alert(AlertDescription::BAD_RECORD_MAC)));
}

#[test]
fn repeated_and_reordered_records_are_refused_even_after_a_move() {
    for suite in CipherSuite::ALL {
        let mut session = Session::new(suite);
        session.client_writes(&[1; 20_000]);
        let records = session.client_records();
        assert_eq!(records.len(), 2);

        let second = session.reader.open(&mut records[1].clone());
        assert_eq!(second, Err(RecordError::BadRecordMac), "the first is missing");

        let mut session = Session::new(suite);
        session.client_writes(b"once");
        let record = session.client_records().remove(0);
        session.reader.open(&mut record.clone()).unwrap();
        let mut session = session.moves();
        let again = session.reader.open(&mut record.clone());
        assert_eq!(again, Err(RecordError::BadRecordMac), "a repeated record");
    }
}

#[test]
fn the_size_of_sealed_bytes_is_known_before() {
    let mut session = Session::new(CipherSuite::Aes128GcmSha256);
    for bytes in [0, 1, 16_383, 16_384, 16_385, 100_000] {
        let mut sealed = b"before".to_vec();
        session.writer.append(&vec![0; bytes], &mut sealed).unwrap();
        assert_eq!(sealed.len(), 6 + sealed_bytes(bytes));
        assert!(sealed.starts_with(b"before"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn bytes_arrive_whatever_happens_between_them(
        suite in select(&CipherSuite::ALL[..]),
        restless in any::<bool>(),
        steps in vec(step(), 1..30),
    ) {
        play(Session { restless, ..Session::new(suite) }, &steps);
    }

    #[test]
    fn a_flipped_bit_is_never_accepted(
        suite in select(&CipherSuite::ALL[..]),
        bytes in 1..200_usize,
        bit in any::<prop::sample::Index>(),
    ) {
        let mut session = Session::new(suite);
        session.client_writes(&content(1, bytes));
        let mut record = session.client_records().remove(0);
        let bit = bit.index(record.len() * 8);
        record[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(session.reader.open(&mut record).is_err());
        prop_assert_eq!(session.reader.open(&mut record), Err(RecordError::Closed));
    }
}
