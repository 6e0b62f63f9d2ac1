//! Bytes a day, by user: counted from the packet rules' counters, kept on disk, forgotten at
//! midnight.
//!
//! The rules count for each server what it sent elsewhere and received from there. Once a tick
//! the daemon adds what is new to the user's sum; so a user can be over by what a tick lets
//! through, and a crash loses what was not on disk, a minute's at most.

use super::cgroups::Cgroup;
use super::{Network, Shell};
use egress::Traffic as Counted;
use quantities::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What users had today.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The day, as `2026-11-22` in local time.
    day: String,
    /// Bytes by hub user.
    used: BTreeMap<String, u64>,
    /// What the rules had counted when they were last read, by server's number.
    #[serde(skip)]
    counted: BTreeMap<u32, u64>,
}

impl Traffic {
    /// What a user had today, bytes.
    pub(super) fn used(&self, user: &str) -> u64 {
        self.used.get(user).copied().unwrap_or(0)
    }

    /// Begins a new day if it is one; true if so.
    fn turn(&mut self, today: &str) -> bool {
        let turned = self.day != today;
        if turned {
            today.clone_into(&mut self.day);
            self.used.clear();
        }
        turned
    }

    /// Books what the rules say now; true if anything is new.
    fn book(&mut self, now: &[Counted], user_of: impl Fn(u32) -> Option<String>) -> bool {
        let mut counted = BTreeMap::new();
        let mut news = false;
        for Counted { number, bytes } in now {
            // A table that was loaded anew counts from nothing, and so does a class come back to.
            let all: &mut u64 = counted.entry(*number).or_default();
            *all += bytes;
        }
        for (number, bytes) in &counted {
            let before = self.counted.get(number).copied().unwrap_or(0);
            let new = if *bytes >= before {
                bytes - before
            } else {
                *bytes
            };
            if new > 0
                && let Some(user) = user_of(*number)
            {
                let used = self.used.entry(user).or_default();
                *used = used.saturating_add(new);
                news = true;
            }
        }
        self.counted = counted;
        news
    }
}

/// Today's date in local time.
fn today() -> String {
    #[cfg(test)]
    if super::tests::clock().is_some() {
        return super::tests::day();
    }
    jiff::Zoned::now().date().to_string()
}

impl Shell {
    /// Once a tick: books what was sent and received, and has everybody in the class that follows.
    pub(super) fn reconcile_traffic(&mut self, now: Time) {
        self.count_traffic(&today());
        self.reconcile_classes(now);
    }

    /// Whether any class has a daily share.
    pub(super) fn has_daily_shares(&self) -> bool {
        let mut classes = self.config.egress.classes.values();
        classes.any(|class| class.limits.bytes_per_day.is_some())
    }

    /// Where any class has a daily share, adds up what users had of it.
    pub(super) fn count_traffic(&mut self, today: &str) {
        if !self.has_daily_shares() {
            return;
        }
        if self.network.traffic.turn(today) {
            self.storage.dirty = true;
        }
        let Some(now) = self.network.counters.traffic.take() else {
            return;
        };
        let (node, entries) = (&self.node, &self.registry.entries);
        let Network {
            traffic,
            uid_egress,
            ..
        } = &mut self.network;
        let user_of = |number| match entries.get(&match node.numbers().holder(number) {
            Some(id) => id,
            None => return Some(uid_egress.user_of(number)?.as_str().to_owned()),
        }) {
            Some(Cgroup::Server(guarded)) => Some(guarded.server.user.as_str().to_owned()),
            _ => None,
        };
        if traffic.book(&now, user_of) {
            self.storage.dirty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(number: u32, bytes: u64) -> Counted {
        Counted { number, bytes }
    }

    fn user(number: u32) -> Option<String> {
        match number {
            1 | 2 => Some("alice".into()),
            3 => Some("bob".into()),
            _ => None,
        }
    }

    #[test]
    fn a_users_servers_count_together_and_counters_may_begin_anew() {
        let mut traffic = Traffic::default();
        traffic.turn("2026-11-22");
        assert!(traffic.book(&[counted(1, 100), counted(2, 50), counted(3, 7)], user));
        assert!(traffic.book(&[counted(1, 150), counted(2, 50), counted(3, 7)], user));
        assert!(!traffic.book(&[counted(1, 150), counted(2, 50)], user));
        assert_eq!((traffic.used("alice"), traffic.used("bob")), (200, 7));
        // Loaded anew.
        assert!(traffic.book(&[counted(1, 30), counted(9, 1000)], user));
        assert_eq!(traffic.used("alice"), 230);
    }

    #[test]
    fn midnight_forgets_what_was_had_and_a_restart_does_not() {
        let mut traffic = Traffic::default();
        traffic.turn("2026-11-22");
        traffic.book(&[counted(1, 100)], user);
        let text = serde_json::to_string(&traffic).unwrap();
        let mut traffic: Traffic = serde_json::from_str(&text).unwrap();
        assert!(!traffic.turn("2026-11-22"));
        assert_eq!(traffic.used("alice"), 100);
        assert!(traffic.turn("2026-11-23"));
        assert_eq!(traffic.used("alice"), 0);
        // The day's counters go on where they were.
        traffic.book(&[counted(1, 130)], user);
        traffic.book(&[counted(1, 140)], user);
        assert_eq!(traffic.used("alice"), 140);
    }
}
