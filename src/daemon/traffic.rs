//! Bytes a day, by user: counted from the packet rules' counters, kept on disk, forgotten at
//! midnight.
//!
//! The rules count for each server what it sent elsewhere and received from there. Once a tick
//! the daemon adds what is new to the user's sum; so a user can be over by what a tick lets
//! through. What was counted is on disk with the sums, and a table outlives its daemon: the next
//! one adds what passed without it.

use super::cgroups::Cgroup;
use super::state::ServerState;
use super::{Network, Shell};
use crate::report::{Kind, Level, LogEntry};
use egress::{Sender, Traffic as Counted};
use quantities::{CgroupId, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What users had today.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The day, as `2026-11-22` in local time.
    day: String,
    /// Bytes by hub user.
    used: BTreeMap<String, u64>,
    /// What the rules had counted when they were last read.
    #[serde(default)]
    counted: Vec<Booked>,
}

/// A sender's count that is in its user's sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Booked {
    sender: Sender,
    bytes: u64,
    user: String,
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
        let mut counted: BTreeMap<Sender, (u32, u64)> = BTreeMap::new();
        for Counted {
            sender,
            number,
            bytes,
        } in now
        {
            // A server whose class was changed has a count for each.
            counted.entry(*sender).or_insert((*number, 0)).1 += bytes;
        }
        let before = self.before();
        let mut news = false;
        let mut booked = Vec::with_capacity(counted.len());
        for (sender, (number, bytes)) in counted {
            let Some(user) = user_of(number) else {
                continue;
            };
            news |= self.add(&user, bytes, before.get(&sender));
            booked.push(Booked {
                sender,
                bytes,
                user,
            });
        }
        self.counted = booked;
        news
    }

    /// Books what the table of an earlier daemon counted since that one read it last. The next reading is
    /// of a table that begins with nothing.
    fn book_left(&mut self, left: &[(Sender, u64)], user_of: impl Fn(Sender) -> Option<String>) {
        let mut counted: BTreeMap<Sender, u64> = BTreeMap::new();
        for (sender, bytes) in left {
            *counted.entry(*sender).or_default() += bytes;
        }
        let before = self.before();
        for (sender, bytes) in counted {
            let known = before.get(&sender);
            let user = known
                .map(|booked| booked.user.clone())
                .or_else(|| user_of(sender));
            if let Some(user) = user {
                self.add(&user, bytes, known);
            }
        }
        self.counted.clear();
    }

    fn before(&self) -> BTreeMap<Sender, Booked> {
        let counted = self.counted.iter().cloned();
        counted.map(|booked| (booked.sender, booked)).collect()
    }

    /// Adds to a user's sum what a count has beyond the one before; true if that is anything. A table that
    /// was loaded anew counts from nothing, and so does a class come back to.
    fn add(&mut self, user: &str, bytes: u64, before: Option<&Booked>) -> bool {
        let before = before.map_or(0, |booked| booked.bytes);
        let new = if bytes >= before {
            bytes - before
        } else {
            bytes
        };
        if new == 0 {
            return false;
        }
        let used = self.used.entry(user.to_owned()).or_default();
        *used = used.saturating_add(new);
        true
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

    /// At the start, before this daemon's table replaces the one that stands: books what passed since the
    /// earlier daemon read it last, into the day that it is.
    pub(super) fn count_left_traffic(&mut self, servers: &[ServerState]) {
        if !self.has_daily_shares() {
            return;
        }
        let policy = self.policy(Vec::new(), Vec::new());
        let left = match self.network.rules.left_traffic(&policy) {
            Ok(left) => left,
            Err(error) => {
                let text = format!(
                    "What servers sent while hubwarden did not run cannot be read, and is missing in the \
                     bytes of today: {error}."
                );
                return self.log_once(LogEntry::new(Kind::Trouble, Level::Warning, text));
            }
        };
        let traffic = &mut self.network.traffic;
        let turned = traffic.turn(&today());
        let by_id = |id| servers.iter().find(|record| record.id == CgroupId(id));
        traffic.book_left(&left, |sender| match sender {
            Sender::Cgroup(id) => Some(by_id(id)?.server.user.as_str().to_owned()),
            _ => None,
        });
        self.storage.dirty |= turned || !left.is_empty();
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
        Counted {
            sender: Sender::Mark(number),
            number,
            bytes,
        }
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
        assert_eq!(traffic.used("alice"), 40);
    }

    #[test]
    fn what_passed_while_no_daemon_ran_is_in_the_day() {
        let mut traffic = Traffic::default();
        traffic.turn("2026-11-22");
        traffic.book(&[counted(1, 100), counted(3, 5)], user);
        let text = serde_json::to_string(&traffic).unwrap();
        let mut traffic: Traffic = serde_json::from_str(&text).unwrap();
        // Two classes have a count of alice's; one of nobody known came meanwhile, and one of erin's.
        let left = [
            (Sender::Mark(1), 150),
            (Sender::Mark(1), 20),
            (Sender::Mark(3), 5),
            (Sender::Mark(7), 1000),
            (Sender::Cgroup(9), 30),
        ];
        let erin = |sender| (sender == Sender::Cgroup(9)).then(|| "erin".to_owned());
        traffic.book_left(&left, erin);
        let used = |traffic: &Traffic| ["alice", "bob", "erin"].map(|user| traffic.used(user));
        assert_eq!(used(&traffic), [170, 5, 30]);
        // The table that was loaded then counts from nothing.
        traffic.book(&[counted(1, 10), counted(3, 0)], user);
        assert_eq!(used(&traffic), [180, 5, 30]);
    }
}
