//! Viewstamped Replication in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod support;

use ashlar_sim::{
    coverage::Exercised,
    trace::Keep,
    vr::{Coverage, Judge, Options, Report, Sabotage, run, shrink},
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
    // The search seldom reaches its bound, and few runs have a real journal.
    let is_rare = |name: &&str| ["histories_undecided", "journals_damaged"].contains(name);
    assert!(idle.iter().all(is_rare), "{idle:?}");
}

#[test]
fn real_journals_survive_damage() {
    let mut exercised = Coverage::default();
    // Those seeds that have them, if their groups are durable.
    for seed in (4..).step_by(13).take(60) {
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    assert!(exercised.journals_opened > 0 && exercised.journals_damaged > 0, "{exercised:?}");
}

world! { seeds: "../seeds/vr.txt", the_same_twice: 10, made_smaller: Sabotage::CountTwice }

sabotages! {
    forgetting_promises_is_found: ForgetPromise, ["kept", "leaders", "promises", "agreement", "stored"];
    starting_empty_is_found: RestartEmpty, ["kept", "leaders", "promises", "agreement"];
    speaking_before_a_sync_is_found: SpeakBeforeSync, ["stored"];
    acknowledging_anything_is_found: AcknowledgeAnything, ["kept", "stored", "promises", "agreement"];
    hiding_holes_is_found: HideHoles, ["kept", "committed", "linearizable", "agreement"];
    forgetting_the_tail_is_found: ForgetTail, ["kept", "committed", "agreement", "linearizable"];
    reading_anywhere_is_found: ReadAnywhere, ["linearizable"];
    repeating_in_a_new_session_is_found: RepeatInNewSession, ["linearizable"];
    numbering_requests_anew_is_found: RenumberRequests, ["linearizable"];
    voting_with_the_view_of_the_last_entry_is_found: ViewOfLastEntry, ["kept", "committed"];
    acknowledging_after_leaving_is_found: AcknowledgeAfterLeaving, ["promises", "stored", "kept"];
    counting_twice_is_found: CountTwice, ["committed"];
    committing_early_is_found: CommitEarly, ["committed"];
    letting_go_of_a_log_too_early_is_found: TruncateThenFetch, ["kept", "committed", "stored"];
    replacing_a_log_in_two_writes_is_found: TearInstall, ["committed"];
    giving_up_lost_entries_is_found: GiveUpHoles, ["kept", "committed"];
    speaking_without_memory_is_found: SpeakWhileRecovering, ["kept", "committed"];
    long_leases_are_found: LongLeases, ["linearizable"];
    different_bounds_are_found: DifferentBounds, ["converged", "linearizable", "liveness"];
    forgetting_members_is_found: ForgetMembers, ["liveness", "committed", "leaders", "agreement"];
    beginning_an_epoch_early_is_found: EarlyEpoch, ["committed"];
    skipping_syncs_is_found: SkipSync, ["kept", "committed", "promises", "leaders", "stored"];
}

/// Whoever sees only what clients see notices what harms them.
#[test]
fn clients_alone_would_notice() {
    for sabotage in [
        Sabotage::ReadAnywhere,
        Sabotage::RepeatInNewSession,
        Sabotage::RenumberRequests,
        Sabotage::LongLeases,
    ] {
        let oracle = found(sabotage, Judge::Clients).expect("it is found");
        assert_eq!(oracle, "linearizable");
    }
}
