//! `ashlar sim`: run a protocol in the deterministic simulator.

use anyhow::bail;
use ashlar_sim::{
    coverage::Exercised,
    handoff, object,
    report::Report,
    runner::{Batch, run_batch},
    shrink::Shrunk,
    trace::Keep,
    vr,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    fmt::{Display, Write},
    hash::{BuildHasher, RandomState},
    io::IsTerminal,
    num::NonZeroUsize,
    panic,
    str::FromStr,
    thread::available_parallelism,
    time::{Duration, Instant},
};

/// Runs without `--runs` and `--minutes`.
const RUNS_DEFAULT: u64 = 1000;
/// After so many seeds that break a property the others are not run: they most likely break the
/// same one.
const VIOLATIONS_MAX: usize = 20;
/// So many runs may be spent on making one smaller.
const SHRINK_RUNS_MAX: u64 = 5_000;
/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `ashlar sim`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar sim object --runs 2000
  ashlar sim handoff --minutes 1
  ashlar sim object --seed 133 --runs 1 --trace
  ashlar sim object --seed 133 --runs 1 --shrink

docs/simulator.md says what is simulated, and how to read a trace.")]
pub(crate) struct Args {
    #[command(subcommand)]
    world: World,
}

#[derive(clap::Subcommand)]
enum World {
    /// Chains of replicas, their disks, links and clients
    #[command(after_help = "Example:
  ashlar sim object --minutes 10
  ashlar sim object --seed 0 --sabotage serve-dirty

Exits with 1 if a run breaks a property, and prints the command that repeats it.")]
    Object(WorldArgs<object::Sabotage>),
    /// Client connections that move from node to node, steering, and clients
    #[command(after_help = "Example:
  ashlar sim handoff --minutes 10
  ashlar sim handoff --seed 0 --sabotage close-at-once

Exits with 1 if a run breaks a property, and prints the command that repeats it.")]
    Handoff(WorldArgs<handoff::Sabotage>),
    /// Groups of replicas, their disks, clocks, epochs and clients
    #[command(after_help = "Example:
  ashlar sim vr --runs 20000
  ashlar sim vr --seed 0 --sabotage forget-promise

Exits with 1 if a run breaks a property, and prints the command that repeats it.")]
    Vr(WorldArgs<vr::Sabotage>),
}

/// What a world can be told; `S` are its defects.
#[derive(clap::Args)]
struct WorldArgs<S: Defect> {
    #[command(flatten)]
    common: CommonArgs,
    #[arg(long, value_name = "NAME", help = help_of_sabotage::<S>())]
    sabotage: Option<S>,
}

/// A defect that a world can have.
trait Defect: Copy + Display + FromStr<Err = String> + Send + Sync + 'static {
    /// All defects of the world.
    const ALL: &'static [Self];
}

impl Defect for object::Sabotage {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Defect for handoff::Sabotage {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Defect for vr::Sabotage {
    const ALL: &'static [Self] = &Self::ALL;
}

fn help_of_sabotage<S: Defect>() -> String {
    let names: Vec<_> = S::ALL.iter().map(ToString::to_string).collect();
    let (last, others) = names.split_last().expect("a world has defects");
    format!("Put a defect in, to see that it is found: {} or {last}", others.join(", "))
}

/// What every world can be told.
#[derive(clap::Args)]
struct CommonArgs {
    /// The first seed; the others follow [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run [default: 1000, or as many as there is time for]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Begin no run after so many minutes
    #[arg(long, value_name = "M", value_parser = parse_minutes)]
    minutes: Option<Duration>,
    /// Print all that happens in the one run
    #[arg(long, conflicts_with_all = ["minutes", "json"])]
    trace: bool,
    /// If the one run breaks a property, look for a smaller one that does, and print it
    #[arg(long, conflicts_with_all = ["minutes", "json", "trace"])]
    shrink: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary<C> {
    /// How many seeds were run.
    runs: u64,
    /// How many of them broke a property.
    violations: usize,
    /// These.
    seeds: Vec<u64>,
    /// The first seed.
    seed: u64,
    /// What the runs exercised.
    exercised: C,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.world {
        World::Object(args) => {
            let sabotage = args.sabotage;
            let options = |keep| object::Options { sabotage, keep, ..object::Options::default() };
            let run = |seed, keep| object::run(seed, options(keep));
            let shrink = |seed| object::shrink(seed, options(Keep::Nothing), SHRINK_RUNS_MAX);
            run_world("object", &args.common, sabotage, run, shrink)
        }
        World::Handoff(args) => {
            let sabotage = args.sabotage;
            let options = |keep| handoff::Options { sabotage, keep, ..handoff::Options::default() };
            let run = |seed, keep| handoff::run(seed, options(keep));
            let shrink = |seed| handoff::shrink(seed, options(Keep::Nothing), SHRINK_RUNS_MAX);
            run_world("handoff", &args.common, sabotage, run, shrink)
        }
        World::Vr(args) => {
            let sabotage = args.sabotage;
            let options = |keep| vr::Options { sabotage, keep, ..vr::Options::default() };
            let run = |seed, keep| vr::run(seed, options(keep));
            let shrink = |seed| vr::shrink(seed, options(Keep::Nothing), SHRINK_RUNS_MAX);
            run_world("vr", &args.common, sabotage, run, shrink)
        }
    }
}

/// Runs all seeds of a world and reports.
fn run_world<C: Exercised + Send>(
    world: &str,
    args: &CommonArgs,
    sabotage: Option<impl Display>,
    run: impl Fn(u64, Keep) -> Report<C> + Sync,
    shrink: impl Fn(u64) -> Option<Shrunk<C>>,
) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(random_seed);
    let batch = args.batch(seed)?;
    let started = Instant::now();
    let (summary, failed) = simulate(args.trace, batch, run);
    let elapsed = started.elapsed();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{}", text(&summary, elapsed));
    }
    let single = batch.runs_max == Some(1);
    let sabotage = sabotage.map_or(String::new(), |sabotage| format!(" --sabotage {sabotage}"));
    for report in &failed {
        match args.shrink.then(|| silently(|| shrink(report.seed))).flatten() {
            Some(shrunk) => report_shrunk(&shrunk),
            None => report_failure(world, report, &sabotage, single),
        }
    }
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} runs broke a property", summary.runs),
    }
}

impl CommonArgs {
    fn batch(&self, seed: u64) -> anyhow::Result<Batch> {
        let runs_max = match (self.runs, self.minutes) {
            (None, _) if self.trace || self.shrink => Some(1),
            (None, None) => Some(RUNS_DEFAULT),
            (runs, _) => runs,
        };
        if self.trace && runs_max != Some(1) {
            bail!("--trace is for one run: add --runs 1");
        }
        if self.shrink && runs_max != Some(1) {
            bail!("--shrink is for one run: add --runs 1");
        }
        let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Batch { seed, runs_max, time_max: self.minutes, threads })
    }
}

/// Runs all seeds; gives the summary and the reports of those that broke a property, by seed.
fn simulate<C: Exercised + Send>(
    prints_trace: bool,
    batch: Batch,
    run: impl Fn(u64, Keep) -> Report<C> + Sync,
) -> (Summary<C>, Vec<Report<C>>) {
    let keep = if prints_trace { Keep::All } else { Keep::Nothing };
    let progress = progress_bar(batch);
    let (mut exercised, mut failed) = (C::default(), Vec::new());
    let observe = |_, report: Report<C>| {
        progress.inc(1);
        exercised.add(&report.coverage);
        if prints_trace {
            report.trace.iter().for_each(|line| println!("{line}"));
        }
        failed.extend(report.violation.is_some().then_some(report));
        failed.len() < VIOLATIONS_MAX
    };
    let runs = silently(|| run_batch(batch, |seed| run(seed, keep), observe));
    progress.finish_and_clear();
    failed.sort_by_key(|report| report.seed.wrapping_sub(batch.seed));
    let seeds: Vec<_> = failed.iter().map(|report| report.seed).collect();
    let summary = Summary { runs, violations: seeds.len(), seeds, seed: batch.seed, exercised };
    (summary, failed)
}

/// Does something in which cores may panic: that is reported as a violation, with its seed.
fn silently<R>(act: impl FnOnce() -> R) -> R {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = act();
    panic::set_hook(hook);
    result
}

fn progress_bar(batch: Batch) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = match batch.runs_max {
        Some(runs) => ProgressBar::new(runs),
        None => ProgressBar::new_spinner(),
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos} runs, {per_sec}, {elapsed}");
    progress.set_style(style.expect("the template is well-formed"));
    progress.enable_steady_tick(PROGRESS_INTERVAL);
    progress
}

/// What was run and what it exercised, for people.
fn text(summary: &Summary<impl Exercised>, elapsed: Duration) -> String {
    let mut text = format!(
        "{} runs from seed {} in {:.1} s",
        summary.runs,
        summary.seed,
        elapsed.as_secs_f64()
    );
    let rows = summary.exercised.rows().into_iter();
    // That the search gave nothing up is no gap.
    let (never, happened): (Vec<_>, Vec<_>) =
        rows.partition(|(name, count)| *count == 0 && *name != "histories_undecided");
    for (name, count) in happened {
        write!(text, "\n  {:32} {count:>12}", name.replace('_', " ")).expect("a string takes it");
    }
    if !never.is_empty() {
        let names: Vec<_> = never.iter().map(|(name, _)| name.replace('_', " ")).collect();
        write!(text, "\n  NEVER HAPPENED: {}", names.join(", ")).expect("a string takes it");
    }
    text
}

/// What broke and how to see it again; everything that helps if it was the only run.
fn report_failure<C>(world: &str, report: &Report<C>, sabotage: &str, single: bool) {
    let Some(violation) = &report.violation else { return };
    eprintln!("seed {}: {violation}", report.seed);
    if single {
        eprintln!("  plan: {}", report.plan);
        violation.context.iter().for_each(|line| eprintln!("  {line}"));
    } else {
        eprintln!("  ashlar sim {world} --seed {} --runs 1 --trace{sabotage}", report.seed);
    }
    eprintln!("  ashlar sim {world} --seed {} --runs 1 --shrink{sabotage}", report.seed);
}

/// The smallest run that was found to break the same property.
fn report_shrunk<C>(shrunk: &Shrunk<C>) {
    let Shrunk { report, runs } = shrunk;
    let Some(violation) = &report.violation else { return };
    report.trace.iter().for_each(|line| println!("{line}"));
    eprintln!("seed {}, made smaller in {runs} runs: {violation}", report.seed);
    eprintln!("  plan: {}", report.plan);
    violation.context.iter().for_each(|line| eprintln!("  {line}"));
}

/// A seed from the operating system.
fn random_seed() -> u64 {
    // A hasher's keys are random; a generator for one number is not worth a dependency. 48 bits
    // survive every reader of JSON.
    RandomState::new().hash_one("seed") >> 16
}

fn parse_minutes(text: &str) -> Result<Duration, String> {
    const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
    let minutes: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of minutes"))?;
    if !(minutes > 0.0 && minutes <= MINUTES_MAX) {
        return Err(format!("must be more than 0 and at most {MINUTES_MAX}"));
    }
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn batch(words: &[&str]) -> anyhow::Result<Batch> {
        let parse = |world| Line::try_parse_from([&["sim", world], words].concat());
        let object = match parse("object")?.args.world {
            World::Object(args) => args.common.batch(7)?,
            World::Handoff(_) | World::Vr(_) => unreachable!("another world was asked for"),
        };
        match parse("handoff")?.args.world {
            World::Handoff(args) => assert_eq!(args.common.batch(7)?.runs_max, object.runs_max),
            World::Object(_) | World::Vr(_) => unreachable!("another world was asked for"),
        }
        Ok(object)
    }

    #[test]
    fn a_batch_has_an_end() {
        assert_eq!(batch(&[]).unwrap().runs_max, Some(RUNS_DEFAULT));
        assert_eq!(batch(&["--runs", "5"]).unwrap().runs_max, Some(5));
        let timed = batch(&["--minutes", "0.5"]).unwrap();
        assert_eq!((timed.runs_max, timed.time_max), (None, Some(Duration::from_secs(30))));
        assert_eq!(batch(&["--trace"]).unwrap().runs_max, Some(1));
    }

    #[test]
    fn bad_input_is_refused() {
        for bad in [
            &["--runs", "0"][..],
            &["--minutes", "0"],
            &["--minutes", "nan"],
            &["--trace", "--runs", "2"],
            &["--shrink", "--runs", "2"],
            &["--sabotage", "none"],
        ] {
            assert!(batch(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_not_exercised_is_named() {
        let exercised = object::Coverage { kills: 3, ..object::Coverage::default() };
        let summary = Summary { runs: 1, violations: 0, seeds: vec![], seed: 0, exercised };
        let text = text(&summary, Duration::from_secs(1));
        assert!(text.contains("kills"), "{text}");
        let never = text.lines().last().unwrap();
        assert!(never.contains("NEVER HAPPENED") && never.contains("wipes"), "{text}");
        assert!(!never.contains("kills"), "{text}");
    }
}
