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
/// A process is looked into once it used so much CPU time since that was done last, in clock
/// ticks: little, since a throttled server's is shared among many.
const WORTH_LOOKING: u64 = 5;
/// Processes of one server that are looked at in one round; each has its turn.
pub(super) const MOST_PROCESSES: usize = 512;
/// Processes of one server that are known of.
const MOST_LISTED: usize = 65_536;
/// A process that is not met in so many rounds is forgotten: all of them had their turn by then.
const FORGOTTEN_AFTER: u64 = (MOST_LISTED / MOST_PROCESSES) as u64 + 1;
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
                "no evidence is certain; what remains for RandomX are its constants in memory and \
                 stratum, where those work"
            }
            Sense::Constants => {
                "RandomX is still known by its rounding modes, where those work, within a minute or two"
            }
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
    round: u64,
}

/// Samples of one thread group, in one window.
struct Window {
    begun: Time,
    before: Modes,
    told: Option<Strength>,
}

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
            round: 0,
        }
    }

    #[cfg(test)]
    fn blind_to_all() -> Senses {
        Senses {
            settings: Settings::default(),
            rounding: None,
            constants: None,
            exec: None,
            starts: None,
            stratum: None,
            guarded: BTreeMap::new(),
            blind: Vec::new(),
            windows: BTreeMap::new(),
            known: BTreeMap::new(),
            round: 0,
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
        self.round += 1;
        let round = self.round;
        self.known
            .retain(|(id, _), known| ids.contains(id) && round - known.met < FORGOTTEN_AFTER);
        self.windows.retain(|(id, _), _| ids.contains(id));
        let mut cpus = Vec::new();
        let begun = Instant::now();
        for suspect in suspects {
            for process in self.whose_turn(&suspect.directory) {
                let Some(worth) = self.meet(suspect.id, process) else {
                    continue;
                };
                for cpu in process.running_on(256) {
                    if !cpus.contains(&cpu) {
                        cpus.push(cpu);
                    }
                }
                let known = self.known.get_mut(&(suspect.id, process.pid()));
                if worth
                    && let Some(known) = known
                    && known.looked.is_none_or(|at| now.since(at) >= known.again)
                    && begun.elapsed() < MOST_TIME
                {
                    known.looked_ticks = known.ticks;
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

    /// Those of a server's processes that are met in this round: all, or a part of very many.
    fn whose_turn(&self, directory: &Path) -> Vec<Process> {
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
    fn meet(&mut self, id: u64, process: Process) -> Option<bool> {
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
        let all = rounding.counted();
        let counted: BTreeSet<(u64, u32)> = all.iter().map(|one| (one.cgroup, one.pid)).collect();
        self.windows.retain(|key, _| counted.contains(key));
        for counted in all {
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

    #[test]
    fn each_of_very_many_processes_has_its_turn() {
        let Some(bed) = Bed::new("turns") else {
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
        let mut senses = Senses::blind_to_all();
        let mut met = BTreeSet::new();
        for round in 0..2 {
            senses.round = round;
            let turn = senses.whose_turn(&bed.directory);
            assert_eq!(turn.len(), MOST_PROCESSES);
            met.extend(turn);
        }
        assert_eq!(met, everybody);
        std::fs::write(bed.directory.join("cgroup.kill"), "1").unwrap();
        all.wait().unwrap();
    }

    #[test]
    fn who_does_little_at_a_time_is_looked_into_too_and_who_is_gone_is_forgotten() {
        let mut senses = Senses::blind_to_all();
        let me = Process::new(std::process::id());
        let begun = Instant::now();
        while me.ticks().unwrap_or(0) < 2 * WORTH_LOOKING {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        assert_eq!(senses.meet(1, me), Some(true));
        let known = senses.known.get_mut(&(1, me.pid())).unwrap();
        known.looked_ticks = known.ticks;
        known.ticks += 1000;
        // Less time than before: another process.
        assert_eq!(senses.meet(1, me), Some(true));
        senses.round += FORGOTTEN_AFTER;
        senses.look(&[], Time(Duration::ZERO));
        assert!(senses.known.is_empty());
    }
}
