//! Readers of synthetic objects, for the tests of moves from a front end's steering and from a switch's.

use crate::{
    http_client::Server,
    laboratory::{LOST, MOVED, SEED, THRESHOLD_BYTES, eventually, metric, number, spec},
    program::{Program, run},
    user::{Campaign, Report, Work},
};
use ashlar_lab::{Engine, FRONT_END, Lab, LabSpec, Role};
use std::time::Duration;

/// Users of a campaign, each with a connection of its own.
pub(crate) const READERS: u64 = 4;
/// Longer than any stall that a reader must bear.
const PATIENCE: Duration = Duration::from_secs(15);

/// A cluster of synthetic objects.
pub(crate) fn synthetic(letter: char) -> LabSpec {
    spec(letter)
        .storage_nodes(4)
        .replicas(1)
        .engine(Engine::Synthetic)
        .threshold_bytes(THRESHOLD_BYTES)
}

/// Readers of so many objects each.
pub(crate) fn campaign(lab: &Lab, secure: bool, reads: u64) -> Campaign {
    Campaign {
        server: Server { address: lab.address(FRONT_END).unwrap(), secure },
        work: Work::Synthetic,
        users: READERS,
        requests: READERS * reads,
        seed: 2 * number(SEED, 1) + u64::from(secure),
        rude: true,
        may_break: false,
        patience: PATIENCE,
        transcript: None,
    }
}

/// Readers while nothing is wrong: no connection may break.
pub(crate) fn play(lab: &Lab, secure: bool, reads: u64) -> Report {
    let report: Report = run(lab, &Program::Users(campaign(lab, secure, reads)));
    println!("secure: {secure}: {report:?}");
    assert_eq!(report.broken + report.silent + report.refused, 0, "{report:?}");
    report
}

/// Readers while something is wrong: connections may break, but no byte may be wrong.
pub(crate) fn play_in_trouble(lab: &Lab, secure: bool, reads: u64) -> Report {
    let campaign = Campaign { may_break: true, ..campaign(lab, secure, reads) };
    let report = run(lab, &Program::Users(campaign));
    println!("secure: {secure}, in trouble: {report:?}");
    report
}

/// Plays over HTTP, then over HTTPS: connections move from the front end and between storage nodes, and none is lost.
pub(crate) fn play_with_moves(lab: &Lab) {
    for secure in [false, true] {
        let report = play(lab, secure, 250);
        // The rest were called off by the client.
        assert!(report.answered >= 900, "{report:?}");
    }
    for (role, at_least) in [(Role::FrontEnd, 20), (Role::Storage, 100)] {
        let count = metric(lab, role, MOVED);
        println!("{count} moves from {role:?}");
        assert!(count >= at_least, "{count} moves from {role:?}");
        assert_eq!(metric(lab, role, LOST), 0);
    }
}

/// Plays while nothing is wrong, until a connection moves from the front end: that it sees its storage nodes does not mean that
/// their channels are open again.
pub(crate) fn play_with_a_move(lab: &Lab, secure: bool) {
    let from_front_end = || metric(lab, Role::FrontEnd, MOVED);
    let before = from_front_end();
    eventually("a connection moves from the front end", || {
        play(lab, secure, 50);
        from_front_end() > before
    });
}
