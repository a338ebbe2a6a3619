//! Steering on a switch, in place of the front end.

use crate::{
    laboratory::{
        LOST, MOVED, eventually, is_possible, lose_and_repeat, metric, metric_of, moved,
        until_connections_move,
    },
    program::{Program, run_on},
    readers::{play, play_in_trouble, play_with_a_move, play_with_moves, synthetic},
};
use ashlar_lab::{CLIENT, FRONT_END, FaultAction, Lab, Role, SWITCH};
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

fn attached(lab: &Lab, host: &str) -> usize {
    run_on(lab, host, &Program::Attached)
}

#[test]
fn connections_move_by_a_switch_and_every_byte_is_right() {
    if !is_possible("connections_move_by_a_switch_and_every_byte_is_right") {
        return;
    }
    let lab = Lab::up(&synthetic('s').switch(true)).unwrap().down_on_drop();
    assert_eq!((attached(&lab, SWITCH), attached(&lab, FRONT_END)), (ATTACHED, 0));
    play_with_moves(&lab);
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
    let lab = Lab::up(&synthetic('x').switch(true)).unwrap().down_on_drop();
    lose_and_repeat(&lab);
    for secure in [false, true] {
        // A node that misses too many of its health checks is not asked for a while.
        let mut answered = 0;
        let before = metric(&lab, Role::FrontEnd, MOVED);
        eventually("enough are answered", || {
            answered += play_in_trouble(&lab, secure, 60).answered;
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
    let lab = Lab::up(&synthetic('t').switch(true)).unwrap().down_on_drop();
    for secure in [false, true] {
        let report = thread::scope(|scope| {
            let client = scope.spawn(|| play_in_trouble(&lab, secure, 600));
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
            play(&lab, secure, 50);
            metric(&lab, Role::FrontEnd, MOVED) > before
        });
    }
}

#[test]
fn while_a_switch_is_silent_responses_are_relayed() {
    if !is_possible("while_a_switch_is_silent_responses_are_relayed") {
        return;
    }
    let lab = Lab::up(&synthetic('u').switch(true)).unwrap().down_on_drop();
    lab.fault(SWITCH, &FaultAction::Kill).unwrap();
    // Nothing is frozen before steering has answered.
    play(&lab, false, 50);
    assert_eq!(metric(&lab, Role::FrontEnd, LOST), 0);
    assert_eq!(moved(&lab), 0, "a connection moves without steering");
}

#[test]
fn a_switch_forgets_connections_of_dead_storage_nodes() {
    if !is_possible("a_switch_forgets_connections_of_dead_storage_nodes") {
        return;
    }
    let lab = Lab::up(&synthetic('v').switch(true)).unwrap().down_on_drop();
    let nodes: Vec<String> = lab
        .hosts()
        .filter(|host| host.role == Role::Storage)
        .map(|host| host.name.clone())
        .collect();
    thread::scope(|scope| {
        let client = scope.spawn(|| play_in_trouble(&lab, true, 250));
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
    play_with_a_move(&lab, true);
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
    let lab = Lab::up(&synthetic('w').switch(true)).unwrap().down_on_drop();
    let mut download = slow_download(&lab);
    eventually("the connection moves", || metric(&lab, Role::FrontEnd, MOVED) > 0);
    lab.fault(FRONT_END, &FaultAction::Kill).unwrap();
    assert!(download.try_wait().unwrap().is_none(), "the download is under way");
    let output = download.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let right = (0..SLOW_BYTES).map(byte_at);
    assert!(output.stdout.into_iter().eq(right), "the client got other bytes");

    lab.fault(FRONT_END, &FaultAction::Start).unwrap();
    play_with_a_move(&lab, true);
    assert_eq!(metric(&lab, Role::FrontEnd, LOST), 0);
}
