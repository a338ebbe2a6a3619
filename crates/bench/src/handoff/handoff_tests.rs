#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::comparison::testing::{LARGE, SMALL, lab_place, load_report, load_shape};
use crate::comparison::{Entry, HostCpu, Measurement, MoveCounts, Moves};
use crate::experiment::Sample;
use crate::load::Mix;
use crate::report::Findings;
use crate::units::ByteSize;

fn spec() -> HandoffSpec {
    HandoffSpec {
        sizes: vec![SMALL, LARGE],
        schemes: vec![Scheme::Http, Scheme::Https],
        subjects: Subject::OURS.to_vec(),
        rounds: 2,
        load: load_shape(2),
        place: lab_place(5),
    }
}

/// Requests a second of a made-up machine on which moves cost much and relays cost by the byte.
fn rate(subject: Subject, size: ByteSize) -> f64 {
    match (subject, size >= LARGE) {
        (Subject::Direct | Subject::Settled, _) => 8000.0,
        (Subject::Handoff, _) | (Subject::Auto, true) => 4000.0,
        (Subject::Auto | Subject::Relay, false) => 16_000.0,
        (_, true) => 1000.0,
        (_, false) => 8000.0,
    }
}

/// A measurement of two seconds.
fn measurement(subject: Subject, size: ByteSize) -> Measurement {
    let rate = rate(subject, size);
    let load = load_report(rate, size);
    let requests = load.requests;
    let front_end = if subject == Subject::Relay { 0.4 } else { 0.004 };
    let cpu = [("client", 1.0), ("fe", front_end), ("s1", 0.25), ("s2", 0.25)];
    let cpu: HostCpu = cpu.into_iter().map(|(host, used)| (host.to_owned(), used)).collect();
    let counts = MoveCounts::parse(&format!(
        "ashlar_hand_offs_moved_total {requests}
ashlar_hand_off_stage_seconds_bucket{{stage=\"total\",le=\"0.0001\"}} {requests}
ashlar_hand_off_stage_seconds_bucket{{stage=\"total\",le=\"+Inf\"}} {requests}"
    ));
    let moves = (subject == Subject::Handoff).then_some(Moves { counts, elapsed_seconds: 2.0 });
    Measurement { load, cpu: Some(cpu), moves }
}

/// A single connection that moved within 20 µs each time.
fn lone(case: Case) -> LoneSample {
    let counts = MoveCounts::parse(
        "ashlar_hand_offs_moved_total 8
ashlar_hand_off_stage_seconds_bucket{stage=\"total\",le=\"2e-5\"} 8
ashlar_hand_off_stage_seconds_bucket{stage=\"total\",le=\"+Inf\"} 8",
    );
    LoneSample { round: 0, case, moves: Moves { counts, elapsed_seconds: 2.0 } }
}

/// A finished run; without nginx there is no ceiling over HTTPS.
fn finished(has_https_ceiling: bool) -> Outcome {
    let spec = spec();
    let (cases, subjects) = (spec.check().unwrap(), spec.subjects());
    let applies = |subject: Subject, case: Case| {
        subject != Subject::Direct || case.scheme == Scheme::Http || has_https_ceiling
    };
    let plan = Plan { subjects: &subjects, cases: &cases, rounds: spec.rounds, applies: &applies };
    let samples = plan.trials().into_iter().map(|trial| Sample {
        trial,
        measured: measurement(subjects[trial.subject], cases[trial.case].size),
    });
    let samples = samples.collect();
    let mut outcome = Outcome::new("Hand-off", &subjects, cases, samples);
    outcome.lone = lone_cases(&spec).into_iter().map(lone).collect();
    conclude(&mut outcome, &spec);
    outcome
}

#[test]
fn what_cannot_be_measured_is_refused_with_its_field() {
    let refusal = |change: &dyn Fn(&mut HandoffSpec)| {
        let mut spec = spec();
        change(&mut spec);
        spec.check().unwrap_err().to_string()
    };
    assert!(refusal(&|spec| spec.rounds = 0).starts_with("rounds: "));
    assert!(refusal(&|spec| spec.sizes = vec![SMALL, SMALL]).starts_with("sizes: "));
    assert!(refusal(&|spec| spec.sizes.clear()).starts_with("sizes: "));
    assert!(refusal(&|spec| spec.subjects = vec![Subject::Auto; 2]).starts_with("subjects: "));
    let peer = Subject::Peer(Peer::Nginx);
    assert!(refusal(&|spec| spec.subjects.push(peer)).starts_with("subjects: "));
    assert!(refusal(&|spec| spec.load.connections = 4).starts_with("connections: "));
    assert!(refusal(&|spec| spec.load.mix = Some((Mix::YCSB_A, 1))).starts_with("rate: "));
}

#[test]
fn ratios_have_the_documented_names() {
    let ratios = finished(true).ratios;
    for (name, median) in [
        ("handoff_over_direct_http_1MiB_throughput", 0.5),
        ("handoff_over_settled_https_1MiB_throughput", 0.5),
        ("handoff_over_relay_https_1MiB_throughput", 4.0),
        ("handoff_over_nginx_http_1MiB_throughput", 4.0),
        ("auto_over_relay_http_1KiB_rate", 1.0),
        // A hundredth of the time for four times the bytes.
        ("relay_over_handoff_frontend_cpu_per_GB_http_1MiB", 400.0),
        ("relay_over_handoff_frontend_cpu_per_request_https_1KiB", 25.0),
    ] {
        let ratio = ratios.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!((ratio.median - median).abs() < 1e-9, "{name} is {}", ratio.median);
        assert_eq!(ratio.rounds, 2);
    }
}

#[test]
fn without_a_ceiling_there_is_no_ratio_to_it() {
    let ratios = finished(false).ratios;
    assert!(ratios.contains_key("handoff_over_direct_http_1MiB_throughput"));
    assert!(!ratios.contains_key("handoff_over_direct_https_1MiB_throughput"));
}

#[test]
fn the_report_has_moves_and_break_even() {
    let report = finished(true).report("ashlar bench handoff".to_owned());
    let text = serde_json::to_string(&report).unwrap();
    assert!(
        text.contains(r#""kind":"break_even","subject":"handoff","over":"relay","scheme":"http""#)
    );
    let handoff = report.series.iter().find_map(|entry| match entry {
        Entry::Load(load) if load.subject == "handoff" => load.moves.clone(),
        _ => None,
    });
    let handoff = handoff.unwrap();
    assert_eq!(handoff.moved_per_second, 4000.0);
    assert_eq!(handoff.stages["total"].p50_us, 50.0);
    assert!(!text.contains(r#""moves":null"#));
    assert!(
        text.contains(r#""kind":"lone_moves","scheme":"https","size_bytes":1048576,"round":1"#)
    );
}

#[test]
fn the_table_and_the_page_show_stages_beside_the_published_ones() {
    let outcome = finished(true);
    let text = outcome.table();
    let directory = tempfile::tempdir().unwrap();
    let page = outcome.write_page(directory.path(), "ashlar bench handoff").unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    for words in [
        "moves/request",
        "50/99",
        "https, one connection",
        "10/20",
        "published",
        "232",
        "break-even",
        "settled",
    ] {
        assert!(text.contains(words) && page.contains(words), "{words} is missing");
    }
    assert!(directory.path().join("hand-off-stages.svg").is_file());
    assert!(directory.path().join("throughput-https.svg").is_file());
}

#[test]
fn connections_that_stay_or_are_lost_make_the_figures_doubtful() {
    let mut outcome = finished(true);
    let sample = outcome.samples.iter_mut().find(|sample| sample.measured.moves.is_some()).unwrap();
    let counts = &mut sample.measured.moves.as_mut().unwrap().counts;
    counts.moved /= 2;
    counts.lost = 3;
    counts.kept.insert("no_channel".to_owned(), 7);
    let warnings = move_warnings(&outcome, &spec());
    assert_eq!(
        warnings,
        [
            "round 1, handoff, http_1KiB: 3 connections were lost",
            "round 1, handoff, http_1KiB: only 0.50 moves a request (7 no_channel)",
        ]
    );
}
