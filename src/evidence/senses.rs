//! The senses at work: a thread that looks at hot servers, and listens for what is rare in all.
//!
//! It reads memory of processes that may stall it, so it is a thread of its own; what it finds
//! goes to the daemon through a queue.

use super::binary::{self, Kind};
use super::constants::Constants;
use super::exec::Exec;
use super::process::Process;
use super::program;
use super::rounding::{Nudge, Rounding};
use super::starts::Starts;
use super::stratum::Stratum;
use super::{Evidence, Fact, Modes, Sense, Strength};
use crate::units::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Memory and names of one process are looked at again after this long at first, since a program
/// that has just started has not written its code yet; each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
/// And after this long in the end.
const AGAIN: Duration = Duration::from_secs(30);
/// A process is looked into when it used this share of a core, in clock ticks a second.
const BUSY_TICKS: u64 = 5;
/// Processes of one server that are looked at.
const MOST_PROCESSES: usize = 512;
/// Time for memory scans in one round; what did not fit comes in the next.
const MOST_TIME: Duration = Duration::from_millis(300);

/// What an admin sets of the senses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Those that are used.
    pub senses: BTreeSet<Sense>,
    /// How long samples of rounding modes are counted together.
    pub window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            senses: Sense::ALL.into_iter().collect(),
            window: Duration::from_secs(30),
        }
    }
}

/// A sense that does not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    /// Which.
    pub sense: Sense,
    /// Why, in words that say what would help.
    pub why: String,
}

impl Blind {
    /// What the others still see of the same.
    pub fn remains(&self) -> &'static str {
        match self.sense {
            Sense::Rounding => {
                "RandomX is still known by its constants in memory and by stratum, and no evidence \
                 is certain"
            }
            Sense::Constants => "RandomX is still known by its rounding modes, within a minute",
            Sense::Exec => "names are still read of servers that use much CPU",
            Sense::Stratum => {
                "pools are still known by their addresses, where a deny list has them"
            }
            Sense::Scan | Sense::Volume => "what the packet rules refuse, they refuse all the same",
            Sense::Binary | Sense::Pools => "this only ever corroborated",
        }
    }
}

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.sense, self.why, self.remains())
    }
}

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
    settings: Settings,
    rounding: Option<(Rounding, Nudge)>,
    constants: Option<Constants>,
    exec: Option<Exec>,
    starts: Option<Starts>,
    stratum: Option<Stratum>,
    guarded: BTreeMap<u64, PathBuf>,
    blind: Vec<Blind>,
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
    /// Starts what works here; [`Senses::blind`] says what does not and why.
    pub fn start() -> Senses {
        let mut blind = Vec::new();
        let types = program::types();
        let with_types = || types.as_ref().map_err(ToString::to_string);
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let rounding = with_types().and_then(|types| {
            let nudge = Nudge::start().map_err(|error| format!("no thread: {error}"))?;
            Ok((Rounding::load(types).map_err(|e| said(&e))?, nudge))
        });
        let starts = with_types().and_then(|types| Starts::load(types).map_err(|e| said(&e)));
        let stratum = Stratum::load().map_err(|error| said(&error));
        let constants = Constants::try_out().map_err(|error| said(&error));
        Senses {
            settings: Settings::default(),
            rounding: sighted(Sense::Rounding, rounding, &mut blind),
            constants: sighted(Sense::Constants, constants, &mut blind),
            exec: sighted(Sense::Exec, Exec::new().map_err(|e| said(&e)), &mut blind),
            starts: sighted(Sense::Exec, starts, &mut blind),
            stratum: sighted(Sense::Stratum, stratum, &mut blind),
            guarded: BTreeMap::new(),
            blind,
            windows: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// What does not work here, or not for everybody.
    pub fn blind(&self) -> &[Blind] {
        &self.blind
    }

    /// Starts of programs that came too fast to be told.
    pub fn starts_missed(&self) -> u64 {
        self.starts.as_ref().map_or(0, Starts::missed)
    }

    /// Uses just these settings from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        // Whoever is not to be used any more is to let go.
        let guarded = std::mem::take(&mut self.guarded);
        self.guard(guarded);
    }

    /// Listens to just these servers, cgroup ids and directories, for what is rare: a miner's name
    /// when it is started, stratum.
    pub fn guard(&mut self, servers: BTreeMap<u64, PathBuf>) {
        self.guarded = servers;
        let nobody = BTreeMap::new();
        let of = |sense| match self.settings.senses.contains(&sense) {
            true => &self.guarded,
            false => &nobody,
        };
        let mut trouble = Vec::new();
        if let Some(starts) = &mut self.starts {
            let ids = of(Sense::Exec).keys().copied().collect();
            trouble.extend(starts.watch(&ids).err().map(|error| (Sense::Exec, error)));
        }
        if let Some(stratum) = &mut self.stratum {
            let watched = stratum.watch(of(Sense::Stratum));
            trouble.extend(watched.err().map(|error| (Sense::Stratum, error)));
        }
        for (sense, error) in trouble {
            let why = format!("not every server can be listened to: {error}");
            if !self.blind.iter().any(|blind| blind.sense == sense) {
                self.blind.push(Blind { sense, why });
            }
        }
    }

    /// Readable when [`Senses::listen`] has something to hear.
    pub fn ears(&self) -> Vec<BorrowedFd<'_>> {
        let starts = self.starts.iter().map(AsFd::as_fd);
        starts.chain(self.stratum.iter().map(AsFd::as_fd)).collect()
    }

    /// What the kernel told since the last time.
    pub fn listen(&mut self, now: Time) -> Vec<Found> {
        let mut found = Vec::new();
        if let (Some(starts), Some(exec)) = (&mut self.starts, &self.exec) {
            starts.read(|start| {
                if let Some(pattern) = exec.started(start.name, start.arguments) {
                    found.push(Found {
                        id: start.cgroup,
                        evidence: Evidence {
                            fact: Fact::Named(pattern),
                            pid: start.pid,
                            at: now,
                        },
                    });
                }
            });
        }
        for heard in self.stratum.iter_mut().flat_map(Stratum::read) {
            let fact = Fact::Stratum {
                word: heard.word,
                port: heard.port,
            };
            let evidence = Evidence {
                fact,
                pid: Evidence::NO_PROCESS,
                at: now,
            };
            found.push(Found {
                id: heard.cgroup,
                evidence,
            });
        }
        found
    }

    /// Looks at these suspects once, to be called about once a second; with none, everything
    /// rests.
    pub fn look(&mut self, suspects: &[Suspect], now: Time) -> Vec<Found> {
        let mut found = Vec::new();
        let ids: BTreeSet<u64> = suspects.iter().map(|suspect| suspect.id).collect();
        self.known.retain(|(id, _), _| ids.contains(id));
        self.windows.retain(|(id, _), _| ids.contains(id));
        let mut cpus = Vec::new();
        let begun = Instant::now();
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
                    && begun.elapsed() < MOST_TIME
                {
                    if known.looked.replace(now).is_some() {
                        known.again = (2 * known.again).min(AGAIN);
                    }
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
        let uses = |sense| self.settings.senses.contains(&sense);
        if let Some(exec) = self.exec.as_ref().filter(|_| uses(Sense::Exec))
            && let Ok(Some(pattern)) = exec.look(&process)
        {
            facts.push(Fact::Named(pattern));
        }
        if uses(Sense::Binary) && matches!(binary::look(&process), Ok(Kind::NotPython)) {
            facts.push(Fact::NoPythonInPython);
        }
        if let Some(constants) = self.constants.as_ref().filter(|_| uses(Sense::Constants))
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
        let nobody = BTreeSet::new();
        let (ids, cpus) = match self.settings.senses.contains(&Sense::Rounding) {
            true => (ids, cpus),
            false => (&nobody, Vec::new()),
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
            if now.since(window.begun) >= self.settings.window {
                *window = Window {
                    begun: now,
                    before: counted.modes,
                    told: None,
                };
            }
        }
    }
}

fn sighted<T>(sense: Sense, loaded: Result<T, String>, blind: &mut Vec<Blind>) -> Option<T> {
    loaded.map_err(|why| blind.push(Blind { sense, why })).ok()
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
