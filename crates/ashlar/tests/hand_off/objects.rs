//! Random requests for objects on disk: what answers them after a move must answer as a relay does.

use crate::{
    http_client::Server,
    laboratory::{LOST, MOVED, SEED, is_possible, metric, number, spec},
    program::{Program, run},
    user::{Campaign, Report, Work},
};
use ashlar_lab::{FRONT_END, Lab, Mode, Role};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How many requests a campaign has, if it is not the usual number.
const REQUESTS: &str = "ASHLAR_TEST_REQUESTS";
/// Longer than any stall on good links.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn moved_connections_are_answered_as_relayed_ones_are() {
    if !is_possible("moved_connections_are_answered_as_relayed_ones_are") {
        return;
    }
    let requests = number(REQUESTS, 2_000);
    let directory = tempfile::tempdir().unwrap();
    for (mode, letter) in [(Mode::Handoff, 'e'), (Mode::Relay, 'f')] {
        let spec = spec(letter).storage_nodes(5).replicas(3).threshold_bytes(0).mode(mode);
        let lab = Lab::up(&spec).unwrap().down_on_drop();
        for secure in [false, true] {
            let transcript = directory.path().join(format!("{letter}{secure}"));
            fs::create_dir(&transcript).unwrap();
            let campaign = Campaign {
                server: Server { address: lab.address(FRONT_END).unwrap(), secure },
                work: Work::Objects,
                users: 16,
                requests: requests / 2,
                seed: 2 * number(SEED, 1) + u64::from(secure),
                rude: false,
                may_break: false,
                patience: PATIENCE,
                transcript: Some(transcript),
            };
            let started = Instant::now();
            let report: Report = run(&lab, &Program::Users(campaign));
            let seconds = started.elapsed().as_secs_f64();
            println!("{mode:?}, secure: {secure}, {seconds:.1} s: {report:?}");
            assert_eq!(report.broken + report.silent + report.refused, 0, "{report:?}");
            // What was sent behind an upload that is refused and ends the connection has no answer.
            assert!(report.answered * 100 >= requests / 2 * 98, "{report:?}");
        }
        let moved = [MOVED, LOST]
            .map(|name| [Role::FrontEnd, Role::Storage].map(|role| metric(&lab, role, name)));
        println!("{mode:?}: moved and lost, by front end and storage nodes: {moved:?}");
        let [[from_front_end, from_storage], lost] = moved;
        assert_eq!(lost, [0, 0]);
        if mode == Mode::Handoff {
            assert!(from_front_end * 40 > requests && from_storage * 3 > requests, "{moved:?}");
        } else {
            assert_eq!(from_front_end + from_storage, 0);
        }
    }
    for secure in [false, true] {
        compare(
            &directory.path().join(format!("e{secure}")),
            &directory.path().join(format!("f{secure}")),
        );
    }
}

/// Compares what users of two stores wrote down.
fn compare(moved: &Path, relayed: &Path) {
    for entry in fs::read_dir(moved).unwrap() {
        let name = entry.unwrap().file_name();
        let [one, other] =
            [moved, relayed].map(|path| fs::read_to_string(path.join(&name)).unwrap());
        for (number, (one, other)) in one.lines().zip(other.lines()).enumerate() {
            assert_eq!(one, other, "user {name:?}, line {number}: moved (left), relayed (right)");
        }
        assert_eq!(one.lines().count(), other.lines().count(), "user {name:?}");
    }
}
