//! `ashlar bench handoff`: connections that move to the storage nodes, beside those that do not.
//!
//! The published evaluation of hand-off in one command: one front end and some storage nodes of
//! equal strength, objects of many sizes over HTTP and HTTPS, and every request of a connection
//! for an object of the next storage node. What clients get from the storage nodes without a front
//! end in between is the ceiling; relays, ours and others', are what hand-off replaces.

mod spec;

pub use spec::HandoffSpec;

use crate::comparison::{
    Case, ComparisonError, LoadShape, LoneSample, Outcome, Plan, Progress, Scheme, Steps, Subject,
    Testbed, break_even, metrics, of_pair,
};
use crate::load::Arrival;
use crate::peers::Peer;

/// When every request is for another storage node's object, fewer moves for each request than this
/// need an explanation.
const MOVES_PER_REQUEST_MIN: f64 = 0.9;

/// Measures what `spec` says.
///
/// # Errors
/// See [`ComparisonError`]. Failed requests are no error but counted in the outcome.
pub fn run(spec: &HandoffSpec, progress: &mut dyn Progress) -> Result<Outcome, ComparisonError> {
    let cases = spec.check()?;
    let subjects = spec.subjects();
    for subject in &subjects {
        if let Subject::Peer(peer) = subject {
            // A missing program shows before anything is built.
            peer.program()?;
        }
    }
    let has_https_ceiling = Peer::Nginx.program().is_ok();
    let applies = |subject: Subject, case: Case| {
        subject != Subject::Direct || case.scheme == Scheme::Http || has_https_ceiling
    };
    let plan = Plan { subjects: &subjects, cases: &cases, rounds: spec.rounds, applies: &applies };
    let lone_cases = lone_cases(spec);
    let total = plan.trials().len() + lone_cases.len() * spec.rounds + 1;
    let mut steps = Steps::new(progress, total);
    steps.next("build the lab")?;
    let mut testbed = Testbed::build(&spec.place, &spec.testbed(), steps.progress)?;
    let samples =
        steps.measure_load(&plan, |subject, case| testbed.measure(subject, case, &spec.load))?;
    let lone = measure_lone(spec, &lone_cases, &mut testbed, &mut steps)?;
    testbed.remove()?;
    let leaves_out_ceiling = subjects.contains(&Subject::Direct)
        && spec.schemes.contains(&Scheme::Https)
        && !has_https_ceiling;
    let mut outcome = Outcome::new("Hand-off", &subjects, cases, samples);
    outcome.lone = lone;
    if leaves_out_ceiling {
        let warning = "no ceiling over HTTPS: install Debian's package `nginx-light`";
        outcome.warnings.push(warning.to_owned());
    }
    conclude(&mut outcome, spec);
    outcome.warn_of_debug_build();
    Ok(outcome)
}

/// What a single connection asks for: the largest object over each scheme. It moves whatever
/// storage nodes think of small ones, and there are no more moves than hosts with time for them.
fn lone_cases(spec: &HandoffSpec) -> Vec<Case> {
    match spec.sizes.iter().max() {
        Some(size) if spec.subjects.contains(&Subject::Handoff) => {
            spec.schemes.iter().map(|scheme| Case { scheme: *scheme, size: *size }).collect()
        }
        _ => Vec::new(),
    }
}

/// Measures how a single connection moves, which waits for nobody else.
fn measure_lone(
    spec: &HandoffSpec,
    cases: &[Case],
    testbed: &mut Testbed,
    steps: &mut Steps<'_>,
) -> Result<Vec<LoneSample>, ComparisonError> {
    let load = LoadShape { connections: 1, threads: 1, ..spec.load.clone() };
    let mut samples = Vec::new();
    for round in 0..spec.rounds {
        for case in cases {
            steps.next(&format!("round {}: one connection, {case}", round + 1))?;
            let measured = testbed.measure(Subject::Handoff, *case, &load);
            let measured = measured.map_err(|error| steps.failed(error))?;
            if let Some(moves) = measured.moves {
                samples.push(LoneSample { round, case: *case, moves });
            }
        }
    }
    Ok(samples)
}

/// Adds what follows from the measurements.
fn conclude(outcome: &mut Outcome, spec: &HandoffSpec) {
    quote(outcome);
    outcome.break_even = break_even(outcome, Subject::Handoff.name(), Subject::Relay.name());
    let warnings = move_warnings(outcome, spec);
    outcome.warnings.extend(warnings);
}

/// Adds the ratios: `handoff_over_direct_http_1MiB_throughput`,
/// `auto_over_relay_http_1KiB_rate`, `relay_over_handoff_frontend_cpu_per_GB_http_1MiB`.
fn quote(outcome: &mut Outcome) {
    let rate = |case: Case| metrics(case.size, &Arrival::Closed).rate.into_iter().collect();
    let others: Vec<&str> = outcome.subjects.clone();
    let (handoff, auto) = (Subject::Handoff.name(), Subject::Auto.name());
    for other in others {
        // What comes as it is is measured against what it replaces, not against a ceiling.
        let ceilings = [Subject::Direct.name(), Subject::Settled.name()];
        let ours = [Some(handoff), (!ceilings.contains(&other)).then_some(auto)];
        for ours in ours.into_iter().flatten().filter(|_| ![handoff, auto].contains(&other)) {
            let name = |case: Case, metric: &str| format!("{ours}_over_{other}_{case}_{metric}");
            let ratios = of_pair(outcome, (ours, other), rate, name);
            outcome.ratios.extend(ratios);
        }
    }
    let cpu = |case: Case| vec![metrics(case.size, &Arrival::Closed).frontend_cpu];
    let relay = Subject::Relay.name();
    let name = |case: Case, metric: &str| format!("{relay}_over_{handoff}_{metric}_{case}");
    let ratios = of_pair(outcome, (relay, handoff), cpu, name);
    outcome.ratios.extend(ratios);
}

/// What makes the figures of hand-off doubtful: connections that did not move, or were lost.
fn move_warnings(outcome: &Outcome, spec: &HandoffSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    for sample in &outcome.samples {
        let Some(moves) = &sample.measured.moves else { continue };
        let name = outcome.subjects[sample.trial.subject];
        let case = outcome.cases[sample.trial.case];
        let place = format!("round {}, {name}, {case}", sample.trial.round + 1);
        if moves.counts.lost > 0 {
            warnings.push(format!("{place}: {} connections were lost", moves.counts.lost));
        }
        let per_request = sample.measured.moves_per_request().unwrap_or(0.0);
        let must_move = name == Subject::Handoff.name() && spec.place.storage_nodes > 1;
        if must_move && per_request < MOVES_PER_REQUEST_MIN {
            let kept: Vec<String> = moves
                .counts
                .kept
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            let kept =
                if kept.is_empty() { "none was refused".to_owned() } else { kept.join(", ") };
            warnings.push(format!("{place}: only {per_request:.2} moves a request ({kept})"));
        }
    }
    warnings
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
