//! The process behind a fault that lasts: it lives in the switch, and the fault ends with it.

use crate::error::{Context, LabError, Result};
use crate::fault::{Chaos, FrameMatch, LinkFault};
use crate::link::Link;
use crate::namespace;
use crate::relay::DelayRelay;
use crate::system::termination;
use crate::topology::HOST_INTERFACE;
use ashlar_kernel::chaos::{self, Attachment, Config, Hook, Probabilities, Rule};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::error::Error as _;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What the agent prints when the fault is in force.
pub(crate) const READY: &str = "ready";

/// How often the counters of a kernel program are written.
const STATISTICS_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What the agent is told when it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentSpec {
    /// The link that suffers.
    pub(crate) link: Link,
    /// What from.
    pub(crate) fault: LinkFault,
    /// Where to write the counters.
    pub(crate) statistics: PathBuf,
}

/// Puts a fault in force, says so on stdout, and keeps it until SIGTERM. `spec` is what [`crate::Lab::fault`] passed
/// to `ashlar lab fault-agent --spec`.
///
/// # Errors
/// A specification that cannot be read, and whatever keeps the fault from being put in force.
pub fn run_fault_agent(spec: &str) -> Result<()> {
    let spec: AgentSpec = serde_json::from_str(spec)
        .map_err(|error| LabError::BadValue { field: "spec", reason: error.to_string() })?;
    // First of all, so that a request to end never leaves a link half changed.
    let termination = termination::descriptor().context(|| "wait for signals".to_owned())?;
    match spec.fault {
        LinkFault::Partition => Err(LabError::BadValue {
            field: "spec",
            reason: "a partition needs no agent".to_owned(),
        }),
        LinkFault::Delay(delay) => {
            let result = spec.link.insert_delay_pair().and_then(|()| {
                let mut relay = DelayRelay::open(spec.link.port(), &spec.link.relay_side(), delay)?;
                say_ready()?;
                relay.run(termination.as_fd(), &spec.statistics)
            });
            // However it ended, the host gets its link back.
            let removed = spec.link.remove_delay_pair();
            result.and(removed)
        }
        LinkFault::Chaos(chaos) => {
            let programs = ChaosPrograms::attach(&spec.link, &chaos)?;
            say_ready()?;
            programs.watch(termination.as_fd(), &spec.statistics)
        }
    }
}

fn say_ready() -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{READY}")
        .and_then(|()| output.flush())
        .context(|| "say that the fault is in force".to_owned())
}

/// Replaces the file with the counters, so that a reader sees a whole one.
pub(crate) fn write_statistics(path: &Path, statistics: &impl Serialize) -> Result<()> {
    let new = path.with_extension("json.new");
    let text = serde_json::to_string(statistics).expect("counters have a JSON form");
    fs::write(&new, text).context(|| new.display().to_string())?;
    fs::rename(&new, path).context(|| path.display().to_string())
}

/// The kernel programs of a link with chaos. Each judges what arrives at its end: there frames are single and complete.
struct ChaosPrograms {
    from_host: chaos::Chaos,
    to_host: chaos::Chaos,
}

/// What the programs did, as it is written.
#[derive(Serialize)]
struct ChaosStatistics {
    from_host: ChaosCounters,
    to_host: ChaosCounters,
}

/// What one program did to frames.
#[derive(Serialize)]
struct ChaosCounters {
    matched: u64,
    dropped: u64,
    duplicated: u64,
    corrupted: u64,
}

impl ChaosPrograms {
    fn attach(link: &Link, settings: &Chaos) -> Result<Self> {
        Ok(Self {
            from_host: program(
                settings,
                settings.seed,
                &link.switch_namespace(),
                &link.on_bridge()?,
            )?,
            // The two directions draw different sequences.
            to_host: program(settings, !settings.seed, &link.host_namespace(), HOST_INTERFACE)?,
        })
    }

    fn watch(&self, termination: BorrowedFd<'_>, statistics: &Path) -> Result<()> {
        loop {
            write_statistics(statistics, &self.statistics()?)?;
            let mut descriptors = [PollFd::from_borrowed_fd(termination, PollFlags::IN)];
            match poll(&mut descriptors, Some(&STATISTICS_INTERVAL)) {
                Ok(_) | Err(rustix::io::Errno::INTR) if descriptors[0].revents().is_empty() => {}
                Ok(_) | Err(rustix::io::Errno::INTR) => {
                    return write_statistics(statistics, &self.statistics()?);
                }
                Err(error) => return Err(error).context(|| "wait for signals".to_owned()),
            }
        }
    }

    fn statistics(&self) -> Result<ChaosStatistics> {
        Ok(ChaosStatistics {
            from_host: counters(&self.from_host)?,
            to_host: counters(&self.to_host)?,
        })
    }
}

fn program(settings: &Chaos, seed: u64, namespace: &str, interface: &str) -> Result<chaos::Chaos> {
    let probabilities = Probabilities {
        drop_ppm: settings.drop.ppm(),
        duplicate_ppm: settings.duplicate.ppm(),
        corrupt_ppm: settings.corrupt.ppm(),
    };
    let config = Config::new(seed, rule(settings.frames), probabilities).map_err(|error| {
        LabError::BadValue { field: "drop, duplicate and corrupt", reason: error.to_string() }
    })?;
    namespace::within(namespace, || {
        let mut chaos = chaos::Chaos::load()?;
        chaos.configure(&config)?;
        chaos.attach(interface, Attachment::TcxIngress)?;
        Ok(chaos)
    })?
    .map_err(|error| kernel_error(interface, &error))
}

fn counters(chaos: &chaos::Chaos) -> Result<ChaosCounters> {
    let counters =
        chaos.counters(Hook::TcxIngress).map_err(|error| kernel_error("counters", &error))?;
    Ok(ChaosCounters {
        matched: counters.matched(),
        dropped: counters.dropped,
        duplicated: counters.duplicated,
        corrupted: counters.corrupted,
    })
}

fn rule(frames: FrameMatch) -> Rule {
    let rule =
        frames.protocol.map_or(Rule::ANY, |protocol| Rule::ANY.with_protocol(protocol.number()));
    frames.port.map_or(rule, |port| rule.with_port(port))
}

/// The kernel crate's errors say what happened in the first line and why in their sources.
fn kernel_error(interface: &str, error: &ashlar_kernel::Error) -> LabError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(cause.to_string().lines().next().unwrap_or_default());
        source = cause.source();
    }
    LabError::FaultFailed { host: interface.to_owned(), reason }
}
