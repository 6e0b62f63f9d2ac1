//! What the packet rules counted: read once a tick, for all who use it.
//!
//! A dump of the counters of thousands of servers takes the kernel milliseconds, so accounts,
//! metrics, the journal and the look for abuse share one.

use super::Shell;
use egress::{Refused, Sent, Traffic};
use quantities::CgroupId;
use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The last reading.
#[derive(Default)]
pub(super) struct Counters {
    /// What the rules had counted of what servers sent.
    last: BTreeMap<CgroupId, Sent>,
    /// When that was read.
    read: Option<Time>,
    /// Packets and bytes that servers sent since the reading before.
    pub(super) sent: BTreeMap<CgroupId, (u64, u64)>,
    /// How long ago that was; nothing where there was none.
    pub(super) span: Option<Duration>,
    /// What servers with a daily share had, all in all; nothing where that was not read.
    pub(super) traffic: Option<Vec<Traffic>>,
    /// What was refused since the last look for abuse.
    pub(super) refused: Vec<Refused>,
}

impl Shell {
    /// Reads the counters. What is wrong with the table is the next check's to tell.
    pub(super) fn read_counters(&mut self, now: Time) {
        self.network.counters.sent.clear();
        self.network.counters.span = None;
        self.network.counters.traffic = None;
        if let Some(sent) = self.network.rules.sent() {
            self.network.counters.book(sent, now);
        }
        if self.has_daily_shares() {
            self.network.counters.traffic = self.network.rules.traffic();
        }
        if self.shows_metrics() {
            for (id, (packets, bytes)) in &self.network.counters.sent {
                self.report.meter.ledger.sent(*id, *packets, *bytes);
            }
        }
    }
}

impl Counters {
    /// Books what servers sent. A table that was loaded again, and a server admitted again, count
    /// from nothing: then all of it is new.
    fn book(&mut self, sent: Vec<Sent>, now: Time) {
        self.span = self.read.replace(now).map(|before| now.since(before));
        let mut last = BTreeMap::new();
        for now in sent {
            let news = match self.last.get(&now.cgroup) {
                Some(before) if before.packets <= now.packets && before.bytes <= now.bytes => {
                    (now.packets - before.packets, now.bytes - before.bytes)
                }
                _ => (now.packets, now.bytes),
            };
            self.sent.insert(now.cgroup, news);
            last.insert(now.cgroup, now);
        }
        self.last = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cgroup: u64, packets: u64) -> Sent {
        Sent {
            cgroup: CgroupId(cgroup),
            packets,
            bytes: 100 * packets,
        }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_new_is_told_from_what_was_counted_before_and_a_table_loaded_anew_begins_with_nothing()
     {
        let mut counters = Counters::default();
        counters.book(vec![sent(1, 10), sent(2, 5)], at(100));
        assert_eq!(counters.span, None);
        counters.sent.clear();
        counters.book(vec![sent(1, 12), sent(2, 3)], at(105));
        let news = BTreeMap::from([(CgroupId(1), (2, 200)), (CgroupId(2), (3, 300))]);
        assert_eq!(counters.sent, news);
        assert_eq!(counters.span, Some(Duration::from_secs(5)));
    }
}
