//! The load generator as a process of its own on the lab's client host.

use super::{Case, LoadShape};
use crate::load::{Arrival, Event, HoldReport, LoadReport, Message};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a front end may take to answer its first request after it was started.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// The most that is kept of what a generator says on stderr.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// What a generator is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Measure under load.
    Load,
    /// Hold idle connections until its standard input ends.
    Hold,
}

/// What a generator asks for, and where.
#[derive(Clone, Debug)]
pub struct Aim<'a> {
    /// The scheme, and the size of the objects.
    pub case: Case,
    /// The host that the URL names: the front end.
    pub host: IpAddr,
    /// The certificate to trust over HTTPS.
    pub certificate: Option<&'a Path>,
    /// Names of the objects; without any, the synthetic object of the size.
    pub names: &'a [String],
    /// Whether a connection stays with one of the names.
    pub stays: bool,
    /// Where to connect in place of the front end, in turn; nowhere else if empty.
    pub connect_to: &'a [SocketAddr],
}

/// The arguments of `ashlar` that make it the generator for an aim.
pub fn arguments(task: Task, load: &LoadShape, aim: &Aim<'_>) -> Vec<OsString> {
    let case = aim.case;
    let mut arguments: Vec<OsString> = ["bench", "load", "--events"].map(OsString::from).to_vec();
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    let seconds = |duration: Duration| OsString::from(duration.as_secs_f64().to_string());
    option("--url", format!("{}://{}/", case.scheme, aim.host).into());
    option("--size", case.size.to_string().into());
    option("--connections", load.connections.to_string().into());
    option("--threads", load.threads.to_string().into());
    option("--warm-up-seconds", seconds(load.warm_up));
    option("--seconds", seconds(load.window));
    option("--timeout-seconds", seconds(load.timeout));
    option("--wait-seconds", seconds(READY_TIMEOUT));
    option("--seed", load.seed.to_string().into());
    if let Some((mix, keys)) = load.mix {
        option("--mix", mix.to_string().into());
        option("--keys", keys.to_string().into());
    }
    if let Arrival::Open { rate_per_second } = load.arrival {
        option("--rate", rate_per_second.to_string().into());
    }
    if !aim.names.is_empty() {
        option("--names", aim.names.join(",").into());
    }
    if !aim.connect_to.is_empty() {
        let addresses: Vec<String> = aim.connect_to.iter().map(SocketAddr::to_string).collect();
        option("--connect-to", addresses.join(",").into());
    }
    if let Some(certificate) = aim.certificate {
        option("--cacert", certificate.into());
    }
    if load.verify_content {
        arguments.push("--verify-content".into());
    }
    if aim.stays {
        arguments.push("--stay".into());
    }
    if task == Task::Hold {
        arguments.push("--hold".into());
    }
    arguments
}

/// Runs a generator that measures; `on_event` is called as the window opens and closes.
pub(super) fn run_load(
    command: Command,
    mut on_event: impl FnMut(Event),
) -> Result<LoadReport, String> {
    let mut report = None;
    run(command, |message, _| match message {
        Message::Event(event) => on_event(event),
        Message::Load(load) => report = Some(*load),
        Message::Hold(_) => {}
    })?;
    report.ok_or_else(|| "the generator ended without a report".to_owned())
}

/// Runs a generator that holds connections; `while_held` is called while they are open.
pub(super) fn run_hold(
    command: Command,
    mut while_held: impl FnMut(),
) -> Result<HoldReport, String> {
    let mut report = None;
    run(command, |message, child| match message {
        Message::Event(Event::Holding) => {
            while_held();
            // The end of its input releases it.
            drop(child.stdin.take());
        }
        Message::Event(_) | Message::Load(_) => {}
        Message::Hold(hold) => report = Some(hold),
    })?;
    report.ok_or_else(|| "the generator ended without a report".to_owned())
}

/// Runs a generator to its end and hands over each of its messages.
fn run(mut command: Command, on_message: impl FnMut(Message, &mut Child)) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("start the generator: {error}"))?;
    let outcome = follow(&mut child, on_message);
    if outcome.is_err() {
        // What it would still say is of no use; without this it would run on.
        let _ = child.kill();
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        // A complaint that cannot be read is no complaint.
        let _ = stderr.take(STDERR_BYTES_MAX).read_to_string(&mut complaint);
    }
    let status = child.wait().map_err(|error| format!("wait for the generator: {error}"))?;
    outcome?;
    if status.success() {
        return Ok(());
    }
    let last = complaint.lines().last().unwrap_or("it said nothing");
    Err(format!("the generator failed: {}", last.trim_start_matches("ashlar: ")))
}

fn follow(
    child: &mut Child,
    mut on_message: impl FnMut(Message, &mut Child),
) -> Result<(), String> {
    let stdout = child.stdout.take().expect("its output is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("read from the generator: {error}"))?;
        let message = serde_json::from_str(&line)
            .map_err(|error| format!("the generator said `{line}`: {error}"))?;
        on_message(message, child);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_hold_is_released_by_the_end_of_its_input() {
        let script =
            r#"echo '{"event":"holding"}'; cat; echo '{"hold":{"connections":5,"broken":1}}'"#;
        let mut held = 0;
        let report = run_hold(shell(script), || held += 1).unwrap();
        assert_eq!((report.connections, report.broken, held), (5, 1, 1));
    }

    #[test]
    fn events_come_in_order_and_a_missing_report_is_an_error() {
        let script = r#"echo '{"event":"window_started"}'; echo '{"event":"window_ended"}'"#;
        let mut events = Vec::new();
        let error = run_load(shell(script), |event| events.push(event)).unwrap_err();
        assert_eq!(events, [Event::WindowStarted, Event::WindowEnded]);
        assert!(error.contains("without a report"));
    }

    #[test]
    fn a_generator_that_fails_is_quoted() {
        let error = run_load(shell("echo 'ashlar: url: bad' >&2; exit 1"), |_| {}).unwrap_err();
        assert_eq!(error, "the generator failed: url: bad");
    }

    #[test]
    fn a_generator_that_babbles_is_quoted_and_ended() {
        let error = run_load(shell("echo hello; exec sleep 1000"), |_| {}).unwrap_err();
        assert!(error.contains("`hello`"), "{error}");
    }
}
