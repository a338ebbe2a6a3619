//! `ashlar format`: the journals of replicas that are new.

use anyhow::{Context, bail};
use ashlar_node::{
    config::Config,
    replication::{Formatted, format},
};
use std::path::PathBuf;

/// Arguments of `ashlar format`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar format --config /etc/ashlar/node.toml && ashlar node --config /etc/ashlar/node.toml

Creates an empty journal for every group of the file that has none here, and touches no journal that exists: run it once \
for a new group, and for a new member. `ashlar node` begins a replica from nothing else. Never run it for a member \
whose disk was lost: it would break what it had promised. Replace that one, by a member with another address.")]
pub(crate) struct Args {
    /// The configuration file (docs/example.toml explains every key)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = args.config.display();
    let config = Config::load(&args.config).with_context(|| file.to_string())?;
    if config.replication.is_none() {
        bail!("{file}: replication: is missing, so there is nothing to format");
    }
    for formatted in format(&config) {
        let Formatted { group, directory, created } = formatted?;
        let directory = directory.display();
        match created {
            Some(state) => println!("group {group}: created {directory}, state {state}"),
            None => println!("group {group}: {directory} is there, and left as it is"),
        }
    }
    Ok(())
}
