#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::comparison::testing::{LARGE, SMALL, lab_place, load_report, load_shape};
use crate::comparison::{Entry, MemorySample, MemoryTrial, Scheme, check_tls_terms};
use crate::experiment::{self, Sample, Trial};
use crate::load::{Arrival, LoadReport, Mix, TlsFacts, Trust};
use crate::peers::Peer;
use crate::report::Findings;
use crate::report::{Machine, Report};
use crate::units::ByteSize;

fn lab_spec() -> ObjectSpec {
    ObjectSpec {
        sizes: vec![SMALL, LARGE],
        schemes: vec![Scheme::Http],
        rounds: 2,
        load: load_shape(5),
        place: Place::Lab(lab_place(3)),
        idle_connections: Some(1000),
    }
}

/// A measurement of two seconds at `rate` requests of `size` a second.
fn measurement(rate: f64, size: ByteSize) -> Measurement {
    let load = load_report(rate, size);
    let cpu = [("fe".to_owned(), 0.25), ("s1".to_owned(), 0.125)];
    Measurement { load, cpu: Some(cpu.into_iter().collect()), moves: None }
}

/// A run of two rounds in which ours has twice nginx's rate and half its memory.
fn finished() -> Outcome {
    let spec = lab_spec();
    let cases = spec.check().unwrap();
    let subjects = spec.subjects();
    let samples = experiment::schedule(2, cases.len(), spec.rounds).into_iter().map(|trial| {
        let rate = if trial.subject == 0 { 2000.0 } else { 1000.0 };
        let slowness = (trial.round + 1) as f64;
        let measured = measurement(rate / slowness, cases[trial.case].size);
        Sample { trial, measured }
    });
    let samples = samples.collect();
    let memory = spec.memory_plan(&subjects).0.into_iter().map(|trial| MemorySample {
        trial,
        connections: trial.connections,
        resident_bytes_before: 1 << 20,
        resident_bytes: if trial.subject == Subject::Relay { 8 << 20 } else { 16 << 20 },
    });
    let memory = memory.collect();
    outcome(&spec, cases, samples, memory)
}

fn outcome(
    spec: &ObjectSpec,
    cases: Vec<Case>,
    samples: Vec<Sample<Measurement>>,
    memory: Vec<MemorySample>,
) -> Outcome {
    let mut outcome = Outcome::new("Objects", &spec.subjects(), cases, samples);
    outcome.memory = memory;
    quote(&mut outcome, &spec.load);
    outcome
}

#[test]
fn cases_are_every_size_over_every_scheme() {
    let mut spec = lab_spec();
    spec.schemes = vec![Scheme::Http, Scheme::Https];
    let names: Vec<String> = spec.check().unwrap().iter().map(Case::to_string).collect();
    assert_eq!(names, ["http_1KiB", "http_1MiB", "https_1KiB", "https_1MiB"]);
}

#[test]
fn what_cannot_be_measured_is_refused_with_its_field() {
    let refusal = |change: &dyn Fn(&mut ObjectSpec)| {
        let mut spec = lab_spec();
        change(&mut spec);
        spec.check().unwrap_err().to_string()
    };
    let target = |url: &str| Place::Target { url: url.to_owned(), trust: Trust::Nobody };
    assert!(refusal(&|spec| spec.rounds = 0).starts_with("rounds: "));
    assert!(refusal(&|spec| spec.sizes = vec![SMALL, SMALL]).starts_with("sizes: "));
    assert!(refusal(&|spec| spec.schemes = vec![Scheme::Http; 2]).starts_with("schemes: "));
    assert!(refusal(&|spec| spec.load.mix = Some((Mix::YCSB_A, 9))).starts_with("peer: "));
    assert!(refusal(&|spec| spec.place = target("https://x")).starts_with("schemes: "));
    assert!(refusal(&|spec| spec.place = target("http://x")).starts_with("idle-connections: "));
    let nothing = |spec: &mut ObjectSpec| {
        spec.sizes.clear();
        spec.idle_connections = None;
    };
    assert!(refusal(&nothing).starts_with("sizes: "));
}

#[test]
fn ratios_have_the_documented_names_and_are_taken_within_rounds() {
    let ratios = finished().ratios;
    let names: Vec<&str> = ratios.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "relay_over_nginx_http_1KiB_frontend_cpu_per_request",
            "relay_over_nginx_http_1KiB_p50",
            "relay_over_nginx_http_1KiB_p99",
            "relay_over_nginx_http_1KiB_rate",
            "relay_over_nginx_http_1MiB_frontend_cpu_per_GB",
            "relay_over_nginx_http_1MiB_p50",
            "relay_over_nginx_http_1MiB_p99",
            "relay_over_nginx_http_1MiB_throughput",
            "relay_over_nginx_resident_bytes_1000_connections",
        ]
    );
    let rate = ratios["relay_over_nginx_http_1KiB_rate"];
    assert_eq!((rate.median, rate.min, rate.max, rate.rounds), (2.0, 2.0, 2.0, 2));
    assert_eq!(ratios["relay_over_nginx_http_1KiB_frontend_cpu_per_request"].median, 0.5);
    assert_eq!(ratios["relay_over_nginx_http_1MiB_frontend_cpu_per_GB"].median, 0.5);
    assert_eq!(ratios["relay_over_nginx_resident_bytes_1000_connections"].median, 0.5);
}

#[test]
fn with_a_fixed_arrival_rate_the_rate_is_no_result() {
    let spec = ObjectSpec {
        load: LoadShape { arrival: Arrival::Open { rate_per_second: 10.0 }, ..load_shape(5) },
        ..lab_spec()
    };
    let done = finished();
    let outcome = outcome(&spec, done.cases, done.samples, done.memory);
    assert!(outcome.ratios.contains_key("relay_over_nginx_http_1KiB_p99"));
    assert!(!outcome.ratios.contains_key("relay_over_nginx_http_1KiB_rate"));
    assert!(!outcome.ratios.contains_key("relay_over_nginx_http_1MiB_throughput"));
}

#[test]
fn memory_over_https_has_a_name_of_its_own() {
    let trial = |subject| MemoryTrial { round: 0, subject, scheme: Scheme::Https, connections: 10 };
    let sample = |subject, resident_bytes| MemorySample {
        trial: trial(subject),
        connections: 10,
        resident_bytes_before: 1,
        resident_bytes,
    };
    let samples = [sample(Subject::Relay, 30), sample(Subject::Peer(Peer::Haproxy), 10)];
    let ratios = of_memory(OURS, &["relay", "haproxy"], &samples);
    assert_eq!(ratios["relay_over_haproxy_https_resident_bytes_10_connections"].median, 3.0);
    assert_eq!(ratios.len(), 1);
}

#[test]
fn failed_requests_are_told_loudly() {
    let mut done = finished();
    let failures = r#"{"timeout": {"count": 3, "first": "no answer"}}"#;
    done.samples[0].measured.load.failures = serde_json::from_str(failures).unwrap();
    let spec = lab_spec();
    let outcome = outcome(&spec, done.cases, done.samples, done.memory);
    assert_eq!(outcome.failures, 3);
    assert_eq!(
        outcome.warnings,
        ["round 1, relay, http_1KiB: 3 requests FAILED: 3 timeout (no answer)"]
    );
    // In the table too, where the worst round counts.
    assert!(
        outcome.table().lines().any(|line| line.starts_with("http_1KiB") && line.ends_with('3'))
    );
}

#[test]
fn subjects_with_different_tls_terms_are_not_compared() {
    let spec = lab_spec();
    let done = finished();
    let mut load = measurement(1.0, SMALL).load;
    let trial = Trial { round: 1, subject: 1, case: 0 };
    let check = |load: &LoadReport| {
        check_tls_terms(&done.samples, &spec.subjects(), done.cases[0], trial, load)
    };
    assert!(check(&load).is_ok());
    load.tls = Some(TlsFacts { version: "TLSv1_2".to_owned(), cipher_suite: "other".to_owned() });
    let error = check(&load).unwrap_err().to_string();
    assert!(error.contains("relay") && error.contains("nginx") && error.contains("TLSv1_2"));
}

#[test]
fn the_report_for_machines_keeps_its_form() {
    let mut report = finished().report("ashlar bench object".to_owned());
    report.machine = Machine {
        kernel: "6.1".to_owned(),
        cores: 2,
        cpu_model: "Example".to_owned(),
        memory_bytes: 1024,
    };
    report.ratios.retain(|name, _| name.ends_with("_rate"));
    let memory = report.series.len() - 1;
    let first_and_last = [report.series[0].clone(), report.series[memory].clone()];
    report.series = first_and_last.to_vec();
    let text = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(text, include_str!("report_snapshot.json").trim_end());
    assert_eq!(serde_json::from_str::<Report<Entry>>(&text).unwrap(), report);
}

#[test]
fn the_table_and_the_page_show_every_case_subject_and_ratio() {
    let outcome = finished();
    let text = outcome.table();
    let directory = tempfile::tempdir().unwrap();
    let page = outcome.write_page(directory.path(), "ashlar bench object").unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    for word in ["http_1KiB", "http_1MiB", "relay", "nginx", "1000 http"] {
        assert!(text.contains(word) && page.contains(word), "{word} is missing");
    }
    for name in outcome.ratios.keys() {
        assert!(text.contains(name) && page.contains(name), "{name} is missing");
    }
    for plot in ["throughput-http", "cpu-per-gb-http", "latency-http-1KiB", "latency-http-1MiB"] {
        assert!(page.contains(&format!("({plot}.svg)")), "{plot} is not shown");
        assert!(directory.path().join(format!("{plot}.svg")).is_file(), "{plot} is not drawn");
    }
}

#[test]
fn a_target_is_measured_without_meters_or_ratios() {
    let spec = ObjectSpec {
        sizes: vec![SMALL],
        place: Place::Target { url: "http://127.0.0.1:1/".to_owned(), trust: Trust::Nobody },
        idle_connections: None,
        ..lab_spec()
    };
    let error = run(&spec, &mut ()).unwrap_err().to_string();
    assert!(error.starts_with("target, http_1KiB: the target cannot be reached"), "{error}");
}
