//! Everything that a run found out, and the ratios that are quoted of it. docs/benchmarks.md lists their names.

use super::spec::{Case, Mode, Offload, Peer, Subject};
use super::window::Load;
use crate::experiment::{self, Sample};
use crate::histogram::{Latencies, Quantiles};
use crate::report::{Machine, Report};
use crate::statistics::Summary;
use crate::units::ByteSize;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a run found out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) subjects: Vec<Subject>,
    pub(super) cases: Vec<Case>,
    pub(super) samples: Vec<Sample<Measured>>,
    pub(super) failovers: Vec<Failover>,
    /// What is quoted.
    pub ratios: BTreeMap<String, Summary>,
    /// What makes figures doubtful; empty for a clean run.
    pub warnings: Vec<String>,
    /// Operations that were not executed, or nobody knows. Above 0 the figures are not to be quoted.
    pub failures: u64,
}

/// What a measurement showed.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) load: Load,
    /// None for what is no group.
    pub(super) cpu: Option<Cpu>,
}

/// Processor time for each operation, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub(super) leader_us: f64,
    /// Of one of the others, on average; none without others.
    pub(super) follower_us: Option<f64>,
    /// Of the whole machine: clients, members, and the kernel's work on packets, whomever that is charged to.
    pub(super) machine_us: f64,
}

/// What the deaths of leaders cost.
#[derive(Clone, Debug)]
pub(super) struct Failover {
    pub(super) mode: Mode,
    pub(super) members: usize,
    pub(super) kills: usize,
    /// How long clients had no answer: one for each of them and each kill.
    pub(super) silences: Latencies,
}

/// One entry of the machine-readable series.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A measurement under load.
    Load(LoadEntry),
    /// What the deaths of leaders cost.
    Failover(FailoverEntry),
}

/// A measurement under load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadEntry {
    /// `vr`, `udp`, `exchange`, `sync` or the peer's name.
    pub subject: &'static str,
    /// `volatile` or `durable`.
    pub mode: &'static str,
    /// Members of the group.
    pub members: usize,
    /// Clients.
    pub clients: usize,
    /// Length of the values.
    pub value_bytes: ByteSize,
    /// The round, from 1.
    pub round: usize,
    /// Operations that ended within the window.
    pub operations: u64,
    /// The same each second.
    pub rate_per_second: f64,
    /// Their latencies in nanoseconds; absent without operations.
    pub latency_ns: Option<Quantiles>,
    /// Operations that were not executed, or nobody knows.
    pub failures: u64,
    /// Open loop: operations that were due and not begun.
    pub unsent: u64,
    /// Processor time of the leader's process for each operation, in microseconds.
    pub leader_cpu_us_per_operation: Option<f64>,
    /// The same of one follower, on average.
    pub follower_cpu_us_per_operation: Option<f64>,
    /// The same of the whole machine, clients and the kernel's work on packets included.
    pub machine_cpu_us_per_operation: Option<f64>,
}

/// What the deaths of leaders cost.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverEntry {
    /// `volatile` or `durable`.
    pub mode: &'static str,
    /// Members of the group.
    pub members: usize,
    /// How many leaders were killed.
    pub kills: usize,
    /// How long a client had no answer, in nanoseconds.
    pub silence_ns: Option<Quantiles>,
}

/// A figure of a measurement.
pub(super) type Metric = fn(&Measured) -> Option<f64>;

impl Outcome {
    pub(super) fn new(
        subjects: &[Subject],
        cases: Vec<Case>,
        samples: Vec<Sample<Measured>>,
        failovers: Vec<Failover>,
    ) -> Self {
        let mut outcome = Self {
            subjects: subjects.to_vec(),
            cases,
            samples,
            failovers,
            ratios: BTreeMap::new(),
            warnings: Vec::new(),
            failures: 0,
        };
        outcome.failures = outcome.samples.iter().map(|sample| sample.measured.load.failures).sum();
        outcome.warnings = outcome.doubts();
        outcome.quote();
        outcome
    }

    /// The machine-readable report. `command` is the command line.
    pub fn report(&self, command: String) -> Report<Entry> {
        let load = self.samples.iter().map(|sample| Entry::Load(self.load_entry(sample)));
        let failovers = self.failovers.iter().map(|failover| Entry::Failover(failover.entry()));
        Report {
            command,
            machine: Machine::here(),
            ratios: self.ratios.clone(),
            series: load.chain(failovers).collect(),
        }
    }

    /// The summary of a figure over the rounds.
    pub(super) fn summary(&self, subject: usize, case: usize, metric: Metric) -> Option<Summary> {
        experiment::summary(&self.samples, subject, case, metric)
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if cfg!(debug_assertions) {
            doubts
                .push("this is a debug build: ours is slower than it is, the peers are not".into());
        }
        for sample in &self.samples {
            let (name, case) =
                (self.subjects[sample.trial.subject].name(), self.cases[sample.trial.case]);
            let load = &sample.measured.load;
            let place = format!("round {}, {name}, {case}", sample.trial.round + 1);
            if load.failures > 0 {
                doubts.push(format!("{place}: {} operations failed", load.failures));
            }
            if load.unsent > 0 {
                doubts.push(format!("{place}: {} operations were due and not begun", load.unsent));
            }
        }
        doubts
    }

    /// Adds the ratios of ours to each other subject.
    fn quote(&mut self) {
        for case in 0..self.cases.len() {
            let name = self.cases[case].to_string();
            self.quote_one(Subject::Udp, case, p50, &format!("vr_over_udp_{name}_p50"));
            let exchange = Subject::Exchange;
            self.quote_one(exchange, case, p50, &format!("vr_over_exchange_{name}_p50"));
            self.quote_one(Subject::Sync, case, rate, &format!("vr_over_sync_{name}_rate"));
            let etcd = Subject::Peer(Peer::Etcd);
            self.quote_one(etcd, case, rate, &format!("vr_over_etcd_{name}_rate"));
            self.quote_one(etcd, case, p50, &format!("vr_over_etcd_{name}_p50"));
            self.quote_one(etcd, case, p99, &format!("vr_over_etcd_{name}_p99"));
        }
        for offload in [Offload::FanOut, Offload::EarlyAck, Offload::Quorum, Offload::All] {
            self.quote_offload(offload);
        }
        if let Some(case) = self.headline() {
            self.quote_one(Subject::Peer(Peer::Etcd), case, rate, "vr_over_etcd_durable_put_rate");
        }
    }

    fn quote_one(&mut self, other: Subject, case: usize, metric: Metric, name: &str) {
        let place = |wanted| self.subjects.iter().position(|subject| *subject == wanted);
        let (Some(ours), Some(other)) = (place(Subject::Vr), place(other)) else { return };
        if let Some(ratio) = experiment::ratio(&self.samples, (ours, other), case, metric) {
            self.ratios.insert(name.to_owned(), ratio);
        }
    }

    /// Adds what programs in the kernel bring, for each size of a volatile group: as the publication does, the best rate of any number of
    /// clients, latencies of the fewest clients, and processor time of the most.
    fn quote_offload(&mut self, offload: Offload) {
        let place = |wanted| {
            self.subjects.iter().position(|subject| *subject == Subject::Offloaded(wanted))
        };
        let (Some(with), Some(none)) = (place(offload), place(Offload::None)) else { return };
        let mut quoted = Vec::new();
        for members in self.cases.iter().map(|case| case.members).collect::<BTreeSet<_>>() {
            let of = |case: &Case| case.members == members && case.mode == Mode::Volatile;
            let cases = (0..self.cases.len()).filter(|place| of(&self.cases[*place]));
            let mut cases: Vec<usize> = cases.collect();
            cases.sort_by_key(|place| (self.cases[*place].clients, self.cases[*place].value));
            let (Some(fewest), Some(most)) = (cases.first(), cases.last()) else { continue };
            let name = offload.name();
            let over_none = format!("vr_{name}_over_none_n{members}");
            let none_over = format!("vr_none_over_{name}_n{members}");
            let ratio =
                |pair, case, metric: Metric| experiment::ratio(&self.samples, pair, case, metric);
            let pair = (none, with);
            let best = self.best_ratio((with, none), &cases);
            quoted.push((format!("{over_none}_throughput"), best));
            let few = ratio((with, none), *fewest, rate);
            quoted.push((format!("{over_none}_throughput_few_clients"), few));
            quoted.push((format!("{none_over}_p50"), ratio(pair, *fewest, p50)));
            quoted.push((format!("{none_over}_p99"), ratio(pair, *fewest, p99)));
            let costs: [(&str, Metric); 3] =
                [("leader", leader_cpu), ("follower", follower_cpu), ("machine", machine_cpu)];
            for (who, metric) in costs {
                quoted.push((format!("{none_over}_{who}_cpu"), ratio(pair, *most, metric)));
                let few = ratio(pair, *fewest, metric);
                quoted.push((format!("{none_over}_{who}_cpu_few_clients"), few));
            }
        }
        self.ratios.extend(quoted.into_iter().filter_map(|(name, ratio)| Some((name, ratio?))));
    }

    /// The ratios, round by round, of the best rates of two subjects under any of these cases.
    fn best_ratio(&self, (one, other): (usize, usize), cases: &[usize]) -> Option<Summary> {
        let rounds = self.samples.iter().map(|sample| sample.trial.round).max()? + 1;
        let best = |subject: usize, round: usize| {
            let of = |sample: &&Sample<Measured>| {
                let trial = sample.trial;
                (trial.subject, trial.round) == (subject, round) && cases.contains(&trial.case)
            };
            let rates = self.samples.iter().filter(of).map(|it| it.measured.load.rate_per_second);
            rates.max_by(f64::total_cmp)
        };
        let ratios = (0..rounds).map(|round| Some(best(one, round)? / best(other, round)?));
        Summary::of(&ratios.collect::<Option<Vec<f64>>>()?)
    }

    /// The case that one figure stands for: the smallest durable group of several, the smallest values, the most
    /// clients.
    fn headline(&self) -> Option<usize> {
        let cases = self.cases.iter().enumerate();
        let durable = cases.filter(|(_, case)| case.mode == Mode::Durable && case.members > 1);
        let first = |(_, case): &(usize, &Case)| {
            (case.members, case.value, std::cmp::Reverse(case.clients))
        };
        durable.min_by_key(first).map(|(place, _)| place)
    }

    fn load_entry(&self, sample: &Sample<Measured>) -> LoadEntry {
        let Case { mode, members, clients, value } = self.cases[sample.trial.case];
        let (load, cpu) = (&sample.measured.load, sample.measured.cpu);
        LoadEntry {
            subject: self.subjects[sample.trial.subject].name(),
            mode: mode.name(),
            members,
            clients,
            value_bytes: value,
            round: sample.trial.round + 1,
            operations: load.operations,
            rate_per_second: load.rate_per_second,
            latency_ns: load.latency_ns,
            failures: load.failures,
            unsent: load.unsent,
            leader_cpu_us_per_operation: cpu.map(|cpu| cpu.leader_us),
            follower_cpu_us_per_operation: cpu.and_then(|cpu| cpu.follower_us),
            machine_cpu_us_per_operation: cpu.map(|cpu| cpu.machine_us),
        }
    }
}

impl Failover {
    fn entry(&self) -> FailoverEntry {
        FailoverEntry {
            mode: self.mode.name(),
            members: self.members,
            kills: self.kills,
            silence_ns: self.silences.quantiles(),
        }
    }
}

/// Operations each second.
pub(super) fn rate(measured: &Measured) -> Option<f64> {
    Some(measured.load.rate_per_second)
}

/// The leader's processor time for each operation, in microseconds.
pub(super) fn leader_cpu(measured: &Measured) -> Option<f64> {
    Some(measured.cpu?.leader_us)
}

/// The same of one follower.
pub(super) fn follower_cpu(measured: &Measured) -> Option<f64> {
    measured.cpu?.follower_us
}

/// The same of the whole machine.
pub(super) fn machine_cpu(measured: &Measured) -> Option<f64> {
    Some(measured.cpu?.machine_us)
}

/// The median latency in microseconds.
pub(super) fn p50(measured: &Measured) -> Option<f64> {
    Some(measured.load.latency_ns?.p50 as f64 / 1e3)
}

/// The 99th percentile of latencies in microseconds.
pub(super) fn p99(measured: &Measured) -> Option<f64> {
    Some(measured.load.latency_ns?.p99 as f64 / 1e3)
}
