//! A wrong configuration or option ends the command with one line that names what is wrong.

use crate::harness::{ashlar, configuration, free_address, reason};
use std::{fs, net::TcpListener, process::Output};
use tempfile::TempDir;

/// A right configuration of a storage node.
fn right() -> String {
    let cluster = configuration(&[(free_address(), free_address())]);
    format!("{cluster}[node]\nname = \"s1\"\ndata = \"data\"\n[storage]\nengine = \"disk\"\n")
}

fn run(text: &str, options: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("node.toml");
    fs::write(&file, text).unwrap();
    ashlar(&["node", "--config", file.to_str().unwrap()]).args(options).output().unwrap()
}

#[test]
fn a_right_file_passes_the_check() {
    let output = run(&right(), &["--check"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("s1"));
}

#[test]
fn a_wrong_file_is_refused_before_anything_starts() {
    let right = right();
    let s1 = "name = \"s1\"\ndata";
    for (from, to, words) in [
        ("replicas = 1", "replicas = 2", &["replicas"][..]),
        ("replicas = 1", "replicas = 0", &["replicas"]),
        ("replicas = 1", "replicas = \"one\"", &["line 3"]),
        ("replicas = 1", "replicas = 1\npartitions = 0", &["partitions"]),
        ("replicas = 1", "replicas = 1\nreplica = 1", &["line 4", "replica"]),
        ("id = \"test\"", "id = \"\"", &["cluster.id"]),
        (s1, "name = \"s2\"\ndata", &["node.name", "s2"]),
        ("data = \"data\"", "", &["node.data"]),
        ("data = \"data\"", "data = \"data\"\nthreads = 0", &["node.threads"]),
        ("engine = \"disk\"", "engine = \"tape\"", &["tape"]),
        ("engine = \"disk\"", "engine = \"disk\"\ninline_bytes_max = -1", &["line"]),
        ("engine = \"disk\"", "engine = \"disk\"\ncommit_timeout_ms = 0", &["commit_timeout_ms"]),
        ("[storage]\nengine = \"disk\"", "", &["no role"]),
        ("[node]", "[nodes]", &["line", "nodes"]),
        ("[cluster]", "[cluster", &["line 1"]),
        ("engine = \"disk\"", "engine = \"disk\"\n[front_end]", &["front_end", "http"]),
        (
            "engine = \"disk\"",
            "engine = \"disk\"\n[front_end]\nhttps = \"127.0.0.1:0\"\ncertificate = \"a\"",
            &["private_key"],
        ),
        ("engine = \"disk\"", "engine = \"disk\"\n[log]\nformat = \"xml\"", &["xml"]),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from}");
        let reason = reason(&run(&wrong, &[]));
        assert!(reason.starts_with("ashlar: "), "{reason}");
        assert!(reason.contains("node.toml"), "{to}: {reason}");
        for word in words {
            assert!(reason.contains(word), "{to}: {reason}");
        }
    }
}

#[test]
fn what_cannot_be_started_is_named() {
    let taken = TcpListener::bind(free_address()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let right = right();
    let http = right.lines().find(|line| line.starts_with("http = ")).unwrap();
    let reason = reason(&run(&right.replacen(http, &format!("http = \"{address}\""), 1), &[]));
    assert!(reason.contains(&address), "{reason}");
}

#[test]
fn a_data_directory_has_one_process() {
    let store = crate::harness::Store::start();
    let data = store.data();
    let second = ashlar(&["up", "--http", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    let reason = reason(&{ second }.output().unwrap());
    assert!(reason.contains(data.to_str().unwrap()), "{reason}");
    assert_eq!(store.curl("/a").put("abc").run().status, 201);
}

#[test]
fn wrong_options_are_named() {
    let up = |options: &[&str]| reason(&ashlar(&["up"]).args(options).output().unwrap());
    for (options, word) in [
        (&["--storage-nodes", "0"][..], "--storage-nodes"),
        (&["--replicas", "4"], "--replicas"),
        (&["--data", "/proc/nowhere"], "/proc/nowhere"),
    ] {
        assert!(up(options).contains(word), "{options:?}: {}", up(options));
    }
    let taken = TcpListener::bind(free_address()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(up(&["--http", &address]).contains(&address));
    let missing = ashlar(&["node", "--config", "/nonexistent.toml"]).output().unwrap();
    assert!(reason(&missing).contains("/nonexistent.toml"));
}

#[test]
fn a_switch_has_a_command_and_a_file_of_its_own() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("node.toml");
    let run = |command: &str, text: &str| {
        fs::write(&file, text).unwrap();
        let arguments = [command, "--config", file.to_str().unwrap(), "--check"];
        ashlar(&arguments).output().unwrap()
    };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/switch.toml");
    let example = fs::read_to_string(example).unwrap();
    let output = run("switch", &example);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(reason_after(&run("node", &example)), "switch: is run by `ashlar switch`");
    assert!(reason_after(&run("switch", &right())).starts_with("switch: is missing"));
    let without_key = example.replace("key_file = ", "# key_file = ");
    assert!(reason_after(&run("switch", &without_key)).starts_with("cluster.key_file: is missing"));
}

/// The reason, without the program's and the file's name.
fn reason_after(output: &Output) -> String {
    reason(output).split_once("node.toml: ").unwrap().1.to_owned()
}
