//! The bench command with the real binary: at a URL, and in a lab beside a peer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_kernel::probe::Feature;
use ashlar_kernel::testing::ledger;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ashlar")).arg("bench").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A server that answers GET `/N` with N bytes, and any other path with 404.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that leaves ends its thread with an error: no matter.
            thread::spawn(move || serve_connection(stream.unwrap()));
        }
    });
    address
}

fn serve_connection(stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut size = None;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("GET /") {
            size = rest.split(' ').next().unwrap().parse::<usize>().ok();
        }
        if line.is_empty() {
            let status = if size.is_some() { "200 OK" } else { "404 Not Found" };
            let body = vec![b'x'; size.unwrap_or(0)];
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            writer.write_all(&[head.into_bytes(), body].concat())?;
        }
    }
    Ok(())
}

#[test]
fn a_target_is_measured_and_reported() {
    let url = format!("http://{}", serve());
    let directory = tempfile::tempdir().unwrap();
    let (result, report) = (directory.path().join("result.json"), directory.path().join("report"));
    let output = bench(&[
        "object",
        "--target",
        &url,
        "--sizes=1KiB,64KiB",
        "--rounds=2",
        "--seconds=0.2",
        "--warm-up-seconds=0.1",
        "--connections=4",
        "--json",
        result.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("http_1KiB") && table.contains("http_64KiB"), "{table}");
    let result = json(&result);
    assert_eq!(result["ratios"], serde_json::json!({}));
    assert_eq!(result["series"].as_array().unwrap().len(), 4);
    assert!(result["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(!result["command"].as_str().unwrap().contains(report.to_str().unwrap()));
    assert!(report.join("README.md").is_file());
    assert!(report.join("throughput-http.svg").is_file());
}

#[test]
fn the_generator_alone_prints_one_json_object() {
    let url = format!("http://{}/", serve());
    let arguments = ["--size=10", "--seconds=0.2", "--warm-up-seconds=0", "--connections=2"];
    let output = bench(&[&["load", "--json", "--url", &url], &arguments[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["requests"].as_u64().unwrap() > 0);
    assert_eq!(report["failures"], serde_json::json!({}));
}

#[test]
fn what_cannot_be_measured_is_refused_in_one_line() {
    let absent = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (words, reason) in [
        (["object", "--target", &absent], "cannot be reached"),
        (["object", "--target", "https://127.0.0.1"], "--cacert"),
        (["load", "--url", "ftp://127.0.0.1/"], "http://"),
    ] {
        let output = bench(&words);
        assert_eq!(output.status.code(), Some(1));
        let complaint = text(&output.stderr);
        assert!(complaint.contains(reason), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn failed_requests_end_in_an_error() {
    let url = format!("http://{}/missing", serve());
    let output = bench(&["load", "--url", &url, "--seconds=0.1", "--connections=1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("status_404"));
}

/// Whether nginx is here: the lab is worth a test without it too.
fn has_nginx() -> bool {
    Path::new("/usr/sbin/nginx").is_file()
}

#[test]
fn a_front_end_is_measured_in_a_lab_beside_a_peer() {
    let needs = [Feature::Root, Feature::NetworkNamespaces, Feature::IpCommand];
    if !ledger("a_front_end_is_measured_in_a_lab_beside_a_peer", &needs) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let result = directory.path().join("result.json");
    let name = format!("b{:x}", std::process::id());
    let mut words = vec![
        "object",
        "--lab-name",
        &name,
        "--storage-nodes=1",
        "--server-quota=none",
        "--sizes=1KiB",
        "--rounds=1",
        "--seconds=0.3",
        "--warm-up-seconds=0.1",
        "--connections=8",
        "--idle-connections=20",
        "--verify-content",
        "--json",
        result.to_str().unwrap(),
    ];
    if has_nginx() {
        words.extend(["--peer", "nginx"]);
    }
    let output = bench(&words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = json(&result);
    let series = result["series"].as_array().unwrap();
    let ours: Vec<&Value> = series.iter().filter(|entry| entry["subject"] == "relay").collect();
    // Two schemes, each under load and idle.
    assert_eq!(ours.len(), 4);
    if has_nginx() {
        let ratios = result["ratios"].as_object().unwrap();
        for name in ["http_1KiB_rate", "https_1KiB_p99", "resident_bytes_20_connections"] {
            assert!(ratios.contains_key(&format!("relay_over_nginx_{name}")), "{name} is missing");
        }
    }
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!text(&left.stdout).contains(&format!("ashlar-{name}-")), "the lab is still there");
}

#[test]
fn hand_off_is_measured_beside_its_ceiling_and_the_relay() {
    let needs = [
        Feature::Root,
        Feature::NetworkNamespaces,
        Feature::IpCommand,
        Feature::KernelPrograms,
        Feature::Tcx,
    ];
    if !ledger("hand_off_is_measured_beside_its_ceiling_and_the_relay", &needs) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let result = directory.path().join("result.json");
    let name = format!("m{:x}", std::process::id());
    let output = bench(&[
        "handoff",
        "--lab-name",
        &name,
        "--storage-nodes=2",
        "--server-quota=none",
        // From here on every host finds moves worth while.
        "--sizes=1MiB",
        "--subjects=direct,handoff,relay",
        "--rounds=1",
        "--seconds=0.3",
        "--warm-up-seconds=0.2",
        "--connections=4",
        "--verify-content",
        "--json",
        result.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("one connection") && table.contains("published"), "{table}");
    let result = json(&result);
    let ratios = result["ratios"].as_object().unwrap();
    for name in [
        "handoff_over_direct_http_1MiB_throughput",
        "handoff_over_relay_https_1MiB_throughput",
        "relay_over_handoff_frontend_cpu_per_GB_http_1MiB",
    ] {
        assert!(ratios.contains_key(name), "{name} is missing");
    }
    let series = result["series"].as_array().unwrap();
    let of = |kind: &str, subject: &str| -> Vec<&Value> {
        let mine = series.iter().filter(|entry| entry["kind"] == kind);
        mine.filter(|entry| subject.is_empty() || entry["subject"] == subject).collect()
    };
    for entry in of("load", "handoff") {
        let moves = &entry["moves"];
        assert!(moves["moved_per_second"].as_f64().unwrap() > 0.0, "{moves}");
        assert!(moves["stages"]["total"]["count"].as_u64().unwrap() > 0, "{moves}");
        assert_eq!(moves["lost"], 0);
    }
    assert_eq!(of("load", "handoff").len(), 2);
    assert!(of("load", "relay").iter().all(|entry| entry.get("moves").is_none()));
    assert_eq!(of("lone_moves", "").len(), 2);
    assert_eq!(of("break_even", "handoff").len(), 2);
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!text(&left.stdout).contains(&format!("ashlar-{name}-")), "the lab is still there");
}

#[test]
fn groups_are_measured_beside_what_bounds_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (data, result, report) = (path("data"), path("result.json"), path("report"));
    let output = bench(&[
        "vr",
        "--members=1,3",
        "--clients=1,8",
        "--rounds=1",
        "--seconds=0.3",
        "--warm-up-seconds=0.1",
        "--kills=1",
        "--directory",
        &data,
        "--json",
        &result,
        "--report",
        &report,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("volatile_n1_1_clients_64B") && table.contains("durable_n3_8_clients_64B"),
        "{table}"
    );
    let result = json(Path::new(&result));
    let ratios = result["ratios"].as_object().unwrap();
    for name in [
        "vr_over_udp_volatile_n3_1_clients_64B_p50",
        "vr_over_exchange_volatile_n3_1_clients_64B_p50",
        "vr_over_sync_durable_n3_8_clients_64B_rate",
    ] {
        assert!(ratios.contains_key(name), "{name}: {ratios:?}");
    }
    let series = result["series"].as_array().unwrap();
    let groups = series.iter().filter(|entry| entry["subject"] == "vr");
    let groups: Vec<_> = groups.collect();
    assert_eq!(groups.len(), 8);
    for entry in groups {
        assert!(entry["operations"].as_u64().unwrap() > 0 && entry["failures"] == 0, "{entry}");
        assert!(entry["leader_cpu_us_per_operation"].as_f64().is_some(), "{entry}");
    }
    // Groups of one have nobody who could take over.
    let failovers: Vec<_> = series.iter().filter(|entry| entry["kind"] == "failover").collect();
    assert_eq!(failovers.len(), 2);
    assert!(failovers.iter().all(|entry| entry["members"] == 3 && entry["kills"] == 1));
    assert!(Path::new(&report).join("README.md").is_file());
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "no data are left behind");
}

#[test]
fn what_cannot_be_measured_of_groups_is_one_line() {
    for (words, says) in [
        (["--members=2", "--clients=1"], "members: 1, 3, 5 or 7 are measured"),
        (["--members=3", "--clients=0"], "clients: must be 1 to"),
        (["--members=3", "--values=1GiB"], "values: at most"),
        (["--modes=durable,durable", "--clients=1"], "given twice"),
    ] {
        let output = bench(&[&["vr"], &words[..]].concat());
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(says), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
