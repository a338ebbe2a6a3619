//! Faults do what they say, to the host they name, until they are cleared.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use ashlar_kernel::probe::Feature;
use ashlar_kernel::testing::ledger;
use ashlar_lab::{Chaos, Delay, FaultAction, FaultStatus, Lab, LabError, Probability};
use common::{
    NEEDS, assert_gone, name, processes_of, round_trips, run, spec, stand_in, start_echo,
    wait_until,
};
use std::process::Command;
use std::time::Duration;

/// A round trip without faults takes less than this, even on a busy machine, if it is the fastest of several.
const UNDISTURBED_MAX: Duration = Duration::from_millis(10);

fn delay(delay_ms: u64) -> FaultAction {
    FaultAction::Delay(Delay {
        delay: Duration::from_millis(delay_ms),
        jitter: Duration::ZERO,
        reorder: Probability::default(),
        seed: 1,
    })
}

fn drop_udp(percent: &str) -> FaultAction {
    FaultAction::Chaos(Chaos {
        drop: percent.parse().unwrap(),
        frames: "udp:7".parse().unwrap(),
        seed: 1,
        ..Chaos::default()
    })
}

fn faults_of(lab: &Lab, host: &str) -> Vec<FaultStatus> {
    lab.status().unwrap().hosts.into_iter().find(|status| status.name == host).unwrap().faults
}

fn needs_kernel_programs() -> Vec<Feature> {
    [&NEEDS[..], &[Feature::KernelPrograms, Feature::Tcx]].concat()
}

#[test]
fn a_delay_is_added_to_both_directions_until_it_is_cleared() {
    if !ledger("a_delay_is_added_to_both_directions_until_it_is_cleared", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('a')).unwrap().down_on_drop();
    for host in ["fe", "s1"] {
        start_echo(&lab, host);
    }
    lab.fault("fe", &delay(20)).unwrap();
    let delayed = round_trips(&lab, "fe", 10);
    let fastest = delayed.fastest.unwrap();
    assert_eq!(delayed.answered, 10);
    assert!(
        (Duration::from_millis(40)..Duration::from_millis(60)).contains(&fastest),
        "{fastest:?}"
    );
    assert!(
        round_trips(&lab, "s1", 10).fastest.unwrap() < UNDISTURBED_MAX,
        "another host is delayed"
    );

    lab.fault("fe", &delay(30)).unwrap();
    assert!(
        round_trips(&lab, "fe", 5).fastest.unwrap() >= Duration::from_millis(60),
        "not replaced"
    );

    lab.fault("fe", &FaultAction::Clear).unwrap();
    assert!(faults_of(&lab, "fe").is_empty());
    assert!(round_trips(&lab, "fe", 10).fastest.unwrap() < UNDISTURBED_MAX);
    lab.down().unwrap();
    assert_gone(&name('a'));
}

#[test]
fn a_stream_crosses_a_delayed_link_byte_for_byte() {
    if !ledger("a_stream_crosses_a_delayed_link_byte_for_byte", &NEEDS) {
        return;
    }
    const BYTES: &str = "5000000";
    let lab = Lab::up(&spec('b')).unwrap().down_on_drop();
    let address = format!("{}:4000", lab.address("s1").unwrap());
    let mut server = Command::new(stand_in());
    server.args(["serve", &address, BYTES]);
    lab.spawn_in("s1", "serve", &server).unwrap();
    let fetch = || {
        let output = run(&lab, "client", &["fetch", &address]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), BYTES);
    };
    wait_until("the server listens", || {
        lab.command("client", stand_in())
            .unwrap()
            .args(["fetch", &address])
            .output()
            .unwrap()
            .status
            .success()
    });
    // Offloads are on before and after, and off while frames are copied one by one: on the sender's link, then the
    // receiver's.
    for host in ["s1", "client"] {
        lab.fault(host, &delay(2)).unwrap();
        fetch();
        let statistics = || faults_of(&lab, host)[0].statistics.clone();
        wait_until("the relay has counted the frames", || {
            let direction = if host == "s1" { "from_host" } else { "to_host" };
            statistics()
                .is_some_and(|counted| counted[direction]["forwarded"].as_u64() > Some(3_000))
        });
        lab.fault(host, &FaultAction::Clear).unwrap();
        fetch();
    }
}

#[test]
fn an_agent_that_is_asked_to_end_gives_the_link_back() {
    if !ledger("an_agent_that_is_asked_to_end_gives_the_link_back", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('c')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    for (signal, survives) in [("TERM", true), ("KILL", false)] {
        lab.fault("fe", &delay(20)).unwrap();
        let pid = faults_of(&lab, "fe")[0].agent_pid.unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        wait_until("the fault is known to have ended", || !faults_of(&lab, "fe")[0].in_force);
        let answered = round_trips(&lab, "fe", 3).answered;
        assert_eq!(answered > 0, survives, "after SIG{signal}, {answered} of 3 came back");
        lab.fault("fe", &FaultAction::Clear).unwrap();
        assert!(
            round_trips(&lab, "fe", 10).fastest.unwrap() < UNDISTURBED_MAX,
            "after SIG{signal}"
        );
    }
}

#[test]
fn a_fault_command_that_is_killed_at_any_moment_is_cleared_like_any_other() {
    if !ledger("a_fault_command_that_is_killed_at_any_moment_is_cleared_like_any_other", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('i')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    let agents =
        || processes_of(lab.name()).iter().filter(|line| line.contains("fault-agent")).count();
    for delay_ms in [1, 3, 6, 10, 20, 30, 50] {
        let mut fault =
            Command::new(stand_in()).args(["delay", lab.name().as_str(), "fe"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        fault.kill().unwrap();
        fault.wait().unwrap();
        lab.fault("fe", &FaultAction::Clear).unwrap();
        wait_until("no agent is left", || agents() == 0);
        assert!(faults_of(&lab, "fe").is_empty());
        let after = round_trips(&lab, "fe", 5).fastest;
        assert!(after.is_some_and(|fastest| fastest < UNDISTURBED_MAX), "{delay_ms} ms: {after:?}");
    }
}

#[test]
fn a_partition_cuts_the_host_off_until_it_is_healed() {
    if !ledger("a_partition_cuts_the_host_off_until_it_is_healed", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('d')).unwrap().down_on_drop();
    for host in ["fe", "s1"] {
        start_echo(&lab, host);
    }
    lab.fault("fe", &FaultAction::Partition).unwrap();
    lab.fault("fe", &FaultAction::Partition).unwrap();
    assert_eq!(faults_of(&lab, "fe").len(), 1);
    assert_eq!(round_trips(&lab, "fe", 2).answered, 0);
    assert_eq!(round_trips(&lab, "s1", 2).answered, 2);
    for end in [FaultAction::Heal, FaultAction::Clear] {
        lab.fault("fe", &FaultAction::Partition).unwrap();
        lab.fault("fe", &end).unwrap();
        wait_until("the host is joined again", || round_trips(&lab, "fe", 1).answered == 1);
        assert!(faults_of(&lab, "fe").is_empty());
    }
    assert!(matches!(
        lab.fault("switch", &FaultAction::Partition),
        Err(LabError::UnsuitableHost { .. })
    ));
}

#[test]
fn chaos_loses_the_share_of_frames_that_it_was_told_to() {
    if !ledger("chaos_loses_the_share_of_frames_that_it_was_told_to", &needs_kernel_programs()) {
        return;
    }
    let lab = Lab::up(&spec('e')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    lab.fault("fe", &drop_udp("20%")).unwrap();
    let disturbed = round_trips(&lab, "fe", 100);
    // A round trip passes twice: 64 % come back. Four standard deviations to either side.
    assert!((45..=83).contains(&disturbed.answered), "{disturbed:?}");
    wait_until("the programs' counts are told", || {
        let statistics = faults_of(&lab, "fe")[0].statistics.clone().unwrap();
        let lost = |way: &str| statistics[way]["dropped"].as_u64().unwrap();
        lost("from_host") + lost("to_host") == 100 - disturbed.answered
    });
    lab.fault("fe", &FaultAction::Clear).unwrap();
    assert_eq!(round_trips(&lab, "fe", 50).answered, 50);
}

#[test]
fn chaos_repeats_frames_and_spares_those_that_do_not_match() {
    if !ledger("chaos_repeats_frames_and_spares_those_that_do_not_match", &needs_kernel_programs())
    {
        return;
    }
    let lab = Lab::up(&spec('f')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    let chaos = |drop: &str, duplicate: &str, frames: &str| {
        FaultAction::Chaos(Chaos {
            drop: drop.parse().unwrap(),
            duplicate: duplicate.parse().unwrap(),
            frames: frames.parse().unwrap(),
            ..Chaos::default()
        })
    };
    lab.fault("fe", &chaos("0%", "100%", "udp")).unwrap();
    let repeated = round_trips(&lab, "fe", 20);
    assert_eq!(repeated.answered, 20);
    // Each datagram arrives twice, and so does each answer to either.
    assert!(repeated.repeated >= 20, "{repeated:?}");
    lab.fault("fe", &chaos("100%", "0%", "udp:8")).unwrap();
    assert_eq!(round_trips(&lab, "fe", 10).answered, 10, "another port's frames are lost");
    lab.fault("fe", &chaos("100%", "0%", "udp:7")).unwrap();
    assert_eq!(round_trips(&lab, "fe", 3).answered, 0);
}

#[test]
fn damaged_frames_never_reach_the_application() {
    if !ledger("damaged_frames_never_reach_the_application", &needs_kernel_programs()) {
        return;
    }
    let lab = Lab::up(&spec('g')).unwrap().down_on_drop();
    let address = format!("{}:4000", lab.address("s1").unwrap());
    let mut server = Command::new(stand_in());
    server.args(["serve", &address, "1000000"]);
    lab.spawn_in("s1", "serve", &server).unwrap();
    wait_until("the server listens", || {
        lab.command("client", stand_in())
            .unwrap()
            .args(["fetch", &address])
            .output()
            .unwrap()
            .status
            .success()
    });
    lab.fault(
        "s1",
        &FaultAction::Chaos(Chaos {
            corrupt: "2%".parse().unwrap(),
            frames: "tcp".parse().unwrap(),
            seed: 1,
            ..Chaos::default()
        }),
    )
    .unwrap();
    // Checksums are complete on a link with chaos, so TCP sees the damage and sends again; `fetch` checks every byte.
    run(&lab, "client", &["fetch", &address]);
    wait_until("the damage is counted", || {
        let statistics = faults_of(&lab, "s1")[0].statistics.clone().unwrap();
        statistics["from_host"]["corrupted"].as_u64() > Some(0)
    });
}

#[test]
fn chaos_and_delay_work_together_in_either_order() {
    if !ledger("chaos_and_delay_work_together_in_either_order", &needs_kernel_programs()) {
        return;
    }
    let lab = Lab::up(&spec('h')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    for faults in [[delay(10), drop_udp("20%")], [drop_udp("20%"), delay(10)]] {
        for fault in &faults {
            lab.fault("fe", fault).unwrap();
        }
        let disturbed = round_trips(&lab, "fe", 60);
        assert!((23..=54).contains(&disturbed.answered), "{disturbed:?}");
        assert!(disturbed.fastest.unwrap() >= Duration::from_millis(20), "{disturbed:?}");
        lab.fault("fe", &FaultAction::Clear).unwrap();
        let clear = round_trips(&lab, "fe", 20);
        assert_eq!(clear.answered, 20);
        assert!(clear.fastest.unwrap() < UNDISTURBED_MAX, "{clear:?}");
    }
}
