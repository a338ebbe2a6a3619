//! Logging to standard error, for people or for machines.

use crate::config::LogFormat;
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not a filter.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// The process has a logger already.
    #[error("logging was started twice")]
    Twice,
}

/// Sends the process's log to standard error. The binary calls it once, before it starts a role.
///
/// `level` is a `tracing` filter such as `info` or `warn,ashlar_node=debug`. Colours appear when
/// standard error is a terminal.
///
/// # Errors
/// When `level` is malformed or logging runs already.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let filter: EnvFilter = level.parse()?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LogError::Twice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_malformed_level_is_refused_and_named() {
        let error = init(LogFormat::Human, "ashlar_node=loud").unwrap_err();
        assert!(error.to_string().starts_with("log.level: "), "{error}");
    }
}
