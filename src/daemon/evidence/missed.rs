//! What is said of programs that were started and could not be read.

use crate::report::{Kind, Level, LogEntry};
use quantities::Time;
use sensors::connector::Missed;
use std::time::Duration;

/// The journal is told once, and while it goes on again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);

/// In words, each kind for itself.
pub(super) fn in_words(missed: Missed) -> Vec<String> {
    let Missed {
        too_fast,
        ended,
        overflows,
    } = missed;
    let mut words = Vec::new();
    if too_fast > 0 {
        words.push(format!(
            "{too_fast} programs were started too fast to be read; those that go on are looked \
             at while they use much CPU"
        ));
    }
    if ended > 0 {
        words.push(format!(
            "{ended} programs of this node had ended before they could be read"
        ));
    }
    if overflows > 0 {
        words.push(format!(
            "{overflows} times the kernel had more starts to tell than it has room for; what \
             went on was looked at then"
        ));
    }
    words
}

/// What the journal knows of it already.
#[derive(Default)]
pub(super) struct Teller {
    told: Missed,
    at: Option<Time>,
}

impl Teller {
    /// What is to be told now, if anything is: never each start, since a user makes these at will.
    pub fn news(&mut self, missed: Missed, now: Time) -> Option<LogEntry> {
        // Of whom it is not known any more, and of every honest build: not worth a line by itself.
        let lost = |of: Missed| (of.too_fast, of.overflows);
        let long = self.at.is_none_or(|at| now.since(at) >= TOLD_AGAIN);
        if lost(missed) == lost(self.told) || !long {
            return None;
        }
        self.told = missed;
        self.at = Some(now);
        let message = format!(
            "A miner that ends soon may be missed among programs that are started: {}. This is told \
             once an hour at most; hubwarden status has the latest numbers.",
            in_words(missed).join("; ")
        );
        let told = LogEntry::new(Kind::Trouble, Level::Notice, message);
        Some(told.with("EVIDENCE", policy::finding::Sensor::Exec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_starts_is_one_line_an_hour_and_nothing_once_it_is_over() {
        let mut teller = Teller::default();
        let at = |second| Time(Duration::from_secs(second));
        let too_fast = |too_fast| Missed {
            too_fast,
            ..Missed::default()
        };
        assert_eq!(teller.news(too_fast(0), at(0)), None);
        let told: Vec<LogEntry> = (1..9000)
            .filter_map(|second| teller.news(too_fast(5000 * second), at(second)))
            .collect();
        assert_eq!(told.len(), 3);
        assert!(
            told[1].message.contains("18005000 programs were started"),
            "{told:?}"
        );
        assert_eq!(told[0].fields, [("EVIDENCE", "exec".to_owned())]);
        let last = too_fast(5000 * 8999);
        assert!(teller.news(last, at(20_000)).is_some());
        assert_eq!(teller.news(last, at(40_000)), None);
    }
}
