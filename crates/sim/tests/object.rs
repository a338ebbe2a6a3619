//! The object store's chains in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod support;

use ashlar_sim::{
    coverage::Exercised,
    object::{Coverage, Judge, Options, Report, Sabotage, run, shrink},
    trace::Keep,
};
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
    let mut exercised = Coverage::default();
    for seed in support::seeds_in_time(RUNS_MIN) {
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    let idle = support::idle(&exercised);
    // The search seldom reaches its bound.
    assert!(idle.iter().all(|name| *name == "histories_undecided"), "{idle:?}");
    let decided = exercised.histories_linearizable;
    assert!(exercised.histories_undecided * 50 < decided, "the search decides too little");
}

world! { seeds: "../seeds/object.txt", the_same_twice: 20, made_smaller: Sabotage::CommitAtHead }

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
        let oracle = found(sabotage, Judge::Clients, 0).expect("it is found");
        assert!(["linearizable", "liveness", "stored-bodies"].contains(&oracle), "{oracle}");
    }
}
