//! The `ashlar` command line.

mod client;
mod commands;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A storage stack whose hot paths run in the kernel.
#[derive(Parser)]
#[command(name = "ashlar", version, about, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole object store in this process, on loopback, without privileges
    Up(commands::up::Args),
    /// Run the roles that a configuration file gives this host
    Node(commands::node::Args),
    /// Prepare the disk of this host for replicas that are new, once
    Format(commands::format::Args),
    /// Run steering on a host that clients' frames pass on their way to front ends (root)
    Switch(commands::switch::Args),
    /// Put, get, list and remove objects
    Obj(commands::obj::Args),
    /// Put and get in a replicated key-value store, and change its group's members
    Kv(commands::kv::Args),
    /// Say what this host can do, what is missing and how to fix it
    Doctor(commands::doctor::Args),
    /// Build, inspect, disturb and remove a cluster of network namespaces (root)
    Lab(commands::lab::Args),
    /// Measure, beside a peer, and report
    Bench(commands::bench::Args),
    /// Run a protocol in the deterministic simulator
    Sim(commands::sim::Args),
}

/// The error and its causes in one line: scripts and people read the last line of stderr. A cause
/// that the text before it quotes already is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause.replace('\n', " ");
        }
    }
    line
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Up(args) => commands::up::run(args),
        Command::Node(args) => commands::node::run(args),
        Command::Format(args) => commands::format::run(args),
        Command::Switch(args) => commands::switch::run(args),
        Command::Obj(args) => commands::obj::run(args),
        Command::Kv(args) => commands::kv::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Lab(args) => commands::lab::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Sim(args) => commands::sim::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ashlar: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}
