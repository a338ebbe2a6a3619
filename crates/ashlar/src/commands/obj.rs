//! `ashlar obj`: objects from the command line.
//!
//! One file for each subcommand; besides them
//!
//! - [`source`] and [`sink`] read and write files beside the event loop, at constant memory,
//! - [`tree`] maps directories to keys and back,
//! - [`many`] works on many objects at once,
//! - [`pages`] lists,
//! - [`show`] prints.

mod get;
mod list;
mod many;
mod pages;
mod put;
mod remove;
mod scrub;
mod show;
mod sink;
mod source;
mod stat;
mod tree;

use crate::client::{Client, ConnectArgs, Endpoint};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::time::Duration;

/// How long reads and writes of files that nobody waits for may hold up the end of the command.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Arguments of `ashlar obj`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar obj put docs/readme README.md
  ashlar obj put --recursive photos/ 2026/photos
  ashlar obj ls --delimiter / 2026/
  ashlar obj get docs/readme -
  ashlar obj rm docs/readme

A request that the store refuses for the moment (503) is repeated a few times: nothing was done. A
write whose outcome is unknown (504) is not; read the object before you write again.")]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Store a file, standard input or a directory
    Put(put::Args),
    /// Read an object, or all under a prefix
    Get(get::Args),
    /// Describe an object without reading it
    #[command(visible_alias = "head")]
    Stat(stat::Args),
    /// List objects in the order of their keys
    Ls(list::Args),
    /// Remove objects
    Rm(remove::Args),
    /// Compare all that a stopped node holds with its checksums
    Scrub(scrub::Args),
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let result = match args.command {
        Command::Scrub(args) => scrub::run(&args),
        command => talk(args.connect.endpoint()?, command),
    };
    match result {
        // Whoever read our output has seen enough of it.
        Err(error) if error.is::<show::OutputClosed>() => Ok(()),
        result => result,
    }
}

/// Runs a command that talks to a store.
fn talk(endpoint: Endpoint, command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(async {
        let client = Client::new(endpoint);
        tokio::select! {
            result = dispatch(command, client) => result,
            // Ends in order, so that files which are half written are removed.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

async fn dispatch(command: Command, client: Client) -> anyhow::Result<()> {
    match command {
        Command::Put(args) => put::run(args, client).await,
        Command::Get(args) => get::run(args, client).await,
        Command::Stat(args) => stat::run(args, client).await,
        Command::Ls(args) => list::run(args, client).await,
        Command::Rm(args) => remove::run(args, client).await,
        Command::Scrub(args) => scrub::run(&args),
    }
}
