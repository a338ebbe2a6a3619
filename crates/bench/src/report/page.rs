//! A report as a directory: `README.md` with tables, and its plots beside it.

use super::plot::{Plot, PlotError};
use super::table::Table;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The directory or the page cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// A page under construction.
#[derive(Debug)]
pub struct Page {
    directory: PathBuf,
    text: String,
}

impl Page {
    /// Begins a page in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(directory: &Path, title: &str) -> Result<Self, PageError> {
        fs::create_dir_all(directory)
            .map_err(|source| PageError::Write { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), text: format!("# {title}\n\n") })
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.text.push_str(&format!("## {text}\n\n"));
    }

    /// Adds a paragraph of Markdown.
    pub fn paragraph(&mut self, text: &str) {
        self.text.push_str(&format!("{text}\n\n"));
    }

    /// Adds a table.
    pub fn table(&mut self, table: &Table) {
        self.text.push_str(&table.markdown());
        self.text.push('\n');
    }

    /// Draws a plot into `NAME.svg` and shows it.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn plot(&mut self, name: &str, plot: &Plot) -> Result<(), PageError> {
        let file = format!("{name}.svg");
        plot.draw(&self.directory.join(&file))?;
        self.text.push_str(&format!("![{name}]({file})\n\n"));
        Ok(())
    }

    /// Writes the page and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<PathBuf, PageError> {
        let path = self.directory.join("README.md");
        match fs::write(&path, self.text.trim_end().to_owned() + "\n") {
            Ok(()) => Ok(path),
            Err(source) => Err(PageError::Write { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_page_shows_its_tables_and_plots() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("new/report");
        let mut page = Page::create(&target, "Objects").unwrap();
        page.heading("Ratios");
        page.paragraph("Above 1 is better.");
        let mut table = Table::new(["name", "median"]);
        table.row(vec!["a_over_b".to_owned(), "1.5".to_owned()]);
        page.table(&table);
        let plot = Plot::Curves {
            title: "latency".to_owned(),
            y_title: "ms".to_owned(),
            curves: Vec::new(),
        };
        page.plot("latency", &plot).unwrap();
        let text = fs::read_to_string(page.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "# Objects\n\n## Ratios\n\nAbove 1 is better.\n\n| name | median |\n|---|---:|\n\
             | a_over_b | 1.5 |\n\n![latency](latency.svg)\n"
        );
        assert!(target.join("latency.svg").is_file());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = Page::create(Path::new("/dev/null/report"), "x").unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/report: "));
    }
}
