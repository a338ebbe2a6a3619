//! The programs, run by the kernel on single frames, do what the shared decision says: verdict, bytes and counters.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::chaos::{Chaos, Config, Direction, Hook, PPM, Probabilities, Rule};
use ashlar_kernel::testing::{NamespacePair, Side, ledger};
use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use support::REQUIREMENTS;
use support::frames::{self, ADDRESSES, Datagram, PORTS, PROTOCOLS};
use support::prediction::Prediction;

const CONFIGURATIONS: u32 = 1_000;
const FRAMES_PER_CONFIGURATION: u32 = 100;
const SEED: u64 = 0x0a54_1a12;

fn any_probabilities<R: Rng>(random: &mut R) -> Probabilities {
    let any_ppm = |random: &mut R, ppm_max: u32| match random.random_range(0..4) {
        0 => 0,
        1 => ppm_max,
        _ => random.random_range(0..=ppm_max),
    };
    let drop_ppm = any_ppm(random, PPM / 2);
    let duplicate_ppm = any_ppm(random, (PPM - drop_ppm) / 2);
    let corrupt_ppm = any_ppm(random, PPM - drop_ppm - duplicate_ppm);
    Probabilities { drop_ppm, duplicate_ppm, corrupt_ppm }
}

fn any_rule<R: Rng>(random: &mut R) -> Rule {
    let mut rule = Rule::ANY;
    if random.random_ratio(1, 4) {
        rule = rule.with_protocol(*PROTOCOLS.choose(random).unwrap());
    }
    if random.random_ratio(1, 4) {
        rule = rule.with_port(*PORTS.choose(random).unwrap());
    }
    if random.random_ratio(1, 4) {
        rule = rule.with_source(*ADDRESSES.choose(random).unwrap());
    }
    if random.random_ratio(1, 4) {
        rule = rule.with_destination(*ADDRESSES.choose(random).unwrap());
    }
    if random.random_ratio(1, 4) {
        rule =
            rule.with_direction(*[Direction::Ingress, Direction::Egress].choose(random).unwrap());
    }
    rule
}

/// Runs in a namespace of its own: copies go out by its loopback interface.
fn in_a_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    NamespacePair::create().run(Side::Left, work)
}

fn compare_random_frames(hook: Hook) {
    let mut random = Pcg64Mcg::seed_from_u64(SEED ^ u64::from(hook.index()));
    let mut chaos = Chaos::load().unwrap();
    let mut prediction = Prediction::new(hook);
    for configuration in 0..CONFIGURATIONS {
        let config =
            Config::new(random.random(), any_rule(&mut random), any_probabilities(&mut random))
                .unwrap();
        chaos.configure(&config).unwrap();
        for number in 0..FRAMES_PER_CONFIGURATION {
            let frame = match hook {
                Hook::Xdp => frames::any(&mut random),
                Hook::TcxIngress | Hook::TcxEgress => {
                    frames::lengthen_for_traffic_control(frames::any(&mut random))
                }
            };
            let fate = prediction.judge(&config, &frame);
            let run = chaos.test_run(hook, &frame).unwrap();
            let place = || {
                format!(
                    "{hook:?}, configuration {configuration} {config:?}, frame {number} {frame:02x?}"
                )
            };
            assert_eq!(run.passed, fate.copies > 0, "{}", place());
            assert_eq!(run.frame, fate.frame, "{}", place());
            // A copy is not seen in the result, but in the counters.
            assert_eq!(chaos.counters(hook).unwrap(), prediction.counters, "{}", place());
        }
    }
    assert!(
        prediction.counters.dropped > 1_000,
        "the comparison must see drops: {:?}",
        prediction.counters
    );
    assert!(
        prediction.counters.corrupted > 1_000,
        "the comparison must see corruption: {:?}",
        prediction.counters
    );
}

#[test]
fn chaos_xdp_decides_as_user_space_on_random_frames() {
    if ledger("chaos_xdp_decides_as_user_space_on_random_frames", &REQUIREMENTS) {
        in_a_namespace(|| compare_random_frames(Hook::Xdp));
    }
}

#[test]
fn chaos_tc_ingress_decides_as_user_space_on_random_frames() {
    if ledger("chaos_tc_ingress_decides_as_user_space_on_random_frames", &REQUIREMENTS) {
        in_a_namespace(|| compare_random_frames(Hook::TcxIngress));
    }
}

#[test]
fn chaos_tc_egress_decides_as_user_space_on_random_frames() {
    if ledger("chaos_tc_egress_decides_as_user_space_on_random_frames", &REQUIREMENTS) {
        in_a_namespace(|| compare_random_frames(Hook::TcxEgress));
    }
}

#[test]
fn each_fault_is_carried_out_on_a_known_frame() {
    if !ledger("each_fault_is_carried_out_on_a_known_frame", &REQUIREMENTS) {
        return;
    }
    let [here, there, _] = ADDRESSES;
    let datagram =
        Datagram { source: (here, 9_000), destination: (there, 80), payload: b"squared stones" };
    let frame = frames::udp([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], &datagram);
    let rule = Rule::ANY.with_protocol(17).with_port(80).with_source(here).with_destination(there);
    let certain = |drop_ppm, duplicate_ppm, corrupt_ppm| {
        Config::new(1, rule, Probabilities { drop_ppm, duplicate_ppm, corrupt_ppm }).unwrap()
    };
    in_a_namespace(|| {
        for hook in Hook::ALL {
            let mut chaos = Chaos::load().unwrap();
            assert!(
                chaos.test_run(hook, &frame).unwrap().passed,
                "{hook:?} without a configuration"
            );
            chaos.configure(&certain(PPM, 0, 0)).unwrap();
            assert!(!chaos.test_run(hook, &frame).unwrap().passed, "{hook:?} should drop");
            chaos.configure(&certain(0, PPM, 0)).unwrap();
            assert_eq!(
                chaos.test_run(hook, &frame).unwrap().frame,
                frame,
                "{hook:?} should pass the original on"
            );
            chaos.configure(&certain(0, 0, PPM)).unwrap();
            let run = chaos.test_run(hook, &frame).unwrap();
            let changed: Vec<_> =
                (0..frame.len()).filter(|&index| run.frame[index] != frame[index]).collect();
            assert!(
                run.passed && changed.len() == 1 && changed[0] >= 14,
                "{hook:?} should change one byte: {changed:?}"
            );
            let counters = chaos.counters(hook).unwrap();
            assert_eq!(
                (counters.unconfigured, counters.dropped, counters.corrupted),
                (1, 1, 1),
                "{hook:?}"
            );
            let duplicated = (counters.duplicated, counters.duplicate_declined);
            assert_eq!(duplicated, if hook == Hook::Xdp { (0, 1) } else { (1, 0) }, "{hook:?}");
        }
    });
}

#[test]
fn hooks_of_one_instance_number_their_frames_apart() {
    if !ledger("hooks_of_one_instance_number_their_frames_apart", &REQUIREMENTS) {
        return;
    }
    let config =
        Config::new(5, Rule::ANY, Probabilities { drop_ppm: PPM / 2, ..Probabilities::NONE })
            .unwrap();
    let mut chaos = Chaos::load().unwrap();
    chaos.configure(&config).unwrap();
    let mut predictions = Hook::ALL.map(Prediction::new);
    for _ in 0..100 {
        for prediction in &mut predictions {
            let hook = prediction.hook;
            let passed = prediction.judge(&config, &[0; 60]).copies > 0;
            assert_eq!(chaos.test_run(hook, &[0; 60]).unwrap().passed, passed, "{hook:?}");
        }
    }
    for prediction in predictions {
        assert_eq!(chaos.counters(prediction.hook).unwrap(), prediction.counters);
    }
}
