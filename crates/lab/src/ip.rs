//! ip(8), fed with batches.

use crate::error::{Context, LabError, Result};
use crate::state::Lock;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs the lines as one batch, inside `namespace` if one is given. The first line that fails ends it.
pub(crate) fn batch(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    run(command, Stdio::null(), lines)
}

/// Runs the lines as one batch that shares the lock of the lab: should this process be killed, nobody else gets the lock
/// before ip(8) has ended, too.
pub(crate) fn batch_under(lock: &Lock, lines: &[String]) -> Result<()> {
    // A child inherits its standard streams and nothing else; nothing is printed in a batch that only makes things.
    run(Command::new("ip"), Stdio::from(lock.share()?), lines)
}

fn run(mut command: Command, output: Stdio, lines: &[String]) -> Result<()> {
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => LabError::IpMissing,
        _ => LabError::Io { what: "run ip(8)".to_owned(), source: error },
    })?;
    let mut text = lines.join("\n");
    text.push('\n');
    // A batch is far smaller than a pipe, so this cannot block; ip(8) may close it early when a line fails.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output().context(|| "run ip(8)".to_owned())?;
    if !output.status.success() {
        return Err(failure(lines, &String::from_utf8_lossy(&output.stderr)));
    }
    written.context(|| "write to ip(8)".to_owned())
}

/// Names the line that ip(8) complained about: `Command failed -:3` is the third.
fn failure(lines: &[String], stderr: &str) -> LabError {
    let number = stderr
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:")?.trim().parse::<usize>().ok())
        .unwrap_or(1);
    let message: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Command failed"))
        .collect();
    LabError::Ip {
        line: number.checked_sub(1).and_then(|index| lines.get(index)).cloned().unwrap_or_default(),
        message: message.join("; "),
    }
}

/// Whether ip(8) is there at all.
pub(crate) fn is_present() -> bool {
    Command::new("ip")
        .arg("-V")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_line_that_failed() {
        let lines = ["link set lo up".to_owned(), "link set foo up".to_owned()];
        let error = failure(&lines, "Cannot find device \"foo\"\nCommand failed -:2\n").to_string();
        assert_eq!(error, "ip(8) failed on \"link set foo up\": Cannot find device \"foo\"");
    }
}
