//! What the commands print: for people, or one line of JSON for each thing.

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt,
    io::{self, ErrorKind, Write},
    time::{Duration, SystemTime},
};

/// Objects smaller than this need no progress bar.
const BAR_BYTES_MIN: u64 = 8 << 20;

/// Standard output was closed by its reader.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct OutputClosed;

/// Prints a line on standard output.
pub(super) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    output_written(writeln!(io::stdout().lock(), "{text}"))
}

/// What a write to standard output means for the command.
pub(super) fn output_written<T>(result: io::Result<T>) -> anyhow::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        result => result.context("standard output"),
    }
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A number of objects for people.
pub(super) fn objects(count: u64) -> String {
    if count == 1 { "1 object".into() } else { format!("{count} objects") }
}

/// A time for people, in UTC.
pub(super) fn time(time: SystemTime) -> String {
    rfc3339(time).replace('T', " ").replace('Z', " UTC")
}

/// A time for machines.
pub(super) fn rfc3339(time: SystemTime) -> String {
    // The library panics after the year 9999.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let time = time.min(SystemTime::UNIX_EPOCH + LAST).max(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Shows how many of `size_bytes` are through, if standard error is a terminal and it takes long.
pub(super) fn bytes_bar(size_bytes: Option<u64>) -> ProgressBar {
    let target = match size_bytes {
        Some(size_bytes) if size_bytes < BAR_BYTES_MIN => ProgressDrawTarget::hidden(),
        _ => ProgressDrawTarget::stderr(),
    };
    let template = match size_bytes {
        Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    ProgressBar::with_draw_target(size_bytes, target).with_style(style(template))
}

/// Shows how many objects are through, if standard error is a terminal.
pub(super) fn objects_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.with_style(style("{spinner} {pos} objects, {msg} {elapsed}"))
}

/// Shows how many versions of objects have been read, if standard error is a terminal.
pub(super) fn scrub_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.with_style(style("{wide_bar} {pos}/{len} objects, {msg} {eta}"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are right")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_999);
        assert_eq!(time(at), "1994-11-06 08:49:37 UTC");
        assert_eq!(rfc3339(at), "1994-11-06T08:49:37Z");
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(time(late), "9999-12-31 23:59:59 UTC");
    }
}
