//! Moving connections in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_sim::{
    coverage::Exercised,
    handoff::{Coverage, Judge, Options, Report, Sabotage, run},
    trace::Keep,
};
use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

/// How long the runs without a defect go on here; `ashlar sim handoff` has more patience.
const TIME_MAX: Duration = Duration::from_secs(4);
/// So many runs exercise everything, and always take place.
const RUNS_MIN: u64 = 400;

fn assert_clean(report: &Report) {
    if let Some(violation) = &report.violation {
        let trace = report.trace.join("\n");
        panic!("seed {}: {violation}\n{trace}\n{}", report.seed, report.plan);
    }
}

#[test]
fn connections_move_unharmed_and_all_is_exercised() {
    let started = Instant::now();
    let mut exercised = Coverage::default();
    for seed in 0.. {
        if seed >= RUNS_MIN && started.elapsed() > TIME_MAX {
            break;
        }
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    let idle: Vec<_> = exercised.rows().into_iter().filter(|(_, count)| *count == 0).collect();
    // Too much must come together for these.
    let rare = ["ended_superseded", "entries_of_dead_owners", "kept_channel_lost", "kept_other"];
    assert!(idle.iter().all(|(name, _)| rare.contains(name)), "{idle:?}");
}

/// Each line of the file is a seed that once broke a property, and why.
#[test]
fn seeds_that_failed_once_stay_clean() {
    let lines = include_str!("../seeds/handoff.txt").lines();
    let seeds = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut count = 0;
    for line in seeds {
        let (seed, why) = line.split_once(' ').expect("a seed and what it showed");
        assert!(!why.trim().is_empty(), "{line}");
        assert_clean(&run(seed.parse().unwrap(), Options::default()));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_seed_stands_for_one_run() {
    let options = Options { keep: Keep::All, ..Options::default() };
    let mut hashes = BTreeSet::new();
    for seed in 0..10 {
        let (one, other) = (run(seed, options), run(seed, options));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.trace, other.trace);
        assert_eq!((one.coverage, one.virtual_us), (other.coverage, other.virtual_us));
        hashes.insert(one.trace_hash);
    }
    assert_eq!(hashes.len(), 10);
}

/// The oracle that finds a defect, in the first of these seeds that does.
fn found(sabotage: Sabotage, judge: Judge, mut seeds: Range<u64>) -> Option<&'static str> {
    let options = Options { sabotage: Some(sabotage), judge, keep: Keep::Nothing };
    seeds.find_map(|seed| {
        let report = run(seed, options);
        // The reader of a report can see how it came about.
        assert!(report.violation.is_none() || !report.trace.is_empty());
        report.violation.map(|violation| violation.oracle)
    })
}

/// More seeds than any defect takes (docs/simulator.md has the figures).
const SEEDS: Range<u64> = 0..400;

macro_rules! sabotages {
    ($($name:ident: $sabotage:ident, $oracles:expr;)+) => {
        $(#[test]
        fn $name() {
            let oracle = found(Sabotage::$sabotage, Judge::All, SEEDS).expect("it is found");
            assert!($oracles.contains(&oracle), "{oracle}");
        })+

        #[test]
        fn every_sabotage_is_tried() {
            assert_eq!([$(Sabotage::$sabotage),+], Sabotage::ALL);
        }
    };
}

sabotages! {
    serving_before_steering_follows_is_found: ServeUnclaimed, ["followed"];
    thawing_without_steering_is_found: ThawWithoutWinning, ["followed", "owners"];
    claims_that_make_entries_are_found: ClaimMakesEntry, ["introduced"];
    introducing_twice_is_found: IntroduceTwice, ["introduced"];
    overlooking_late_bytes_is_found: SkipCheck, ["acknowledged"];
    closing_without_lingering_is_found: CloseAtOnce, ["silence"];
    dropping_what_is_served_is_found: DropWithChannel, ["silence"];
    an_epoch_that_stays_is_found: SameEpoch, ["undisturbed", "liveness", "followed"];
    forgetting_the_receive_queue_is_found: ForgetReceiveQueue, ["liveness", "requests", "undisturbed"];
    forgetting_the_send_queue_is_found: ForgetSendQueue, ["responses", "liveness", "undisturbed"];
    listening_while_mute_is_found: ListenWhileMute, ["acknowledged"];
    an_unread_fin_that_is_forgotten_is_found: ForgetUnreadFin, ["undisturbed"];
}

/// Whoever sees only what clients and applications see notices what harms bytes and connections.
#[test]
fn clients_alone_would_notice() {
    let seen = [Sabotage::ForgetReceiveQueue, Sabotage::ForgetSendQueue, Sabotage::ForgetUnreadFin];
    for sabotage in seen {
        let oracle = found(sabotage, Judge::Clients, SEEDS).expect("it is found");
        let theirs = ["responses", "requests", "liveness", "undisturbed"];
        assert!(theirs.contains(&oracle), "{oracle}");
    }
}
