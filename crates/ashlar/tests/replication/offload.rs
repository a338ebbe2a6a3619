//! Groups with programs in their hosts' kernels.

use crate::{
    clients::Campaign,
    group::{Group, Mode},
    survive_with,
};
use rustix::process::Signal;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const ALL: &str = "\"fanout\", \"early-ack\", \"quorum\"";
/// Longer than a lease, and than the kernel takes to detach what belonged to a process.
const AFTER_A_DEATH: Duration = Duration::from_millis(500);
/// Leaders that die, if `ASHLAR_TEST_KILLS` does not say it.
const KILLS: usize = 5;

#[test]
fn programs_do_their_work_and_are_switched_while_clients_write() {
    let test = "programs_do_their_work_and_are_switched_while_clients_write";
    let Some(group) = Group::start_with(test, 'g', Mode::Volatile, &[ALL; 3]) else { return };
    let campaign = Campaign::start(&group);
    campaign.wait_for_progress();
    let (leader, backup) = (group.leader(), (group.leader() + 1) % 3);
    let work = |outcomes: [&str; 4]| {
        let [copied, signalled, noted, accepted] = outcomes;
        [(leader, copied), (leader, signalled), (leader, noted), (backup, accepted)]
            .map(|(host, outcome)| group.counted(host, outcome))
    };
    let outcomes = ["copied", "ok_signalled", "ok_noted", "prepare_accepted"];
    assert!(work(outcomes).iter().all(|count| *count > 0.0), "{:?}", work(outcomes));
    for offload in ["none", "fanout", "early-ack", "quorum", "fanout,early-ack,quorum"] {
        (0..3).for_each(|host| group.switch(host, offload));
        campaign.wait_for_progress();
        let before = work(outcomes);
        campaign.wait_for_progress();
        let after = work(outcomes);
        let does = |name: &str| offload.contains(name);
        let expected = [does("fanout"), does("quorum"), does("quorum"), does("early-ack")];
        for ((outcome, before), (after, expected)) in
            outcomes.iter().zip(before).zip(after.into_iter().zip(expected))
        {
            assert_eq!(after > before, expected, "{outcome} with {offload}: {before}, {after}");
        }
    }
    println!("{}", campaign.stop());
}

#[test]
fn a_leader_whose_backups_are_dead_commits_nothing_more() {
    let test = "a_leader_whose_backups_are_dead_commits_nothing_more";
    let Some(mut group) = Group::start_with(test, 'h', Mode::Volatile, &[ALL; 3]) else { return };
    let campaign = Campaign::start(&group);
    campaign.wait_for_progress();
    let leader = group.leader();
    for backup in (0..3).filter(|host| *host != leader) {
        group.kill(backup);
    }
    sleep(AFTER_A_DEATH);
    let committed = group.committed(leader);
    sleep(2 * AFTER_A_DEATH);
    assert_eq!(group.committed(leader), committed);
    drop(campaign);
}

#[test]
fn a_backup_that_is_stopped_acknowledges_until_its_lease_is_over() {
    let test = "a_backup_that_is_stopped_acknowledges_until_its_lease_is_over";
    let Some(mut group) = Group::start_with(test, 'i', Mode::Volatile, &[ALL; 3]) else { return };
    let campaign = Campaign::start(&group);
    campaign.wait_for_progress();
    let leader = group.leader();
    let (dead, stopped) = ((leader + 1) % 3, (leader + 2) % 3);
    group.kill(dead);
    campaign.wait_for_progress();
    group.signal(stopped, Signal::STOP);
    sleep(AFTER_A_DEATH);
    let committed = group.committed(leader);
    sleep(2 * AFTER_A_DEATH);
    assert_eq!(group.committed(leader), committed);
    group.signal(stopped, Signal::CONT);
    group.run(dead);
    campaign.wait_for_progress();
    println!("{}", campaign.stop());
}

#[test]
fn a_host_that_is_gone_takes_nobody_elses_messages_along() {
    let test = "a_host_that_is_gone_takes_nobody_elses_messages_along";
    let offloads = ["\"fanout\""; 3];
    let Some(group) = Group::start_with(test, 'm', Mode::Volatile, &offloads) else { return };
    let campaign = Campaign::start(&group);
    campaign.wait_for_progress();
    let leader = group.leader();
    // What is for both backups is addressed to the first one.
    let gone = (0..3).find(|host| *host != leader).unwrap();
    let other = 3 - leader - gone;
    group.unplug(gone, &[leader, other]);
    let started = Instant::now();
    while started.elapsed() < 6 * AFTER_A_DEATH {
        campaign.wait_for_progress();
    }
    assert_eq!(group.leader(), leader, "its lease goes on");
    let report = campaign.stop();
    assert!(report.read > 0 && report.longest_pause < 2 * AFTER_A_DEATH, "{report}");
}

#[test]
fn nothing_is_lost_when_leaders_die_under_load() {
    let test = "nothing_is_lost_when_leaders_die_under_load";
    let Some(mut group) = Group::start_with(test, 'j', Mode::Volatile, &[ALL; 3]) else { return };
    let campaign = Campaign::start(&group);
    let kills = std::env::var("ASHLAR_TEST_KILLS");
    let kills = kills.map_or(KILLS, |kills| kills.parse().unwrap());
    let started = Instant::now();
    for _ in 0..kills {
        campaign.wait_for_progress();
        let leader = group.leader();
        group.kill(leader);
        campaign.wait_for_progress();
        group.run(leader);
        group.wait_for_member(leader);
    }
    println!("{kills} leaders died in {:?}: {}", started.elapsed(), campaign.stop());
}

#[test]
fn a_volatile_group_with_programs_survives_deaths_pauses_losses_and_switches() {
    let test = "a_volatile_group_with_programs_survives_deaths_pauses_losses_and_switches";
    let offloads = [ALL, "\"early-ack\"", "\"fanout\", \"quorum\""];
    let Some(group) = Group::start_with(test, 'k', Mode::Volatile, &offloads) else { return };
    survive_with(group, Mode::Volatile, |group, random| {
        let subsets = [
            "none",
            "fanout",
            "early-ack",
            "quorum",
            "early-ack,quorum",
            "fanout,early-ack,quorum",
        ];
        group.switch(random as usize % 3, subsets[(random >> 8) as usize % subsets.len()]);
    });
}

#[test]
fn a_durable_group_with_programs_survives_deaths_pauses_and_losses() {
    let test = "a_durable_group_with_programs_survives_deaths_pauses_and_losses";
    let offloads = ["\"fanout\", \"quorum\""; 3];
    let Some(group) = Group::start_with(test, 'l', Mode::Durable, &offloads) else { return };
    survive_with(group, Mode::Durable, |_, _| ());
}
