//! What is said of users who have so many cgroups or processes that these are not all found in time.

use crate::report::{Kind, Level, LogEntry};
use quantities::{Plain, Time};
use sensors::set::Behind;
use std::collections::BTreeMap;
use std::time::Duration;

/// The journal is told once of each user, and while it goes on again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);
/// Users of whom that is known; the journal is told of no more, and status of all.
const MOST_KNOWN: usize = 1000;

/// For status, which any user may see: how many such users there are.
pub(super) fn in_words(users: usize) -> Option<String> {
    let (users, have) = match users {
        0 => return None,
        1 => ("1 user".to_owned(), "has"),
        many => (format!("{many} users"), "have"),
    };
    Some(format!(
        "{users} {have} more cgroups or processes than are searched in time; miners among these are found \
         later, and those of other users as soon as usual (the journal names the users)"
    ))
}

/// What the journal knows of it already.
#[derive(Default)]
pub(super) struct Teller(BTreeMap<String, Time>);

impl Teller {
    /// What is to be told now, if anything is.
    pub fn news(&mut self, behind: &BTreeMap<String, Behind>, now: Time) -> Vec<LogEntry> {
        self.0.retain(|_, at| now.since(*at) < TOLD_AGAIN);
        let mut news = Vec::new();
        for (user, behind) in behind {
            if self.0.contains_key(user) || self.0.len() >= MOST_KNOWN {
                continue;
            }
            self.0.insert(user.clone(), now);
            let told = LogEntry::new(Kind::Trouble, Level::Warning, line(user, *behind));
            news.push(told.with("HUB_USER", user));
        }
        news
    }
}

fn line(user: &str, behind: Behind) -> String {
    let user = Plain(user);
    let Behind { seen, rounds } = behind;
    let passed_over = match seen.lost {
        true => " Some were passed over.",
        false => "",
    };
    format!(
        "{user}: not all processes are searched for miners in time: {} cgroups with {} processes, nested {} \
         deep, took {rounds} rounds so far.{passed_over} Limits on CPU and network hold for all of them, and \
         other users are searched as usual. To bound the number of cgroups, write it to \
         cgroup.max.descendants of the server's cgroup.",
        seen.cgroups, seen.processes, seen.depth
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cgroup::walk::Seen;

    #[test]
    fn a_user_with_too_many_cgroups_is_named_once_an_hour_in_the_journal_alone() {
        let behind = Behind {
            seen: Seen {
                cgroups: 70_000,
                processes: 12,
                depth: 40,
                lost: true,
            },
            rounds: 9,
        };
        let at = |second| Time(Duration::from_secs(second));
        let behind = BTreeMap::from([("ali\nce".to_owned(), behind)]);
        let mut teller = Teller::default();
        assert_eq!(teller.news(&BTreeMap::new(), at(0)), []);
        let told: Vec<LogEntry> = (1..5000)
            .flat_map(|second| teller.news(&behind, at(second)))
            .collect();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].fields, [("HUB_USER", "ali\nce".to_owned())]);
        let line = &told[0].message;
        assert!(line.starts_with("ali\\u{a}ce: not all"), "{line}");
        assert!(line.contains("70000 cgroups with 12 processes, nested 40 deep"));
        assert!(line.contains("passed over"), "{line}");
        assert_eq!(in_words(0), None);
        let status = in_words(1).unwrap();
        assert!(status.starts_with("1 user has more cgroups") && !status.contains("ali"));
        assert!(in_words(2).unwrap().starts_with("2 users have"));
    }
}
