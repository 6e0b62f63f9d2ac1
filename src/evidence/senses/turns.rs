//! Whose turn it is to be looked into: each process of a server has its own.

use crate::evidence::process::Process;
use crate::units::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Memory and names of one process are looked at again after this long at first, since a program
/// that has just started has not written its code yet; each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
/// And after this long in the end.
const AGAIN: Duration = Duration::from_secs(30);
/// A process is looked into once it used so much CPU time since that was done last, in clock
/// ticks: little, since a throttled server's is shared among many.
const WORTH_LOOKING: u64 = 5;
/// Processes of one server that are looked at in one round; each has its turn.
pub(in crate::evidence) const MOST_PROCESSES: usize = 512;
/// Processes of one server that are known of.
const MOST_LISTED: usize = 65_536;
/// A process that is not met in so many rounds is forgotten: all of them had their turn by then.
const FORGOTTEN_AFTER: u64 = (MOST_LISTED / MOST_PROCESSES) as u64 + 1;
/// A process as last met.
#[derive(Clone, Copy)]
struct Known {
    /// CPU time when it was met last.
    ticks: u64,
    /// And when it was looked into last.
    looked_ticks: u64,
    looked: Option<Time>,
    again: Duration,
    /// The round in which it was met last.
    met: u64,
}

/// The processes of all suspects, as last met.
#[derive(Default)]
pub(super) struct Turns {
    known: BTreeMap<(u64, u32), Known>,
    round: u64,
}

impl Turns {
    /// Begins a round, of these suspects.
    pub fn begin(&mut self, suspects: &BTreeSet<u64>) {
        self.round += 1;
        let round = self.round;
        self.known
            .retain(|(id, _), known| suspects.contains(id) && round - known.met < FORGOTTEN_AFTER);
    }

    /// Which round this is.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Those of a server's processes that are met in this round: all, or a part of very many.
    pub fn whose_turn(&self, directory: &Path) -> Vec<Process> {
        let mut all = processes(directory);
        if all.len() > MOST_PROCESSES {
            let parts = all.len().div_ceil(MOST_PROCESSES);
            let part = (self.round as usize % parts) * MOST_PROCESSES;
            all.rotate_left(part);
            all.truncate(MOST_PROCESSES);
        }
        all
    }

    /// Notes what a process used. `None` where it did nothing since the last time; else whether
    /// it did enough since it was looked into to be looked into again.
    pub fn meet(&mut self, id: u64, process: Process) -> Option<bool> {
        let key = (id, process.pid());
        let Some(ticks) = process.ticks() else {
            self.known.remove(&key);
            return None;
        };
        let new = Known {
            ticks: 0,
            looked_ticks: 0,
            looked: None,
            again: AGAIN_FIRST,
            met: self.round,
        };
        let known = self.known.entry(key).or_insert(new);
        if ticks < known.ticks {
            // Another one of the same number.
            *known = new;
        }
        let idle = ticks == known.ticks;
        known.ticks = ticks;
        known.met = self.round;
        (!idle).then(|| ticks - known.looked_ticks >= WORTH_LOOKING)
    }

    /// Whether a process was not looked into just before; then it is as good as done.
    pub fn is_due(&mut self, id: u64, process: Process, now: Time) -> bool {
        let Some(known) = self.known.get_mut(&(id, process.pid())) else {
            return false;
        };
        if known.looked.is_some_and(|at| now.since(at) < known.again) {
            return false;
        }
        known.looked_ticks = known.ticks;
        if known.looked.replace(now).is_some() {
            known.again = (2 * known.again).min(AGAIN);
        }
        true
    }
}

/// The processes in a cgroup and below it, at most 65,536.
pub fn processes(directory: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse().ok());
        // 0 is a process that our pid namespace does not show.
        found.extend(pids.filter(|pid| *pid != 0).map(Process::new));
        if found.len() >= MOST_LISTED {
            found.truncate(MOST_LISTED);
            return found;
        }
        let below = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.extend(below.map(|entry| entry.path()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tests::Bed;
    use std::time::Instant;

    #[test]
    fn each_of_very_many_processes_has_its_turn() {
        let Some(bed) = Bed::new() else {
            return;
        };
        let many = MOST_PROCESSES + 100;
        let script = format!("for i in $(seq {many}); do sleep 60 & done; wait");
        let mut all = bed.command(&script).spawn().unwrap();
        for _ in 0..500 {
            if processes(&bed.directory).len() > many {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let everybody: BTreeSet<Process> = processes(&bed.directory).into_iter().collect();
        assert!(everybody.len() > many);
        let mut turns = Turns::default();
        let mut met = BTreeSet::new();
        for round in 0..2 {
            turns.round = round;
            let turn = turns.whose_turn(&bed.directory);
            assert_eq!(turn.len(), MOST_PROCESSES);
            met.extend(turn);
        }
        assert_eq!(met, everybody);
        std::fs::write(bed.directory.join("cgroup.kill"), "1").unwrap();
        all.wait().unwrap();
    }

    #[test]
    fn who_does_little_at_a_time_is_looked_into_too_and_who_is_gone_is_forgotten() {
        let mut turns = Turns::default();
        let me = Process::new(std::process::id());
        let begun = Instant::now();
        while me.ticks().unwrap_or(0) < 2 * WORTH_LOOKING {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        assert_eq!(turns.meet(1, me), Some(true));
        let known = turns.known.get_mut(&(1, me.pid())).unwrap();
        known.looked_ticks = known.ticks;
        known.ticks += 1000;
        // Less time than before: another process.
        assert_eq!(turns.meet(1, me), Some(true));
        turns.round += FORGOTTEN_AFTER;
        turns.begin(&BTreeSet::new());
        assert!(turns.known.is_empty());
    }
}
