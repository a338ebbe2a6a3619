//! Labs come, run, and vanish, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use ashlar_kernel::probe::Feature;
use ashlar_kernel::testing::ledger;
use ashlar_lab::{CpuQuota, FaultAction, Lab, LabError, LabSpec, Observer, ProcessState};
use common::{
    NEEDS, Sweeper, assert_gone, name, round_trips, run, spec, stand_in, start_echo, wait_until,
};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn two_labs_with_the_same_addresses_live_side_by_side() {
    if !ledger("two_labs_with_the_same_addresses_live_side_by_side", &NEEDS) {
        return;
    }
    let one = Lab::up(&spec('a')).unwrap().down_on_drop();
    let other = Lab::up(&spec('b')).unwrap().down_on_drop();
    assert_eq!(one.address("fe").unwrap(), other.address("fe").unwrap());
    start_echo(&one, "fe");
    assert_eq!(round_trips(&other, "fe", 1).answered, 0, "a frame crossed from lab to lab");
    one.down().unwrap();
    assert_gone(&name('a'));
    start_echo(&other, "fe");
    other.down().unwrap();
    assert_gone(&name('b'));
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_first_lab_stays() {
    if !ledger("a_name_that_is_taken_is_refused_and_the_first_lab_stays", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('c')).unwrap().down_on_drop();
    let error = Lab::up(&spec('c')).unwrap_err();
    assert!(matches!(error, LabError::NameTaken { .. }), "{error}");
    start_echo(&lab, "s1");
}

#[test]
fn an_up_that_is_killed_at_any_moment_is_cleaned_by_down() {
    if !ledger("an_up_that_is_killed_at_any_moment_is_cleaned_by_down", &NEEDS) {
        return;
    }
    let lab = name('d');
    let _sweeper = Sweeper(lab.clone());
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("mode"), "never-ready").unwrap();
    // Building takes some 50 ms; after that it waits for the nodes until it is killed.
    for delay_ms in [1, 5, 10, 20, 30, 40, 60, 100, 400] {
        let mut up = Command::new(stand_in())
            .args(["up", lab.as_str()])
            .arg(data.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        up.kill().unwrap();
        up.wait().unwrap();
        Lab::remove(&lab).unwrap();
        assert_gone(&lab);
        assert!(!Lab::remove(&lab).unwrap(), "a second removal found something");
    }
}

#[test]
fn the_killed_up_left_running_nodes_and_down_ended_them() {
    if !ledger("the_killed_up_left_running_nodes_and_down_ended_them", &NEEDS) {
        return;
    }
    let lab = name('e');
    let _sweeper = Sweeper(lab.clone());
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("mode"), "never-ready").unwrap();
    let mut up =
        Command::new(stand_in()).args(["up", lab.as_str()]).arg(data.path()).spawn().unwrap();
    let nodes =
        || common::processes_of(&lab).iter().filter(|line| line.contains("--config")).count();
    // The front end would follow when these are ready.
    wait_until("the three storage nodes run", || nodes() == 3);
    up.kill().unwrap();
    up.wait().unwrap();
    // A look may fall into the moment in which one becomes the program: it has no command line then.
    wait_until("the nodes outlive it", || nodes() == 3);
    assert!(!Lab::attach(&lab).unwrap().status().unwrap().complete);
    assert!(Lab::remove(&lab).unwrap(), "nothing was found");
    assert_gone(&lab);
    assert!(data.path().join("s1").is_dir(), "the user's data directory was removed");
}

#[test]
fn a_node_that_fails_is_reported_with_its_log_and_the_lab_removed() {
    if !ledger("a_node_that_fails_is_reported_with_its_log_and_the_lab_removed", &NEEDS) {
        return;
    }
    for (mode, expected) in
        [("fails", "this node fails on purpose"), ("never-ready", "503 Not Yet")]
    {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("mode"), mode).unwrap();
        let spec =
            spec('f').start_nodes(true).data(data.path()).ready_timeout(Duration::from_millis(500));
        let error = Lab::up(&spec).unwrap_err();
        assert!(matches!(error, LabError::NodeFailed { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_gone(&name('f'));
    }
}

#[test]
fn an_up_that_is_called_off_leaves_nothing() {
    struct CallOff {
        after_steps: usize,
    }
    impl Observer for CallOff {
        fn progress(&mut self, _step: &str) {
            self.after_steps = self.after_steps.saturating_sub(1);
        }
        fn is_cancelled(&self) -> bool {
            self.after_steps == 0
        }
    }
    if !ledger("an_up_that_is_called_off_leaves_nothing", &NEEDS) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("mode"), "never-ready").unwrap();
    for after_steps in 1..=3 {
        let spec = spec('g').start_nodes(true).data(data.path());
        let error = Lab::up_observed(&spec, &mut CallOff { after_steps }).unwrap_err();
        assert!(matches!(error, LabError::Interrupted), "{error}");
        assert_gone(&name('g'));
    }
}

#[test]
fn a_quota_holds_and_cpu_time_is_counted() {
    if !ledger(
        "a_quota_holds_and_cpu_time_is_counted",
        &[&NEEDS[..], &[Feature::CpuQuota]].concat(),
    ) {
        return;
    }
    let spec = spec('h').server_quota(CpuQuota::from_percent(20).unwrap());
    let lab = Lab::up(&spec).unwrap().down_on_drop();
    let before = lab.cpu_seconds("fe").unwrap();
    run(&lab, "fe", &["burn", "1000"]);
    let used = lab.cpu_seconds("fe").unwrap() - before;
    assert!(used <= 0.3, "20 % of a second, and {used} s used");
    assert!(used >= 0.05, "a busy second counted as {used} s");
    assert!(lab.cpu_seconds("s1").unwrap() < 0.05, "another host was charged");
}

#[test]
fn a_process_of_the_lab_is_recorded_measured_and_ended() {
    if !ledger("a_process_of_the_lab_is_recorded_measured_and_ended", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('i')).unwrap().down_on_drop();
    start_echo(&lab, "fe");
    let echo = Command::new(stand_in());
    assert!(matches!(lab.spawn_in("fe", "echo", &echo), Err(LabError::UnsuitableHost { .. })));
    assert!(matches!(lab.spawn_in("fe", "a/b", &echo), Err(LabError::BadValue { .. })));
    assert!(lab.resident_bytes("fe").unwrap() > 10_000);
    assert_eq!(lab.resident_bytes("s1").unwrap(), 0);
    let status = lab.status().unwrap();
    let front_end = status.hosts.iter().find(|host| host.name == "fe").unwrap();
    assert_eq!(front_end.processes[0].name, "echo");
    assert_eq!(front_end.processes[0].state, ProcessState::Running);
    lab.stop("fe", "echo").unwrap();
    assert_eq!(lab.resident_bytes("fe").unwrap(), 0);
    assert_eq!(round_trips(&lab, "fe", 1).answered, 0);
}

#[test]
fn nodes_can_be_paused_killed_and_started_again() {
    if !ledger("nodes_can_be_paused_killed_and_started_again", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('j').start_nodes(true)).unwrap().down_on_drop();
    let node = || {
        let status = lab.status().unwrap();
        let host = status.hosts.into_iter().find(|host| host.name == "s1").unwrap();
        let process = host.processes.into_iter().find(|process| process.name == "node").unwrap();
        (process.pid, process.state)
    };
    let (first_pid, _) = node();
    lab.fault("s1", &FaultAction::Pause).unwrap();
    wait_until("the node is paused", || node() == (first_pid, ProcessState::Paused));
    lab.fault("s1", &FaultAction::Resume).unwrap();
    wait_until("the node goes on", || node() == (first_pid, ProcessState::Running));
    assert!(matches!(lab.start_node("s1"), Err(LabError::UnsuitableHost { .. })));
    lab.fault("s1", &FaultAction::Kill).unwrap();
    assert_eq!(node(), (first_pid, ProcessState::Ended));
    assert!(matches!(lab.fault("s1", &FaultAction::Pause), Err(LabError::UnsuitableHost { .. })));
    lab.start_node("s1").unwrap();
    let (second_pid, state) = node();
    assert_eq!(state, ProcessState::Running);
    assert_ne!(second_pid, first_pid);
    lab.stop_node("s1").unwrap();
    assert_eq!(node(), (second_pid, ProcessState::Ended));
    assert!(matches!(lab.start_node("client"), Err(LabError::UnsuitableHost { .. })));
    // A paused node must not hold up the removal.
    lab.fault("fe", &FaultAction::Pause).unwrap();
    lab.down().unwrap();
    assert_gone(&name('j'));
}

#[test]
fn a_lab_cannot_be_removed_from_inside() {
    let needs = [&NEEDS[..], &[Feature::CpuQuota]].concat();
    if !ledger("a_lab_cannot_be_removed_from_inside", &needs) {
        return;
    }
    let lab = Lab::up(&spec('k')).unwrap().down_on_drop();
    let output = lab
        .command("client", stand_in())
        .unwrap()
        .args(["down", lab.name().as_str()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("Inside"), "{message}");
    start_echo(&lab, "fe");
}

#[test]
fn unknown_hosts_and_labs_are_refused_with_what_there_is() {
    if !ledger("unknown_hosts_and_labs_are_refused_with_what_there_is", &NEEDS) {
        return;
    }
    let lab = Lab::up(&spec('l')).unwrap().down_on_drop();
    let error = lab.command("s9", "true").unwrap_err().to_string();
    assert!(error.contains("client, fe, s1, switch"), "{error}");
    let error = Lab::attach(&name('z')).unwrap_err().to_string();
    assert!(error.contains(lab.name().as_str()), "{error}");
    let invalid = Lab::up(&LabSpec::new(name('m')).storage_nodes(0)).unwrap_err().to_string();
    assert!(invalid.starts_with("storage nodes: 0"), "{invalid}");
    assert_gone(&name('m'));
}
