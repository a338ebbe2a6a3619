//! Moves of synthetic objects' readers: calm, over bad links, and while nodes are killed.

use crate::{
    laboratory::{
        RaiseOnDrop, eventually, is_possible, lose_and_repeat, moved, until_connections_move,
    },
    readers::{play_in_trouble, play_with_a_move, play_with_moves, synthetic},
};
use ashlar_lab::{FRONT_END, FaultAction, Lab};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn connections_move_between_storage_nodes_and_every_byte_is_right() {
    if !is_possible("connections_move_between_storage_nodes_and_every_byte_is_right") {
        return;
    }
    let lab = Lab::up(&synthetic('a')).unwrap().down_on_drop();
    play_with_moves(&lab);
}

#[test]
fn every_byte_is_right_over_links_that_lose_and_repeat() {
    if !is_possible("every_byte_is_right_over_links_that_lose_and_repeat") {
        return;
    }
    let lab = Lab::up(&synthetic('b')).unwrap().down_on_drop();
    lose_and_repeat(&lab);
    for secure in [false, true] {
        let before = moved(&lab);
        let mut answered = 0;
        // A front end that loses a check twice takes a node for dead for seconds, and nobody else has its objects.
        eventually("enough is answered and moved", || {
            answered += play_in_trouble(&lab, secure, 80).answered;
            answered >= 260 && moved(&lab) - before >= 20
        });
    }
}

#[test]
fn a_storage_node_that_is_killed_takes_only_its_own_connections_with_it() {
    if !is_possible("a_storage_node_that_is_killed_takes_only_its_own_connections_with_it") {
        return;
    }
    let lab = Lab::up(&synthetic('c').replicas(3)).unwrap().down_on_drop();
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        // However long the rest takes, there are clients.
        let client = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Relaxed) {
                answered += play_in_trouble(&lab, true, 200).answered;
            }
            answered
        });
        let stops = RaiseOnDrop(&over);
        for host in ["s1", "s2"] {
            until_connections_move(&lab);
            lab.fault(host, &FaultAction::Kill).unwrap();
            until_connections_move(&lab);
            lab.fault(host, &FaultAction::Start).unwrap();
        }
        drop(stops);
        client.join().unwrap()
    });
    assert!(answered >= 200, "{answered} answers");
}

#[test]
fn a_front_end_that_was_killed_comes_back_and_moves_connections_again() {
    if !is_possible("a_front_end_that_was_killed_comes_back_and_moves_connections_again") {
        return;
    }
    let lab = Lab::up(&synthetic('d')).unwrap().down_on_drop();
    let report = std::thread::scope(|scope| {
        let client = scope.spawn(|| play_in_trouble(&lab, false, 600));
        until_connections_move(&lab);
        lab.fault(FRONT_END, &FaultAction::Kill).unwrap();
        lab.fault(FRONT_END, &FaultAction::Start).unwrap();
        client.join().unwrap()
    });
    assert!(report.answered >= 1_500, "{report:?}");
    play_with_a_move(&lab, true);
}
