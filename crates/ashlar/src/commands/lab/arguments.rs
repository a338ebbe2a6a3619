//! The options of `ashlar lab`, parsed into the lab's checked types.

use anyhow::bail;
use ashlar_lab::{
    Chaos, CpuQuota, Delay, Engine, FaultAction, FrameMatch, FrontEnd, LabName, LabSpec, Mode,
    Probability,
};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `ashlar lab`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab up --storage-nodes 3 --server-quota 20
  ashlar lab exec client -- curl -s http://fe/hello
  ashlar lab fault s1 --drop 2% --delay 10ms
  ashlar lab down

Needs root. docs/lab.md has more.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Build a lab, start its nodes and wait until they serve
    Up(UpArgs),
    /// Show hosts, processes, CPU time and faults
    Status(StatusArgs),
    /// Run a command inside a host; its exit code is passed on
    Exec(ExecArgs),
    /// Pause, kill, cut off or disturb a host, or end that
    Fault(FaultArgs),
    /// Remove a lab: processes, namespaces, control groups, files
    Down(DownArgs),
    /// The process behind a fault that lasts
    #[command(hide = true)]
    FaultAgent {
        /// What `fault` passes on, in JSON
        #[arg(long)]
        spec: String,
    },
}

#[derive(clap::Args)]
pub(super) struct Name {
    /// The lab's name: 1 to 12 characters of a-z, 0-9 and -
    #[arg(long, default_value = "lab")]
    pub(super) name: LabName,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab up --name bench --storage-nodes 2 --engine synthetic --server-quota 20 --threads 1")]
pub(super) struct UpArgs {
    #[command(flatten)]
    pub(super) name: Name,
    /// How many storage nodes (s1, s2, …), 1 to 64
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) storage_nodes: u8,
    /// Length of the replication chains, 1 to 7 [default: 3, or the number of storage nodes]
    #[arg(long, value_name = "R")]
    pub(super) replicas: Option<u8>,
    /// What the storage nodes keep objects in
    #[arg(long, value_enum, default_value = "disk")]
    pub(super) engine: EngineArg,
    /// CPU time of the front end and of each storage node, in percent of one core
    #[arg(long, value_name = "PERCENT", value_parser = parse_quota)]
    pub(super) server_quota: Option<CpuQuota>,
    /// Serve HTTPS too, with a self-signed certificate
    #[arg(long)]
    pub(super) https: bool,
    /// Event-loop threads of each node [default: the node's]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<u16>,
    /// Keep the nodes' data in DIR/HOST, and leave it there on `down` [default: in the lab's own directory]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// What runs on the host `fe`
    #[arg(long, value_enum, default_value = "ashlar")]
    pub(super) front_end: FrontEndArg,
    /// Whether clients' connections move to the storage nodes
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) mode: ModeArg,
    /// Bodies from this size in bytes on flow past the front end; 0: all [default: the front end's]
    #[arg(long, value_name = "BYTES")]
    pub(super) threshold_bytes: Option<u64>,
    /// Build hosts and configuration, but start no node
    #[arg(long)]
    pub(super) no_nodes: bool,
    /// Run steering on the switch, in place of the front end
    #[arg(long)]
    pub(super) switch: bool,
    /// Make the links fit for XDP_TX and XDP_REDIRECT: checksums in software, receive offload on
    #[arg(long)]
    pub(super) xdp_ready: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum EngineArg {
    /// Objects on disk
    Disk,
    /// GET /N answers N bytes; for benchmarks
    Synthetic,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum ModeArg {
    /// Where the host can do it, for what is large
    Auto,
    /// As auto, and a host that cannot do it does not start
    Handoff,
    /// Never: the front end relays every byte
    Relay,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum FrontEndArg {
    /// An ashlar front end
    Ashlar,
    /// Nothing: start a peer there with `exec`
    None,
}

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) name: Name,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab exec client -- curl -s http://fe/hello
  ashlar lab exec switch -- tcpdump -ni br0")]
pub(super) struct ExecArgs {
    #[command(flatten)]
    pub(super) name: Name,
    /// client, fe, s1, s2, … or switch
    pub(super) host: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab fault s1 --pause            its process stops; --resume lets it go on
  ashlar lab fault s2 --partition        its link is cut; --heal joins it
  ashlar lab fault fe --drop 2% --corrupt 0.1% --match tcp:9000
  ashlar lab fault s1 --delay 10ms --jitter 5ms
  ashlar lab fault s1 --clear

Chaos and delay act on both directions of the host's link.")]
#[command(group = clap::ArgGroup::new("action").multiple(false))]
#[command(group = clap::ArgGroup::new("chaos").multiple(true).conflicts_with("action"))]
pub(super) struct FaultArgs {
    #[command(flatten)]
    pub(super) name: Name,
    /// client, fe, s1, s2, …
    pub(super) host: String,
    /// Stop the node's process where it is (SIGSTOP)
    #[arg(long, group = "action")]
    pub(super) pause: bool,
    /// Let a paused node go on
    #[arg(long, group = "action")]
    pub(super) resume: bool,
    /// End the node at once (SIGKILL)
    #[arg(long, group = "action")]
    pub(super) kill: bool,
    /// Start a node that has ended, and wait until it serves
    #[arg(long, group = "action")]
    pub(super) start: bool,
    /// Cut the host off: its port at the switch goes down
    #[arg(long, group = "action")]
    pub(super) partition: bool,
    /// Join a host that was cut off
    #[arg(long, group = "action")]
    pub(super) heal: bool,
    /// Remove every fault of the host's link
    #[arg(long, group = "action")]
    pub(super) clear: bool,
    /// Lose this share of the frames
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    pub(super) drop: Option<Probability>,
    /// Deliver this share of the frames twice
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    pub(super) duplicate: Option<Probability>,
    /// Change one byte in this share of the frames
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    pub(super) corrupt: Option<Probability>,
    /// Which frames may suffer: any, tcp, udp, tcp:PORT, udp:PORT
    #[arg(long = "match", value_name = "FRAMES", default_value = "any", requires = "chaos")]
    pub(super) frames: FrameMatch,
    /// Hold every frame for this long: 500us, 10ms, 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "action")]
    pub(super) delay: Option<Duration>,
    /// Vary the delay within this distance; frames keep their order
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "delay")]
    pub(super) jitter: Option<Duration>,
    /// Let this share of the frames overtake: they are not delayed
    #[arg(long, value_name = "PERCENT%", requires = "delay")]
    pub(super) reorder: Option<Probability>,
    /// The same seed makes the same decisions about the same frames
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

#[derive(clap::Args)]
pub(super) struct DownArgs {
    #[command(flatten)]
    pub(super) name: Name,
    /// Remove every lab on this machine
    #[arg(long, conflicts_with = "name")]
    pub(super) all: bool,
}

impl UpArgs {
    /// The lab that the options describe.
    pub(super) fn specification(self) -> LabSpec {
        let mut spec = LabSpec::new(self.name.name)
            .storage_nodes(self.storage_nodes)
            .engine(match self.engine {
                EngineArg::Disk => Engine::Disk,
                EngineArg::Synthetic => Engine::Synthetic,
            })
            .front_end(match self.front_end {
                FrontEndArg::Ashlar => FrontEnd::Ashlar,
                FrontEndArg::None => FrontEnd::None,
            })
            .mode(match self.mode {
                ModeArg::Auto => Mode::Auto,
                ModeArg::Handoff => Mode::Handoff,
                ModeArg::Relay => Mode::Relay,
            })
            .https(self.https)
            .start_nodes(!self.no_nodes)
            .switch(self.switch)
            .xdp_ready(self.xdp_ready);
        if let Some(replicas) = self.replicas {
            spec = spec.replicas(replicas);
        }
        if let Some(quota) = self.server_quota {
            spec = spec.server_quota(quota);
        }
        if let Some(threshold_bytes) = self.threshold_bytes {
            spec = spec.threshold_bytes(threshold_bytes);
        }
        if let Some(threads) = self.threads {
            spec = spec.threads(threads);
        }
        if let Some(data) = self.data {
            spec = spec.data(data);
        }
        spec
    }
}

impl FaultArgs {
    /// What the options ask for, in the order in which it is done.
    pub(super) fn actions(&self) -> anyhow::Result<Vec<FaultAction>> {
        let single = [
            (self.pause, FaultAction::Pause),
            (self.resume, FaultAction::Resume),
            (self.kill, FaultAction::Kill),
            (self.start, FaultAction::Start),
            (self.partition, FaultAction::Partition),
            (self.heal, FaultAction::Heal),
            (self.clear, FaultAction::Clear),
        ];
        let mut actions: Vec<FaultAction> =
            single.into_iter().filter(|(asked, _)| *asked).map(|(_, action)| action).collect();
        if let Some(delay) = self.delay {
            actions.push(FaultAction::Delay(Delay {
                delay,
                jitter: self.jitter.unwrap_or_default(),
                reorder: self.reorder.unwrap_or_default(),
                seed: self.seed,
            }));
        }
        if self.drop.is_some() || self.duplicate.is_some() || self.corrupt.is_some() {
            actions.push(FaultAction::Chaos(Chaos {
                drop: self.drop.unwrap_or_default(),
                duplicate: self.duplicate.unwrap_or_default(),
                corrupt: self.corrupt.unwrap_or_default(),
                frames: self.frames,
                seed: self.seed,
            }));
        }
        if actions.is_empty() {
            bail!("say what to do to {}, such as --pause, --drop 2% or --clear", self.host);
        }
        Ok(actions)
    }
}

fn parse_quota(text: &str) -> Result<CpuQuota, String> {
    let percent = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("{text:?} is not a percentage of one core, such as 20"))?;
    CpuQuota::from_percent(percent).map_err(|error| error.to_string())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time such as 500us, 10ms or 1.5s");
    let (number, unit_seconds) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or_else(bad)?;
    let count: f64 = number.trim().parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(count * unit_seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("lab").chain(words.split(' '));
        CommandLine::try_parse_from(words).map(|line| line.args.command)
    }

    fn fault_actions(words: &str) -> Vec<FaultAction> {
        let Ok(Command::Fault(args)) = parse(&format!("fault s1 {words}")) else {
            panic!("{words} was refused");
        };
        args.actions().unwrap()
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500us").unwrap(), Duration::from_micros(500));
        assert_eq!(parse_duration("10ms").unwrap(), Duration::from_millis(10));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1_500));
        for text in ["10", "ms", "-1ms", "1h", "NaNs", "infs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quotas_are_percentages_of_one_core() {
        assert_eq!(parse_quota("20").unwrap().percent(), 20);
        assert_eq!(parse_quota("150%").unwrap().percent(), 150);
        for text in ["0", "-5", "half", "6401"] {
            assert!(parse_quota(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_after_two_hyphens_keeps_its_own_options() {
        let Ok(Command::Exec(args)) = parse("exec --name x client -- curl --name y") else {
            panic!("refused");
        };
        assert_eq!(args.name.name.as_str(), "x");
        assert_eq!(args.host, "client");
        assert_eq!(args.command, ["curl", "--name", "y"]);
        assert!(parse("exec client").is_err());
    }

    #[test]
    fn one_command_may_delay_and_lose() {
        let actions =
            fault_actions("--drop 2% --match tcp:9001 --delay 10ms --jitter 5ms --seed 7");
        let [FaultAction::Delay(delay), FaultAction::Chaos(chaos)] = actions.as_slice() else {
            panic!("{actions:?}");
        };
        assert_eq!(
            (delay.delay, delay.jitter),
            (Duration::from_millis(10), Duration::from_millis(5))
        );
        assert_eq!((delay.seed, chaos.seed), (7, 7));
        assert_eq!(chaos.drop.ppm(), 20_000);
        assert_eq!(chaos.frames.port, Some(9001));
    }

    #[test]
    fn faults_that_exclude_each_other_are_refused() {
        assert_eq!(fault_actions("--pause"), [FaultAction::Pause]);
        assert_eq!(fault_actions("--clear"), [FaultAction::Clear]);
        for words in [
            "--pause --kill",
            "--clear --drop 2%",
            "--heal --delay 1ms",
            "--jitter 5ms",
            "--match udp --delay 1ms",
            "--drop 2",
        ] {
            assert!(parse(&format!("fault s1 {words}")).is_err(), "{words}");
        }
        let Ok(Command::Fault(args)) = parse("fault s1") else { panic!("refused by the parser") };
        assert!(args.actions().unwrap_err().to_string().contains("say what to do to s1"));
    }

    #[test]
    fn bad_names_are_refused_before_anything_is_made() {
        for words in ["up --name Bad", "down --name a/b", "status --name thirteen-char"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert!(parse("down --all --name x").is_err());
    }
}
