//! `ashlar bench vr`.

use super::parse_seconds;
use super::shared::{OutputArgs, Watch};
use anyhow::Context;
use ashlar_bench::load::Arrival;
use ashlar_bench::units::ByteSize;
use ashlar_bench::vr::{self, Mode, Offload, Peer, VrSpec};
use ashlar_lab::LabName;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `ashlar bench vr`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench vr --peer etcd --json result.json --report report/
  ashlar bench vr --members 3,5,7 --clients 1,4,16,64,256 --values 64B,1KiB,4KiB
  ashlar bench vr --modes volatile --clients 64 --rate 20000
  ashlar bench vr --offload none,fanout,early-ack,quorum,all --modes volatile --members 3,5,7 --clients 2,8,32 --batch 1

Members are processes on this machine's loopback, and root is not needed, but with --offload, which builds a lab. Durable groups write to the \
disk of --directory: name one that is a disk, not memory. With --rate, only groups and --peer are \
measured. etcd is Debian's package `etcd-server`.")]
pub(super) struct Args {
    /// volatile, durable or both
    #[arg(long, value_delimiter = ',', default_value = "volatile,durable")]
    modes: Vec<Mode>,
    /// Members of the group; 1, 3, 5 and 7 are measured
    #[arg(long, value_delimiter = ',', default_value = "3")]
    members: Vec<usize>,
    /// Clients, each with one operation at a time
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    clients: Vec<usize>,
    /// Lengths of the values that are put
    #[arg(long, value_delimiter = ',', default_value = "64B")]
    values: Vec<ByteSize>,
    /// Begin so many operations each second, whatever the answers do (open loop)
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Also measure this store in durable mode: etcd
    #[arg(long, value_name = "NAME")]
    peer: Vec<Peer>,
    /// Measure groups in a lab with this done by programs in the kernel: none, fanout, early-ack, quorum, all (root)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    offload: Vec<Offload>,
    /// Entries that share a message, at most; 1 for one message an operation, as publications measure
    #[arg(long, value_name = "ENTRIES")]
    batch: Option<usize>,
    /// The lab's name, if `bench` is taken
    #[arg(long, default_value = "bench")]
    lab_name: LabName,
    /// Rounds; in each, every subject is measured under every case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measured window
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    seconds: Duration,
    /// Time under load before each window
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    warm_up_seconds: Duration,
    /// Kill each group's leader so often, under 8 clients, to see what that costs them; about 4 seconds each
    #[arg(long, value_name = "N", default_value_t = 0)]
    kills: usize,
    /// Where the members' data lie
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// A number of operations each second.
fn parse_rate(text: &str) -> Result<f64, String> {
    const RATE_PER_SECOND_MAX: f64 = 1e7;
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if rate > 0.0 && rate <= RATE_PER_SECOND_MAX {
        Ok(rate)
    } else {
        Err(format!("must be above 0 and at most {RATE_PER_SECOND_MAX}"))
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let executable = std::env::current_exe().context("find this program")?;
    let spec = specification(args, executable);
    let outcome = Watch::over(|watch| vr::run(&spec, watch))?;
    args.output.report(&outcome)
}

fn specification(args: &Args, executable: PathBuf) -> VrSpec {
    let arrival =
        args.rate.map_or(Arrival::Closed, |rate_per_second| Arrival::Open { rate_per_second });
    VrSpec {
        executable,
        directory: args.directory.clone(),
        modes: args.modes.clone(),
        members: args.members.clone(),
        clients: args.clients.clone(),
        values: args.values.clone(),
        arrival,
        peers: args.peer.clone(),
        rounds: args.rounds,
        warm_up: args.warm_up_seconds,
        window: args.seconds,
        kills: args.kills,
        offloads: args.offload.clone(),
        lab: args.lab_name.clone(),
        batch: args.batch,
    }
}
