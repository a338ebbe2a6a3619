//! `ashlar switch`: steering on a host of its own, on the clients' way to front ends.

use anyhow::{Context, bail};
use ashlar_node::{config::Config, run::Process, signals};
use std::path::PathBuf;

/// Arguments of `ashlar switch`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar switch --config /etc/ashlar/switch.toml --check && ashlar switch --config /etc/ashlar/switch.toml

Front ends name the address in front_end.steering.switch. SIGTERM detaches everything and ends: \
connections that have moved then end in resets. Needs root, or CAP_BPF and CAP_NET_ADMIN. \
docs/steering.md has the picture.")]
pub(crate) struct Args {
    /// The configuration file, which has a table for the switch (docs/switch.toml explains every key)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the file and exit
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = args.config.display();
    let config = Config::load(&args.config).with_context(|| file.to_string())?;
    if config.switch.is_none() {
        bail!("{file}: switch: is missing (`ashlar node` runs the roles of this file)");
    }
    if args.check {
        println!("{file} is right: switch {}", config.name);
        return Ok(());
    }
    ashlar_node::logging::init(config.log.format, &config.log.level)?;
    let process = Process::start(&[config])?;
    let admin = process.endpoints().admin.map(|address| address.to_string());
    tracing::info!(admin, "steering");
    Ok(signals::run_until_stopped(process)?)
}
