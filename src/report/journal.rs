//! Entries for journald, sent from a thread of their own.
//!
//! journald's socket blocks when journald stalls, and supervision must not: entries go through a
//! bounded queue, and what did not fit is counted and told as soon as there is room again.

use super::Kind;
use crate::heartbeats::Heartbeats;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use systemd_journal_logger::JournalLog;

/// Entries that wait while journald stalls; about 2 MB at most.
const QUEUE: usize = 4096;
/// Longest value of a field, in bytes; what users choose is cut here.
const LONGEST: usize = 2048;

/// journald takes an entry at once; one that has stalled takes none.
const MOST_BUSY: std::time::Duration = std::time::Duration::from_secs(30);

/// How urgent an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Normal but significant.
    Notice,
    /// An admin should look at it.
    Warning,
    /// Something does not work.
    Error,
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// What it tells of.
    pub kind: Kind,
    /// How urgent it is.
    pub level: Level,
    /// A plain sentence.
    pub message: String,
    /// Structured fields; upper-case keys of our own, values as data.
    pub fields: Vec<(&'static str, String)>,
}

impl LogEntry {
    /// An entry without fields.
    pub fn new(kind: Kind, level: Level, message: impl Into<String>) -> LogEntry {
        LogEntry {
            kind,
            level,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// Adds a field.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> LogEntry {
        self.fields.push((key, value.to_string()));
        self
    }

    /// Has it stand for so many refused packets that have no line of their own.
    pub fn and_not_logged(mut self, packets: u64) -> LogEntry {
        if packets == 0 {
            return self;
        }
        let more = format!(" {packets} more packets before it have no line of their own.");
        self.message.push_str(&more);
        self.with("NOT_LOGGED", packets)
    }
}

/// The sending end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: SyncSender<LogEntry>,
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the thread that talks to journald; where there is none, entries go to standard
    /// error.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(heartbeats: &Heartbeats) -> std::io::Result<Journal> {
        let (journal, entries) = Journal::queue();
        let lost = journal.lost.clone();
        let pulse = heartbeats.watch("journal", MOST_BUSY);
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let log = JournalLog::empty()
                    .map(|log| log.with_syslog_identifier("hubwarden".to_owned()))
                    .ok()
                    .filter(|_| std::path::Path::new("/run/systemd/journal/socket").exists());
                for entry in entries {
                    pulse.beat();
                    deliver(log.as_ref(), &entry);
                    let missed = lost.swap(0, Ordering::Relaxed);
                    if missed > 0 {
                        let message =
                            format!("{missed} journal entries were lost while journald was busy");
                        let entry = LogEntry::new(Kind::Trouble, Level::Warning, message);
                        deliver(log.as_ref(), &entry);
                    }
                    pulse.rest();
                }
            })?;
        Ok(journal)
    }

    /// A journal whose entries the caller takes from the queue: for tests.
    pub fn queue() -> (Journal, Receiver<LogEntry>) {
        let (queue, entries) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let journal = Journal {
            queue,
            lost,
            lost_ever: Arc::default(),
        };
        (journal, entries)
    }

    /// Hands an entry over, without ever waiting.
    pub fn log(&self, entry: LogEntry) {
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }
}

fn deliver(log: Option<&JournalLog>, entry: &LogEntry) {
    let level = match entry.level {
        Level::Notice => log::Level::Info,
        Level::Warning => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    let message = shortened(&entry.message);
    let mut fields: Vec<(&str, &str)> = vec![("MESSAGE_ID", entry.kind.message_id())];
    fields.extend(
        entry
            .fields
            .iter()
            .map(|(key, value)| (*key, shortened(value))),
    );
    let sent = log.is_some_and(|log| {
        log.journal_send(
            &log::Record::builder()
                .level(level)
                .target("hubwarden")
                .key_values(&fields.as_slice())
                .args(format_args!("{message}"))
                .build(),
        )
        .is_ok()
    });
    if !sent {
        eprintln!("{message}");
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= LONGEST {
        return text;
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_journal_costs_entries_and_never_time() {
        let (journal, entries) = Journal::queue();
        for _ in 0..QUEUE + 10 {
            journal.log(LogEntry::new(Kind::Trouble, Level::Notice, "x"));
        }
        assert_eq!(journal.lost.load(Ordering::Relaxed), 10);
        assert_eq!(journal.lost(), 10);
        assert_eq!(entries.try_iter().count(), QUEUE);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let text = "é".repeat(LONGEST);
        assert!(shortened(&text).len() <= LONGEST);
        assert!(text.starts_with(shortened(&text)));
    }
}
