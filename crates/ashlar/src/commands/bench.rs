//! `ashlar bench`: measure, beside a peer, and report.

mod handoff;
mod load;
mod object;
mod shared;
mod vr;

/// Arguments of `ashlar bench`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench object --peer nginx --peer haproxy --json result.json --report report/
  ashlar bench handoff --peer nginx --json result.json --report report/
  ashlar bench vr --peer etcd --json result.json --report report/

docs/benchmarks.md says how a figure is made and what its name means.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The object store's front end, beside other proxies, in a lab (root) or at a URL
    Object(Box<object::Args>),
    /// Connections that move to the storage nodes, beside those that do not, in a lab (root)
    Handoff(Box<handoff::Args>),
    /// Replicated groups on this machine, beside its limits and other stores
    Vr(Box<vr::Args>),
    /// The load generator alone, against any URL
    #[command(hide = true)]
    Load(Box<load::Args>),
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Object(args) => object::run(&args),
        Command::Handoff(args) => handoff::run(&args),
        Command::Vr(args) => vr::run(&args),
        Command::Load(args) => load::run(&args),
    }
}

/// A time as people write it on these command lines: seconds, with or without a fraction.
fn parse_seconds(text: &str) -> Result<std::time::Duration, String> {
    const SECONDS_MAX: f64 = 86_400.0;
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("must be 0 to {SECONDS_MAX}"));
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}
