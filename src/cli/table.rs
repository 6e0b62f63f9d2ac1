//! Columns of text, as wide as what is in them.

use std::fmt::Write;

/// Rows under a head, all escaped already.
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

/// Wider cells are cut, except in the last column.
const WIDEST: usize = 40;

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// One that has its head only.
    pub fn new(head: [&str; COLUMNS]) -> Self {
        Table {
            rows: vec![head.map(str::to_owned)],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// As lines.
    pub fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0).min(WIDEST)
        };
        let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
        let mut lines = Vec::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let _ = match column + 1 < COLUMNS {
                    true => write!(line, "{:width$}  ", cut(cell, WIDEST)),
                    false => write!(line, "{cell}"),
                };
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// As text, each line two spaces from the left.
    pub fn indented(&self) -> String {
        self.lines()
            .into_iter()
            .map(|line| format!("  {line}\n"))
            .collect()
    }
}

/// Text of so many characters at most.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_long_cells_are_cut() {
        let mut table = Table::new(["A", "B"]);
        table.row(["ü".repeat(50), "x".repeat(50)]);
        table.row(["short".into(), String::new()]);
        let lines = table.lines();
        assert_eq!(lines[0], format!("A{}  B", " ".repeat(39)));
        assert_eq!(lines[1], format!("{}…  {}", "ü".repeat(39), "x".repeat(50)));
        assert_eq!(lines[2], "short");
    }
}
