//! Laboratories for these tests, and what can be seen of them from outside.

use ashlar_kernel::{probe::Feature, testing::ledger};
use ashlar_lab::{
    ADMIN_PORT, Chaos, FaultAction, FrameMatch, Lab, LabSpec, Mode, Probability, Role,
};
use std::{
    process::Output,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

/// Bodies from this size on flow past the front end.
pub(crate) const THRESHOLD_BYTES: u64 = 2_000;
/// Counts connections that moved away from a node, since it was started.
pub(crate) const MOVED: &str = "ashlar_hand_offs_moved_total";
/// Counts connections that were lost on their move.
pub(crate) const LOST: &str = "ashlar_hand_offs_lost_total";
/// Names the variable that says which random choices are made.
pub(crate) const SEED: &str = "ASHLAR_TEST_SEED";
/// How long a test waits for something that has to come. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(100);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether this test can run here.
pub(crate) fn is_possible(test: &str) -> bool {
    let needs = [
        Feature::Root,
        Feature::NetworkNamespaces,
        Feature::IpCommand,
        Feature::KernelPrograms,
        Feature::Tcx,
    ];
    ledger(test, &needs)
}

/// A laboratory in which connections move; `letter` tells those of one run apart.
pub(crate) fn spec(letter: char) -> LabSpec {
    let name = format!("h{:x}{letter}", std::process::id());
    LabSpec::new(name.parse().unwrap())
        .executable(env!("CARGO_BIN_EXE_ashlar"))
        .https(true)
        .threads(1)
        .mode(Mode::Handoff)
}

/// What a program says that runs on a host.
pub(crate) fn output(lab: &Lab, host: &str, program: &str, arguments: &[&str]) -> Output {
    lab.command(host, program).unwrap().args(arguments).output().unwrap()
}

/// The sum of a metric over all hosts of a role.
pub(crate) fn metric(lab: &Lab, role: Role, name: &str) -> u64 {
    lab.hosts()
        .filter(|host| host.role == role)
        .map(|host| metric_of(lab, &host.name, name).unwrap_or(0))
        .sum()
}

/// The sum of a metric's samples on a host; none if no node serves there.
pub(crate) fn metric_of(lab: &Lab, host: &str, name: &str) -> Option<u64> {
    let url = format!("http://{}:{ADMIN_PORT}/metrics", lab.address(host).unwrap());
    let output = output(lab, host, "curl", &["--silent", "--fail", &url]);
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let samples = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    Some(samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum())
}

/// How many connections have moved, from front ends and storage nodes, since these were started.
pub(crate) fn moved(lab: &Lab) -> u64 {
    metric(lab, Role::FrontEnd, MOVED) + metric(lab, Role::Storage, MOVED)
}

/// Waits until some more connections have moved: a campaign is under way.
pub(crate) fn until_connections_move(lab: &Lab) {
    // Front ends alone move few once clients have their connections.
    let before = moved(lab);
    eventually("connections move", || moved(lab) > before + 5);
}

/// Makes every link lose and repeat frames.
pub(crate) fn lose_and_repeat(lab: &Lab) {
    let two_percent: Probability = "2%".parse().unwrap();
    for (host, seed) in lab.hosts().filter(|host| host.role != Role::Switch).zip(1..) {
        let chaos = Chaos {
            drop: two_percent,
            duplicate: two_percent,
            corrupt: Probability::default(),
            frames: FrameMatch::default(),
            seed,
        };
        lab.fault(&host.name, &FaultAction::Chaos(chaos)).unwrap();
    }
}

/// Looks until it is so; fails with `what` if it does not come.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in {PATIENCE:?} not: {what}");
        sleep(LOOK_INTERVAL);
    }
}

/// Raises a flag when it goes, also by a panic: who works until then would work for ever.
pub(crate) struct RaiseOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A number of the environment, for long runs; else the usual one.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?} is not a number"))
    })
}
