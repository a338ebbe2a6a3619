//! Moving connections for people: how many, how fast, and from which size on they pay.

use super::moves::{MoveCounts, STAGES};
use super::{Measurement, Outcome, Scheme, Subject};
use crate::experiment;
use crate::report::{Bars, Page, PageError, Plot, Series, Table};
use crate::statistics::Summary;
use std::collections::BTreeMap;

/// One line for each case and subject with moves: medians over the rounds, sums of what went wrong.
pub(super) fn moves_table(outcome: &Outcome) -> Option<Table> {
    let mut table = Table::new(["case", "subject", "moves/s", "moves/request", "kept", "lost"]);
    for (case, subject, counts) in moving(outcome) {
        let median = |metric: fn(&Measurement) -> Option<f64>, decimals: usize| {
            let summary = experiment::summary(&outcome.samples, subject, case, metric);
            summary.map_or_else(|| "-".to_owned(), |it| format!("{:.decimals$}", it.median))
        };
        table.row(vec![
            outcome.cases[case].to_string(),
            outcome.subjects[subject].to_owned(),
            median(|measured| Some(measured.moves.as_ref()?.per_second()), 0),
            median(Measurement::moves_per_request, 2),
            counts.kept.values().sum::<u64>().to_string(),
            counts.lost.to_string(),
        ]);
    }
    table.has_rows().then_some(table)
}

/// How long the stages of a move took: median / 99th percentile in microseconds, over all rounds.
/// The last line is what was published.
pub(super) fn stage_table(outcome: &Outcome) -> Option<Table> {
    let mut header = vec!["stage µs, p50/p99".to_owned(), "subject".to_owned()];
    header.extend(STAGES.iter().map(|stage| stage.name.to_owned()));
    let mut table = Table::with_header(header);
    let loaded = moving(outcome).into_iter().map(|(case, subject, counts)| {
        (outcome.cases[case].to_string(), outcome.subjects[subject], counts)
    });
    let lone = lone(outcome).into_iter().map(|(scheme, counts)| {
        (format!("{scheme}, one connection"), Subject::Handoff.name(), counts)
    });
    for (case, subject, counts) in loaded.chain(lone) {
        if counts.stage("total").is_none() {
            continue;
        }
        let mut row = vec![case, subject.to_owned()];
        row.extend(STAGES.iter().map(|stage| match counts.stage(stage.name) {
            Some(times) => format!("{:.0}/{:.0}", times.p50_us, times.p99_us),
            None => "-".to_owned(),
        }));
        table.row(row);
    }
    if !table.has_rows() {
        return None;
    }
    let mut published = vec!["published".to_owned(), String::new()];
    published.extend(STAGES.iter().map(|stage| match stage.published_us {
        Some(time) => format!("{time:.0}"),
        None => "-".to_owned(),
    }));
    table.row(published);
    Some(table)
}

/// From which object size on hand-off pays.
pub(super) fn break_even_table(outcome: &Outcome) -> Option<Table> {
    let mut table = Table::new(["break-even size", "ahead from there on", "of", "at"]);
    for entry in &outcome.break_even {
        table.row(vec![
            entry.scheme.to_string(),
            entry.subject.clone(),
            entry.over.clone(),
            entry.at.text(),
        ]);
    }
    table.has_rows().then_some(table)
}

/// Adds what there is about moves to a page.
pub(super) fn add_to(page: &mut Page, outcome: &Outcome) -> Result<(), PageError> {
    if let Some(table) = moves_table(outcome) {
        page.heading("Moves");
        page.table(&table);
    }
    if let Some(table) = stage_table(outcome) {
        page.heading("Stages of a move");
        page.paragraph(
            "From the nodes' histograms, over all rounds. Under load most of it is waiting for a \
             turn; the lines of one connection show the work. `import`, `point` and `go` are parts \
             of `offer`, at the new owner's host. What is published adds up from block, serialize, send, deserialize \
             and point.",
        );
        page.table(&table);
        page.plot("hand-off-stages", &stage_plot(outcome))?;
    }
    if let Some(table) = break_even_table(outcome) {
        page.heading("Break-even");
        page.table(&table);
    }
    Ok(())
}

/// The medians of the stages, up to the 99th percentile, over all cases of a scheme.
fn stage_plot(outcome: &Outcome) -> Plot {
    let names: Vec<String> = STAGES.iter().map(|stage| stage.name.to_owned()).collect();
    let mut series = Vec::new();
    for scheme in [Scheme::Http, Scheme::Https] {
        let mut all = MoveCounts::default();
        for (case, subject, counts) in moving(outcome) {
            let is_handoff = outcome.subjects[subject] == Subject::Handoff.name();
            if is_handoff && outcome.cases[case].scheme == scheme {
                all.add(&counts);
            }
        }
        series.push(stage_series(format!("{scheme}, p50 to p99"), &all));
    }
    for (scheme, counts) in lone(outcome) {
        series.push(stage_series(format!("{scheme}, one connection"), &counts));
    }
    let published = STAGES.iter().map(|stage| Summary::of(&[stage.published_us?]));
    series.push(Series { name: "published".to_owned(), cells: published.collect() });
    Plot::Bars(Bars {
        title: "Stages of a move".to_owned(),
        y_title: "µs".to_owned(),
        groups: names,
        series,
    })
}

/// Each stage's median, with a whisker to the 99th percentile.
fn stage_series(name: String, counts: &MoveCounts) -> Series {
    let cells = STAGES.iter().map(|stage| {
        let times = counts.stage(stage.name)?;
        let (median, max) = (times.p50_us, times.p99_us);
        Some(Summary { median, min: median, max, rounds: 1 })
    });
    Series { name, cells: cells.collect() }
}

/// The moves of a single connection over all rounds, by scheme.
fn lone(outcome: &Outcome) -> BTreeMap<Scheme, MoveCounts> {
    let mut all: BTreeMap<Scheme, MoveCounts> = BTreeMap::new();
    for sample in &outcome.lone {
        all.entry(sample.case.scheme).or_default().add(&sample.moves.counts);
    }
    all
}

/// Every case and subject whose moves were counted, with the counts of all rounds.
fn moving(outcome: &Outcome) -> Vec<(usize, usize, MoveCounts)> {
    let mut all = Vec::new();
    for case in 0..outcome.cases.len() {
        for subject in 0..outcome.subjects.len() {
            let samples = outcome.samples.iter();
            let mine = samples
                .filter(|sample| (sample.trial.case, sample.trial.subject) == (case, subject))
                .filter_map(|sample| sample.measured.moves.as_ref());
            let mut counts = None;
            for moves in mine {
                counts.get_or_insert_with(MoveCounts::default).add(&moves.counts);
            }
            if let Some(counts) = counts {
                all.push((case, subject, counts));
            }
        }
    }
    all
}
