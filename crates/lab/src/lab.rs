//! A lab, as programs use it.

use crate::error::{LabError, Result};
use crate::fault::FaultAction;
use crate::launch::{self, NODE};
use crate::name::LabName;
use crate::namespace;
use crate::observer::Observer;
use crate::spec::LabSpec;
use crate::state::{Directory, HostState, Lock, State};
use crate::status::{self, Status};
use crate::topology::Host;
use crate::{down, faults, nodes, up, usage};
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

/// A lab that is there. It outlives this value, unless [`Lab::down_on_drop`] says otherwise; any process of root may
/// [`Lab::attach`] to it. Methods that change it keep other processes from changing it meanwhile.
#[derive(Debug)]
pub struct Lab {
    /// Which one it is.
    name: LabName,
    /// Its files.
    directory: Directory,
    /// Its hosts: these never change while a lab is there.
    hosts: Vec<HostState>,
    /// Whether to remove it when this value is dropped.
    down_on_drop: bool,
}

impl Lab {
    /// Builds a lab, starts its nodes and waits until they serve. On failure nothing of it remains.
    ///
    /// # Errors
    /// [`LabError::NameTaken`] if a lab of this name is there, whole or in part; [`LabError::NodeFailed`] if a node does
    /// not get ready; anything that the specification or the system refuses.
    pub fn up(spec: &LabSpec) -> Result<Self> {
        Self::up_observed(spec, &mut ())
    }

    /// [`Lab::up`], telling `observer` what it does. [`LabError::Interrupted`] when the observer calls off.
    pub fn up_observed(spec: &LabSpec, observer: &mut dyn Observer) -> Result<Self> {
        let state = up::up(spec, observer)?;
        Ok(Self::of(Directory::of(&spec.name), state))
    }

    /// Takes hold of a lab that is there.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`] if it is not.
    pub fn attach(name: &LabName) -> Result<Self> {
        up::require_root()?;
        let directory = Directory::of(name);
        let state = directory.load()?.ok_or_else(|| no_such_lab(name))?;
        Ok(Self::of(directory, state))
    }

    fn of(directory: Directory, state: State) -> Self {
        Self { name: state.name, directory, hosts: state.hosts, down_on_drop: false }
    }

    /// The names of all labs on this machine, also of those that are there only in part.
    pub fn all() -> Vec<LabName> {
        down::labs().into_iter().collect()
    }

    /// Removes the lab of this name, or what a crash left of it: processes, namespaces, control groups, files. `false`
    /// if there was nothing. Data that went to a directory of the caller's choice stays.
    pub fn remove(name: &LabName) -> Result<bool> {
        down::down(name)
    }

    /// Removes this lab.
    pub fn down(mut self) -> Result<()> {
        self.down_on_drop = false;
        down::down(&self.name).map(|_| ())
    }

    /// Has the lab removed when this value is dropped, so that a test or a benchmark that fails leaves nothing behind.
    pub fn down_on_drop(mut self) -> Self {
        self.down_on_drop = true;
        self
    }

    /// The lab's name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// Its hosts: `client`, `fe`, `s1` …, and `switch` last.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().map(|host| &host.host)
    }

    /// The address of a host.
    ///
    /// # Errors
    /// [`LabError::UnknownHost`], and [`LabError::UnsuitableHost`] for a switch that does not steer: it has none.
    pub fn address(&self, host: &str) -> Result<Ipv4Addr> {
        self.host(host)?.host.address.ok_or(LabError::UnsuitableHost {
            host: host.to_owned(),
            reason: "the switch has no address",
        })
    }

    /// A command that will run `program` inside a host: in its network namespace and under its CPU quota. Add arguments
    /// and redirections as to any command. The child's process number is the program's own.
    pub fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(launch::command(self.host(host)?, program))
    }

    /// Runs `work` on a thread inside a host's network namespace: sockets that it opens are the host's, and so are the programs that it
    /// starts, but for the CPU quota.
    ///
    /// # Errors
    /// When there is no such host, or it cannot be entered.
    pub fn within<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        namespace::within(&self.host(host)?.host.namespace, work)
    }

    /// The CPU time that everything on a host has used since the lab was built, in seconds. The kernel charges its own
    /// work on frames to the process that it interrupts, wherever that runs.
    ///
    /// # Errors
    /// [`LabError::UnsuitableHost`] on a machine that does not count it.
    pub fn cpu_seconds(&self, host: &str) -> Result<f64> {
        self.host(host)?.cgroup.cpu_seconds()?.ok_or(LabError::UnsuitableHost {
            host: host.to_owned(),
            reason: "this machine has no control groups that count CPU time",
        })
    }

    /// The memory of everything that runs on a host, in bytes: private pages, and shared ones once.
    pub fn resident_bytes(&self, host: &str) -> Result<u64> {
        Ok(usage::resident_bytes(self.host(host)?))
    }

    /// Starts the node of a host, and waits until it serves.
    ///
    /// # Errors
    /// [`LabError::UnsuitableHost`] if it runs already or the host has none; [`LabError::NodeFailed`] if it does not
    /// get ready.
    pub fn start_node(&self, host: &str) -> Result<()> {
        self.fault(host, &FaultAction::Start)
    }

    /// Ends the node of a host: SIGTERM, and SIGKILL if it does not drain within 15 seconds.
    ///
    /// # Errors
    /// [`LabError::UnsuitableHost`] if none runs there.
    pub fn stop_node(&self, host: &str) -> Result<()> {
        self.change(|_, state| nodes::stop(nodes::running(state, host)?))
    }

    /// Starts `command` inside a host as a process of the lab: recorded in its state under `name`, with its output in
    /// [`Lab::log`], ended by [`Lab::stop`] or with the lab. For a peer that is to be measured. Redirections of
    /// `command` are not kept. `name` is 1 to 32 characters of `a-z`, `0-9` and `-`, and not `node`.
    ///
    /// # Errors
    /// [`LabError::UnsuitableHost`] if a process of this name runs there.
    pub fn spawn_in(&self, host: &str, name: &str, command: &Command) -> Result<()> {
        check_process_name(name)?;
        let command = launch::moved(self.host(host)?, command);
        self.change(|directory, state| {
            if state.process(host, name).is_some_and(|record| record.process.is_alive()) {
                return Err(LabError::UnsuitableHost {
                    host: host.to_owned(),
                    reason: "a process of this name runs on it already",
                });
            }
            launch::start(directory, state, host, name, command).map(|_| ())
        })
    }

    /// Ends a process that [`Lab::spawn_in`] started. Nothing happens if it has ended.
    pub fn stop(&self, host: &str, name: &str) -> Result<()> {
        self.host(host)?;
        self.change(|_, state| {
            state.process(host, name).map_or(Ok(()), |record| nodes::stop(record.process))
        })
    }

    /// Where a process of the lab writes its output.
    pub fn log(&self, host: &str, process: &str) -> PathBuf {
        self.directory.log(host, process)
    }

    /// Where the node of a host writes its output.
    pub fn node_log(&self, host: &str) -> PathBuf {
        self.log(host, NODE)
    }

    /// The configuration file of a host's node, if it has one.
    pub fn node_configuration(&self, host: &str) -> Result<Option<PathBuf>> {
        Ok(self.host(host)?.configuration.clone())
    }

    /// Disturbs a host's node or link, or ends a disturbance. Returns when it is in force.
    pub fn fault(&self, host: &str, action: &FaultAction) -> Result<()> {
        self.change(|directory, state| faults::apply(directory, state, host, action))
    }

    /// What the lab is doing now.
    pub fn status(&self) -> Result<Status> {
        let state = self.directory.load()?.ok_or_else(|| no_such_lab(&self.name))?;
        status::status(&state)
    }

    fn host(&self, name: &str) -> Result<&HostState> {
        self.hosts.iter().find(|host| host.host.name == name).ok_or_else(|| LabError::UnknownHost {
            lab: self.name.to_string(),
            host: name.to_owned(),
            known: self.hosts().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Works on the state as it is on disk, while nobody else can change it.
    fn change(&self, work: impl FnOnce(&Directory, &mut State) -> Result<()>) -> Result<()> {
        let _lock: Lock =
            self.directory.lock(&self.name)?.ok_or_else(|| no_such_lab(&self.name))?;
        let mut state = self.directory.load()?.ok_or_else(|| no_such_lab(&self.name))?;
        work(&self.directory, &mut state)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down_on_drop
            && let Err(error) = down::down(&self.name)
        {
            tracing::error!(lab = %self.name, %error, "the lab could not be removed");
        }
    }
}

fn no_such_lab(name: &LabName) -> LabError {
    let others: Vec<String> = Lab::all().iter().map(ToString::to_string).collect();
    let hint = if others.is_empty() {
        format!("make it with: ashlar lab up --name {name}")
    } else {
        format!("there are {}", others.join(", "))
    };
    LabError::NoSuchLab { name: name.to_string(), hint }
}

/// The name becomes part of a file's.
fn check_process_name(name: &str) -> Result<()> {
    const BYTES_MAX: usize = 32;
    let fits =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if name.is_empty() || name.len() > BYTES_MAX || !fits || name == NODE {
        return Err(LabError::BadValue {
            field: "process name",
            reason: format!(
                "{name:?} is not 1 to {BYTES_MAX} characters of a-z, 0-9 and -, or is {NODE:?}"
            ),
        });
    }
    Ok(())
}
