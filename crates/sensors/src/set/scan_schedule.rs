//! Whose turn it is to be looked into: each user has a share of a round, and each process of a server
//! its own turn.

use crate::process::Process;
use cgroup::walk::{Budget, Seen, Walk};
use quantities::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// Memory and names of one process are looked at again after this long at first, since a program
/// that has just started has not written its code yet; each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
/// And after this long in the end.
const AGAIN: Duration = Duration::from_secs(30);
/// A process is looked into once it used so much CPU time since that was done last, in clock
/// ticks: little, since a throttled server's is shared among many.
const WORTH_LOOKING: u64 = 5;
/// Processes of one server that are listed in one round at most; the walk goes on in the next.
pub(crate) const MOST_PROCESSES: usize = 512;
/// And so many before they are met, so that listing and meeting together keep to their time.
const AT_ONCE: usize = 128;
/// Cgroups of one server that are looked at in one round at most.
const MOST_CGROUPS: usize = 65_536;
/// Processes of one server that are met in each round, wherever the walk is: those that used most
/// CPU time since they were looked into.
const MOST_BUSY: usize = 64;
/// Processes of one server that are known of.
const MOST_LISTED: usize = 65_536;
/// A process that is not met in so many rounds is forgotten: all of them had their turn by then.
const FORGOTTEN_AFTER: u64 = (MOST_LISTED / MOST_PROCESSES) as u64 + 1;
/// All of a server's processes are listed in so many rounds, or its user is behind.
const LISTED_WITHIN: u64 = 8;

/// A process as last met.
#[derive(Clone, Copy)]
struct Known {
    /// When it was started, in clock ticks since the boot.
    started: u64,
    /// CPU time when it was met last.
    ticks: u64,
    /// And when it was looked into last.
    looked_ticks: u64,
    looked: Option<Time>,
    again: Duration,
    /// The round in which it was met last, and whether it had done something by then.
    met: u64,
    busy: bool,
}

/// A walk over one server, and when it began.
#[derive(Default)]
struct Listing {
    walk: Option<Walk>,
    began: u64,
}

/// Why a server's processes are found later than others', or not all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// What the walk has seen so far.
    pub seen: Seen,
    /// Rounds that it has taken.
    pub rounds: u64,
}

/// The processes of all suspects, as last met.
#[derive(Default)]
pub(super) struct Turns {
    known: BTreeMap<(u64, u32), Known>,
    listings: BTreeMap<u64, Listing>,
    behind: BTreeMap<u64, Behind>,
    round: u64,
}

impl Turns {
    /// Begins a round, of these suspects.
    pub fn begin(&mut self, suspects: &BTreeSet<u64>) {
        self.round += 1;
        let round = self.round;
        self.known
            .retain(|(id, _), known| suspects.contains(id) && round - known.met < FORGOTTEN_AFTER);
        self.listings.retain(|id, _| suspects.contains(id));
        self.behind.retain(|id, _| suspects.contains(id));
    }

    /// Which round this is.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Servers of which not all processes are found as soon as usual.
    pub fn behind(&self) -> &BTreeMap<u64, Behind> {
        &self.behind
    }

    /// Those of a server's processes that did something since they were met last, with the CPU time
    /// that each used since it was looked into, in clock ticks: those known as busy, and those that the
    /// walk comes by until then, from where it stopped in the round before.
    pub fn meet(&mut self, id: u64, directory: &Path, until: Instant) -> Vec<(u64, Process)> {
        let mut met: Vec<(u64, Process)> = Vec::new();
        for (process, started) in self.busy(id) {
            met.extend(self.meet_one(id, process, Some(started)));
        }
        let (mut left, mut all) = (MOST_PROCESSES, false);
        while !all && left > 0 && Instant::now() < until {
            let budget = Budget {
                cgroups: MOST_CGROUPS,
                processes: left.min(AT_ONCE),
                until,
            };
            let found;
            (found, all) = self.list(id, directory, budget);
            left -= found.len();
            for process in found {
                let known = self.known.get(&(id, process.pid()));
                if known.is_none_or(|known| known.met < self.round) {
                    met.extend(self.meet_one(id, process, None));
                }
            }
        }
        met
    }

    /// The next of a server's processes, and whether these were the last.
    fn list(&mut self, id: u64, directory: &Path, budget: Budget) -> (Vec<Process>, bool) {
        let listing = self.listings.entry(id).or_default();
        let mut walk = match listing.walk.take() {
            Some(walk) => walk,
            None => {
                listing.began = self.round;
                // Gone: it has none.
                let Ok(walk) = Walk::new(directory) else {
                    return (Vec::new(), true);
                };
                walk
            }
        };
        let mut found = Vec::new();
        let all = walk.go_on(budget, &mut found);
        let seen = walk.seen();
        let rounds = self.round - listing.began + 1;
        if !all {
            listing.walk = Some(walk);
        }
        if rounds > LISTED_WITHIN || seen.lost {
            self.behind.insert(id, Behind { seen, rounds });
        } else if all {
            self.behind.remove(&id);
        }
        (found.into_iter().map(Process::new).collect(), all)
    }

    fn busy(&self, id: u64) -> Vec<(Process, u64)> {
        let mut busy: Vec<(u64, u32, u64)> = self
            .known
            .range((id, 0)..=(id, u32::MAX))
            .filter(|(_, known)| known.busy)
            .map(|((_, pid), known)| (known.ticks - known.looked_ticks, *pid, known.started))
            .collect();
        busy.sort_unstable_by(|a, b| b.cmp(a));
        busy.truncate(MOST_BUSY);
        busy.into_iter()
            .map(|(_, pid, started)| (Process::new(pid), started))
            .collect()
    }

    /// Notes what a process used. `None` where it did nothing since the last time, or is another one
    /// than was `expected`; else what it used since it was looked into.
    fn meet_one(
        &mut self,
        id: u64,
        process: Process,
        expected: Option<u64>,
    ) -> Option<(u64, Process)> {
        let key = (id, process.pid());
        let now = process.used_and_started();
        let Some((ticks, started)) =
            now.filter(|(_, started)| expected.is_none_or(|expected| expected == *started))
        else {
            self.known.remove(&key);
            return None;
        };
        let new = Known {
            started,
            ticks: 0,
            looked_ticks: 0,
            looked: None,
            again: AGAIN_FIRST,
            met: self.round,
            busy: false,
        };
        let known = self.known.entry(key).or_insert(new);
        if known.started != started {
            // Another one of the same number.
            *known = new;
        }
        known.busy = ticks != known.ticks;
        known.ticks = ticks;
        known.met = self.round;
        known
            .busy
            .then(|| (ticks.saturating_sub(known.looked_ticks), process))
    }

    /// A process could not be read to its end: on a busy node its reader did not get the CPU for it. Its
    /// next turn comes as soon as the first one did.
    pub fn unfinished(&mut self, id: u64, process: Process) {
        if let Some(known) = self.known.get_mut(&(id, process.pid())) {
            known.again = AGAIN_FIRST;
        }
    }

    /// Whether a process, which used so much since it was looked into, is to be looked into now; then
    /// it is as good as done.
    pub fn is_due(&mut self, id: u64, process: Process, used: u64, now: Time) -> bool {
        let Some(known) = self.known.get_mut(&(id, process.pid())) else {
            return false;
        };
        if used < WORTH_LOOKING || known.looked.is_some_and(|at| now.since(at) < known.again) {
            return false;
        }
        known.looked_ticks = known.ticks;
        if known.looked.replace(now).is_some() {
            known.again = (2 * known.again).min(AGAIN);
        }
        true
    }
}

/// When the next of so many users has to be done, if all are to have as much of what is left of the
/// time: what one leaves is for those who follow.
pub(super) fn share(now: Instant, end: Instant, users: usize) -> Instant {
    let left = end.saturating_duration_since(now);
    now + left / u32::try_from(users.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
