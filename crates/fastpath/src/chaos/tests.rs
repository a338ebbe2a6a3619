#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate std;

use super::*;
use crate::frame::{Ipv4Addresses, PROTOCOL_TCP, PROTOCOL_UDP, Ports};
use core::cell::Cell;
use proptest::prelude::*;
use std::string::ToString as _;
use std::vec::Vec;

const LENGTH_BYTES: u32 = 1_514;

fn config(seed: u64, probabilities: Probabilities) -> Config {
    Config::new(seed, Rule::ANY, probabilities).unwrap()
}

fn udp(source: [u8; 4], destination: [u8; 4], ports: Ports) -> Headers {
    Headers::new(Some(PROTOCOL_UDP), Some(Ipv4Addresses { source, destination }), Some(ports))
}

/// The verdict on frame `number` of `hook`, of any content.
fn verdict(config: &Config, hook: Hook, number: u64) -> Verdict {
    decide(config, &Frame { hook, length_bytes: LENGTH_BYTES, headers: Headers::OTHER }, || number)
}

fn verdicts(config: &Config, hook: Hook, numbers: core::ops::Range<u64>) -> Vec<Verdict> {
    numbers.map(|number| verdict(config, hook, number)).collect()
}

#[test]
fn each_fault_befalls_its_share_of_the_frames() {
    let config =
        config(7, Probabilities { drop_ppm: 100_000, duplicate_ppm: 50_000, corrupt_ppm: 10_000 });
    for hook in Hook::ALL {
        let mut counters = Counters::default();
        for verdict in verdicts(&config, hook, 0..1_000_000) {
            counters.count(Outcome::Done(verdict));
        }
        // Five standard deviations of a binomial distribution over a million frames are at most 1,500.
        assert!(counters.dropped.abs_diff(100_000) < 1_500, "{counters:?}");
        assert!(counters.duplicated.abs_diff(50_000) < 1_100, "{counters:?}");
        assert!(counters.corrupted.abs_diff(10_000) < 500, "{counters:?}");
        assert_eq!(counters.matched(), 1_000_000);
    }
}

#[test]
fn seeds_and_hooks_draw_unlike_sequences() {
    let half = Probabilities { drop_ppm: PPM / 2, ..Probabilities::NONE };
    let one = verdicts(&config(1, half), Hook::Xdp, 0..10_000);
    for other in [
        verdicts(&config(2, half), Hook::Xdp, 0..10_000),
        verdicts(&config(1, half), Hook::TcxIngress, 0..10_000),
    ] {
        let equal = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        // Unrelated coins agree half of the time; 250 is five standard deviations.
        assert!(equal.abs_diff(5_000) < 250, "{equal} of 10,000 agree");
    }
}

#[test]
fn the_sequence_of_a_seed_never_changes() {
    // Results of earlier releases are reproduced by their seeds: a change here needs a new schema version.
    let config = config(
        42,
        Probabilities { drop_ppm: 250_000, duplicate_ppm: 250_000, corrupt_ppm: 250_000 },
    );
    let seen = verdicts(&config, Hook::TcxEgress, 0..8);
    let spared = Verdict::Pass(PassReason::Spared);
    let corrupt = Verdict::Corrupt(Corruption { offset_bytes: 155, mask: 100 });
    let (drop, duplicate) = (Verdict::Drop, Verdict::Duplicate);
    assert_eq!(seen, [drop, drop, spared, duplicate, drop, corrupt, drop, duplicate]);
}

#[test]
fn certain_faults_befall_every_frame_and_impossible_ones_none() {
    let all = |drop_ppm, duplicate_ppm, corrupt_ppm| {
        config(3, Probabilities { drop_ppm, duplicate_ppm, corrupt_ppm })
    };
    for number in 0..10_000 {
        assert_eq!(verdict(&all(PPM, 0, 0), Hook::Xdp, number), Verdict::Drop);
        assert_eq!(verdict(&all(0, PPM, 0), Hook::Xdp, number), Verdict::Duplicate);
        assert!(matches!(verdict(&all(0, 0, PPM), Hook::Xdp, number), Verdict::Corrupt(_)));
        assert_eq!(verdict(&all(0, 0, 0), Hook::Xdp, number), Verdict::Pass(PassReason::Spared));
    }
}

#[test]
fn probabilities_above_one_are_refused() {
    let too_many =
        Probabilities { drop_ppm: 600_000, duplicate_ppm: 300_000, corrupt_ppm: 100_001 };
    let error = Config::new(0, Rule::ANY, too_many).unwrap_err();
    assert_eq!(
        error.to_string(),
        "drop_ppm + duplicate_ppm + corrupt_ppm: expected at most 1000000 in sum, found 1000001"
    );
    assert!(
        Config::new(
            0,
            Rule::ANY,
            Probabilities { drop_ppm: u32::MAX, duplicate_ppm: u32::MAX, corrupt_ppm: u32::MAX }
        )
        .is_err()
    );
    assert!(Config::new(0, Rule::ANY, Probabilities { corrupt_ppm: 100_000, ..too_many }).is_ok());
}

#[test]
fn without_a_configuration_every_frame_passes_and_takes_no_number() {
    let frame = Frame { hook: Hook::Xdp, length_bytes: LENGTH_BYTES, headers: Headers::OTHER };
    let verdict = decide(&Config::ABSENT, &frame, || unreachable!("no number is taken"));
    assert_eq!(verdict, Verdict::Pass(PassReason::Unconfigured));
}

#[test]
fn a_frame_without_payload_cannot_be_corrupted() {
    let config = config(3, Probabilities { corrupt_ppm: PPM, ..Probabilities::NONE });
    let frame =
        Frame { hook: Hook::Xdp, length_bytes: ETHERNET_HEADER_BYTES, headers: Headers::OTHER };
    assert_eq!(decide(&config, &frame, || 0), Verdict::Pass(PassReason::TooShort));
}

#[test]
fn each_condition_narrows_the_rule() {
    let (a, b, c) = ([10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]);
    let ports = Ports { source: 5_000, destination: 9_000 };
    let request = udp(a, b, ports);
    let reply = udp(b, a, Ports { source: 9_000, destination: 5_000 });
    let arp = Headers::OTHER;
    let ipv6_request = Headers::new(Some(PROTOCOL_UDP), None, Some(ports));
    let egress = Direction::Egress;

    assert!(Rule::ANY.matches(egress, &arp));

    let protocol = Rule::ANY.with_protocol(PROTOCOL_UDP);
    assert!(protocol.matches(egress, &request) && protocol.matches(egress, &ipv6_request));
    assert!(
        !protocol.matches(egress, &arp)
            && !Rule::ANY.with_protocol(PROTOCOL_TCP).matches(egress, &request)
    );

    let port = Rule::ANY.with_port(9_000);
    assert!(
        port.matches(egress, &request)
            && port.matches(egress, &reply)
            && port.matches(egress, &ipv6_request)
    );
    assert!(!port.matches(egress, &arp) && !Rule::ANY.with_port(9_001).matches(egress, &request));

    let source = Rule::ANY.with_source(a);
    assert!(source.matches(egress, &request));
    assert!(!source.matches(egress, &reply) && !source.matches(egress, &ipv6_request));

    let destination = Rule::ANY.with_destination(b);
    assert!(destination.matches(egress, &request));
    assert!(!destination.matches(egress, &reply) && !destination.matches(egress, &arp));

    let direction = Rule::ANY.with_direction(Direction::Ingress);
    assert!(direction.matches(Direction::Ingress, &arp) && !direction.matches(egress, &arp));

    let all = source
        .with_destination(b)
        .with_protocol(PROTOCOL_UDP)
        .with_port(5_000)
        .with_direction(egress);
    assert!(all.matches(egress, &request));
    for almost in
        [all.with_source(c), all.with_destination(c), all.with_port(1), all.with_protocol(1)]
    {
        assert!(!almost.matches(egress, &request));
    }
    assert!(!all.matches(Direction::Ingress, &request));
}

#[test]
fn port_zero_and_address_zero_are_conditions_like_others() {
    let request = udp([10, 0, 0, 1], [10, 0, 0, 2], Ports { source: 1, destination: 2 });
    assert!(!Rule::ANY.with_port(0).matches(Direction::Egress, &request));
    assert!(!Rule::ANY.with_source([0; 4]).matches(Direction::Egress, &request));
}

#[test]
fn every_outcome_has_its_counter_and_sums_add_up() {
    let mut counters = Counters::default();
    let passes =
        [PassReason::Unconfigured, PassReason::Unmatched, PassReason::Spared, PassReason::TooShort];
    let corrupt = Verdict::Corrupt(Corruption { offset_bytes: 14, mask: 1 });
    let outcomes = passes
        .map(|reason| Outcome::Done(Verdict::Pass(reason)))
        .into_iter()
        .chain([Verdict::Drop, Verdict::Duplicate, corrupt].map(Outcome::Done))
        .chain([Outcome::DuplicateDeclined, Outcome::CorruptDeclined, Outcome::OwnCopy]);
    for outcome in outcomes {
        counters.count(outcome);
    }
    let once = Counters {
        unconfigured: 1,
        unmatched: 1,
        spared: 1,
        dropped: 1,
        duplicated: 1,
        duplicate_declined: 1,
        corrupted: 1,
        corrupt_declined: 2,
        own_copies: 1,
    };
    assert_eq!(counters, once);
    assert_eq!(once.plus(once).corrupt_declined, 4);
    assert_eq!(once.plus(once).own_copies, 2);
    assert_eq!(once.matched(), 7);
}

prop_compose! {
    fn any_config()(seed: u64, drop_ppm in 0..=PPM, first in 0..=PPM, second in 0..=PPM) -> Config {
        let duplicate_ppm = first.min(PPM - drop_ppm);
        let corrupt_ppm = second.min(PPM - drop_ppm - duplicate_ppm);
        config(seed, Probabilities { drop_ppm, duplicate_ppm, corrupt_ppm })
    }
}

proptest! {
    #[test]
    fn corruption_hits_one_byte_past_the_ethernet_header(seed: u64, number: u64, length_bytes in 15_u32..=u32::MAX) {
        let config = config(seed, Probabilities { corrupt_ppm: PPM, ..Probabilities::NONE });
        let frame = Frame { hook: Hook::TcxIngress, length_bytes, headers: Headers::OTHER };
        let Verdict::Corrupt(Corruption { offset_bytes, mask }) = decide(&config, &frame, || number) else {
            panic!("a certain corruption did not happen");
        };
        prop_assert!((ETHERNET_HEADER_BYTES..length_bytes).contains(&offset_bytes));
        prop_assert_ne!(mask, 0);
    }

    #[test]
    fn the_same_arguments_give_the_same_verdict(config in any_config(), number: u64, hook in 0_usize..3) {
        let hook = Hook::ALL[hook];
        prop_assert_eq!(verdict(&config, hook, number), verdict(&config, hook, number));
    }

    #[test]
    fn a_matching_frame_takes_one_number_and_another_none(seed: u64, port in 0_u16..4, other in 0_u16..4) {
        let config = Config::new(seed, Rule::ANY.with_port(port), Probabilities::NONE).unwrap();
        let taken = Cell::new(0);
        let headers = udp([1; 4], [2; 4], Ports { source: other, destination: other });
        decide(&config, &Frame { hook: Hook::Xdp, length_bytes: LENGTH_BYTES, headers }, || {
            taken.set(taken.get() + 1);
            0
        });
        prop_assert_eq!(taken.get(), u32::from(port == other));
    }

    #[test]
    fn more_probable_losses_lose_a_superset(seed: u64, number: u64, low in 0..=PPM, more in 0..=PPM) {
        let drops = |drop_ppm: u32| {
            let probabilities = Probabilities { drop_ppm, ..Probabilities::NONE };
            verdict(&config(seed, probabilities), Hook::Xdp, number) == Verdict::Drop
        };
        prop_assert!(!drops(low) || drops((low + more).min(PPM)));
    }
}
