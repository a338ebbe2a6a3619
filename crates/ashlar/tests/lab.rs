//! The lab command with the real binary: a cluster of namespaces that keeps its objects through every fault.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_kernel::probe::Feature;
use ashlar_kernel::testing::ledger;
use std::path::Path;
use std::process::{Command, Output};

/// Some hundred frames: enough for every fault to meet a few.
const OBJECT_BYTES: usize = 1_000_000;

/// A lab that is removed when the test ends, however it ends.
struct RealLab {
    name: String,
}

impl RealLab {
    fn up(letter: char, options: &[&str]) -> (Self, serde_json::Value) {
        let lab = Self { name: format!("e{:x}{letter}", std::process::id()) };
        let output = lab.run("up", &[&["--json"], options].concat());
        let summary = serde_json::from_slice(&output.stdout).unwrap();
        (lab, summary)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
        command.args(["lab", subcommand, "--name", &self.name]);
        command
    }

    fn run(&self, subcommand: &str, words: &[&str]) -> Output {
        succeed(self.command(subcommand).args(words))
    }

    /// Runs `ashlar obj` on the client.
    fn object(&self, words: &[&str]) -> Output {
        let mut command = self.command("exec");
        command.args(["client", "--", env!("CARGO_BIN_EXE_ashlar"), "obj"]).args(words);
        succeed(command.args(["--endpoint", "http://fe"]))
    }

    fn status_of(&self, host: &str) -> serde_json::Value {
        let status: serde_json::Value =
            serde_json::from_slice(&self.run("status", &["--json"]).stdout).unwrap();
        let hosts = status["hosts"].as_array().unwrap();
        hosts.iter().find(|status| status["name"] == host).unwrap().clone()
    }
}

impl Drop for RealLab {
    fn drop(&mut self) {
        let removed = self.command("down").output();
        if !removed.is_ok_and(|output| output.status.success()) {
            eprintln!("lab {} could not be removed", self.name);
        }
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn needs(more: &[Feature]) -> Vec<Feature> {
    [&[Feature::Root, Feature::NetworkNamespaces, Feature::IpCommand], more].concat()
}

#[test]
fn a_cluster_keeps_its_objects_through_every_fault() {
    let needs = needs(&[Feature::KernelPrograms, Feature::Tcx]);
    if !ledger("a_cluster_keeps_its_objects_through_every_fault", &needs) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("object");
    let object: Vec<u8> = (0..OBJECT_BYTES).map(|index| (index % 251) as u8).collect();
    std::fs::write(&file, &object).unwrap();

    let (lab, summary) = RealLab::up('a', &["--storage-nodes", "3"]);
    assert_eq!(summary["http"], "http://10.77.0.10");
    lab.object(&["put", "k", file.to_str().unwrap()]);
    let check = |fault: &str| assert_eq!(lab.object(&["get", "k", "-"]).stdout, object, "{fault}");

    for words in [
        &["s1", "--delay", "2ms", "--jitter", "1ms"][..],
        &["fe", "--drop", "1%", "--corrupt", "0.5%", "--match", "tcp"],
    ] {
        lab.run("fault", words);
    }
    check("chaos and delay");
    assert_eq!(lab.status_of("fe")["faults"][0]["in_force"], true);
    for host in ["s1", "fe"] {
        lab.run("fault", &[host, "--clear"]);
        assert_eq!(lab.status_of(host)["faults"], serde_json::json!([]));
    }
    for (host, fault, end) in [
        ("s1", "--kill", "--start"),
        ("s2", "--partition", "--heal"),
        ("s3", "--pause", "--resume"),
    ] {
        lab.run("fault", &[host, fault]);
        check(fault);
        lab.run("fault", &[host, end]);
    }
    check("all are back");

    lab.run("down", &[]);
    assert!(!Path::new("/run/ashlar-lab").join(&lab.name).exists());
}

#[test]
fn hosts_of_equal_strength_serve_synthetic_objects_over_tls() {
    let needs = needs(&[Feature::CpuQuota]);
    if !ledger("hosts_of_equal_strength_serve_synthetic_objects_over_tls", &needs) {
        return;
    }
    let options = [
        "--storage-nodes",
        "2",
        "--engine",
        "synthetic",
        "--https",
        "--server-quota",
        "50",
        "--threads",
        "1",
    ];
    let (lab, summary) = RealLab::up('b', &options);
    assert_eq!(summary["https"], "https://10.77.0.10");
    let binary = env!("CARGO_BIN_EXE_ashlar");
    let get = [
        "client",
        "--",
        binary,
        "obj",
        "get",
        "100000",
        "-",
        "--endpoint",
        "https://fe",
        "--insecure",
    ];
    assert_eq!(lab.run("exec", &get).stdout.len(), 100_000);
    for host in ["fe", "s1", "s2"] {
        let status = lab.status_of(host);
        assert_eq!(status["quota_percent"], 50);
        assert!(status["cpu_seconds"].as_f64().unwrap() > 0.0);
        assert!(status["resident_bytes"].as_u64().unwrap() > 100_000);
    }
}

#[test]
fn exec_passes_the_exit_code_on() {
    if !ledger("exec_passes_the_exit_code_on", &needs(&[])) {
        return;
    }
    let (lab, _) = RealLab::up('c', &["--storage-nodes", "1", "--no-nodes"]);
    let status = lab.command("exec").args(["s1", "--", "sh", "-c", "exit 7"]).status().unwrap();
    assert_eq!(status.code(), Some(7));
    let output = lab.command("exec").args(["s7", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("its hosts are client, fe, s1, switch")
    );
}
