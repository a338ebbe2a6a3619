//! The results of a run for people: tables for the terminal, and a page with plots.

use super::measurement::Measurement;
use super::{Case, Entry, Outcome, Scheme, present_moves};
use crate::experiment;
use crate::histogram::Latencies;
use crate::report::{Bars, Curve, Findings, Machine, Page, PageError, Plot, Report, Series, Table};
use crate::statistics::Summary;
use std::path::{Path, PathBuf};

/// Percentiles at which latency curves have points.
const CURVE_PERCENTILES: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.0, 99.0, 99.5, 99.7, 99.9, 99.95, 99.99];
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;
const BYTES_PER_MEGABYTE: f64 = 1e6;
const BYTES_PER_MEBIBYTE: f64 = 1_048_576.0;

impl Findings for Outcome {
    type Entry = Entry;

    fn table(&self) -> String {
        let tables = [
            (!self.samples.is_empty()).then(|| load_table(self)),
            present_moves::moves_table(self),
            present_moves::stage_table(self),
            present_moves::break_even_table(self),
            (!self.memory.is_empty()).then(|| memory_table(self)),
            Table::of_ratios(&self.ratios),
        ];
        let texts: Vec<String> = tables.iter().flatten().map(Table::text).collect();
        texts.join("\n")
    }

    fn report(&self, command: String) -> Report<Entry> {
        Self::report(self, command)
    }

    fn write_page(&self, directory: &Path, command: &str) -> Result<PathBuf, PageError> {
        let mut page = Page::create(directory, self.title)?;
        page.paragraph(&Machine::here().sentence(command));
        for warning in &self.warnings {
            page.paragraph(&format!("**Doubtful:** {warning}"));
        }
        if let Some(table) = Table::of_ratios(&self.ratios) {
            page.heading("Ratios");
            page.table(&table);
        }
        if !self.samples.is_empty() {
            page.heading("Under load");
            page.table(&load_table(self));
            for scheme in [Scheme::Http, Scheme::Https] {
                load_plots(&mut page, self, scheme)?;
            }
        }
        present_moves::add_to(&mut page, self)?;
        if !self.memory.is_empty() {
            page.heading("Memory with idle connections");
            page.table(&memory_table(self));
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

/// One line for each case and subject, medians over the rounds.
fn load_table(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        "case",
        "subject",
        "requests/s",
        "MB/s",
        "min..max",
        "p50 ms",
        "p99 ms",
        "fe CPU µs/request",
        "fe CPU s/GB",
        "storage CPU µs/request",
        "storage CPU s/GB",
        "failed",
    ]);
    for (index, case) in outcome.cases.iter().enumerate() {
        for (subject, name) in outcome.subjects.iter().enumerate() {
            let of = |metric: fn(&Measurement) -> Option<f64>| {
                experiment::summary(&outcome.samples, subject, index, metric)
            };
            let median = |summary: Option<Summary>, decimals: usize| {
                let text = summary.map(|summary| format!("{:.decimals$}", summary.median));
                text.unwrap_or_else(|| "-".to_owned())
            };
            let throughput = of(megabytes_per_second);
            let range = throughput.map(|range| format!("{:.1}..{:.1}", range.min, range.max));
            let failures = of(|measured| Some(measured.load.failures.total() as f64));
            table.row(vec![
                case.to_string(),
                (*name).to_owned(),
                median(of(|measured| Some(measured.load.rate_per_second)), 0),
                median(throughput, 1),
                range.unwrap_or_else(|| "-".to_owned()),
                median(of(Measurement::p50_ms), 2),
                median(of(Measurement::p99_ms), 2),
                median(of(Measurement::frontend_cpu_us_per_request), 1),
                median(of(Measurement::frontend_cpu_seconds_per_gb), 2),
                median(of(Measurement::storage_cpu_us_per_request), 1),
                median(of(Measurement::storage_cpu_seconds_per_gb), 2),
                // The worst round, not the median: no failure may hide.
                failures.map_or_else(|| "-".to_owned(), |failures| format!("{:.0}", failures.max)),
            ]);
        }
    }
    table
}

fn memory_table(outcome: &Outcome) -> Table {
    let mut table =
        Table::new(["connections", "subject", "before MiB", "resident MiB", "KiB/connection"]);
    for sample in &outcome.memory {
        let grown = sample.resident_bytes.saturating_sub(sample.resident_bytes_before);
        let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / BYTES_PER_MEBIBYTE);
        table.row(vec![
            format!("{} {}", sample.connections, sample.trial.scheme),
            sample.trial.subject.name().to_owned(),
            mebibytes(sample.resident_bytes_before),
            mebibytes(sample.resident_bytes),
            format!("{:.1}", grown as f64 / 1024.0 / sample.connections as f64),
        ]);
    }
    table
}

/// Throughput and CPU by size, and latency percentiles for each size.
fn load_plots(page: &mut Page, outcome: &Outcome, scheme: Scheme) -> Result<(), PageError> {
    let cases: Vec<usize> =
        (0..outcome.cases.len()).filter(|index| outcome.cases[*index].scheme == scheme).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let bars = |title: &str, y_title: &str, metric: fn(&Measurement) -> Option<f64>| {
        Plot::Bars(Bars {
            title: format!("{title}, {scheme}"),
            y_title: y_title.to_owned(),
            groups: cases.iter().map(|case| outcome.cases[*case].size.to_string()).collect(),
            series: series(outcome, &cases, metric),
        })
    };
    let throughput = bars("Throughput by object size", "MB/s", megabytes_per_second);
    page.plot(&format!("throughput-{scheme}"), &throughput)?;
    if outcome.samples.iter().any(|sample| sample.measured.cpu.is_some()) {
        let per_gb = Measurement::frontend_cpu_seconds_per_gb;
        let cpu = bars("CPU time of the front end", "seconds for 10^9 bytes", per_gb);
        page.plot(&format!("cpu-per-gb-{scheme}"), &cpu)?;
        let per_gb = Measurement::storage_cpu_seconds_per_gb;
        let cpu = bars("CPU time of all storage nodes", "seconds for 10^9 bytes", per_gb);
        page.plot(&format!("storage-cpu-per-gb-{scheme}"), &cpu)?;
    }
    for case in cases {
        let case_name: Case = outcome.cases[case];
        let plot = Plot::Curves {
            title: format!("Latency, {scheme}, {}", case_name.size),
            y_title: "ms".to_owned(),
            curves: latency_curves(outcome, case),
        };
        page.plot(&format!("latency-{scheme}-{}", case_name.size), &plot)?;
    }
    Ok(())
}

fn series(
    outcome: &Outcome,
    cases: &[usize],
    metric: fn(&Measurement) -> Option<f64>,
) -> Vec<Series> {
    let subjects = outcome.subjects.iter().enumerate();
    subjects
        .map(|(subject, name)| Series {
            name: (*name).to_owned(),
            cells: cases
                .iter()
                .map(|case| experiment::summary(&outcome.samples, subject, *case, metric))
                .collect(),
        })
        .collect()
}

/// One curve for each subject, over the requests of all rounds.
fn latency_curves(outcome: &Outcome, case: usize) -> Vec<Curve> {
    let subjects = outcome.subjects.iter().enumerate();
    subjects
        .map(|(subject, name)| {
            let mut all = Latencies::new();
            for sample in &outcome.samples {
                if (sample.trial.subject, sample.trial.case) == (subject, case) {
                    all.merge(&sample.measured.load.latencies());
                }
            }
            let points = CURVE_PERCENTILES
                .iter()
                .map(|percentile| (*percentile, milliseconds(all.percentile_ns(*percentile))));
            Curve { name: (*name).to_owned(), points: points.collect() }
        })
        .collect()
}

fn megabytes_per_second(measured: &Measurement) -> Option<f64> {
    Some(measured.load.bytes_per_second / BYTES_PER_MEGABYTE)
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / NANOSECONDS_PER_MILLISECOND
}
