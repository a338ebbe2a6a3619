//! Moves of synthetic objects' readers: calm, over bad links, and while nodes are killed.

use crate::{
    campaign::{Campaign, Report},
    laboratory::{
        LOST, MOVED, THRESHOLD_BYTES, is_possible, metric, moved, spec, until_connections_move,
    },
    program::{Program, run},
};
use ashlar_lab::{
    Chaos, Engine, FRONT_END, FaultAction, FrameMatch, Lab, LabSpec, Probability, Role,
};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn synthetic(letter: char) -> LabSpec {
    spec(letter)
        .storage_nodes(4)
        .replicas(1)
        .engine(Engine::Synthetic)
        .threshold_bytes(THRESHOLD_BYTES)
}

fn campaign(lab: &Lab, secure: bool) -> Campaign {
    let address = lab.address(FRONT_END).unwrap();
    Campaign { address, secure, connections: 4, requests: 250, seed: 1, may_break: false }
}

fn play(lab: &Lab, campaign: &Campaign) -> Report {
    run(lab, &Program::Reads(*campaign))
}

#[test]
fn connections_move_between_storage_nodes_and_every_byte_is_right() {
    if !is_possible("connections_move_between_storage_nodes_and_every_byte_is_right") {
        return;
    }
    let lab = Lab::up(&synthetic('a')).unwrap().down_on_drop();
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
}

#[test]
fn every_byte_is_right_over_links_that_lose_and_repeat() {
    if !is_possible("every_byte_is_right_over_links_that_lose_and_repeat") {
        return;
    }
    let lab = Lab::up(&synthetic('b')).unwrap().down_on_drop();
    let two_percent: Probability = "2%".parse().unwrap();
    let chaos = Chaos {
        drop: two_percent,
        duplicate: two_percent,
        corrupt: Probability::default(),
        frames: FrameMatch::default(),
        seed: 1,
    };
    for host in lab.hosts().filter(|host| host.role != Role::Switch) {
        lab.fault(&host.name, &FaultAction::Chaos(chaos)).unwrap();
    }
    for secure in [false, true] {
        let calm = campaign(&lab, secure);
        let before = moved(&lab);
        let report = play(&lab, &Campaign { requests: 60, may_break: true, ..calm });
        assert!(report.answered >= 200, "{report:?}");
        let moves = moved(&lab) - before;
        println!("secure: {secure}, {moves} moves: {report:?}");
        assert!(moves >= 20, "{moves} moves");
    }
}

#[test]
fn a_storage_node_that_is_killed_takes_only_its_own_connections_with_it() {
    if !is_possible("a_storage_node_that_is_killed_takes_only_its_own_connections_with_it") {
        return;
    }
    let lab = Lab::up(&synthetic('c').replicas(3)).unwrap().down_on_drop();
    let calm = campaign(&lab, true);
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        // However long the rest takes, there are clients.
        let client = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Relaxed) {
                let rude = Campaign { requests: 200, may_break: true, ..calm };
                answered += play(&lab, &rude).answered;
            }
            answered
        });
        for host in ["s1", "s2"] {
            until_connections_move(&lab);
            lab.fault(host, &FaultAction::Kill).unwrap();
            until_connections_move(&lab);
            lab.fault(host, &FaultAction::Start).unwrap();
        }
        over.store(true, Relaxed);
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
    let calm = campaign(&lab, false);
    let report = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| play(&lab, &Campaign { requests: 600, may_break: true, ..calm }));
        until_connections_move(&lab);
        lab.fault(FRONT_END, &FaultAction::Kill).unwrap();
        lab.fault(FRONT_END, &FaultAction::Start).unwrap();
        client.join().unwrap()
    });
    assert!(report.answered >= 1_500, "{report:?}");
    let from_front_end = || metric(&lab, Role::FrontEnd, MOVED);
    let before = from_front_end();
    let report = play(&lab, &Campaign { requests: 50, ..campaign(&lab, true) });
    assert_eq!(report.broken, 0, "{report:?}");
    assert!(from_front_end() > before, "nothing moves after a front end's death");
}
