//! Moving connections in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod support;

use ashlar_sim::{
    coverage::Exercised,
    handoff::{Coverage, Judge, Options, Report, Sabotage, run, shrink},
    trace::Keep,
};
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
    let mut exercised = Coverage::default();
    for seed in support::seeds_in_time(RUNS_MIN) {
        let report = run(seed, Options::default());
        assert_clean(&report);
        exercised.add(&report.coverage);
    }
    let idle = support::idle(&exercised);
    // Too much must come together for these.
    let rare = ["ended_superseded", "entries_of_dead_owners", "kept_channel_lost", "kept_other"];
    assert!(idle.iter().all(|name| rare.contains(name)), "{idle:?}");
}

world! { seeds: "../seeds/handoff.txt", the_same_twice: 10, made_smaller: Sabotage::ServeUnclaimed }

sabotages! {
    serving_before_steering_follows_is_found: ServeUnclaimed, ["followed"];
    thawing_without_steering_is_found: ThawWithoutWinning, ["followed", "owners"];
    claims_that_make_entries_are_found: ClaimMakesEntry, ["introduced"];
    introducing_twice_is_found: IntroduceTwice, ["introduced"];
    overlooking_late_bytes_is_found: SkipCheck, ["acknowledged"];
    looking_for_late_bytes_once_is_found: LookOnce, ["acknowledged"];
    receiving_late_bytes_twice_is_found: ReceiveTwice, ["acknowledged", "requests", "responses", "undisturbed", "liveness"];
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
        let oracle = found(sabotage, Judge::Clients, 0).expect("it is found");
        let theirs = ["responses", "requests", "liveness", "undisturbed"];
        assert!(theirs.contains(&oracle), "{oracle}");
    }
}
