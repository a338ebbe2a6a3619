//! The object store's chains in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_sim::{
    coverage::Exercised,
    object::{Coverage, Judge, Options, Report, Sabotage, run},
    trace::Keep,
};
use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

/// How long the runs without a defect go on here; `ashlar sim object` has more patience.
const TIME_MAX: Duration = Duration::from_secs(4);
/// So many runs exercise everything, and always take place.
const RUNS_MIN: u64 = 150;

fn assert_clean(report: &Report) {
    if let Some(violation) = &report.violation {
        let (trace, context) = (report.trace.join("\n"), violation.context.join("\n"));
        panic!("seed {}: {violation}\n{context}\n{trace}", report.seed);
    }
}

#[test]
fn the_chain_keeps_its_promises_and_all_is_exercised() {
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
    // The search seldom reaches its bound.
    assert!(idle.iter().all(|(name, _)| *name == "histories_undecided"), "{idle:?}");
    let decided = exercised.histories_linearizable;
    assert!(exercised.histories_undecided * 50 < decided, "the search decides too little");
}

/// Each line of the file is a seed that once broke a property, and why.
#[test]
fn seeds_that_failed_once_stay_clean() {
    let lines = include_str!("../seeds/object.txt").lines();
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
    for seed in 0..20 {
        let (one, other) = (run(seed, options), run(seed, options));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.trace, other.trace);
        assert_eq!((one.coverage, one.virtual_us), (other.coverage, other.virtual_us));
        hashes.insert(one.trace_hash);
    }
    assert_eq!(hashes.len(), 20);
}

#[test]
fn what_is_kept_of_the_trace_does_not_change_the_run() {
    for seed in 0..20 {
        let silent = run(seed, Options::default());
        let told = run(seed, Options { keep: Keep::All, ..Options::default() });
        assert_eq!(silent.coverage, told.coverage, "seed {seed}");
        assert!(silent.trace.is_empty() && !told.trace.is_empty());
    }
}

/// The first violation that the defect leads to among these seeds.
fn found(sabotage: Sabotage, judge: Judge, seeds: Range<u64>) -> Option<&'static str> {
    let options = Options { sabotage: Some(sabotage), judge, keep: Keep::Nothing };
    seeds.map(|seed| run(seed, options)).find_map(|report| {
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
    dirty_reads_that_do_not_ask_are_found: ServeDirty, ["linearizable"];
    persisting_without_sync_is_found: AckBeforeSync, ["acknowledged", "prefix"];
    answering_for_the_whole_chain_is_found: CommitAtHead, ["acknowledged"];
    an_old_word_of_the_tail_is_found: TailBeforeSnapshot, ["linearizable"];
    forgetting_dirty_entries_is_found: ForgetWindow, ["acknowledged", "prefix", "linearizable"];
    failing_before_the_reason_is_committed_is_found: EarlyFailure, ["linearizable"];
    taking_bodies_for_present_is_found: SkipBodyCheck, ["stored-bodies", "converged"];
    serving_before_joining_is_found: ServeUnjoined, ["linearizable"];
    marking_ahead_of_releases_is_found: MarkAhead, ["converged"];
    starting_without_a_sync_is_found: StartUnsynced, ["commitment", "stored-bodies", "prefix"];
    hiding_a_full_disk_is_found: HideFullDisk, ["space"];
}

/// Whoever sees only what clients see notices too, except what only wastes space, and what takes
/// two failures in a row.
#[test]
fn clients_alone_would_notice() {
    let unseen = [Sabotage::MarkAhead, Sabotage::StartUnsynced];
    for sabotage in Sabotage::ALL.into_iter().filter(|sabotage| !unseen.contains(sabotage)) {
        let oracle = found(sabotage, Judge::Clients, SEEDS).expect("it is found");
        assert!(["linearizable", "liveness", "stored-bodies"].contains(&oracle), "{oracle}");
    }
}
