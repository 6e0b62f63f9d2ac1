//! Troubles that the journal has: one that lasts is logged once an hour, and not at every tick.

use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// One that goes on is logged again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// So many are remembered; of more the oldest is forgotten.
const MOST: usize = 64;

/// By text, when it was logged last.
#[derive(Default)]
pub(super) struct Troubles(BTreeMap<String, Time>);

impl Troubles {
    /// Whether a trouble is to be logged; then it counts as logged.
    pub fn is_news(&mut self, text: &str, now: Time) -> bool {
        self.0.retain(|_, at| now.since(*at) < AGAIN);
        if self.0.contains_key(text) {
            return false;
        }
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(text, _)| text.clone());
            self.0.retain(|text, _| Some(text) != oldest.as_ref());
        }
        self.0.insert(text.to_owned(), now);
        true
    }

    /// A trouble is over: if it comes again, it is logged again.
    pub fn is_over(&mut self, text: &str) {
        self.0.remove(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn two_that_last_are_logged_once_an_hour_each_and_one_that_comes_back_at_once() {
        let mut troubles = Troubles::default();
        let mut logged = Vec::new();
        for second in 0..5000 {
            for text in ["disk", "bus"] {
                if troubles.is_news(text, at(second)) {
                    logged.push((second, text));
                }
            }
        }
        assert_eq!(
            logged,
            [(0, "disk"), (0, "bus"), (3600, "disk"), (3600, "bus")]
        );
        troubles.is_over("bus");
        assert!(troubles.is_news("bus", at(5001)));
        assert!(!troubles.is_news("disk", at(5001)));
    }

    #[test]
    fn troubles_without_end_take_no_room() {
        let mut troubles = Troubles::default();
        for number in 0..1000 {
            assert!(troubles.is_news(&number.to_string(), at(number)));
        }
        assert_eq!(troubles.0.len(), MOST);
        assert!(!troubles.is_news("999", at(1000)));
    }
}
