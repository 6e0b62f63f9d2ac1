//! Walks a TOML document and collects every problem with its line and column, instead of
//! stopping at the first as serde does: an admin mends a file in one go.

use quantities::Plain;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, the value seen and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Shared by all tables of one document.
pub(super) struct Document<'s> {
    source: &'s str,
    problems: RefCell<Vec<Problem>>,
}

impl<'s> Document<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Document {
            source,
            problems: RefCell::default(),
        }
    }

    pub(super) fn report(&self, span: Range<usize>, message: impl Into<String>) {
        let before = self.source.get(..span.start).unwrap_or(self.source);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.problems.borrow_mut().push(Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            // Keys and the parser's own words repeat what stands in the file.
            message: Plain(&message.into()).to_string(),
        });
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}

/// A type that one TOML value can be read as.
pub(super) trait FromToml: Sized {
    /// What a good value looks like, completing "expected …".
    const EXPECTED: &'static str;

    /// Reads the value; `Err` may say more than `EXPECTED` does, or be empty.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
}

/// One table being read; remembers which keys were asked for, so that the others are errors.
pub(super) struct Section<'a, 's> {
    document: &'a Document<'s>,
    table: Option<&'a DeTable<'s>>,
    path: String,
    known: BTreeSet<String>,
}

impl<'a, 's> Section<'a, 's> {
    pub(super) fn root(document: &'a Document<'s>, table: &'a DeTable<'s>) -> Self {
        Section {
            document,
            table: Some(table),
            path: String::new(),
            known: BTreeSet::new(),
        }
    }

    fn find(&mut self, key: &str) -> Option<&'a Spanned<DeValue<'s>>> {
        self.known.insert(key.to_owned());
        self.table?.get(key)
    }

    /// The value's key with the sections it stands in.
    fn full(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Whether the key stands there.
    pub(super) fn has(&mut self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The value of `key`, or the default where it is absent or wrong (and then reported).
    pub(super) fn value<T: FromToml>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// As [`Section::value`], with the least and the greatest allowed value.
    pub(super) fn ranged<T>(&mut self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromToml + PartialOrd + Show,
    {
        let Some(found) = self.optional::<T>(key) else {
            return default;
        };
        if range.contains(&found) {
            return found;
        }
        let message = format!(
            "{} is {}, expected a value from {} to {}",
            self.full(key),
            found.show(),
            range.start().show(),
            range.end().show()
        );
        if let Some(value) = self.find(key) {
            self.document.report(value.span(), message);
        }
        default
    }

    /// The value of `key` where it is there and right.
    pub(super) fn optional<T: FromToml>(&mut self, key: &str) -> Option<T> {
        let value = self.find(key)?;
        self.read(&self.full(key), value)
    }

    /// A list; each wrong entry is reported at its own place.
    pub(super) fn list<T: FromToml>(&mut self, key: &str, default: Vec<T>) -> Vec<T> {
        self.optional_list(key).unwrap_or(default)
    }

    /// As [`Section::list`], where it is there.
    pub(super) fn optional_list<T: FromToml>(&mut self, key: &str) -> Option<Vec<T>> {
        let name = self.full(key);
        let value = self.find(key)?;
        let Some(entries) = value.get_ref().as_array() else {
            let seen = describe(value.get_ref());
            let message = format!(
                "{name} is {seen}, expected a list of {}, such as [ … ]",
                T::EXPECTED
            );
            self.document.report(value.span(), message);
            return None;
        };
        let read = entries.iter().filter_map(|entry| self.read(&name, entry));
        Some(read.collect())
    }

    fn read<T: FromToml>(&self, name: &str, value: &Spanned<DeValue<'s>>) -> Option<T> {
        match T::from_toml(value.get_ref()) {
            Ok(read) => Some(read),
            Err(why) => {
                let seen = describe(value.get_ref());
                let detail = if why.is_empty() {
                    why
                } else {
                    format!(" ({why})")
                };
                let message = format!("{name} is {seen}, expected {}{detail}", T::EXPECTED);
                self.document.report(value.span(), message);
                None
            }
        }
    }

    /// A sub-table; absent reads as empty.
    pub(super) fn section(&mut self, key: &str) -> Section<'a, 's> {
        let path = self.full(key);
        let table = self
            .find(key)
            .and_then(|value| match value.get_ref().as_table() {
                Some(table) => Some(table),
                None => {
                    let seen = describe(value.get_ref());
                    let message = format!("{path} is {seen}, expected a section [{path}]");
                    self.document.report(value.span(), message);
                    None
                }
            });
        Section {
            document: self.document,
            table,
            path,
            known: BTreeSet::new(),
        }
    }

    /// All sub-tables under names the admin chose, such as `[egress.classes.NAME]`.
    pub(super) fn sections(&mut self) -> Vec<(String, Range<usize>, Section<'a, 's>)> {
        let Some(table) = self.table else {
            return Vec::new();
        };
        table
            .iter()
            .map(|(key, _)| {
                let name = key.get_ref().to_string();
                let section = self.section(&name);
                (name, key.span(), section)
            })
            .collect()
    }

    /// Reports something at a key of this section, for rules that span several keys.
    pub(super) fn complain(&mut self, key: &str, message: &str) {
        let span = self.find(key).map_or(0..0, Spanned::span);
        let message = format!("{} {message}", self.full(key));
        self.document.report(span, message);
    }

    /// Reports at a span given by [`Section::sections`].
    pub(super) fn complain_at(&self, span: Range<usize>, message: String) {
        self.document.report(span, message);
    }

    /// To be called last: every key nobody asked for is a problem.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if self.known.contains(name) {
                continue;
            }
            let full = self.full(name);
            let hint = match (quoted(&full), nearest(name, &self.known)) {
                // A dot in a name made a section of it.
                (Some(quoted), _) if value.get_ref().as_table().is_some() => {
                    format!("; a name with a dot in it is written in quotes: [{quoted}]")
                }
                (_, Some(near)) => format!("; did you mean `{near}`?"),
                (_, None) => format!(
                    "; known here: {}",
                    self.known
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            let full = printable(&full);
            self.document
                .report(key.span(), format!("unknown key `{full}`{hint}"));
        }
    }
}

/// A user's or group's section as it is written where the name has a dot in it.
fn quoted(full: &str) -> Option<String> {
    let (whose, name) = full.split_once('.')?;
    let is_name = ["users", "groups"].contains(&whose) && name.contains('.');
    is_name.then(|| format!("{whose}.'{}'", printable(name)))
}

/// Shows a value as the admin would write it.
pub(super) trait Show {
    fn show(&self) -> String;
}

/// The value in words, short and printable whatever stands in the file.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", printable(text)),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        other => format!("a {}", other.type_str()),
    }
}

fn printable(text: &str) -> String {
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().count() > 60 {
        format!("{shown}…")
    } else {
        shown
    }
}

/// The known word a typing mistake away, if there is one.
pub(super) fn nearest<'k>(word: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3).min(3))
        .min()
        .map(|(_, candidate)| candidate.as_str())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
