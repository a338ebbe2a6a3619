//! Viewstamped Replication in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod support;

use ashlar_sim::{
    coverage::Exercised,
    trace::Keep,
    vr::{Coverage, Judge, Options, Report, Sabotage, run},
};

/// So many runs exercise everything, and always take place.
const RUNS_MIN: u64 = 200;

fn assert_clean(report: &Report) {
    if let Some(violation) = &report.violation {
        let (trace, context) = (report.trace.join("\n"), violation.context.join("\n"));
        panic!("seed {}: {violation}\n{context}\n{trace}\n{}", report.seed, report.plan);
    }
}

#[test]
fn groups_keep_their_promises_and_all_is_exercised() {
    let mut exercised = Coverage::default();
    for seed in support::seeds_in_time(RUNS_MIN) {
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    let idle = support::idle(&exercised);
    // The search seldom reaches its bound.
    assert!(idle.iter().all(|name| *name == "histories_undecided"), "{idle:?}");
}

world! { seeds: "../seeds/vr.txt", the_same_twice: 10 }

sabotages! {
    forgetting_promises_is_found: ForgetPromise, ["leaders", "promises", "agreement", "stored"];
    starting_empty_is_found: RestartEmpty, ["leaders", "promises", "agreement"];
    speaking_before_a_sync_is_found: SpeakBeforeSync, ["stored"];
    acknowledging_anything_is_found: AcknowledgeAnything, ["stored", "promises", "agreement"];
    hiding_holes_is_found: HideHoles, ["linearizable", "agreement"];
    forgetting_the_tail_is_found: ForgetTail, ["agreement", "linearizable"];
    reading_anywhere_is_found: ReadAnywhere, ["linearizable"];
    repeating_in_a_new_session_is_found: RepeatInNewSession, ["linearizable"];
    numbering_requests_anew_is_found: RenumberRequests, ["linearizable"];
}

/// Whoever sees only what clients see notices what harms them.
#[test]
fn clients_alone_would_notice() {
    for sabotage in
        [Sabotage::ReadAnywhere, Sabotage::RepeatInNewSession, Sabotage::RenumberRequests]
    {
        let oracle = found(sabotage, Judge::Clients).expect("it is found");
        assert_eq!(oracle, "linearizable");
    }
}
