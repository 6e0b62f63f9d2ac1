//! Columns of text, as wide as what is in them.

use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
                *width = wide(cell).min(WIDEST).max(*width);
            }
        }
        let line = |row: &[String; COLUMNS]| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                if column + 1 == COLUMNS {
                    line.push_str(cell);
                    continue;
                }
                let cell = cut(cell, WIDEST);
                let rest = width.saturating_sub(wide(&cell));
                let _ = write!(line, "{cell}{:rest$}  ", "");
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

/// Columns of a terminal that text takes: two for most of Chinese, none for an accent by itself.
pub(super) fn wide(text: &str) -> usize {
    text.width()
}

/// Text of so many columns at most; of longer text its beginning.
pub(super) fn cut(text: &str, most: usize) -> String {
    if wide(text) <= most {
        return text.to_owned();
    }
    let mut kept: String = fitting(text.chars(), most).collect();
    kept.push('…');
    kept
}

/// The same, but of longer text its end: of a path that says more.
pub(super) fn cut_front(text: &str, most: usize) -> String {
    if wide(text) <= most {
        return text.to_owned();
    }
    let mut kept: Vec<char> = fitting(text.chars().rev(), most).collect();
    kept.push('…');
    kept.into_iter().rev().collect()
}

/// As many characters as leave one column of `most` free.
fn fitting(chars: impl Iterator<Item = char>, most: usize) -> impl Iterator<Item = char> {
    let mut taken = 1;
    chars.take_while(move |c| {
        taken += c.width().unwrap_or(0);
        taken <= most
    })
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

    #[test]
    fn columns_stay_in_line_whatever_the_script() {
        let mut table = Table::new(["USER", "CPU"]);
        table.row(["李小龍".into(), "1".into()]);
        table.row(["e\u{301}lodie".into(), "2".into()]);
        table.row(["bob".into(), "3".into()]);
        let lines = table.lines();
        let expected = ["USER    CPU", "李小龍  1", "e\u{301}lodie  2", "bob     3"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_cut_takes_no_more_columns_than_there_are() {
        assert_eq!(cut("student", 7), "student");
        assert_eq!(cut("student", 6), "stude…");
        assert_eq!(cut_front("/usr/bin/python3", 8), "…python3");
        // A wide character that is half in is left out.
        assert_eq!(cut("李小龍", 5), "李小…");
        assert_eq!(cut("李小龍", 4), "李…");
        assert_eq!(cut_front("李小龍", 4), "…龍");
        for most in 1..9 {
            assert!(wide(&cut("a李b小c龍", most)) <= most);
            assert!(wide(&cut_front("a李b小c龍", most)) <= most);
        }
    }
}
