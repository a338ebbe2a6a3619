//! Steering on a switch, in place of the front end.

use crate::{
    campaign::{Campaign, Report},
    laboratory::{
        LOST, MOVED, THRESHOLD_BYTES, eventually, is_possible, metric, metric_of, moved, spec,
        until_connections_move,
    },
    program::{Program, run, run_on},
};
use ashlar_lab::{
    CLIENT, Chaos, Engine, FRONT_END, FaultAction, FrameMatch, Lab, LabSpec, Probability, Role,
    SWITCH,
};
use ashlar_object::synthetic::byte_at;
use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Less than steering waits for frames of a connection that has ended.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(15);
/// Some seconds of a download.
const SLOW_BYTES: u64 = 40_000_000;
/// Programs on the switch: at the clients' port, and at the bridge.
const ATTACHED: usize = 2;

const FLOWS: &str = "ashlar_steering_flows";
const STEERED: &str = r#"ashlar_steering_frames{node="switch",result="steered"}"#;

fn switched(letter: char) -> LabSpec {
    spec(letter)
        .storage_nodes(4)
        .replicas(1)
        .engine(Engine::Synthetic)
        .threshold_bytes(THRESHOLD_BYTES)
        .switch(true)
}

fn campaign(lab: &Lab, secure: bool) -> Campaign {
    let address = lab.address(FRONT_END).unwrap();
    Campaign { address, secure, connections: 4, requests: 250, seed: 2, may_break: false }
}

fn play(lab: &Lab, campaign: &Campaign) -> Report {
    run(lab, &Program::Reads(*campaign))
}

fn attached(lab: &Lab, host: &str) -> usize {
    run_on(lab, host, &Program::Attached)
}

#[test]
fn connections_move_by_a_switch_and_every_byte_is_right() {
    if !is_possible("connections_move_by_a_switch_and_every_byte_is_right") {
        return;
    }
    let lab = Lab::up(&switched('s')).unwrap().down_on_drop();
    assert_eq!((attached(&lab, SWITCH), attached(&lab, FRONT_END)), (ATTACHED, 0));
    for secure in [false, true] {
        let report = play(&lab, &campaign(&lab, secure));
        assert_eq!(report.broken, 0, "{report:?}");
        // The rest were called off by the client.
        assert!(report.answered >= 900, "{report:?}");
    }
    for (role, at_least) in [(Role::FrontEnd, 20), (Role::Storage, 100)] {
        let count = metric(&lab, role, MOVED);
        assert!(count >= at_least, "{count} moves from {role:?}");
        assert_eq!(metric(&lab, role, LOST), 0);
    }
    eventually("the switch has counted", || metric_of(&lab, SWITCH, STEERED) > Some(1_000));
    // Every connection has ended, by either side, and the switch is told or finds out.
    eventually("no flow is left", || metric_of(&lab, SWITCH, FLOWS) == Some(0));
    lab.stop_node(SWITCH).unwrap();
    assert_eq!(attached(&lab, SWITCH), 0, "a kernel program outlives its process");
}

#[test]
fn every_byte_is_right_by_a_switch_with_bad_links() {
    if !is_possible("every_byte_is_right_by_a_switch_with_bad_links") {
        return;
    }
    let lab = Lab::up(&switched('x')).unwrap().down_on_drop();
    let two_percent: Probability = "2%".parse().unwrap();
    let chaos = Chaos {
        drop: two_percent,
        duplicate: two_percent,
        corrupt: Probability::default(),
        frames: FrameMatch::default(),
        seed: 2,
    };
    for host in lab.hosts().filter(|host| host.role != Role::Switch) {
        lab.fault(&host.name, &FaultAction::Chaos(chaos)).unwrap();
    }
    for secure in [false, true] {
        let calm = campaign(&lab, secure);
        let rude = Campaign { requests: 60, may_break: true, ..calm };
        // A node that misses too many of its health checks is not asked for a while.
        let mut answered = 0;
        let before = metric(&lab, Role::FrontEnd, MOVED);
        eventually("enough are answered", || {
            answered += play(&lab, &rude).answered;
            answered >= 200
        });
        let moves = metric(&lab, Role::FrontEnd, MOVED) - before;
        println!("secure: {secure}, {moves} moves from the front end");
        assert!(moves > 5, "{moves} moves");
    }
}

#[test]
fn a_switch_that_was_killed_comes_back_and_steers_again() {
    if !is_possible("a_switch_that_was_killed_comes_back_and_steers_again") {
        return;
    }
    let lab = Lab::up(&switched('t')).unwrap().down_on_drop();
    for secure in [false, true] {
        let calm = campaign(&lab, secure);
        let report = thread::scope(|scope| {
            let client =
                scope.spawn(|| play(&lab, &Campaign { requests: 600, may_break: true, ..calm }));
            until_connections_move(&lab);
            lab.fault(SWITCH, &FaultAction::Kill).unwrap();
            eventually("nothing is attached", || attached(&lab, SWITCH) == 0);
            lab.fault(SWITCH, &FaultAction::Start).unwrap();
            client.join().unwrap()
        });
        // Resets, but no wrong byte, which the client would have noticed.
        assert!(report.answered >= 1_500, "{report:?}");
        let before = metric(&lab, Role::FrontEnd, MOVED);
        // Nodes may not know yet that steering is back: they relay.
        eventually("connections move again", || {
            let report = play(&lab, &Campaign { requests: 50, ..calm });
            assert_eq!(report.broken, 0, "{report:?}");
            metric(&lab, Role::FrontEnd, MOVED) > before
        });
    }
}

#[test]
fn while_a_switch_is_silent_responses_are_relayed() {
    if !is_possible("while_a_switch_is_silent_responses_are_relayed") {
        return;
    }
    let lab = Lab::up(&switched('u')).unwrap().down_on_drop();
    let calm = Campaign { requests: 50, ..campaign(&lab, false) };
    lab.fault(SWITCH, &FaultAction::Kill).unwrap();
    // Nothing is frozen before steering has answered.
    let report = play(&lab, &calm);
    assert_eq!(report.broken, 0, "{report:?}");
    assert_eq!(metric(&lab, Role::FrontEnd, LOST), 0);
    assert_eq!(moved(&lab), 0, "a connection moves without steering");
}

#[test]
fn a_switch_forgets_connections_of_dead_storage_nodes() {
    if !is_possible("a_switch_forgets_connections_of_dead_storage_nodes") {
        return;
    }
    let lab = Lab::up(&switched('v')).unwrap().down_on_drop();
    let calm = campaign(&lab, true);
    let nodes: Vec<String> = lab
        .hosts()
        .filter(|host| host.role == Role::Storage)
        .map(|host| host.name.clone())
        .collect();
    thread::scope(|scope| {
        let client = scope.spawn(|| play(&lab, &Campaign { may_break: true, ..calm }));
        until_connections_move(&lab);
        for node in &nodes {
            lab.fault(node, &FaultAction::Kill).unwrap();
        }
        let killed = Instant::now();
        eventually("flows are forgotten", || metric_of(&lab, SWITCH, FLOWS) == Some(0));
        assert!(killed.elapsed() < FORGOTTEN_WITHIN, "{:?}", killed.elapsed());
        for node in &nodes {
            lab.fault(node, &FaultAction::Start).unwrap();
        }
        client.join().unwrap();
    });
    let up = || metric_of(&lab, FRONT_END, "ashlar_front_end_storage_nodes_up");
    eventually("the front end finds them", || up() == Some(nodes.len() as u64));
    let before = metric(&lab, Role::FrontEnd, MOVED);
    let report = play(&lab, &Campaign { requests: 50, ..calm });
    assert_eq!(report.broken, 0, "{report:?}");
    let moves = metric(&lab, Role::FrontEnd, MOVED) - before;
    assert!(moves > 0, "nothing moves to storage nodes that came back");
}

/// A download that takes some seconds.
fn slow_download(lab: &Lab) -> Child {
    let url = format!("http://{}/{SLOW_BYTES}", lab.address(FRONT_END).unwrap());
    let mut command = lab.command(CLIENT, "curl").unwrap();
    command.args(["--silent", "--fail", "--limit-rate", "10M", &url]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_has_moved_by_a_switch_outlives_the_front_end() {
    if !is_possible("what_has_moved_by_a_switch_outlives_the_front_end") {
        return;
    }
    let lab = Lab::up(&switched('w')).unwrap().down_on_drop();
    let mut download = slow_download(&lab);
    eventually("the connection moves", || metric(&lab, Role::FrontEnd, MOVED) > 0);
    lab.fault(FRONT_END, &FaultAction::Kill).unwrap();
    assert!(download.try_wait().unwrap().is_none(), "the download is under way");
    let output = download.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let right = (0..SLOW_BYTES).map(byte_at);
    assert!(output.stdout.into_iter().eq(right), "the client got other bytes");

    lab.fault(FRONT_END, &FaultAction::Start).unwrap();
    let report = play(&lab, &Campaign { requests: 50, ..campaign(&lab, true) });
    assert_eq!(report.broken, 0, "{report:?}");
    assert!(metric(&lab, Role::FrontEnd, MOVED) > 0);
    assert_eq!(metric(&lab, Role::FrontEnd, LOST), 0);
}
