//! The nodes of a lab: starting, stopping, and waiting until they serve.

use crate::configuration::ADMIN_PORT;
use crate::error::{LabError, Result};
use crate::launch::{self, NODE};
use crate::observer::Observer;
use crate::process::ProcessIdentity;
use crate::state::{Directory, HostState, State};
use crate::topology::Role;
use crate::{namespace, process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a node may take to drain after SIGTERM before it is killed. Its own limit is shorter.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one question for readiness may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The most that is read of an answer: its first line says all.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Starts the node of a host. It must have a configuration and must not be running.
pub(crate) fn start(
    directory: &Directory,
    state: &mut State,
    host: &str,
) -> Result<ProcessIdentity> {
    let host_state = state.host(host)?;
    let Some(configuration) = &host_state.configuration else {
        return Err(LabError::UnsuitableHost { host: host.to_owned(), reason: "it has no node" });
    };
    if state.process(host, NODE).is_some_and(|record| record.process.is_alive()) {
        return Err(LabError::UnsuitableHost {
            host: host.to_owned(),
            reason: "its node is running already",
        });
    }
    let mut command = launch::command(host_state, &state.executable);
    let subcommand = if host_state.host.role == Role::Switch { "switch" } else { "node" };
    command.args([subcommand, "--config"]).arg(configuration);
    launch::start(directory, state, host, NODE, command)
}

/// The running node of a host.
pub(crate) fn running(state: &State, host: &str) -> Result<ProcessIdentity> {
    state.host(host)?;
    let record = state.process(host, NODE);
    record.map(|record| record.process).filter(|process| process.is_alive()).ok_or_else(|| {
        LabError::UnsuitableHost { host: host.to_owned(), reason: "no node runs on it" }
    })
}

/// Ends a process of the lab: SIGTERM, and SIGKILL if it does not drain in time.
pub(crate) fn stop(process: ProcessIdentity) -> Result<()> {
    process.end(DRAIN_TIMEOUT)
}

/// Waits until every one of these hosts' nodes answers 200 to `/readyz`.
pub(crate) fn wait_ready(
    directory: &Directory,
    state: &State,
    hosts: &[String],
    deadline: Instant,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut pending = hosts.to_vec();
    loop {
        let Some(host) = pending.last() else {
            return Ok(());
        };
        let host_state = state.host(host)?;
        let failure = |reason: String| LabError::NodeFailed {
            host: host.clone(),
            reason,
            log_tail: launch::tail(&directory.log(host, NODE)),
        };
        if running(state, host).is_err() {
            return Err(failure("its node ended before it was ready".to_owned()));
        }
        let Err(answer) = readiness(host_state) else {
            observer.progress(&format!("{host} is ready"));
            pending.pop();
            continue;
        };
        if observer.is_cancelled() {
            return Err(LabError::Interrupted);
        }
        if Instant::now() >= deadline {
            return Err(failure(format!("its node was not ready in time ({answer})")));
        }
        std::thread::sleep(process::POLL_INTERVAL);
    }
}

/// Asks a node whether it is ready; what came back if it is not.
fn readiness(host: &HostState) -> Result<(), String> {
    let address = host.host.address.ok_or("no address")?;
    match namespace::within(&host.host.namespace, || status_line(address)) {
        Ok(Ok(line)) if line.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(Ok(line)) => Err(format!("/readyz: {line}")),
        Ok(Err(error)) => Err(format!("/readyz: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn status_line(address: Ipv4Addr) -> std::io::Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((address, ADMIN_PORT)), PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    let request = format!(
        "GET /readyz HTTP/1.1\r\nhost: {address}:{ADMIN_PORT}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
