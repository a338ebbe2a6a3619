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
    // The search seldom reaches its bound, few runs have a real journal, and in few are there frames too long for a slot.
    let rare = ["histories_undecided", "journals_damaged", "frames_long"];
    let is_rare = |name: &&str| rare.contains(name);
    assert!(idle.iter().all(is_rare), "{idle:?}");
}

/// Nothing that programs do is left out, nor what is done to them.
#[test]
fn programs_in_kernels_are_exercised() {
    let mut exercised = Coverage::default();
    // Some of those seeds that have them, and some of those whose clients write all the time besides.
    let busy = (4..).step_by(17 * 11).take(20);
    for seed in (1..).step_by(17).take(40).chain(busy) {
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    let is_of_programs = |name: &&str| {
        ["frames", "packets", "acknowledgements", "quorums", "processes", "fences", "programs"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    // A program that sleeps through a whole view seldom hears of it.
    let is_rare = |name: &&str| *name == "acknowledgements_other_view";
    let idle = support::idle(&exercised).into_iter().filter(is_of_programs);
    let idle: Vec<_> = idle.filter(|name| !is_rare(name)).collect();
    assert!(idle.is_empty() && exercised.killed_at_work > 0, "{idle:?}");
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
    skipping_the_fence_is_found: SkipFence, ["kept"];
    draining_before_the_fence_is_found: DrainBeforeFence, ["kept"];
    leaving_slots_to_lead_is_found: DropSlotsToLead, ["kept"], from 26;
    applying_old_slots_is_found: ApplyOldSlots, ["kept", "panic"], from 26;
    outliving_the_process_is_found: OutliveProcess, ["alive"];
    acknowledging_without_a_slot_is_found: AcknowledgeUnstored, ["kept"];
    acknowledging_other_content_is_found: AcknowledgeOtherContent, ["alive", "promises"];
    acknowledging_what_was_seen_is_found: AcknowledgeLastSeen, ["kept"];
    waiting_to_be_told_is_found: SkipOwnLook, ["liveness"];
    believing_signals_is_found: BelieveSignals, ["committed"];
    noting_twice_is_found: NoteTwice, ["committed"];
    appending_unheard_is_found: KeepTail, ["panic"];
    starting_beside_programs_is_found: SkipAdoption, ["panic"], from 121;
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
        let oracle = found(sabotage, Judge::Clients, 0).expect("it is found");
        assert_eq!(oracle, "linearizable");
    }
}
