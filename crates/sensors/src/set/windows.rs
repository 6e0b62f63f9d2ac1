//! Rounding modes counted together, window by window.

use super::Found;
use crate::rounding::Counted;
use policy::finding::{Evidence, Modes, Strength};
use quantities::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Samples of one thread group, in one window.
struct Window {
    begun: Time,
    before: Modes,
    told: Option<Strength>,
}

/// The window of each thread group that is counted.
#[derive(Default)]
pub(super) struct Windows(BTreeMap<(u64, u32), Window>);

impl Windows {
    /// Forgets thread groups of all but these cgroups.
    pub fn retain(&mut self, cgroups: &BTreeSet<u64>) {
        self.0.retain(|(id, _), _| cgroups.contains(id));
    }

    /// What the counters say that their windows have not told yet; a window is `length` long.
    pub fn read(&mut self, all: Vec<Counted>, length: Duration, now: Time) -> Vec<Found> {
        let mut found = Vec::new();
        let counted: BTreeSet<(u64, u32)> = all.iter().map(|one| (one.cgroup, one.pid)).collect();
        self.0.retain(|key, _| counted.contains(key));
        for counted in all {
            let key = (counted.cgroup, counted.pid);
            let window = self.0.entry(key).or_insert(Window {
                begun: now,
                before: Modes::default(),
                told: None,
            });
            if let Some(fact) = counted.modes.since(&window.before).fact()
                && window.told.is_none_or(|told| fact.strength() > told)
            {
                window.told = Some(fact.strength());
                let evidence = Evidence {
                    fact,
                    pid: counted.pid,
                    at: now,
                };
                found.push(Found {
                    id: counted.cgroup,
                    evidence,
                });
            }
            if now.since(window.begun) >= length {
                *window = Window {
                    begun: now,
                    before: counted.modes,
                    told: None,
                };
            }
        }
        found
    }
}
