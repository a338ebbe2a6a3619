//! `ashlar bench object`.

use super::parse_seconds;
use crate::commands::cancel::cancel_on_signal;
use anyhow::Context;
use ashlar_bench::load::{Arrival, Mix, Trust};
use ashlar_bench::object::{
    self, LabPlace, LoadShape, ObjectSpec, Outcome, Place, Progress, Scheme,
};
use ashlar_bench::peers::Peer;
use ashlar_bench::units::ByteSize;
use ashlar_lab::{CpuQuota, LabName};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Arguments of `ashlar bench object`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench object --peer nginx --sizes 1KiB,1MiB --schemes http,https --report report/
  ashlar bench object --target http://127.0.0.1:8080 --sizes 64KiB --rounds 3

Without --target it needs root: it builds a lab of network namespaces and removes it again.")]
pub(super) struct Args {
    /// Measure what answers at this URL, in place of a lab
    #[arg(long, value_name = "URL", conflicts_with_all = ["peer", "storage_nodes", "server_quota", "server_threads"])]
    target: Option<String>,
    /// Also measure this proxy in our front end's place: nginx or haproxy; may be repeated
    #[arg(long, value_name = "NAME")]
    peer: Vec<Peer>,
    /// Object sizes
    #[arg(long, value_delimiter = ',', default_value = "1KiB,64KiB,1MiB")]
    sizes: Vec<ByteSize>,
    /// http, https or both [default: http,https in a lab, the target's otherwise]
    #[arg(long, value_delimiter = ',')]
    schemes: Vec<Scheme>,
    /// Rounds; in each, every subject is measured under every case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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
    /// Send at this fixed rate in requests a second (open loop), in place of as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Operate on preloaded objects on disk: ycsb-a, ycsb-b, ycsb-c, ycsb-d or put
    #[arg(long)]
    mix: Option<Mix>,
    /// How many objects --mix preloads
    #[arg(long, default_value_t = 1000, requires = "mix")]
    keys: u64,
    /// Compare the received bytes with the object's
    #[arg(long)]
    verify_content: bool,
    /// Decides which operations are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The lab's name, if `bench` is taken
    #[arg(long, value_name = "NAME", default_value = "bench")]
    lab_name: LabName,
    /// Storage nodes of the lab
    #[arg(long, value_name = "N", default_value_t = 3)]
    storage_nodes: u8,
    /// CPU time of the front end, and of each storage node, in percent of one core; or none
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = parse_quota)]
    server_quota: Quota,
    /// Event-loop threads of every server, ours and the peers
    #[arg(long, value_name = "N", default_value_t = 1)]
    server_threads: u16,
    /// Also measure the front end's memory with this many idle connections
    #[arg(long, value_name = "N")]
    idle_connections: Option<usize>,
    /// Trust the certificates in this PEM file (--target)
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Trust any certificate (--target)
    #[arg(long, requires = "target")]
    insecure: bool,
    /// Write the result here for machines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
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

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let spec = specification(args);
    let mut watch = Watch::new(cancel_on_signal()?);
    let result = object::run(&spec, &mut watch);
    watch.bar.finish_and_clear();
    let outcome = result?;
    report(args, &outcome)?;
    for warning in &outcome.warnings {
        eprintln!("WARNING: {warning}");
    }
    if outcome.failures > 0 {
        anyhow::bail!("{} requests failed: do not quote these figures", outcome.failures);
    }
    Ok(())
}

fn report(args: &Args, outcome: &Outcome) -> anyhow::Result<()> {
    let command = command_line(std::env::args());
    print!("{}", object::table(outcome));
    if let Some(path) = &args.json {
        let report = outcome.report(command.clone());
        report.write(path).with_context(|| format!("--json: {}", path.display()))?;
    }
    if let Some(directory) = &args.report {
        let page = object::write_page(outcome, directory, &command).context("--report")?;
        println!("\nreport: {}", page.display());
    }
    Ok(())
}

/// The command line without paths, which say nothing about the figures but something about whose
/// machine it was.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    const PATHS: [&str; 3] = ["--json", "--report", "--cacert"];
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

fn specification(args: &Args) -> ObjectSpec {
    let place = match &args.target {
        None => Place::Lab(LabPlace {
            name: args.lab_name.clone(),
            storage_nodes: args.storage_nodes,
            server_quota: args.server_quota.0,
            server_threads: args.server_threads,
            peers: args.peer.clone(),
        }),
        Some(url) => Place::Target {
            url: url.clone(),
            trust: Trust::from_options(args.cacert.as_deref(), args.insecure),
        },
    };
    let schemes = match (&args.target, args.schemes.as_slice()) {
        (None, []) => vec![Scheme::Http, Scheme::Https],
        (Some(url), []) if url.starts_with("https://") => vec![Scheme::Https],
        (Some(_), []) => vec![Scheme::Http],
        (_, given) => given.to_vec(),
    };
    ObjectSpec {
        sizes: args.sizes.clone(),
        schemes,
        rounds: args.rounds,
        load: LoadShape {
            connections: args.connections,
            threads: args.threads,
            arrival: match args.rate {
                None => Arrival::Closed,
                Some(rate_per_second) => Arrival::Open { rate_per_second },
            },
            mix: args.mix.map(|mix| (mix, args.keys)),
            warm_up: args.warm_up_seconds,
            window: args.seconds,
            timeout: args.timeout_seconds,
            verify_content: args.verify_content,
            seed: args.seed,
        },
        place,
        idle_connections: args.idle_connections,
    }
}

/// Shows progress on a terminal, and calls off when the user does.
struct Watch {
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn spec(arguments: &[&str]) -> ObjectSpec {
        let line = ["object"].iter().chain(arguments);
        specification(&Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args)
    }

    #[test]
    fn the_defaults_measure_three_sizes_over_both_schemes_in_a_lab_with_quotas() {
        let spec = spec(&[]);
        assert_eq!(spec.sizes, [ByteSize(1 << 10), ByteSize(1 << 16), ByteSize(1 << 20)]);
        assert_eq!(spec.schemes, [Scheme::Http, Scheme::Https]);
        assert_eq!((spec.rounds, spec.load.connections), (5, 100));
        let Place::Lab(place) = spec.place else { panic!("not a lab") };
        assert_eq!(place.server_quota.map(CpuQuota::percent), Some(20));
        assert!(place.peers.is_empty());
    }

    #[test]
    fn peers_quotas_and_rates_are_read() {
        let spec = spec(&[
            "--peer",
            "nginx",
            "--peer",
            "haproxy",
            "--server-quota",
            "none",
            "--rate",
            "10",
        ]);
        assert_eq!(spec.load.arrival, Arrival::Open { rate_per_second: 10.0 });
        let Place::Lab(place) = spec.place else { panic!("not a lab") };
        assert_eq!(place.peers, [Peer::Nginx, Peer::Haproxy]);
        assert_eq!(place.server_quota, None);
    }

    #[test]
    fn a_target_gives_the_scheme() {
        assert_eq!(spec(&["--target", "https://[::1]", "--insecure"]).schemes, [Scheme::Https]);
        assert_eq!(spec(&["--target", "http://[::1]"]).schemes, [Scheme::Http]);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (arguments, named) in [
            (["--peer", "envoy"], "--peer"),
            (["--sizes", "1kb"], "--sizes"),
            (["--server-quota", "0%"], "--server-quota"),
            (["--schemes", "ftp"], "--schemes"),
            (["--seconds", "x"], "--seconds"),
        ] {
            let line = ["object"].iter().chain(&arguments);
            let Err(error) = Line::try_parse_from(line) else {
                panic!("{arguments:?} is accepted")
            };
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn the_command_line_shows_no_path() {
        let line =
            "/home/me/ashlar bench object --json /home/me/x --report=/home/me/y --peer nginx";
        let line = line.split(' ').map(str::to_owned);
        assert_eq!(command_line(line), "ashlar bench object --peer nginx");
    }
}
