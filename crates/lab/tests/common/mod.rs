//! What the tests of real labs share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses some of this")]

use ashlar_lab::{Lab, LabName, LabSpec};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What every lab takes.
pub(crate) const NEEDS: [ashlar_kernel::probe::Feature; 3] = [
    ashlar_kernel::probe::Feature::Root,
    ashlar_kernel::probe::Feature::NetworkNamespaces,
    ashlar_kernel::probe::Feature::IpCommand,
];

/// A name that no other run of the tests on this machine uses; `letter` tells the tests of one run apart.
pub(crate) fn name(letter: char) -> LabName {
    format!("t{:x}{letter}", std::process::id()).parse().unwrap()
}

/// The stand-in for the `ashlar` binary: cargo builds examples along with tests, beside their directory.
pub(crate) fn stand_in() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join("stand_in");
    assert!(path.exists(), "{}: first run: cargo build -p ashlar-lab --examples", path.display());
    path
}

/// A small lab without nodes.
pub(crate) fn spec(letter: char) -> LabSpec {
    LabSpec::new(name(letter)).storage_nodes(1).executable(stand_in()).start_nodes(false)
}

/// Removes what is left of a lab when a test ends, however it ends.
pub(crate) struct Sweeper(pub(crate) LabName);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Err(error) = Lab::remove(&self.0) {
            eprintln!("lab {}: {error}", self.0);
        }
    }
}

/// What a run of `round-trips` printed.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    pub(crate) answered: u64,
    pub(crate) repeated: u64,
    pub(crate) fastest: Option<Duration>,
}

/// Starts an echo service on `host` and waits until the client hears it.
pub(crate) fn start_echo(lab: &Lab, host: &str) {
    let address = format!("{}:7", lab.address(host).unwrap());
    let mut echo = Command::new(stand_in());
    echo.args(["echo", &address]);
    lab.spawn_in(host, "echo", &echo).unwrap();
    wait_until("the echo service answers", || round_trips(lab, host, 1).answered == 1);
}

/// Sends datagrams from the client to the echo service on `host`, one after the other.
pub(crate) fn round_trips(lab: &Lab, host: &str, count: u32) -> RoundTrips {
    let address = format!("{}:7", lab.address(host).unwrap());
    let output = run(lab, "client", &["round-trips", &address, &count.to_string()]);
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    RoundTrips {
        answered: printed["answered"].as_u64().unwrap(),
        repeated: printed["repeated"].as_u64().unwrap(),
        fastest: printed["fastest_us"].as_u64().map(Duration::from_micros),
    }
}

/// Runs the stand-in inside a host; it must succeed.
pub(crate) fn run(lab: &Lab, host: &str, words: &[&str]) -> Output {
    let output = lab.command(host, stand_in()).unwrap().args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{words:?} on {host}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Waits for a condition that comes true soon.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 10 seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Fails if anything of this lab is left on the machine.
pub(crate) fn assert_gone(name: &LabName) {
    let prefix = format!("ashlar-{name}-");
    for directory in ["/run/netns", "/etc/netns"] {
        let left: Vec<_> =
            entries(directory).into_iter().filter(|entry| entry.starts_with(&prefix)).collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
    let mut directories = vec![Path::new("/run/ashlar-lab").join(name.as_str())];
    for hierarchy in entries("/sys/fs/cgroup") {
        directories.push(
            Path::new("/sys/fs/cgroup").join(hierarchy).join("ashlar-lab").join(name.as_str()),
        );
    }
    directories.push(Path::new("/sys/fs/cgroup/ashlar-lab").join(name.as_str()));
    for directory in directories {
        assert!(!directory.exists(), "{} is left", directory.display());
    }
    assert!(!Lab::all().contains(name));
    let processes = processes_of(name);
    assert!(processes.is_empty(), "processes are left: {processes:?}");
}

/// The command lines of the processes that name this lab's files or namespaces.
pub(crate) fn processes_of(name: &LabName) -> Vec<String> {
    let marks = [format!("/run/ashlar-lab/{name}/"), format!("ashlar-{name}-")];
    entries("/proc")
        .iter()
        .filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| marks.iter().any(|mark| line.contains(mark)))
        .collect()
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
