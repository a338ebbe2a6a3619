//! `ashlar obj scrub`: reads all that a data directory holds and compares it with its checksums.

use super::show;
use anyhow::{Context, bail};
use ashlar_storage::{DiskOptions, Finding, ScrubProgress, ScrubReport, scrub_dir};
use std::path::{Path, PathBuf};

/// What every data directory holds.
const MARK: &str = "format";
/// Where a node keeps its data directory, below its `node.data`.
const OBJECTS: &str = "objects";

/// Arguments of `ashlar obj scrub`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar obj scrub --data /var/lib/ashlar

Stop the node first: a directory has one user at a time. Damage is listed and makes the command
fail; nothing is repaired.")]
pub(super) struct Args {
    /// A node's `node.data`, or the directory of `ashlar up --data` with several nodes' in it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print a line of JSON for each data directory
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let directories =
        data_directories(&args.data).with_context(|| format!("--data {}", args.data.display()))?;
    let mut findings = 0;
    for directory in directories {
        let report = scrub(&directory)?;
        findings += report.findings_count;
        if args.json {
            let mut line = serde_json::to_value(&report)?;
            line["data"] = serde_json::to_value(&directory)?;
            show::line(line)?;
        } else {
            print(&directory, &report)?;
        }
    }
    match findings {
        0 => Ok(()),
        _ => bail!("damage was found, in {findings} places"),
    }
}

/// The data directories at and below `root`, in order.
fn data_directories(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut candidates = vec![root.to_path_buf(), root.join(OBJECTS)];
    for entry in std::fs::read_dir(root)? {
        candidates.push(entry?.path().join(OBJECTS));
    }
    candidates.retain(|directory| directory.join(MARK).is_file());
    candidates.sort();
    candidates.dedup();
    if candidates.is_empty() {
        bail!("no storage node has kept anything here");
    }
    Ok(candidates)
}

fn scrub(directory: &Path) -> anyhow::Result<ScrubReport> {
    let bar = show::scrub_bar();
    let mut follow = |progress: ScrubProgress| {
        bar.set_length(progress.versions_total);
        bar.set_position(progress.versions);
        bar.set_message(show::size(progress.bytes));
    };
    let report = scrub_dir(directory, DiskOptions::default(), &mut follow);
    bar.finish_and_clear();
    Ok(report?)
}

fn print(directory: &Path, report: &ScrubReport) -> anyhow::Result<()> {
    let name = directory.display();
    for Finding { key, version, detail } in &report.findings {
        let key = key.as_ref().map_or("unknown key", |key| key.as_str());
        let version = version.map_or(String::new(), |version| format!(" version {version}"));
        show::line(format_args!("{name}: {key:?}{version}: {detail}"))?;
    }
    let named = report.findings.len() as u64;
    if report.findings_count > named {
        show::line(format_args!("{name}: and {} more", report.findings_count - named))?;
    }
    if report.orphans_count > 0 {
        let count = report.orphans_count;
        show::line(format_args!(
            "{name}: {count} large bodies belong to no object; a start removes them"
        ))?;
    }
    let bytes = show::size(report.inline_bytes + report.large_bytes);
    let verdict = match report.findings_count {
        0 => "all as it was written".to_string(),
        count => format!("damaged in {count} places"),
    };
    let objects = show::objects(report.versions);
    show::line(format_args!("{name}: {objects}, {bytes}, {verdict}"))
}
