//! Replicated groups of real processes, in namespaces, with faults and clients that remember what they were told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod group;
mod offload;
mod steady;

use clients::Campaign;
use group::{Group, Mode};
use std::time::Duration;

/// How long one campaign takes, if `ASHLAR_TEST_CAMPAIGN_SECONDS` does not say it.
fn campaign_time(usual: Duration) -> Duration {
    let seconds = std::env::var("ASHLAR_TEST_CAMPAIGN_SECONDS");
    seconds.map_or(usual, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

#[test]
fn keys_and_values_outlive_every_process() {
    let Some(mut group) = Group::start("keys_and_values_outlive_every_process", 'a', Mode::Durable)
    else {
        return;
    };
    group.kv(&["put", "colour", "blue"]).unwrap();
    assert_eq!(group.kv(&["get", "colour"]).unwrap(), "blue\n");
    let refused = group.kv(&["cas", "colour", "--expect", "red", "green"]).unwrap_err();
    assert!(refused.contains("the key has another value: blue"), "{refused}");
    group.kv(&["cas", "colour", "--expect", "blue", "green"]).unwrap();
    for place in 0..3 {
        group.kill(place);
    }
    for place in 0..3 {
        group.run(place);
    }
    assert_eq!(group.kv(&["get", "colour"]).unwrap(), "green\n");
    group.kv(&["rm", "colour"]).unwrap();
    assert!(group.kv(&["get", "colour"]).unwrap_err().contains("the key has no value"));
}

#[test]
fn a_member_is_replaced_while_the_group_goes_on() {
    let Some(mut group) =
        Group::start("a_member_is_replaced_while_the_group_goes_on", 'b', Mode::Durable)
    else {
        return;
    };
    group.kv(&["put", "colour", "blue"]).unwrap();
    group.kill(0);
    group.join(3);
    let members = [group.address(3), group.address(1), group.address(2)];
    let names = members.map(|member| member.to_string()).join(",");
    group.kv(&["reconfigure", &names]).unwrap();
    group.set_members(&members);
    group.wait_for_member(0);
    group.kill(1);
    assert_eq!(group.kv(&["get", "colour"]).unwrap(), "blue\n");
    group.kv(&["put", "colour", "red"]).unwrap();
}

/// Whoever dies, stops for a while or loses frames: what clients see has an order, and goes on.
fn survive(test: &str, letter: char, mode: Mode) {
    let Some(group) = Group::start(test, letter, mode) else { return };
    survive_with(group, mode, |_, _| ());
}

/// The same for a group that runs; before each fault, something is done to it by chance.
fn survive_with(mut group: Group, mode: Mode, then: impl Fn(&Group, u64)) {
    group.lose("5%");
    let campaign = Campaign::start(&group);
    let started = std::time::Instant::now();
    let mut random = 7_u64;
    let mut faults = 0;
    while started.elapsed() < campaign_time(Duration::from_secs(8)) {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        then(&group, random >> 20);
        let place = (random >> 33) as usize % 3;
        if random >> 62 == 0 {
            group.pause(place, Duration::from_millis(random >> 40 & 511));
        } else {
            group.kill(place);
            campaign.wait_for_progress();
            group.run(place);
        }
        group.wait_for_member(place);
        campaign.wait_for_progress();
        faults += 1;
    }
    let report = campaign.stop();
    println!("{mode:?}: {faults} faults, {report}");
    assert!(faults >= 3, "{faults} faults");
    assert!(report.executed >= 500 && report.read >= 100, "{report:?}");
}

#[test]
fn a_volatile_group_survives_deaths_pauses_and_losses() {
    survive("a_volatile_group_survives_deaths_pauses_and_losses", 'c', Mode::Volatile);
}

#[test]
fn a_durable_group_survives_deaths_pauses_and_losses() {
    survive("a_durable_group_survives_deaths_pauses_and_losses", 'd', Mode::Durable);
}

/// Clients put all the time: what replicas take in memory and on disk ceases to grow.
fn stay_bounded(test: &str, letter: char, mode: Mode) {
    let Some(group) = Group::start(test, letter, mode) else { return };
    steady::bear(&group, campaign_time(Duration::from_secs(120)));
}

#[test]
#[ignore = "takes minutes; scripts/soak.sh runs it"]
fn a_volatile_group_stays_bounded_under_a_steady_load() {
    stay_bounded("a_volatile_group_stays_bounded_under_a_steady_load", 'e', Mode::Volatile);
}

#[test]
#[ignore = "takes minutes; scripts/soak.sh runs it"]
fn a_durable_group_stays_bounded_under_a_steady_load() {
    stay_bounded("a_durable_group_stays_bounded_under_a_steady_load", 'f', Mode::Durable);
}
