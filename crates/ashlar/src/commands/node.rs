//! `ashlar node`: the roles of this host.

use anyhow::{Context, bail};
use ashlar_node::{config::Config, run::Process, signals};
use std::path::PathBuf;

/// Arguments of `ashlar node`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar node --config /etc/ashlar/node.toml --check && ashlar node --config /etc/ashlar/node.toml

SIGTERM finishes the requests under way and ends; SIGHUP reads certificates again.")]
pub(crate) struct Args {
    /// The configuration file (docs/example.toml explains every key)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the file and exit
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(&args.config).with_context(|| args.config.display().to_string())?;
    if config.switch.is_some() {
        bail!("{}: switch: is run by `ashlar switch`", args.config.display());
    }
    if args.check {
        println!("{} is right: node {}", args.config.display(), config.name);
        return Ok(());
    }
    ashlar_node::logging::init(config.log.format, &config.log.level)?;
    let process = Process::start(&[config])?;
    let endpoints = process.endpoints();
    tracing::info!(
        http = endpoints.http.map(|address| address.to_string()),
        https = endpoints.https.map(|address| address.to_string()),
        replication = endpoints.replication.map(|address| address.to_string()),
        admin = endpoints.admin.map(|address| address.to_string()),
        "serving"
    );
    Ok(signals::run_until_stopped(process)?)
}
