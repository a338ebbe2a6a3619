//! Results: for machines (one JSON object), for the terminal (tables), and for a browser (a page
//! with plots).

mod findings;
mod machine;
mod page;
mod plot;
mod table;

pub use findings::Findings;
pub use machine::Machine;
pub use page::{Page, PageError};
pub use plot::{Bars, Cell, Curve, Plot, PlotError, Series};
pub use table::Table;

use crate::statistics::Summary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What a benchmark command leaves for machines. `S` is one entry of its series.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Report<S> {
    /// The command line that made it, so that it can be made again.
    pub command: String,
    /// Where it was made.
    pub machine: Machine,
    /// What is quoted; docs/benchmarks.md lists the names.
    pub ratios: BTreeMap<String, Summary>,
    /// Every single measurement.
    pub series: Vec<S>,
}

impl<S: Serialize> Report<S> {
    /// Writes it to a file as indented JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}
