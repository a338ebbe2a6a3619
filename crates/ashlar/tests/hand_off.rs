//! Connections that move between real processes, in namespaces, with a client that looks at every byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hand_off {
    pub(super) mod campaign;
    pub(super) mod connection;
}

use ashlar_kernel::probe::Feature;
use ashlar_kernel::testing::ledger;
use ashlar_lab::{
    ADMIN_PORT, CLIENT, Chaos, Engine, FRONT_END, FaultAction, FrameMatch, Lab, LabSpec, Mode,
    Probability, Role,
};
use hand_off::campaign::{Campaign, Report};
use std::time::Duration;

/// Bodies from this size on flow past the front end.
const THRESHOLD_BYTES: u64 = 2_000;
/// Names the test that is really the client's program.
const CLIENT_PROGRAM: &str = "client_program";
/// Tells it what to do.
const CAMPAIGN: &str = "ASHLAR_TEST_CAMPAIGN";

fn is_possible(test: &str) -> bool {
    let needs = [
        Feature::Root,
        Feature::NetworkNamespaces,
        Feature::IpCommand,
        Feature::KernelPrograms,
        Feature::Tcx,
    ];
    ledger(test, &needs)
}

fn spec(letter: char) -> LabSpec {
    let name = format!("h{:x}{letter}", std::process::id());
    LabSpec::new(name.parse().unwrap())
        .executable(env!("CARGO_BIN_EXE_ashlar"))
        .storage_nodes(4)
        .replicas(1)
        .engine(Engine::Synthetic)
        .https(true)
        .threads(1)
        .mode(Mode::Handoff)
        .threshold_bytes(THRESHOLD_BYTES)
}

/// Runs a campaign on the lab's client.
fn run(lab: &Lab, campaign: &Campaign) -> Report {
    let mut command = lab.command(CLIENT, std::env::current_exe().unwrap()).unwrap();
    command.args(["--ignored", "--exact", CLIENT_PROGRAM, "--nocapture"]);
    command.env(CAMPAIGN, serde_json::to_string(campaign).unwrap());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{campaign:?}\n{text}\n{errors}");
    let line = text.lines().find_map(|line| line.split_once("REPORT ")).unwrap().1;
    serde_json::from_str(line).unwrap()
}

#[test]
#[ignore = "the program of a client, which other tests run inside of a laboratory"]
fn client_program() {
    let campaign: Campaign = serde_json::from_str(&std::env::var(CAMPAIGN).unwrap()).unwrap();
    println!("REPORT {}", serde_json::to_string(&campaign.run()).unwrap());
}

/// The sum of a metric over all hosts of a role.
fn metric(lab: &Lab, role: Role, name: &str) -> u64 {
    let mut sum = 0;
    for host in lab.hosts().filter(|host| host.role == role) {
        let url = format!("http://{}:{ADMIN_PORT}/metrics", host.address.unwrap());
        let mut command = lab.command(&host.name, "curl").unwrap();
        let output = command.args(["--silent", "--fail", &url]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let samples = text.lines().filter(|line| line.starts_with(name));
        sum += samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>();
    }
    sum
}

fn campaign(lab: &Lab, secure: bool) -> Campaign {
    let address = lab.address(FRONT_END).unwrap();
    Campaign { address, secure, connections: 4, requests: 250, seed: 1, may_break: false }
}

#[test]
fn connections_move_between_storage_nodes_and_every_byte_is_right() {
    if !is_possible("connections_move_between_storage_nodes_and_every_byte_is_right") {
        return;
    }
    let lab = Lab::up(&spec('a')).unwrap().down_on_drop();
    for secure in [false, true] {
        let report = run(&lab, &campaign(&lab, secure));
        assert_eq!(report.broken, 0, "{report:?}");
        // The rest were called off by the client.
        assert!(report.answered >= 900, "{report:?}");
    }
    let moved = "ashlar_hand_offs_moved_total";
    for (role, at_least) in [(Role::FrontEnd, 20), (Role::Storage, 100)] {
        let count = metric(&lab, role, moved);
        assert!(count >= at_least, "{count} moves from {role:?}");
    }
    for role in [Role::FrontEnd, Role::Storage] {
        assert_eq!(metric(&lab, role, "ashlar_hand_offs_lost_total"), 0);
    }
}

#[test]
fn every_byte_is_right_over_links_that_lose_and_repeat() {
    if !is_possible("every_byte_is_right_over_links_that_lose_and_repeat") {
        return;
    }
    let lab = Lab::up(&spec('b')).unwrap().down_on_drop();
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
        let report = run(&lab, &Campaign { requests: 60, may_break: true, ..calm });
        assert!(report.answered >= 200, "{report:?}");
    }
}

#[test]
fn a_storage_node_that_is_killed_takes_only_its_own_connections_with_it() {
    if !is_possible("a_storage_node_that_is_killed_takes_only_its_own_connections_with_it") {
        return;
    }
    let lab = Lab::up(&spec('c').replicas(3)).unwrap().down_on_drop();
    let calm = campaign(&lab, true);
    let report = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| run(&lab, &Campaign { requests: 600, may_break: true, ..calm }));
        for host in ["s1", "s2"] {
            std::thread::sleep(Duration::from_millis(700));
            lab.fault(host, &FaultAction::Kill).unwrap();
            std::thread::sleep(Duration::from_millis(700));
            lab.fault(host, &FaultAction::Start).unwrap();
        }
        client.join().unwrap()
    });
    assert!(report.answered >= 2_000, "{report:?}");
}

#[test]
fn a_front_end_that_was_killed_comes_back_and_moves_connections_again() {
    if !is_possible("a_front_end_that_was_killed_comes_back_and_moves_connections_again") {
        return;
    }
    let lab = Lab::up(&spec('d')).unwrap().down_on_drop();
    let calm = campaign(&lab, false);
    let report = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| run(&lab, &Campaign { requests: 600, may_break: true, ..calm }));
        std::thread::sleep(Duration::from_millis(700));
        lab.fault(FRONT_END, &FaultAction::Kill).unwrap();
        lab.fault(FRONT_END, &FaultAction::Start).unwrap();
        client.join().unwrap()
    });
    assert!(report.answered >= 1_500, "{report:?}");
    let report = run(&lab, &Campaign { requests: 50, ..campaign(&lab, true) });
    assert_eq!(report.broken, 0, "{report:?}");
    assert!(metric(&lab, Role::FrontEnd, "ashlar_hand_offs_moved_total") > 0);
}
