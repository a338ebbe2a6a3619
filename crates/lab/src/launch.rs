//! Starting programs inside a host.

use crate::error::{Context, LabError, Result};
use crate::process::ProcessIdentity;
use crate::state::{Directory, HostState, ProcessRecord, State};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a host's node is called among its processes.
pub(crate) const NODE: &str = "node";

/// Joins the host's control groups, then its network namespace, then becomes the program. All in one process: its number
/// is the program's. `ip netns exec` also gives the program a `/sys` and an `/etc/hosts` of the namespace.
const ENTER: &str = r#"namespace=$1; shift
while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift
exec ip netns exec "$namespace" "$@""#;

/// A command that will run `program` inside the host.
pub(crate) fn command(host: &HostState, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(ENTER).arg("ashlar-lab").arg(&host.host.namespace);
    command.args(host.cgroup.join_files()).arg("--").arg(program);
    command
}

/// The same command, inside the host: program, arguments, environment and working directory. Redirections are not kept.
pub(crate) fn moved(host: &HostState, original: &Command) -> Command {
    let mut inside = command(host, original.get_program());
    inside.args(original.get_args());
    for (key, value) in original.get_envs() {
        match value {
            Some(value) => inside.env(key, value),
            None => inside.env_remove(key),
        };
    }
    if let Some(directory) = original.get_current_dir() {
        inside.current_dir(directory);
    }
    inside
}

/// Starts a command that outlives this process, with its output in a log file, and records it in the state.
pub(crate) fn start(
    directory: &Directory,
    state: &mut State,
    host: &str,
    name: &str,
    mut command: Command,
) -> Result<ProcessIdentity> {
    let log = directory.log(host, name);
    detach(&mut command, &log)?;
    let child = command.spawn().context(|| format!("start {name} on {host}"))?;
    let process = identify(&child, host, name, &log)?;
    reap(child);
    state.processes.retain(|record| (record.host.as_str(), record.name.as_str()) != (host, name));
    state.processes.push(ProcessRecord {
        host: host.to_owned(),
        name: name.to_owned(),
        process,
        log,
    });
    directory.save(state)?;
    Ok(process)
}

/// Cuts a command loose from this terminal: it gets a process group of its own and writes to a log file.
pub(crate) fn detach(command: &mut Command, log: &Path) -> Result<()> {
    let output = open_log(log)?;
    let errors = output.try_clone().context(|| log.display().to_string())?;
    command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
    Ok(())
}

/// Opens a log file to append to it.
pub(crate) fn open_log(log: &Path) -> Result<fs::File> {
    fs::OpenOptions::new().create(true).append(true).open(log).context(|| log.display().to_string())
}

/// The identity of a child that was just started.
pub(crate) fn identify(
    child: &Child,
    host: &str,
    name: &str,
    log: &Path,
) -> Result<ProcessIdentity> {
    // Even one that has ended has an identity until it is reaped.
    i32::try_from(child.id()).ok().and_then(ProcessIdentity::of).ok_or_else(|| {
        LabError::NodeFailed {
            host: host.to_owned(),
            reason: format!("{name} vanished at once"),
            log_tail: tail(log),
        }
    })
}

/// Takes note of the child's end whenever it comes, so that a long-lived caller collects no zombies.
pub(crate) fn reap(mut child: Child) {
    std::thread::spawn(move || child.wait());
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES_MAX: usize = 20;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}
