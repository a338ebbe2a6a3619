//! What the commands that measure front ends have in common: options, progress and reports.

use super::parse_seconds;
use crate::commands::cancel::cancel_on_signal;
use anyhow::Context;
use ashlar_bench::comparison::{ComparisonError, LabPlace, LoadShape, Progress};
use ashlar_bench::load::Arrival;
use ashlar_bench::peers::Peer;
use ashlar_bench::report::Findings;
use ashlar_lab::{CpuQuota, LabName};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The load of every measurement, and how often it is made.
#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// Rounds; in each, every subject is measured under every case
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Length of each measured window
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    /// Time under load before each window
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    warm_up_seconds: Duration,
    /// The longest that a request may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    timeout_seconds: Duration,
    /// Connections of the generator
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Compare the received bytes with the object's
    #[arg(long)]
    verify_content: bool,
    /// Decides which operations are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl LoadArgs {
    /// A closed loop of GETs of synthetic objects.
    pub(super) fn shape(&self) -> LoadShape {
        LoadShape {
            connections: self.connections,
            threads: self.threads,
            arrival: Arrival::Closed,
            mix: None,
            warm_up: self.warm_up_seconds,
            window: self.seconds,
            timeout: self.timeout_seconds,
            verify_content: self.verify_content,
            seed: self.seed,
        }
    }
}

/// The lab, and who is measured in it.
#[derive(clap::Args)]
pub(super) struct LabArgs {
    /// Also measure this proxy in our front end's place: nginx or haproxy; may be repeated
    #[arg(long, value_name = "NAME")]
    peer: Vec<Peer>,
    /// The lab's name, if `bench` is taken
    #[arg(long, value_name = "NAME", default_value = "bench")]
    lab_name: LabName,
    /// CPU time of the front end, and of each storage node, in percent of one core; or none
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = parse_quota)]
    server_quota: Quota,
    /// Event-loop threads of every server, ours and the peers
    #[arg(long, value_name = "N", default_value_t = 1)]
    server_threads: u16,
}

impl LabArgs {
    /// The lab to build.
    pub(super) fn place(&self, storage_nodes: u8) -> LabPlace {
        LabPlace {
            name: self.lab_name.clone(),
            storage_nodes,
            server_quota: self.server_quota.0,
            server_threads: self.server_threads,
            peers: self.peer.clone(),
        }
    }
}

/// Where results go beside standard output.
#[derive(clap::Args)]
pub(super) struct OutputArgs {
    /// Write the result here for machines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

impl OutputArgs {
    /// Shows and writes what was found out.
    ///
    /// # Errors
    /// When a file cannot be written, and, after everything is written, when requests failed.
    pub(super) fn report(&self, found: &impl Findings) -> anyhow::Result<()> {
        let command = command_line(std::env::args());
        print!("{}", found.table());
        if let Some(path) = &self.json {
            let report = found.report(command.clone());
            report.write(path).with_context(|| format!("--json: {}", path.display()))?;
        }
        if let Some(directory) = &self.report {
            let page = found.write_page(directory, &command).context("--report")?;
            println!("\nreport: {}", page.display());
        }
        for warning in found.warnings() {
            eprintln!("WARNING: {warning}");
        }
        if found.failures() > 0 {
            anyhow::bail!("{} requests failed: do not quote these figures", found.failures());
        }
        Ok(())
    }
}

/// A processor quota, or none. (An `Option` would make clap take it for an optional argument.)
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Quota(Option<CpuQuota>);

/// `20%`, `20` or `none`.
fn parse_quota(text: &str) -> Result<Quota, String> {
    if text == "none" {
        return Ok(Quota(None));
    }
    let digits = text.strip_suffix('%').unwrap_or(text);
    let percent =
        digits.parse().map_err(|_| format!("`{text}` is neither a percentage nor none"))?;
    let quota = CpuQuota::from_percent(percent).map_err(|error| error.to_string())?;
    Ok(Quota(Some(quota)))
}

/// The command line without paths, which say nothing about the figures but something about whose
/// machine it was.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    const PATHS: [&str; 4] = ["--json", "--report", "--cacert", "--directory"];
    let mut line = "ashlar".to_owned();
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        let name = argument.split('=').next().unwrap_or_default();
        if !PATHS.contains(&name) {
            line.push(' ');
            line.push_str(&argument);
        } else if name == argument {
            // The path is the next argument.
            drop(arguments.next());
        }
    }
    line
}

/// Shows progress on a terminal, and calls off when the user does.
pub(super) struct Watch {
    /// Draws only on a terminal.
    bar: ProgressBar,
    /// Set by SIGINT and SIGTERM.
    cancelled: Arc<AtomicBool>,
}

impl Watch {
    fn new(cancelled: Arc<AtomicBool>) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} ({eta} left)");
        bar.set_style(style.expect("the template is a constant"));
        Self { bar, cancelled }
    }

    /// Has `work` done under its eyes.
    pub(super) fn over<T>(
        work: impl FnOnce(&mut Self) -> Result<T, ComparisonError>,
    ) -> anyhow::Result<T> {
        let mut watch = Self::new(cancel_on_signal()?);
        let result = work(&mut watch);
        watch.bar.finish_and_clear();
        Ok(result?)
    }
}

impl Progress for Watch {
    fn step(&mut self, done: usize, total: usize, what: &str) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(what.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_shows_no_path() {
        let line =
            "/home/me/ashlar bench object --json /home/me/x --report=/home/me/y --peer nginx";
        let line = line.split(' ').map(str::to_owned);
        assert_eq!(command_line(line), "ashlar bench object --peer nginx");
    }
}
