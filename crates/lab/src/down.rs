//! Removing a lab, whole or what an earlier crash left of it. Every step may be repeated.

use crate::cgroup::{self, Remains};
use crate::error::{Context, LabError, Result};
use crate::name::LabName;
use crate::process::{POLL_INTERVAL, ProcessIdentity};
use crate::state::{Directory, State};
use crate::{ip, namespace, state};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the nodes may take to end by themselves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long everything else may take to end after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Removes the lab of this name. `false` if there was nothing to remove.
pub(crate) fn down(name: &LabName) -> Result<bool> {
    crate::up::require_root()?;
    if cgroup::own_lab().as_ref() == Some(name) {
        return Err(LabError::Inside { name: name.to_string() });
    }
    let directory = Directory::of(name);
    let found = directory.path().exists()
        || !namespace::of_lab(name).is_empty()
        || !Remains::of(name).is_empty();
    if !found {
        return Ok(false);
    }
    // The directory carries the lock, so there must be one.
    directory.create()?;
    let lock = directory.lock(name)?;
    tear_down(name, &directory)?;
    drop(lock);
    Ok(true)
}

/// The labs of which anything is there.
pub(crate) fn labs() -> BTreeSet<LabName> {
    state::labs().into_iter().chain(namespace::labs()).chain(cgroup::labs()).collect()
}

/// Removes everything. The caller holds the lock.
pub(crate) fn tear_down(name: &LabName, directory: &Directory) -> Result<()> {
    // A state that cannot be read names nothing that its processes, namespaces and groups do not show by themselves.
    let state = directory.load().unwrap_or_default();
    if let Some(state) = &state {
        drain(state)?;
    }
    kill_rest(name, state.as_ref())?;
    for namespace in namespace::of_lab(name) {
        ip::batch(None, &[format!("netns delete {namespace}")])?;
    }
    remove_overlays(name)?;
    Remains::of(name).remove()?;
    directory.remove()
}

/// Lets the recorded processes end by themselves: a node closes its store.
fn drain(state: &State) -> Result<()> {
    let mut ending = Vec::new();
    for record in &state.processes {
        // A paused process acts on SIGTERM only when it goes on.
        if record.process.signal(Signal::TERM)? && record.process.signal(Signal::CONT)? {
            ending.push(record.process);
        }
    }
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    for process in ending {
        // Those that do not make it in time are killed with the rest.
        process.wait_end(deadline.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Kills what is recorded, what is in the lab's control groups and what is in its namespaces, until nothing is.
fn kill_rest(name: &LabName, state: Option<&State>) -> Result<()> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let recorded: Vec<ProcessIdentity> = state
        .iter()
        .flat_map(|state| {
            let agents = state.faults.iter().filter_map(|fault| fault.agent);
            state.processes.iter().map(|record| record.process).chain(agents)
        })
        .collect();
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        let mut pids = Remains::of(name).processes();
        pids.extend(namespace::processes(&namespace::of_lab(name)));
        let found = pids.into_iter().filter(|&pid| pid != own).filter_map(ProcessIdentity::of);
        let alive: Vec<_> =
            found.chain(recorded.iter().copied()).filter(|process| process.is_alive()).collect();
        if alive.is_empty() {
            return Ok(());
        }
        for process in &alive {
            process.signal(Signal::KILL)?;
        }
        if Instant::now() >= deadline {
            let pids: Vec<_> = alive.iter().map(|process| process.pid.to_string()).collect();
            return Err(LabError::Timeout {
                what: format!("processes {} of lab {name}", pids.join(", ")),
                timeout: KILL_TIMEOUT,
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn remove_overlays(name: &LabName) -> Result<()> {
    for overlay in namespace::overlays(name) {
        match fs::remove_dir_all(&overlay) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("remove {}", overlay.display()));
            }
            _ => {}
        }
        // Fails while something else is in it, as it should.
        let _others = overlay.parent().map(|parent: &Path| fs::remove_dir(parent));
    }
    Ok(())
}
