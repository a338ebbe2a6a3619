//! Plain tables, for the terminal and for Markdown.

use crate::statistics::Summary;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A table of text. The first column is aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these column titles.
    pub fn new<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Self {
        Self::with_header(header.map(str::to_owned).to_vec())
    }

    /// An empty table with these column titles, at least one.
    pub fn with_header(header: Vec<String>) -> Self {
        assert!(!header.is_empty(), "a table has a column");
        Self { header, rows: Vec::new() }
    }

    /// One line for each ratio; none without any.
    pub fn of_ratios(ratios: &BTreeMap<String, Summary>) -> Option<Self> {
        let mut table = Self::new(["ratio", "median", "min", "max", "rounds"]);
        for (name, ratio) in ratios {
            let figure = |value: f64| format!("{value:.2}");
            let figures = [ratio.median, ratio.min, ratio.max].map(figure);
            let rounds = ratio.rounds.to_string();
            table.row([vec![name.clone()], figures.to_vec(), vec![rounds]].concat());
        }
        table.has_rows().then_some(table)
    }

    /// Whether there is anything in it.
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// For the terminal: columns padded with spaces, each row on a line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.all_rows() {
            let line: Vec<String> = row
                .iter()
                .zip(self.widths())
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            let _ = writeln!(text, "{}", line.join("  ").trim_end());
        }
        text
    }

    /// For Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, row) in self.all_rows().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if index == 0 {
                let _ = writeln!(text, "|---{}|", "|---:".repeat(row.len() - 1));
            }
        }
        text
    }

    fn all_rows(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.header).chain(&self.rows)
    }

    fn widths(&self) -> impl Iterator<Item = usize> {
        (0..self.header.len()).map(|column| {
            let cells = self.all_rows().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["subject", "rate"]);
        table.row(vec!["ours".to_owned(), "12".to_owned()]);
        table.row(vec!["theirs, older".to_owned(), "3".to_owned()]);
        table
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(
            table().text(),
            "subject        rate\nours             12\ntheirs, older     3\n"
        );
    }

    #[test]
    fn markdown_has_its_rule() {
        assert_eq!(
            table().markdown(),
            "| subject | rate |\n|---|---:|\n| ours | 12 |\n| theirs, older | 3 |\n"
        );
    }
}
