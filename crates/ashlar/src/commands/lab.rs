//! `ashlar lab`: a cluster of network namespaces on this machine.

use anyhow::{Context, bail};
use ashlar_lab::{
    CLIENT, Chaos, CpuQuota, Delay, Engine, FRONT_END, FaultAction, FrameMatch, FrontEnd, Lab,
    LabError, LabName, LabSpec, Observer, Probability, Role, STORAGE_HTTP_PORT, Status,
};
use indicatif::ProgressBar;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

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
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
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
struct Name {
    /// The lab's name: 1 to 12 characters of a-z, 0-9 and -
    #[arg(long, default_value = "lab")]
    name: LabName,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab up --name bench --storage-nodes 2 --engine synthetic --server-quota 20 --threads 1")]
struct UpArgs {
    #[command(flatten)]
    name: Name,
    /// How many storage nodes (s1, s2, …), 1 to 64
    #[arg(long, value_name = "N", default_value_t = 3)]
    storage_nodes: u8,
    /// Length of the replication chains, 1 to 7 [default: 3, or the number of storage nodes]
    #[arg(long, value_name = "R")]
    replicas: Option<u8>,
    /// What the storage nodes keep objects in
    #[arg(long, value_enum, default_value = "disk")]
    engine: EngineArg,
    /// CPU time of the front end and of each storage node, in percent of one core
    #[arg(long, value_name = "PERCENT", value_parser = parse_quota)]
    server_quota: Option<CpuQuota>,
    /// Serve HTTPS too, with a self-signed certificate
    #[arg(long)]
    https: bool,
    /// Event-loop threads of each node [default: the node's]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Keep the nodes' data in DIR/HOST, and leave it there on `down` [default: in the lab's own directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What runs on the host `fe`
    #[arg(long, value_enum, default_value = "ashlar")]
    front_end: FrontEndArg,
    /// Build hosts and configuration, but start no node
    #[arg(long)]
    no_nodes: bool,
    /// Make the links fit for XDP_TX and XDP_REDIRECT: checksums in software, receive offload on
    #[arg(long)]
    xdp_ready: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum EngineArg {
    /// Objects on disk
    Disk,
    /// GET /N answers N bytes; for benchmarks
    Synthetic,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FrontEndArg {
    /// An ashlar front end
    Ashlar,
    /// Nothing: start a peer there with `exec`
    None,
}

#[derive(clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    name: Name,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar lab exec client -- curl -s http://fe/hello
  ashlar lab exec switch -- tcpdump -ni br0")]
struct ExecArgs {
    #[command(flatten)]
    name: Name,
    /// client, fe, s1, s2, … or switch
    host: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
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
struct FaultArgs {
    #[command(flatten)]
    name: Name,
    /// client, fe, s1, s2, …
    host: String,
    /// Stop the node's process where it is (SIGSTOP)
    #[arg(long, group = "action")]
    pause: bool,
    /// Let a paused node go on
    #[arg(long, group = "action")]
    resume: bool,
    /// End the node at once (SIGKILL)
    #[arg(long, group = "action")]
    kill: bool,
    /// Start a node that has ended, and wait until it serves
    #[arg(long, group = "action")]
    start: bool,
    /// Cut the host off: its port at the switch goes down
    #[arg(long, group = "action")]
    partition: bool,
    /// Join a host that was cut off
    #[arg(long, group = "action")]
    heal: bool,
    /// Remove every fault of the host's link
    #[arg(long, group = "action")]
    clear: bool,
    /// Lose this share of the frames
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    drop: Option<Probability>,
    /// Deliver this share of the frames twice
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    duplicate: Option<Probability>,
    /// Change one byte in this share of the frames
    #[arg(long, value_name = "PERCENT%", group = "chaos")]
    corrupt: Option<Probability>,
    /// Which frames may suffer: any, tcp, udp, tcp:PORT, udp:PORT
    #[arg(long = "match", value_name = "FRAMES", default_value = "any", requires = "chaos")]
    frames: FrameMatch,
    /// Hold every frame for this long: 500us, 10ms, 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "action")]
    delay: Option<Duration>,
    /// Vary the delay within this distance; frames keep their order
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "delay")]
    jitter: Option<Duration>,
    /// Let this share of the frames overtake: they are not delayed
    #[arg(long, value_name = "PERCENT%", requires = "delay")]
    reorder: Option<Probability>,
    /// The same seed makes the same decisions about the same frames
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(clap::Args)]
struct DownArgs {
    #[command(flatten)]
    name: Name,
    /// Remove every lab on this machine
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Up(args) => up(args),
        Command::Status(args) => show_status(&args),
        Command::Exec(args) => exec(&args),
        Command::Fault(args) => fault(&args),
        Command::Down(args) => down(&args),
        Command::FaultAgent { spec } => Ok(ashlar_lab::run_fault_agent(&spec)?),
    }
}

fn up(args: UpArgs) -> anyhow::Result<()> {
    let (json, https) = (args.json, args.https);
    let front_end = matches!(args.front_end, FrontEndArg::Ashlar);
    let spec = specification(args);
    let mut watch = Watch { spinner: ProgressBar::new_spinner(), cancelled: cancel_on_signal()? };
    let result = Lab::up_observed(&spec, &mut watch);
    watch.spinner.finish_and_clear();
    if let Err(LabError::NodeFailed { log_tail, .. }) = &result {
        // The last line of stderr stays the reason.
        eprintln!("{log_tail}");
    }
    let lab = result?;
    let url = |scheme: &str| lab.address(FRONT_END).map(|address| format!("{scheme}://{address}"));
    let http = if front_end { Some(url("http")?) } else { None };
    let https = if front_end && https { Some(url("https")?) } else { None };
    if json {
        let hosts: Vec<_> = lab
            .hosts()
            .map(|host| {
                let storage = host.address.filter(|_| host.role == Role::Storage);
                serde_json::json!({
                    "name": host.name,
                    "role": host.role,
                    "address": host.address,
                    "namespace": host.namespace,
                    "http": storage.map(|address| format!("http://{address}:{STORAGE_HTTP_PORT}")),
                })
            })
            .collect();
        let summary =
            serde_json::json!({ "name": lab.name(), "http": http, "https": https, "hosts": hosts });
        println!("{summary}");
        return Ok(());
    }
    let name = lab.name();
    println!(
        "lab {name} is up: {}",
        lab.hosts().map(|host| host.name.as_str()).collect::<Vec<_>>().join(" ")
    );
    if let Some(url) = https.or(http) {
        let insecure = if url.starts_with("https") { "-k " } else { "" };
        println!("try:    ashlar lab exec --name {name} {CLIENT} -- curl -i {insecure}{url}/hello");
    }
    println!("remove: ashlar lab down --name {name}");
    Ok(())
}

fn specification(args: UpArgs) -> LabSpec {
    let mut spec = LabSpec::new(args.name.name)
        .storage_nodes(args.storage_nodes)
        .engine(match args.engine {
            EngineArg::Disk => Engine::Disk,
            EngineArg::Synthetic => Engine::Synthetic,
        })
        .front_end(match args.front_end {
            FrontEndArg::Ashlar => FrontEnd::Ashlar,
            FrontEndArg::None => FrontEnd::None,
        })
        .https(args.https)
        .start_nodes(!args.no_nodes)
        .xdp_ready(args.xdp_ready);
    if let Some(replicas) = args.replicas {
        spec = spec.replicas(replicas);
    }
    if let Some(quota) = args.server_quota {
        spec = spec.server_quota(quota);
    }
    if let Some(threads) = args.threads {
        spec = spec.threads(threads);
    }
    if let Some(data) = args.data {
        spec = spec.data(data);
    }
    spec
}

/// Shows progress on a terminal, and calls off when the user does.
struct Watch {
    /// Draws only on a terminal.
    spinner: ProgressBar,
    /// Set by SIGINT and SIGTERM.
    cancelled: Arc<AtomicBool>,
}

impl Observer for Watch {
    fn progress(&mut self, step: &str) {
        self.spinner.set_message(step.to_owned());
        self.spinner.tick();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    });
    Ok(cancelled)
}

fn show_status(args: &StatusArgs) -> anyhow::Result<()> {
    let status = Lab::attach(&args.name.name)?.status()?;
    if args.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(())
}

fn table(status: &Status) -> String {
    const MIB: f64 = 1_048_576.0;
    let none = || "-".to_owned();
    let mut text = format!(
        "{:<7} {:<12} {:>6} {:>9} {:>9}  PROCESSES AND FAULTS\n",
        "HOST", "ADDRESS", "QUOTA", "CPU", "MEMORY"
    );
    for host in &status.hosts {
        let processes = host.processes.iter().map(|process| {
            let state = format!("{:?}", process.state).to_lowercase();
            format!("{} {} {state}", process.name, process.pid)
        });
        let faults = host.faults.iter().map(|fault| {
            format!(
                "{}{}",
                fault.description,
                if fault.in_force { "" } else { " (ended: --clear it)" }
            )
        });
        text.push_str(&format!(
            "{:<7} {:<12} {:>6} {:>9} {:>9}  {}\n",
            host.name,
            host.address.map_or_else(none, |address| address.to_string()),
            host.quota_percent.map_or_else(none, |percent| format!("{percent} %")),
            host.cpu_seconds.map_or_else(none, |seconds| format!("{seconds:.2} s")),
            format!("{:.1} MiB", host.resident_bytes as f64 / MIB),
            processes.chain(faults).collect::<Vec<_>>().join("; "),
        ));
    }
    if !status.complete {
        text.push_str(&format!(
            "This lab was not built whole; remove it with: ashlar lab down --name {}\n",
            status.name
        ));
    }
    text
}

fn exec(args: &ExecArgs) -> anyhow::Result<()> {
    let lab = Lab::attach(&args.name.name)?;
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("no command given");
    };
    // This process becomes the command, so its exit code and its signals are the command's.
    let error = lab.command(&args.host, program)?.args(arguments).exec();
    Err(error).context("run the command")
}

fn fault(args: &FaultArgs) -> anyhow::Result<()> {
    let actions = actions(args)?;
    let lab = Lab::attach(&args.name.name)?;
    for action in &actions {
        lab.fault(&args.host, action)?;
    }
    Ok(())
}

/// What the options ask for, in the order in which it is done.
fn actions(args: &FaultArgs) -> anyhow::Result<Vec<FaultAction>> {
    let single = [
        (args.pause, FaultAction::Pause),
        (args.resume, FaultAction::Resume),
        (args.kill, FaultAction::Kill),
        (args.start, FaultAction::Start),
        (args.partition, FaultAction::Partition),
        (args.heal, FaultAction::Heal),
        (args.clear, FaultAction::Clear),
    ];
    let mut actions: Vec<FaultAction> =
        single.into_iter().filter(|(asked, _)| *asked).map(|(_, action)| action).collect();
    if let Some(delay) = args.delay {
        actions.push(FaultAction::Delay(Delay {
            delay,
            jitter: args.jitter.unwrap_or_default(),
            reorder: args.reorder.unwrap_or_default(),
            seed: args.seed,
        }));
    }
    if args.drop.is_some() || args.duplicate.is_some() || args.corrupt.is_some() {
        actions.push(FaultAction::Chaos(Chaos {
            drop: args.drop.unwrap_or_default(),
            duplicate: args.duplicate.unwrap_or_default(),
            corrupt: args.corrupt.unwrap_or_default(),
            frames: args.frames,
            seed: args.seed,
        }));
    }
    if actions.is_empty() {
        bail!("say what to do to {}, such as --pause, --drop 2% or --clear", args.host);
    }
    Ok(actions)
}

fn down(args: &DownArgs) -> anyhow::Result<()> {
    let names = if args.all { Lab::all() } else { vec![args.name.name.clone()] };
    for name in names {
        if Lab::remove(&name)? {
            println!("lab {name} is gone");
        } else {
            println!("there is no lab {name}: nothing to remove");
        }
    }
    Ok(())
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
        actions(&args).unwrap()
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
        assert!(actions(&args).unwrap_err().to_string().contains("say what to do to s1"));
    }

    #[test]
    fn bad_names_are_refused_before_anything_is_made() {
        for words in ["up --name Bad", "down --name a/b", "status --name thirteen-char"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert!(parse("down --all --name x").is_err());
    }
}
