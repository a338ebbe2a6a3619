//! Putting faults in force, replacing them, and removing them.

use crate::agent::{AgentSpec, READY};
use crate::error::{Context, LabError, Result};
use crate::fault::{FaultAction, LinkFault};
use crate::launch;
use crate::link::Link;
use crate::nodes;
use crate::process::ProcessIdentity;
use crate::state::{Directory, FaultRecord, State};
use crate::topology::{CLIENT, Role, SWITCH};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long an agent may take to put its fault in force.
const AGENT_READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may take to take its fault back.
const AGENT_END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a node that is started again may take to serve.
const NODE_READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Does it. The caller holds the lock of the lab.
pub(crate) fn apply(
    directory: &Directory,
    state: &mut State,
    host: &str,
    action: &FaultAction,
) -> Result<()> {
    match action {
        FaultAction::Pause => nodes::running(state, host)?.signal(Signal::STOP).map(|_| ()),
        FaultAction::Resume => nodes::running(state, host)?.signal(Signal::CONT).map(|_| ()),
        FaultAction::Kill => nodes::running(state, host)?.kill(),
        FaultAction::Start => {
            nodes::start(directory, state, host)?;
            let deadline = Instant::now() + NODE_READY_TIMEOUT;
            nodes::wait_ready(directory, state, &[host.to_owned()], deadline, &mut ())
        }
        FaultAction::Partition => LinkFaults::of(directory, state, host)?.partition(),
        FaultAction::Heal => LinkFaults::of(directory, state, host)?.heal(),
        FaultAction::Chaos(chaos) => {
            chaos.check()?;
            LinkFaults::of(directory, state, host)?.replace_chaos(LinkFault::Chaos(*chaos))
        }
        FaultAction::Delay(delay) => {
            delay.check()?;
            LinkFaults::of(directory, state, host)?.replace_delay(LinkFault::Delay(*delay))
        }
        FaultAction::Clear => LinkFaults::of(directory, state, host)?.clear(),
    }
}

/// The faults of one link.
struct LinkFaults<'a> {
    directory: &'a Directory,
    state: &'a mut State,
    link: Link,
}

impl<'a> LinkFaults<'a> {
    fn of(directory: &'a Directory, state: &'a mut State, host: &str) -> Result<Self> {
        let found = &state.host(host)?.host;
        let Some(address) = found.address.filter(|_| found.role != Role::Switch) else {
            return Err(LabError::UnsuitableHost {
                host: host.to_owned(),
                reason: "the switch has no link of its own; name the host at the other end",
            });
        };
        let link = Link { lab: state.name.clone(), host: host.to_owned(), address };
        Ok(Self { directory, state, link })
    }

    fn partition(&mut self) -> Result<()> {
        if self.record(LinkFault::Partition.kind()).is_none() {
            self.state.faults.push(FaultRecord {
                host: self.link.host.clone(),
                fault: LinkFault::Partition,
                agent: None,
                offloads_before: Vec::new(),
                statistics: None,
            });
            self.directory.save(self.state)?;
        }
        self.link.set_up(false)
    }

    fn heal(&mut self) -> Result<()> {
        self.link.set_up(true)?;
        self.forget(LinkFault::Partition.kind())
    }

    fn replace_chaos(&mut self, chaos: LinkFault) -> Result<()> {
        self.remove(chaos.kind())?;
        self.install(chaos)
    }

    /// Chaos is attached to what stands for the host on the bridge, which a delay changes: it moves along.
    fn replace_delay(&mut self, delay: LinkFault) -> Result<()> {
        let steers = self.state.host(SWITCH)?.configuration.is_some();
        if steers && self.link.host == CLIENT {
            return Err(LabError::UnsuitableHost {
                host: self.link.host.clone(),
                reason: "its frames would pass the switch unsteered; delay another host",
            });
        }
        let chaos = self.record("chaos").map(|record| record.fault.clone());
        self.remove("chaos")?;
        self.remove(delay.kind())?;
        self.install(delay)?;
        chaos.map_or(Ok(()), |chaos| self.install(chaos))
    }

    fn clear(&mut self) -> Result<()> {
        self.remove("chaos")?;
        self.remove("delay")?;
        self.heal()
    }

    fn install(&mut self, fault: LinkFault) -> Result<()> {
        let kind = fault.kind();
        let installed = self.try_install(fault);
        if installed.is_err() {
            self.remove(kind)?;
        }
        installed
    }

    fn try_install(&mut self, fault: LinkFault) -> Result<()> {
        let statistics = self.directory.statistics(&self.link.host, fault.kind());
        let spec = AgentSpec {
            link: self.link.clone(),
            fault: fault.clone(),
            statistics: statistics.clone(),
        };
        // Another fault of this link may have changed the offloads already: what counts is how they were before it.
        let earlier = self
            .state
            .faults
            .iter()
            .find(|record| record.host == self.link.host && !record.offloads_before.is_empty());
        let offloads_before = match earlier {
            Some(record) => record.offloads_before.clone(),
            None => self.link.offloads()?,
        };
        self.state.faults.push(FaultRecord {
            host: self.link.host.clone(),
            fault,
            agent: None,
            offloads_before,
            statistics: Some(statistics),
        });
        self.directory.save(self.state)?;
        self.link.carry_single_frames()?;
        let agent = Agent::start(self.directory, self.state, &spec)?;
        // Recorded before it is awaited: an agent that cannot tell us that it is ready, as we were killed, ends.
        if let Some(record) = self.state.faults.last_mut() {
            record.agent = Some(agent.identity);
        }
        self.directory.save(self.state)?;
        agent.wait_ready()
    }

    /// Removes a fault of this kind, also one whose agent has been killed.
    fn remove(&mut self, kind: &'static str) -> Result<()> {
        let Some(record) = self.record(kind).cloned() else {
            return Ok(());
        };
        if let Some(agent) = record.agent {
            agent.end(AGENT_END_TIMEOUT)?;
        }
        if kind == "delay" {
            self.link.remove_delay_pair()?;
        }
        let last = !self.state.faults.iter().any(|other| {
            other.host == record.host
                && other.fault.kind() != kind
                && !other.offloads_before.is_empty()
        });
        if last {
            record.offloads_before.iter().try_for_each(|setting| setting.apply())?;
        }
        if let Some(statistics) = &record.statistics {
            // Absent when the agent did not get that far.
            let _absent = std::fs::remove_file(statistics);
        }
        self.forget(kind)
    }

    fn record(&self, kind: &str) -> Option<&FaultRecord> {
        self.state
            .faults
            .iter()
            .find(|record| record.host == self.link.host && record.fault.kind() == kind)
    }

    fn forget(&mut self, kind: &str) -> Result<()> {
        self.state
            .faults
            .retain(|record| record.host != self.link.host || record.fault.kind() != kind);
        self.directory.save(self.state)
    }
}

/// An agent that was just started.
struct Agent {
    child: Child,
    identity: ProcessIdentity,
    /// The host whose link it disturbs.
    host: String,
    /// Where it says what went wrong.
    log: PathBuf,
}

impl Agent {
    /// Starts the agent of a fault in the switch.
    fn start(directory: &Directory, state: &State, spec: &AgentSpec) -> Result<Self> {
        let host = spec.link.host.clone();
        let name = format!("fault-{host}-{}", spec.fault.kind());
        let log = directory.log(SWITCH, &name);
        let text = serde_json::to_string(spec).expect("the specification has a JSON form");
        let mut command = launch::command(state.host(SWITCH)?, &state.executable);
        command.args(["lab", "fault-agent", "--spec", &text]);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let child =
            command.stderr(launch::open_log(&log)?).spawn().context(|| format!("start {name}"))?;
        let identity = launch::identify(&child, SWITCH, &name, &log)?;
        Ok(Self { child, identity, host, log })
    }

    /// Waits until it says that the fault is in force; ends it if it does not.
    fn wait_ready(mut self) -> Result<()> {
        let ready = self.child.stdout.take().is_some_and(says_ready);
        launch::reap(self.child);
        if ready {
            return Ok(());
        }
        self.identity.end(AGENT_END_TIMEOUT)?;
        let tail = launch::tail(&self.log);
        let no_answer = || format!("no answer within {AGENT_READY_TIMEOUT:?}");
        let reason = tail.lines().last().map_or_else(no_answer, str::to_owned);
        Err(LabError::FaultFailed { host: self.host, reason })
    }
}

/// Whether the agent says in time that the fault is in force.
fn says_ready(output: ChildStdout) -> bool {
    let (sender, receiver) = mpsc::channel();
    // Ends with the agent's output, at the latest when the agent is ended.
    std::thread::spawn(move || {
        let mut line = String::new();
        let ready = BufReader::new(output).read_line(&mut line).is_ok() && line.trim_end() == READY;
        // Nobody listens any more when it took too long.
        let _late = sender.send(ready);
    });
    receiver.recv_timeout(AGENT_READY_TIMEOUT).unwrap_or(false)
}
