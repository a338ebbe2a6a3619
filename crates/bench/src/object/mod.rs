//! `ashlar bench object`: our front end beside other proxies, in front of the same storage nodes.
//!
//! The storage nodes answer `GET /N` with N bytes from memory, so that the front end is what is
//! measured. Ours and each peer run on the same host of the lab, one at a time, under the same
//! processor quota; the generator runs on a host of its own.

mod spec;

pub use spec::{ObjectSpec, Place};

use crate::comparison::{
    Case, ComparisonError, LoadShape, Measurement, Outcome, Plan, Progress, Steps, Subject,
    Testbed, metrics, of_memory, of_pair, refuse,
};
use crate::load::Target;

/// What our front end is called in ratios: it relays every response.
pub const OURS: &str = "relay";

/// Measures what `spec` says.
///
/// # Errors
/// See [`ComparisonError`]. Failed requests are no error but counted in the outcome.
pub fn run(spec: &ObjectSpec, progress: &mut dyn Progress) -> Result<Outcome, ComparisonError> {
    let cases = spec.check()?;
    let subjects = spec.subjects();
    for subject in &subjects {
        if let Subject::Peer(peer) = subject {
            // A missing program shows before anything is built.
            peer.program()?;
        }
    }
    let plan =
        Plan { subjects: &subjects, cases: &cases, rounds: spec.rounds, applies: &|_, _| true };
    let memory_plan = spec.memory_plan(&subjects);
    let in_lab = matches!(spec.place, Place::Lab(_));
    let total = plan.trials().len() + memory_plan.0.len() + usize::from(in_lab);
    let mut steps = Steps::new(progress, total);
    let mut testbed = build(spec, &mut steps)?;
    // The short part first: what fails in it fails soon.
    let memory = match &mut testbed {
        Some(testbed) => memory_plan.measure(testbed, &spec.load, &mut steps)?,
        None => Vec::new(),
    };
    let samples = steps.measure_load(&plan, |subject, case| match &mut testbed {
        Some(testbed) => testbed.measure(subject, case, &spec.load),
        None => measure_target(spec, case),
    })?;
    if let Some(testbed) = testbed {
        testbed.remove()?;
    }
    let mut outcome = Outcome::new("Objects", &subjects, cases, samples);
    outcome.memory = memory;
    quote(&mut outcome, &spec.load);
    if in_lab {
        outcome.warn_of_debug_build();
    }
    Ok(outcome)
}

fn build(spec: &ObjectSpec, steps: &mut Steps<'_>) -> Result<Option<Testbed>, ComparisonError> {
    let Place::Lab(place) = &spec.place else {
        return Ok(None);
    };
    steps.next("build the lab")?;
    Ok(Some(Testbed::build(place, &spec.testbed(place), steps.progress)?))
}

fn measure_target(spec: &ObjectSpec, case: Case) -> Result<Measurement, ComparisonError> {
    let Place::Target { url, trust } = &spec.place else {
        unreachable!("without a lab there is a target");
    };
    let load_error = |source| ComparisonError::Load {
        subject: Subject::Target.name(),
        case: case.to_string(),
        source,
    };
    let target = Target::parse(url, trust).or_else(|error| refuse("target", error.to_string()))?;
    let load = crate::load::run(&spec.load.at(target, case.size), |_| {}).map_err(load_error)?;
    Ok(Measurement { load, cpu: None, moves: None })
}

/// Adds the ratios of our front end to each peer: `relay_over_nginx_http_1KiB_rate`.
fn quote(outcome: &mut Outcome, load: &LoadShape) {
    let quoted = |case: Case| {
        let metrics = metrics(case.size, &load.arrival);
        let [p50, p99] = metrics.latency;
        [p50, p99, metrics.frontend_cpu].into_iter().chain(metrics.rate).collect()
    };
    for peer in outcome.subjects.clone() {
        if peer != OURS {
            let name = |case: Case, metric: &str| format!("{OURS}_over_{peer}_{case}_{metric}");
            let ratios = of_pair(outcome, (OURS, peer), quoted, name);
            outcome.ratios.extend(ratios);
        }
    }
    outcome.ratios.extend(of_memory(OURS, &outcome.subjects, &outcome.memory));
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
