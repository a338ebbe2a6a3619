//! `ashlar bench vr`: a replicated group beside what bounds it on this machine, and beside a peer.
//!
//! Every member is a process of its own on the loopback; the generator is this process. A group is made for each
//! measurement and removed after it, so that no subject runs while another is measured.

mod ceilings;
mod content;
mod etcd;
mod exchange;
mod failover;
mod group;
mod laboratory;
mod outcome;
mod present;
mod processes;
mod sessions;
mod spec;
mod usage;
mod window;

pub use outcome::{Entry, FailoverEntry, LoadEntry, Outcome};
pub use spec::{Case, Mode, NotOneOf, Offload, Peer, Subject, VrSpec};

use crate::comparison::{ComparisonError, Progress, Steps};
use crate::experiment::{self, Sample, Trial};
use crate::peers;
use etcd::Etcd;
use group::{Group, Shape, Site};
use laboratory::Laboratory;
use outcome::{Cpu, Failover, Measured};
use processes::system;
use sessions::Sessions;
use std::path::Path;
use std::time::Duration;
use usage::{Meter, Used};
use window::Window;

/// Measures what `spec` says.
///
/// # Errors
/// See [`ComparisonError`]. Failed operations are no error but counted in the outcome.
pub fn run(spec: &VrSpec, progress: &mut dyn Progress) -> Result<Outcome, ComparisonError> {
    let cases = spec.check()?;
    if spec.peers.contains(&Peer::Etcd) {
        // A missing program shows before anything is measured.
        peers::etcd::program()?;
    }
    let subjects = spec.subjects();
    let applies = |trial: &Trial| spec.applies(subjects[trial.subject], &cases[trial.case]);
    let mut trials = experiment::schedule(subjects.len(), cases.len(), spec.rounds);
    trials.retain(applies);
    let laboratory = if spec.offloads.is_empty() {
        None
    } else {
        let members = cases.iter().map(|case| case.members).max().unwrap_or(1);
        Some(Laboratory::build(spec, members)?)
    };
    let groups = if spec.kills > 0 { groups(&cases) } else { Vec::new() };
    let mut steps = Steps::new(progress, trials.len() + groups.len() * spec.kills);
    let mut samples = Vec::with_capacity(trials.len());
    for trial in trials {
        let (subject, case) = (subjects[trial.subject], &cases[trial.case]);
        steps.next(&format!("round {}: {} {case}", trial.round + 1, subject.name()))?;
        let measured = match (&laboratory, subject) {
            (Some(laboratory), Subject::Offloaded(offload)) => {
                laboratory.measure(spec, offload, case)
            }
            _ => measure(spec, subject, case),
        };
        let measured = measured.map_err(|error| steps.failed(error))?;
        samples.push(Sample { trial, measured });
    }
    let mut failovers = Vec::new();
    for (mode, members) in groups {
        let directory = directory(&spec.directory)?;
        let shape = Shape::plain(mode, members);
        let mut group = Group::start(&spec.executable, directory.path(), Site::Loopback, shape)?;
        let what = format!("kill the leader of {members}, {}", mode.name());
        let step = |_| steps.next(&what);
        let silences = failover::silences(&mut group, spec.kills, step)?;
        failovers.push(Failover { mode, members, kills: spec.kills, silences });
    }
    Ok(Outcome::new(&subjects, cases, samples, failovers))
}

/// The groups whose leaders are killed: those that go on without.
fn groups(cases: &[Case]) -> Vec<(Mode, usize)> {
    let mut groups: Vec<(Mode, usize)> = Vec::new();
    for case in cases.iter().filter(|case| case.members > 1) {
        let group = (case.mode, case.members);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// A directory for the data of one measurement, on the disk that is measured.
fn directory(disk: &Path) -> Result<tempfile::TempDir, ComparisonError> {
    let make = || {
        std::fs::create_dir_all(disk)?;
        tempfile::Builder::new().prefix("bench-vr-").tempdir_in(disk)
    };
    make().map_err(system(format!("a directory in {}", disk.display())))
}

fn measure(spec: &VrSpec, subject: Subject, case: &Case) -> Result<Measured, ComparisonError> {
    let directory = directory(&spec.directory)?;
    let failed = |what: &str| system(format!("{}, {case}: {what}", subject.name()));
    match subject {
        Subject::Offloaded(_) => unreachable!("these are measured in a lab"),
        Subject::Vr => {
            let shape = Shape { batch: spec.batch, ..Shape::plain(case.mode, case.members) };
            let directory = directory.path();
            let mut group = Group::start(&spec.executable, directory, Site::Loopback, shape)?;
            load(spec, case, &mut group)
        }
        Subject::Peer(Peer::Etcd) => {
            let mut group = Etcd::start(directory.path(), case.members)?;
            let (leader, numbers) = group.leader()?;
            let mut window = Window::after(spec.warm_up, spec.window);
            let meter = Meter::start(numbers, window.opens, window.closes);
            let value_bytes = case.value.bytes() as usize;
            etcd::load(leader, case.clients, value_bytes, &spec.arrival, &mut window)
                .map_err(failed("clients"))?;
            let used = meter.used().map_err(failed("processor times"))?;
            Ok(Measured::of_group(window.load(), &used))
        }
        Subject::Udp => {
            let mut window = Window::after(spec.warm_up, spec.window);
            ceilings::udp(case, &mut window).map_err(failed("sockets"))?;
            Ok(Measured { load: window.load(), cpu: None })
        }
        Subject::Exchange => {
            let mut window = Window::after(spec.warm_up, spec.window);
            exchange::run(case, &mut window).map_err(failed("sockets"))?;
            Ok(Measured { load: window.load(), cpu: None })
        }
        Subject::Sync => {
            // Files are made before the window, which is why it is made there.
            let (warm_up, length) = (spec.warm_up, spec.window);
            let window = ceilings::sync(case, directory.path(), || Window::after(warm_up, length));
            Ok(Measured { load: window.map_err(failed("files"))?.load(), cpu: None })
        }
    }
}

/// Loads a group of ours.
fn load(spec: &VrSpec, case: &Case, group: &mut Group) -> Result<Measured, ComparisonError> {
    let failed = |what: &str| system(format!("{case}: {what}"));
    let value_bytes = case.value.bytes() as usize;
    let sessions = Sessions::new(&group.members, case.clients, value_bytes);
    let mut sessions = sessions.map_err(failed("clients"))?;
    let numbers = group.numbers()?;
    let mut window = Window::after(spec.warm_up, spec.window);
    let meter = Meter::start(numbers, window.opens, window.closes);
    sessions.load(&spec.arrival, &mut window).map_err(failed("clients"))?;
    let used = meter.used().map_err(failed("processor times"))?;
    Ok(Measured::of_group(window.load(), &used))
}

impl Measured {
    /// What a group's load and its processes' times say together; the leader's come first.
    fn of_group(load: window::Load, used: &Used) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / load.operations.max(1) as f64;
        let (leader, followers) = used.processes.split_first().expect("a group has a leader");
        let of_one = |count| each(followers.iter().sum()) / count as f64;
        let follower_us = (!followers.is_empty()).then(|| of_one(followers.len()));
        let cpu = Cpu { leader_us: each(*leader), follower_us, machine_us: each(used.machine) };
        Self { load, cpu: Some(cpu) }
    }
}
