//! What a run found out, in the forms that a command leaves it in.

use super::{PageError, Report};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a run found out.
pub trait Findings {
    /// One entry of the machine-readable series.
    type Entry: Serialize;

    /// Everything, for the terminal.
    fn table(&self) -> String;

    /// Everything, for machines. `command` is the command line.
    fn report(&self, command: String) -> Report<Self::Entry>;

    /// Writes a page with tables and plots into a directory; its path.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn write_page(&self, directory: &Path, command: &str) -> Result<PathBuf, PageError>;

    /// What makes figures doubtful; empty for a clean run.
    fn warnings(&self) -> &[String];

    /// What was asked for and not done. Above 0 the figures are not to be quoted.
    fn failures(&self) -> u64;
}
