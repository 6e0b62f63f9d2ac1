//! Columns of text, as wide as what is in them.

use std::fmt::Write;

/// Rows under a head, all escaped already.
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

/// Wider cells are cut, except in the last column. An IPv6 address with its port takes all of it.
const WIDEST: usize = 47;

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
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().min(WIDEST).max(*width);
            }
        }
        let line = |row: &[String; COLUMNS]| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let _ = match column + 1 < COLUMNS {
                    true => write!(line, "{:width$}  ", cut(cell, WIDEST)),
                    false => write!(line, "{cell}"),
                };
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// As text.
    pub fn text(&self) -> String {
        self.lines()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
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
        table.row(["ü".repeat(60), "x".repeat(60)]);
        table.row(["short".into(), String::new()]);
        let lines = table.lines();
        let wide = "ü".repeat(WIDEST - 1);
        assert_eq!(lines[0], format!("A{}  B", " ".repeat(WIDEST - 1)));
        assert_eq!(lines[1], format!("{wide}…  {}", "x".repeat(60)));
        assert_eq!(lines[2], "short");
    }
}
