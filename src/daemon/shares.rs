//! Who runs into a share of something that all senders of the node need: addresses that a class reaches by
//! name, questions for names, and notes of connections that nobody answered.
//!
//! The packet rules and the reader of answers keep each sender to its share, whatever the daemon does; here
//! it is only said who was kept to one: in the journal once a day, in `status`, and as metrics.

use super::{Network, Shell};
use crate::report::{Kind, Level, LogEntry, Shared};
use egress::names::{Scarce, Sender};
use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The same sender and share are logged again after this.
const AGAIN: Duration = Duration::from_secs(86_400);
/// So many senders are remembered; of more the rest is counted, and not logged.
const MOST: usize = 16_384;

/// Who ran into which share.
#[derive(Default)]
pub(super) struct Shares {
    /// When it was logged last, by the packet rules' number; nothing for services that ask for others.
    logged: BTreeMap<(Option<u32>, Shared), Time>,
}

impl Shares {
    /// A sender ran into a share; whether that is to be logged now.
    fn is_news(&mut self, number: Option<u32>, shared: Shared, now: Time) -> bool {
        self.logged.retain(|_, at| now.since(*at) < AGAIN);
        let key = (number, shared);
        if self.logged.contains_key(&key) || self.logged.len() >= MOST {
            return false;
        }
        self.logged.insert(key, now);
        true
    }

    /// How many senders ran into a share within a day.
    fn senders(&self, shared: Shared, now: Time) -> usize {
        let is_it = |(key, at): &(&(Option<u32>, Shared), &Time)| {
            key.1 == shared && now.since(**at) < AGAIN
        };
        self.logged.iter().filter(is_it).count()
    }
}

impl Shell {
    /// Once a tick, after the counters were read: logs who ran into a share.
    pub(super) fn watch_shares(&mut self, now: Time) {
        let mut over: BTreeMap<(Option<u32>, Shared), u64> = BTreeMap::new();
        for one in &self.network.counters.refused {
            for (shared, count) in [
                (Shared::Attempts, one.not_noted),
                (Shared::Questions, one.questions),
            ] {
                if count > 0 {
                    *over.entry((one.number, shared)).or_default() += count;
                }
            }
        }
        for ((sender, what), count) in self.network.answers.take_over() {
            let shared = match what {
                Scarce::Addresses => Shared::Addresses,
                Scarce::Questions => Shared::Questions,
            };
            let number = match sender {
                Sender::Number(number) => Some(number),
                Sender::Uid(_) | Sender::Unknown => None,
                // What it has is nobody's.
                Sender::Gone => continue,
            };
            *over.entry((number, shared)).or_default() += count;
        }
        for ((number, shared), count) in over {
            self.report.meter.ledger.over_share(shared, count);
            if self.network.shares.is_news(number, shared, now) {
                self.log_share(number, shared, count);
            }
        }
    }

    fn log_share(&mut self, number: Option<u32>, shared: Shared, count: u64) {
        let mode = self.config.mode;
        let Some(number) = number else {
            let text = format!(
                "A service that asks for names for others {}. All whom it asks for share this.",
                shared.in_words(count)
            );
            let entry = LogEntry::new(Kind::ShareReached, Level::Warning, text);
            return self.log(shared.fields(entry, count));
        };
        let entry = match self.node.numbers().holder(number) {
            Some(id) => self
                .guarded(id)
                .map(|guarded| guarded.story(mode).over_share(shared, count)),
            None => {
                let outside = self.network.uid_egress.by_number(number);
                outside.map(|user| user.over_share(shared, count, mode))
            }
        };
        if let Some(entry) = entry {
            self.log(entry);
        }
    }

    /// What `status` says for a day after somebody ran into a share. It names nobody, since everybody may
    /// read it.
    pub(super) fn shares_lack(&self, now: Time) -> Option<String> {
        let Network { shares, .. } = &self.network;
        let words = |shared: Shared| match shares.senders(shared, now) {
            0 => None,
            1 => Some(format!(
                "1 sender ran into its share of {}",
                shared.as_str()
            )),
            many => Some(format!(
                "{many} senders ran into their shares of {}",
                shared.as_str()
            )),
        };
        let words: Vec<String> = Shared::ALL.into_iter().filter_map(words).collect();
        (!words.is_empty()).then(|| {
            format!(
                "within a day {}; others lose nothing by it. journalctl MESSAGE_ID={} says who",
                words.join(", "),
                Kind::ShareReached.message_id()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn each_sender_is_logged_once_a_day_for_each_share() {
        let mut shares = Shares::default();
        let mut logged = Vec::new();
        for hour in 0..49 {
            for (number, shared) in [
                (Some(1), Shared::Addresses),
                (Some(1), Shared::Attempts),
                (Some(2), Shared::Addresses),
                (None, Shared::Questions),
            ] {
                if shares.is_news(number, shared, at(hour * 3_600)) {
                    logged.push((hour, number, shared));
                }
            }
        }
        assert_eq!(logged.len(), 3 * 4, "{logged:?}");
        let now = at(49 * 3_600);
        assert_eq!(shares.senders(Shared::Addresses, now), 2);
        assert_eq!(shares.senders(Shared::Addresses, at(80 * 3_600)), 0);
    }
}
