//! Whether the daemon's own threads are well: what is logged and shown of it, and what systemd's watchdog
//! is told.

use super::{Daemon, DaemonError, Shell};
use crate::heartbeats::{Heartbeats, News, State, message};
use crate::report::{Journal, Kind, Level, LogEntry};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The loop or one of its tasks panicked: what it had begun will not be ended.
static LOOP_PANICKED: AtomicBool = AtomicBool::new(false);

/// Has every panic logged, whichever thread it is in, and ends the loop for one in the calling thread: a
/// task's panic is otherwise kept in a handle that nothing asks.
pub fn log_panics(journal: &Journal) {
    let (journal, of_the_loop) = (Mutex::new(journal.clone()), std::thread::current().id());
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if thread.id() == of_the_loop {
            LOOP_PANICKED.store(true, Ordering::Relaxed);
        }
        let place = panic.location().map(ToString::to_string);
        let text = format!(
            "A fault of hubwarden's own: thread {} panicked at {}: {}. Please report it.",
            thread.name().unwrap_or("without a name"),
            place.unwrap_or_default(),
            message(panic.payload())
        );
        // Said also where what writes the journal has failed.
        eprintln!("{text}");
        if let Ok(journal) = journal.try_lock() {
            journal.log(LogEntry::new(Kind::Trouble, Level::Error, text));
        }
    }));
}

impl<C, U> Daemon<C, U> {
    /// Whether the loop can go on.
    ///
    /// # Errors
    /// Something in it panicked; systemd starts the daemon again, and what is enforced stays meanwhile.
    pub(super) fn is_whole(&self) -> Result<(), DaemonError> {
        match LOOP_PANICKED.load(Ordering::Relaxed) {
            true => Err(DaemonError::Panicked),
            false => Ok(()),
        }
    }

    /// Looks at all threads, replaces and logs what is amiss, and says whether systemd may believe that
    /// all is well.
    pub(super) fn threads_are_well(&self) -> bool {
        let now = Instant::now();
        for news in self.heartbeats.look(now) {
            self.shell.log(entry(&news));
        }
        self.heartbeats.beyond_repair(now).is_none()
    }
}

impl Shell {
    /// Every thread, and whether it runs and answers.
    pub(super) fn threads_up(heartbeats: &Heartbeats) -> Vec<(&'static str, bool)> {
        let states = heartbeats.states().into_iter();
        states
            .map(|(name, state)| (name, state == State::Well))
            .collect()
    }

    /// Threads that are dead or stuck, in words.
    pub(super) fn lacking_threads(heartbeats: &Heartbeats) -> Vec<(String, String)> {
        let lacking = |(name, state): (&str, State)| {
            let why = match state {
                State::Well => return None,
                State::Stuck => "it does not answer".to_owned(),
                State::Dead(why) => why,
            };
            Some((
                format!("thread {name}"),
                format!(
                    "a thread of hubwarden's own does not run: {why}; journalctl -u hubwarden says more"
                ),
            ))
        };
        heartbeats
            .states()
            .into_iter()
            .filter_map(lacking)
            .collect()
    }
}

fn entry(news: &News) -> LogEntry {
    let (name, again) = (news.name, news.replaced);
    let then = match again {
        true => "Another was started in its place",
        false => "It could not be replaced; systemctl restart hubwarden starts all anew",
    };
    let (level, text) = match &news.state {
        State::Well => (
            Level::Notice,
            format!("hubwarden's thread {name} is well again."),
        ),
        State::Stuck => (
            Level::Error,
            format!("hubwarden's thread {name} does not answer. {then}."),
        ),
        State::Dead(why) => (
            Level::Error,
            format!("hubwarden's thread {name} does not run: {why}. {then}."),
        ),
    };
    LogEntry::new(Kind::Trouble, level, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_is_down_in_metrics_and_another_is_up() {
        let heartbeats = Heartbeats::default();
        let limit = std::time::Duration::from_secs(3600);
        heartbeats.watch("rests", limit);
        let panics = |_: &crate::heartbeats::Pulse| panic!("for this test");
        heartbeats.keep("panics", limit, false, panics).unwrap();
        while heartbeats.look(Instant::now()).is_empty() {
            std::thread::yield_now();
        }
        let threads = Shell::threads_up(&heartbeats);
        assert_eq!(threads, [("panics", false), ("rests", true)]);
    }

    #[test]
    fn a_dead_thread_is_logged_with_its_cause_and_what_was_done() {
        let news = |state, replaced| News {
            name: "sensors",
            state,
            replaced,
        };
        let dead = entry(&news(State::Dead("it panicked: x".into()), true));
        assert_eq!(dead.level, Level::Error);
        assert_eq!(
            dead.message,
            "hubwarden's thread sensors does not run: it panicked: x. Another was started in its place."
        );
        let stuck = entry(&news(State::Stuck, false)).message;
        assert!(
            stuck.contains("does not answer. It could not be replaced"),
            "{stuck}"
        );
        assert!(
            entry(&news(State::Well, false))
                .message
                .contains("well again")
        );
    }
}
