//! The load generator against a tiny server on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_bench::load::{
    Arrival, Event, Keyed, LoadError, LoadReport, LoadSpec, Mix, Mode, Target, Trust, Workload,
    hold, run, wait_until_answering,
};
use ashlar_bench::units::ByteSize;
use std::net::SocketAddr;
use std::time::Duration;
use support::{Manner, serve, serve_tls};

/// A short run with four connections on two threads, contents compared.
fn spec(url: &str, trust: &Trust, workload: Workload) -> LoadSpec {
    LoadSpec {
        target: Target::parse(url, trust).unwrap(),
        workload,
        arrival: Arrival::Closed,
        connections: 4,
        threads: 2,
        warm_up: Duration::from_millis(50),
        window: Duration::from_millis(300),
        timeout: Duration::from_secs(30),
        verify_content: true,
        seed: 1,
    }
}

fn plain(address: SocketAddr, workload: Workload) -> LoadSpec {
    spec(&format!("http://{address}/"), &Trust::Nobody, workload)
}

fn sizes(bytes: &[u64]) -> Workload {
    Workload::Synthetic(bytes.iter().copied().map(ByteSize).collect())
}

fn run_quietly(spec: &LoadSpec) -> LoadReport {
    run(spec, |_| {}).unwrap()
}

/// The kinds of failures that a server's manner leads to.
fn failure_kinds(spec: &LoadSpec) -> Vec<String> {
    match run(spec, |_| {}) {
        Ok(report) => report.failures.kinds().map(|(kind, _)| kind.to_owned()).collect(),
        // Without one answer there is no report, but a line that names the kinds.
        Err(LoadError::NoAnswer(summary)) => vec![summary],
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_closed_loop_measures_a_server_without_failures() {
    let mut events = Vec::new();
    let spec = plain(serve(Manner::Good), sizes(&[1000]));
    let report = run(&spec, |event| events.push(event)).unwrap();
    assert_eq!(report.failures.summary(), "");
    assert_eq!(report.mode, Mode::Closed);
    assert!(report.requests > 0 && report.requests <= report.requests_in_all);
    assert_eq!(report.latencies().count(), report.requests);
    let latency = report.latency_ns.unwrap();
    assert!(latency.p50 <= latency.p99);
    assert!(report.elapsed_seconds >= 0.3);
    assert_eq!(events, [Event::WindowStarted, Event::WindowEnded]);
}

#[test]
fn bodies_of_all_sizes_arrive_whole_whether_looked_at_or_dropped() {
    let address = serve(Manner::Good);
    for verify_content in [true, false] {
        for size in [0, 1, 65_521, 300_000, 3_000_000] {
            let mut spec = plain(address, sizes(&[size]));
            spec.verify_content = verify_content;
            let report = run_quietly(&spec);
            assert_eq!(report.failures.summary(), "", "{size} bytes");
            assert!(report.requests_in_all > 0);
        }
    }
}

#[test]
fn a_server_behind_tls_is_measured_and_its_terms_are_told() {
    let (address, certificate) = serve_tls(Manner::Good);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("certificate.pem");
    std::fs::write(&path, certificate).unwrap();
    let url = format!("https://{address}/");
    for trust in [Trust::Certificates(path), Trust::Everybody] {
        let report = run_quietly(&spec(&url, &trust, sizes(&[10, 100_000])));
        assert_eq!(report.failures.summary(), "");
        assert!(report.requests > 0);
        let tls = report.tls.unwrap();
        assert_eq!((&*tls.version, &*tls.cipher_suite), ("TLSv1_3", "TLS13_AES_256_GCM_SHA384"));
    }
}

#[test]
fn a_certificate_that_is_not_trusted_ends_the_run() {
    let (address, _) = serve_tls(Manner::Good);
    let (_, foreign) = serve_tls(Manner::Good);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("certificate.pem");
    std::fs::write(&path, foreign).unwrap();
    let url = format!("https://{address}/");
    let error = run(&spec(&url, &Trust::Certificates(path), sizes(&[1])), |_| {}).unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let mut spec = plain(serve(Manner::Good), sizes(&[100]));
    spec.arrival = Arrival::Open { rate_per_second: 100.0 };
    let report = run_quietly(&spec);
    assert_eq!(report.failures.summary(), "");
    assert_eq!(report.mode, Mode::Open);
    // 35 arrivals are due within 350 ms, 30 of them in the window.
    assert_eq!(report.requests_in_all + report.unsent, 35);
    assert_eq!(report.latencies().count() + report.unsent, 30);
}

#[test]
fn a_server_that_never_answers_in_time_leaves_no_report() {
    let mut spec = plain(serve(Manner::Stalls), sizes(&[100]));
    spec.arrival = Arrival::Open { rate_per_second: 1000.0 };
    spec.timeout = Duration::from_millis(400);
    let error = run(&spec, |_| {}).unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
}

#[test]
fn keyed_workloads_read_back_what_they_put() {
    let address = serve(Manner::Good);
    for mix in [Mix::PUT, Mix::YCSB_A, Mix::YCSB_B, Mix::YCSB_C, Mix::YCSB_D] {
        for size in [0, 3000, 200_000] {
            let keyed = Keyed { mix, keys: 20, size: ByteSize(size) };
            let report = run_quietly(&plain(address, Workload::Keyed(keyed)));
            assert_eq!(report.failures.summary(), "", "{mix:?}");
            assert!(report.requests_in_all > 0);
        }
    }
}

#[test]
fn a_path_is_fetched_whatever_it_answers() {
    let report = run_quietly(&plain(serve(Manner::Good), Workload::Path("/77".to_owned())));
    assert_eq!(report.failures.summary(), "");
    let missing = plain(serve(Manner::Good), Workload::Path("/none".to_owned()));
    assert!(failure_kinds(&missing)[0].contains("status_404"));
}

#[test]
fn a_server_that_closes_after_answers_costs_reconnects_but_no_failures() {
    let report = run_quietly(&plain(serve(Manner::ClosesAfterAnswers), sizes(&[10])));
    assert_eq!(report.failures.summary(), "");
    assert_eq!(report.reconnects, report.requests_in_all);
}

#[test]
fn every_misbehaviour_is_counted_under_its_kind() {
    let kinds = |manner| failure_kinds(&plain(serve(manner), sizes(&[50_000]))).join(" ");
    assert!(kinds(Manner::ShortBodies).contains("length"));
    assert!(kinds(Manner::WrongBytes).contains("content"));
    assert!(kinds(Manner::HangsUp).contains("closed"));
    assert!(kinds(Manner::Babbles).contains("malformed"));
    assert_eq!(kinds(Manner::Refuses), "status_503");
}

#[test]
fn without_a_server_there_is_no_report() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(&plain(address, sizes(&[1])), |_| {}).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[test]
fn objects_that_cannot_be_put_end_the_run() {
    let keyed = Keyed { mix: Mix::YCSB_C, keys: 10, size: ByteSize(10) };
    let error = run(&plain(serve(Manner::Refuses), Workload::Keyed(keyed)), |_| {}).unwrap_err();
    assert!(error.to_string().contains("status_503"), "{error}");
}

#[test]
fn idle_connections_are_held_open() {
    let mut spec = plain(serve(Manner::Good), sizes(&[10]));
    spec.connections = 50;
    let mut held = false;
    let report = hold(&spec, || held = true).unwrap();
    assert!(held);
    assert_eq!((report.connections, report.broken), (50, 0));

    let mut spec = plain(serve(Manner::Refuses), sizes(&[10]));
    spec.connections = 50;
    assert_eq!(hold(&spec, || ()).unwrap().connections, 50);
    spec.target = plain(serve(Manner::HangsUp), sizes(&[1])).target;
    assert!(hold(&spec, || ()).unwrap_err().to_string().contains("50 closed"));
}

#[test]
fn one_can_wait_for_a_server_that_is_not_there_yet() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let absent = plain(address, sizes(&[1]));
    let error = wait_until_answering(&absent, Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("connect"), "{error}");
    let present = plain(serve(Manner::Good), sizes(&[1]));
    wait_until_answering(&present, Duration::from_secs(30)).unwrap();
}

#[test]
fn a_specification_out_of_bounds_is_refused_with_its_field() {
    let good = plain(serve(Manner::Good), sizes(&[1]));
    let refusal = |change: &dyn Fn(&mut LoadSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        run(&spec, |_| {}).unwrap_err().to_string()
    };
    assert!(refusal(&|spec| spec.threads = 0).starts_with("threads: "));
    assert!(refusal(&|spec| spec.connections = 1).starts_with("connections: "));
    assert!(refusal(&|spec| spec.window = Duration::ZERO).starts_with("seconds: "));
    let rate = |rate_per_second| Arrival::Open { rate_per_second };
    assert!(refusal(&|spec| spec.arrival = rate(0.0)).starts_with("rate: "));
    assert!(refusal(&|spec| spec.arrival = rate(f64::NAN)).starts_with("rate: "));
    assert!(refusal(&|spec| spec.workload = sizes(&[])).starts_with("size: "));
}
