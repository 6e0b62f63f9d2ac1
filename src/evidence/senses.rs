//! The senses at work: a thread that looks at hot servers, and at nobody else.
//!
//! It reads memory of processes that may stall it, so it is a thread of its own; what it finds
//! goes to the daemon through a queue.

use super::binary::{self, Kind};
use super::constants::Constants;
use super::exec::Exec;
use super::process::Process;
use super::rounding::{Nudge, Rounding};
use super::{Evidence, Fact, Modes, Strength};
use crate::units::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long samples of rounding modes are counted together.
pub const WINDOW: Duration = Duration::from_secs(30);
/// Memory and names of one process are looked at again after this long at first, since a program
/// that has just started has not written its code yet; each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
/// And after this long in the end.
const AGAIN: Duration = Duration::from_secs(30);
/// A process is looked into when it used this share of a core, in clock ticks a second.
const BUSY_TICKS: u64 = 5;
/// Processes of one server that are looked at.
pub(super) const MOST_PROCESSES: usize = 512;
/// Memory scans in one round.
const MOST_SCANS: usize = 8;

/// A server to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Its cgroup's id.
    pub id: u64,
    /// Its cgroup's directory.
    pub directory: PathBuf,
}

/// What was found about a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its cgroup's id.
    pub id: u64,
    /// What.
    pub evidence: Evidence,
}

/// All senses that work here.
pub struct Senses {
    rounding: Option<(Rounding, Nudge)>,
    constants: Option<Constants>,
    exec: Option<Exec>,
    windows: BTreeMap<(u64, u32), Window>,
    known: BTreeMap<(u64, u32), Known>,
}

/// Samples of one thread group, in one window.
struct Window {
    begun: Time,
    before: Modes,
    told: Option<Strength>,
}

/// A process as last looked at.
struct Known {
    ticks: u64,
    looked: Option<Time>,
    again: Duration,
}

impl Senses {
    /// Starts what works here, and says what does not and why.
    pub fn start() -> (Senses, Vec<String>) {
        let mut blind = Vec::new();
        let rounding = match (Rounding::load(), Nudge::start()) {
            (Ok(rounding), Ok(nudge)) => Some((rounding, nudge)),
            (Err(error), _) => {
                blind.push(format!("rounding modes cannot be seen: {error}"));
                None
            }
            (_, Err(error)) => {
                blind.push(format!("rounding modes cannot be seen: no thread: {error}"));
                None
            }
        };
        let mut said = |what: &str, error: &dyn std::fmt::Display| {
            blind.push(format!("{what} cannot be searched: {error}"));
        };
        let constants = Constants::new().inspect_err(|error| said("memory", error));
        let exec = Exec::new().inspect_err(|error| said("names", error));
        let senses = Senses {
            rounding,
            constants: constants.ok(),
            exec: exec.ok(),
            windows: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        (senses, blind)
    }

    /// Looks at these suspects once, to be called about once a second; with none, everything
    /// rests.
    pub fn look(&mut self, suspects: &[Suspect], now: Time) -> Vec<Found> {
        let mut found = Vec::new();
        let ids: BTreeSet<u64> = suspects.iter().map(|suspect| suspect.id).collect();
        self.known.retain(|(id, _), _| ids.contains(id));
        self.windows.retain(|(id, _), _| ids.contains(id));
        let mut cpus = Vec::new();
        let mut scans = 0;
        for suspect in suspects {
            for process in processes(&suspect.directory) {
                if !self.is_busy(suspect.id, process) {
                    continue;
                }
                for cpu in process.running_on(256) {
                    if !cpus.contains(&cpu) {
                        cpus.push(cpu);
                    }
                }
                let known = self.known.get_mut(&(suspect.id, process.pid()));
                if let Some(known) = known
                    && known.looked.is_none_or(|at| now.since(at) >= known.again)
                    && scans < MOST_SCANS
                {
                    if known.looked.replace(now).is_some() {
                        known.again = (2 * known.again).min(AGAIN);
                    }
                    scans += 1;
                    for fact in self.look_into(process) {
                        let evidence = Evidence {
                            fact,
                            pid: process.pid(),
                            at: now,
                        };
                        found.push(Found {
                            id: suspect.id,
                            evidence,
                        });
                    }
                }
            }
        }
        self.count(&ids, cpus, now, &mut found);
        found
    }

    /// What was counted of rounding modes, raw: for the corpus.
    pub fn counted(&mut self) -> Vec<super::rounding::Counted> {
        match &mut self.rounding {
            Some((rounding, _)) => rounding.counted(),
            None => Vec::new(),
        }
    }

    fn is_busy(&mut self, id: u64, process: Process) -> bool {
        let key = (id, process.pid());
        let Some(ticks) = process.ticks() else {
            self.known.remove(&key);
            return false;
        };
        let known = self.known.entry(key).or_insert(Known {
            ticks: 0,
            looked: None,
            again: AGAIN_FIRST,
        });
        let used = ticks.saturating_sub(known.ticks);
        if ticks < known.ticks {
            known.looked = None;
            known.again = AGAIN_FIRST;
        }
        known.ticks = ticks;
        used >= BUSY_TICKS
    }

    /// Names, kind and memory of one process. One that is gone meanwhile says nothing more.
    fn look_into(&self, process: Process) -> Vec<Fact> {
        let mut facts = Vec::new();
        if let Some(exec) = &self.exec
            && let Ok(Some(pattern)) = exec.look(&process)
        {
            facts.push(Fact::Named(pattern));
        }
        if matches!(binary::look(&process), Ok(Kind::NotPython)) {
            facts.push(Fact::NoPythonInPython);
        }
        if let Some(constants) = &self.constants
            && let Ok(scan) = constants.scan(&process)
            && scan.found > 0
        {
            facts.push(Fact::Constants { found: scan.found });
        }
        facts
    }

    fn count(&mut self, ids: &BTreeSet<u64>, cpus: Vec<usize>, now: Time, found: &mut Vec<Found>) {
        let Some((rounding, nudge)) = &mut self.rounding else {
            return;
        };
        nudge.visit(cpus);
        // Refused now is tried again in a second; loading proved that it can be.
        let _ = rounding.watch(ids);
        if ids.is_empty() {
            return;
        }
        for counted in rounding.counted() {
            let key = (counted.cgroup, counted.pid);
            let window = self.windows.entry(key).or_insert(Window {
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
            if now.since(window.begun) >= WINDOW {
                *window = Window {
                    begun: now,
                    before: counted.modes,
                    told: None,
                };
            }
        }
    }
}

/// The processes in a cgroup and below it.
pub fn processes(directory: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse().ok());
        // 0 is a process that our pid namespace does not show.
        found.extend(pids.filter(|pid| *pid != 0).map(Process::new));
        if found.len() >= MOST_PROCESSES {
            found.truncate(MOST_PROCESSES);
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
