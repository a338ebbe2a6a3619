//! The results of a run for people: tables for the terminal, and a page with plots.

use super::outcome::{
    Measured, Metric, Outcome, follower_cpu, leader_cpu, machine_cpu, p50, p99, rate,
};
use super::spec::Subject;
use crate::experiment;
use crate::histogram::Latencies;
use crate::report::{Bars, Curve, Findings, Machine, Page, PageError, Plot, Report, Series, Table};
use std::path::{Path, PathBuf};

/// Percentiles at which latency curves have points.
const CURVE_PERCENTILES: [f64; 10] = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

impl Findings for Outcome {
    type Entry = super::Entry;

    fn table(&self) -> String {
        let tables = [
            Some(load_table(self)),
            failover_table(self),
            published_table(self),
            Table::of_ratios(&self.ratios),
        ];
        let texts: Vec<String> = tables.iter().flatten().map(Table::text).collect();
        texts.join("\n")
    }

    fn report(&self, command: String) -> Report<Self::Entry> {
        Self::report(self, command)
    }

    fn write_page(&self, directory: &Path, command: &str) -> Result<PathBuf, PageError> {
        let mut page = Page::create(directory, "Replication")?;
        page.paragraph(&Machine::here().sentence(command));
        for warning in &self.warnings {
            page.paragraph(&format!("**Doubtful:** {warning}"));
        }
        if let Some(table) = Table::of_ratios(&self.ratios) {
            page.heading("Ratios");
            page.table(&table);
        }
        if let Some(table) = published_table(self) {
            page.heading("Beside the publication");
            page.paragraph(
                "Electrode (NSDI 2023), with real network cards and ten cores for each replica; this run has what is said above, and \
                 virtual links, which copy each frame that is made into several.",
            );
            page.table(&table);
        }
        page.heading("Under load");
        page.table(&load_table(self));
        plots(&mut page, self)?;
        if let Some(table) = failover_table(self) {
            page.heading("A leader's death");
            page.table(&table);
        }
        page.finish()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn failures(&self) -> u64 {
        self.failures
    }
}

/// What the publication gained with all programs (table 2 and figure 5 there), by members: throughput over, and median and 99th
/// percentile under, the same without.
const PUBLISHED: [(usize, [f64; 3]); 3] =
    [(3, [1.349, 0.875, 0.882]), (5, [2.048, 0.800, 0.753]), (7, [2.284, 0.744, 0.583])];

/// All programs over none, beside what the publication says.
fn published_table(outcome: &Outcome) -> Option<Table> {
    let mut table = Table::new(["members", "all over none", "here", "min..max", "published"]);
    for (members, [throughput, median, tail]) in PUBLISHED {
        let rows = [
            (format!("vr_all_over_none_n{members}_throughput"), "throughput", throughput, false),
            (format!("vr_none_over_all_n{members}_p50"), "median latency", median, true),
            (format!("vr_none_over_all_n{members}_p99"), "99th percentile", tail, true),
        ];
        for (ratio, what, published, is_inverse) in rows {
            let Some(found) = outcome.ratios.get(&ratio) else { continue };
            let (here, min, max) = match is_inverse {
                false => (found.median, found.min, found.max),
                true => (1.0 / found.median, 1.0 / found.max, 1.0 / found.min),
            };
            table.row(vec![
                members.to_string(),
                what.to_owned(),
                format!("{here:.2}"),
                format!("{min:.2}..{max:.2}"),
                format!("{published:.2}"),
            ]);
        }
    }
    table.has_rows().then_some(table)
}

/// One line for each case and subject, medians over the rounds.
fn load_table(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        "case",
        "subject",
        "operations/s",
        "min..max",
        "p50 µs",
        "p99 µs",
        "leader CPU µs/operation",
        "follower CPU µs/operation",
        "machine CPU µs/operation",
        "failed",
    ]);
    for (case, name) in outcome.cases.iter().enumerate() {
        for (subject, who) in outcome.subjects.iter().enumerate() {
            let Some(rates) = outcome.summary(subject, case, rate) else { continue };
            let median = |metric: Metric, decimals: usize| {
                let summary = outcome.summary(subject, case, metric);
                summary.map_or("-".to_owned(), |found| format!("{:.decimals$}", found.median))
            };
            let failures: u64 = samples(outcome, subject, case).map(|one| one.load.failures).sum();
            table.row(vec![
                name.to_string(),
                who.name().to_owned(),
                format!("{:.0}", rates.median),
                format!("{:.0}..{:.0}", rates.min, rates.max),
                median(p50, 1),
                median(p99, 1),
                median(leader_cpu, 2),
                median(follower_cpu, 2),
                median(machine_cpu, 2),
                failures.to_string(),
            ]);
        }
    }
    table
}

fn failover_table(outcome: &Outcome) -> Option<Table> {
    let mut table =
        Table::new(["group", "kills", "silence p50 ms", "p90 ms", "p99 ms", "longest ms"]);
    for failover in &outcome.failovers {
        let at =
            |percentile| format!("{:.0}", failover.silences.percentile_ns(percentile) as f64 / 1e6);
        table.row(vec![
            format!("{}_n{}", failover.mode.name(), failover.members),
            failover.kills.to_string(),
            at(50.0),
            at(90.0),
            at(99.0),
            at(100.0),
        ]);
    }
    table.has_rows().then_some(table)
}

fn plots(page: &mut Page, outcome: &Outcome) -> Result<(), PageError> {
    let figures: [(&str, &str, &str, Metric); 3] = [
        ("rate", "Operations", "operations each second", rate),
        ("leader-cpu", "Processor time of the leader", "µs for each operation", leader_cpu),
        ("p50", "Median latency", "µs", p50),
    ];
    for (file, title, y_title, metric) in figures {
        let plot = Plot::Bars(Bars {
            title: title.to_owned(),
            y_title: y_title.to_owned(),
            groups: outcome.cases.iter().map(ToString::to_string).collect(),
            series: series(outcome, metric),
        });
        page.plot(file, &plot)?;
    }
    for (case, name) in outcome.cases.iter().enumerate() {
        let plot = Plot::Curves {
            title: format!("Latency, {name}"),
            y_title: "µs".to_owned(),
            curves: curves(outcome, case),
        };
        page.plot(&format!("latency-{name}"), &plot)?;
    }
    Ok(())
}

fn series(outcome: &Outcome, metric: Metric) -> Vec<Series> {
    let subjects = outcome.subjects.iter().enumerate();
    let of = |(subject, who): (usize, &Subject)| {
        let cells = (0..outcome.cases.len()).map(|case| outcome.summary(subject, case, metric));
        Series { name: who.name().to_owned(), cells: cells.collect() }
    };
    subjects.map(of).filter(|series| series.cells.iter().any(Option::is_some)).collect()
}

/// One curve for each subject, over the operations of all rounds.
fn curves(outcome: &Outcome, case: usize) -> Vec<Curve> {
    let subjects = outcome.subjects.iter().enumerate();
    let curve = |(subject, who): (usize, &Subject)| {
        let mut all = Latencies::new();
        for one in samples(outcome, subject, case) {
            all.merge(&one.load.latencies);
        }
        let at = |percentile: &f64| (*percentile, all.percentile_ns(*percentile) as f64 / 1e3);
        let points = CURVE_PERCENTILES.iter().map(at).collect();
        (all.count() > 0).then(|| Curve { name: who.name().to_owned(), points })
    };
    subjects.filter_map(curve).collect()
}

fn samples(outcome: &Outcome, subject: usize, case: usize) -> impl Iterator<Item = &Measured> {
    let all: std::slice::Iter<'_, experiment::Sample<Measured>> = outcome.samples.iter();
    all.filter(move |sample| (sample.trial.subject, sample.trial.case) == (subject, case))
        .map(|sample| &sample.measured)
}
