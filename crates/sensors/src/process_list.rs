//! What runs in a server, by kind of program, and what CPU each kind uses: for people.
//!
//! Asked for only, by `top` and `explain`. CPU is measured between two readings of the processes'
//! own counters: the last asking's, where that is not long ago, or one half a second before. These cannot
//! be held up. What a program is can be, so that is asked of a worker for each user; where it does not
//! answer, that user's programs are told as unreadable, and the CPU that they use all the same.

use super::binary::{Kind, Program, has_python};
use super::process::{Process, ProcessError};
use super::set::MOST_PROCESSES;
use super::workers::{self, Owner, ServeError};
use cgroup::walk::{Budget, processes};
use quantities::Cores;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a worker is started for.
pub const WORK: &str = "programs";
/// An answer this young is given again: many who ask cost no more than one.
const YOUNG: Duration = Duration::from_secs(1);
/// A reading older than this is no base to measure from.
const OLD: Duration = Duration::from_secs(10);
/// Between the two readings where there was none before.
const BETWEEN: Duration = Duration::from_millis(500);
/// Who was not asked about for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Groups told of one server; what is left is told together.
const MOST_GROUPS: usize = 16;
/// Bytes of a program's name that are told.
const MOST_NAME: usize = 200;
/// What is said of programs that cannot be read.
const UNREADABLE: &str = "(a process of this user holds whoever reads its programs)";
/// Files looked into for Python in one asking; the others are what they say.
const MOST_FILES: usize = 16;
/// Cgroups of one server that are looked at in one asking.
const MOST_CGROUPS: usize = 4096;
/// And time for finding processes, of all servers together.
const WALKED_FOR: Duration = Duration::from_millis(500);
/// Processes of one user that are told of.
const MOST_AT_ONCE: usize = 4096;
/// Files whose answer is kept.
const MOST_KEPT: usize = 4096;

/// A server to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its cgroup's id.
    pub id: u64,
    /// Its user.
    pub owner: Owner,
    /// Its cgroup's directory.
    pub directory: PathBuf,
}

/// A program by the process that runs it: what it is and how it is called.
pub type Programs = Vec<(u32, Kind, String)>;

/// What runs in them.
pub type Groups = BTreeMap<u64, Vec<Group>>;

/// Processes of one server that run the same program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What it is; `None` for what is left when there are many groups.
    pub kind: Option<Kind>,
    /// Path or package, as the user has it: any text. Empty for what is left.
    pub program: String,
    /// How many run it.
    pub processes: usize,
    /// What they use together.
    pub cpu: Cores,
}

/// Looks at servers' processes, and remembers what it needs for the next time.
#[derive(Debug, Default)]
pub struct ProcessList {
    servers: BTreeMap<u64, Reading>,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    /// CPU time by process: number and start, in clock ticks.
    ticks: BTreeMap<(u32, u64), u64>,
    /// What each process used since the reading before.
    used: BTreeMap<u32, u64>,
    /// For how long, in seconds.
    span: f64,
    groups: Vec<Group>,
}

impl ProcessList {
    /// What runs in these servers; takes half a second where one was not asked about just before, and
    /// as long as `programs` takes to say what users' processes run. A user of whom it says nothing is
    /// unreadable.
    pub fn look(
        &mut self,
        servers: &[Place],
        programs: impl FnOnce(BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, Programs>,
    ) -> Groups {
        let begun = Instant::now();
        self.servers
            .retain(|_, reading| begun.duration_since(reading.at) < FORGOTTEN);
        // Each server's own, so that one of very many cgroups costs the others nothing.
        let time = WALKED_FOR / u32::try_from(servers.len().max(1)).unwrap_or(u32::MAX);
        let mut again = Vec::new();
        let mut read = BTreeSet::new();
        for Place { id, directory, .. } in servers {
            let age = self.servers.get(id).map(|before| before.at.elapsed());
            match age {
                Some(age) if age < YOUNG => continue,
                Some(age) if age < OLD => self.read(*id, directory, time),
                _ => {
                    self.servers.remove(id);
                    self.read(*id, directory, time);
                    again.push((id, directory));
                }
            }
            read.insert(*id);
        }
        if !again.is_empty() {
            std::thread::sleep(BETWEEN);
        }
        for (id, directory) in again {
            self.read(*id, directory, time);
        }
        let mut pids: BTreeMap<Owner, Vec<u32>> = BTreeMap::new();
        for place in servers.iter().filter(|place| read.contains(&place.id)) {
            let processes = self.servers.get(&place.id).into_iter();
            let processes = processes.flat_map(|reading| reading.used.keys());
            pids.entry(place.owner.clone())
                .or_default()
                .extend(processes);
        }
        let known = match pids.is_empty() {
            true => BTreeMap::new(),
            false => programs(pids),
        };
        for place in servers.iter().filter(|place| read.contains(&place.id)) {
            if let Some(reading) = self.servers.get_mut(&place.id) {
                reading.group(known.get(&place.owner));
            }
        }
        let groups = |place: &Place| Some((place.id, self.servers.get(&place.id)?.groups.clone()));
        servers.iter().filter_map(groups).collect()
    }

    fn read(&mut self, id: u64, directory: &Path, time: Duration) {
        let at = Instant::now();
        let budget = Budget::new(MOST_CGROUPS, MOST_PROCESSES, time);
        let before = self.servers.remove(&id);
        let span = before
            .as_ref()
            .map_or(0.0, |before| at.duration_since(before.at).as_secs_f64());
        let mut ticks = BTreeMap::new();
        let mut used_since = BTreeMap::new();
        let (found, _) = processes(directory, budget);
        for process in found.into_iter().map(Process::new) {
            // Gone meanwhile: there is nothing to tell.
            let Some((used, started)) = process.used_and_started() else {
                continue;
            };
            let key = (process.pid(), started);
            // One that was not there before has used all of it since.
            let earlier = before
                .as_ref()
                .map_or(used, |b| b.ticks.get(&key).copied().unwrap_or(0));
            ticks.insert(key, used);
            used_since.insert(process.pid(), used.saturating_sub(earlier));
        }
        let reading = Reading {
            at,
            ticks,
            used: used_since,
            span,
            groups: Vec::new(),
        };
        self.servers.insert(id, reading);
    }
}

impl Reading {
    /// Puts processes that run the same program together; those of no program are none.
    fn group(&mut self, programs: Option<&Programs>) {
        let mut groups: BTreeMap<(Kind, String), (usize, u64)> = BTreeMap::new();
        let mut add = |kind, name: &str, ticks| {
            let group = groups.entry((kind, name.to_owned())).or_default();
            group.0 += 1;
            group.1 += ticks;
        };
        match programs {
            Some(programs) => {
                for (pid, kind, name) in programs {
                    if let Some(ticks) = self.used.get(pid) {
                        add(*kind, name, *ticks);
                    }
                }
            }
            None => {
                for ticks in self.used.values() {
                    add(Kind::Unreadable, UNREADABLE, *ticks);
                }
            }
        }
        let group = |((kind, program), (processes, ticks))| Group {
            kind: Some(kind),
            program,
            processes,
            cpu: cores(ticks, self.span),
        };
        self.groups = few(groups.into_iter().map(group).collect());
    }
}

/// Says what processes run; remembers which files have Python in them.
#[derive(Debug, Default)]
pub struct Reader {
    python: BTreeMap<(u64, u64, u64, i64), bool>,
}

impl Reader {
    /// What these processes run. One that is gone, or that has no program as a kernel thread has none,
    /// is left out.
    pub fn programs(&mut self, pids: &[u32]) -> Programs {
        let mut files = 0;
        let pids = pids.iter().take(MOST_AT_ONCE);
        pids.filter_map(|pid| {
            let (kind, name) = self.program(Process::new(*pid), &mut files).ok()?;
            Some((*pid, kind, name))
        })
        .collect()
    }

    fn program(
        &mut self,
        process: Process,
        files: &mut usize,
    ) -> Result<(Kind, String), ProcessError> {
        let program = Program::of(&process)?;
        // `comm`, not the command line, which is memory of the process's.
        let called = process.read("comm", 64)?;
        let kind = program.kind(&called, |process| {
            if let Some(known) = self.python.get(&program.identity) {
                return Ok(*known);
            }
            *files += 1;
            if *files > MOST_FILES {
                return Ok(true);
            }
            let has = has_python(process)?;
            if self.python.len() >= MOST_KEPT {
                self.python.clear();
            }
            self.python.insert(program.identity, has);
            Ok(has)
        })?;
        Ok((kind, name(kind, &program.path)))
    }
}

/// The worker's side: a file of a process's may be on a file system that does not answer.
///
/// # Errors
/// It was not started as one.
pub fn work() -> Result<(), ServeError> {
    let mut reader = Reader::default();
    workers::serve(|pids: Vec<u32>| reader.programs(&pids))
}

/// The busiest, and what is left in one.
fn few(mut groups: Vec<Group>) -> Vec<Group> {
    groups.sort_by(|a, b| b.cpu.0.total_cmp(&a.cpu.0).then(a.program.cmp(&b.program)));
    if groups.len() > MOST_GROUPS {
        let left = groups.split_off(MOST_GROUPS - 1);
        groups.push(Group {
            kind: None,
            program: String::new(),
            processes: left.iter().map(|group| group.processes).sum(),
            cpu: Cores(left.iter().map(|group| group.cpu.0).sum()),
        });
    }
    groups
}

fn cores(ticks: u64, seconds: f64) -> Cores {
    use nix::unistd::{SysconfVar, sysconf};
    // Linux has had 100 everywhere for long.
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    match seconds > 0.0 {
        true => Cores(ticks as f64 / a_second / seconds),
        false => Cores(0.0),
    }
}

/// How a program is called: by package where its path tells one, else by path.
fn name(kind: Kind, path: &Path) -> String {
    let text = path.as_os_str().as_bytes();
    let text = text.strip_suffix(b" (deleted)").unwrap_or(text);
    let path = Path::new(std::ffi::OsStr::from_bytes(text));
    let parts: Vec<&[u8]> = path
        .components()
        .map(|part| part.as_os_str().as_bytes())
        .collect();
    let after = |words: &[&[u8]]| {
        let at = parts.iter().position(|part| words.contains(part))?;
        parts.get(at + 1).copied()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "");
    let file = parts.last().copied().unwrap_or_default();
    let name = match (kind, after(&[b"site-packages", b"dist-packages"])) {
        (_, Some(package)) if package != file => {
            format!("{} of package {}", text(file), text(package))
        }
        (Kind::Conda, _) => match after(&[b"envs"]) {
            Some(environment) => format!("{} of environment {}", text(file), text(environment)),
            None => format!("{} of conda", text(file)),
        },
        _ => text(path.as_os_str().as_bytes()),
    };
    // The end of a long path says more than its beginning.
    match name.char_indices().rev().nth(MOST_NAME - 1) {
        Some((at, _)) if at > 0 => format!("…{}", name.get(at..).unwrap_or_default()),
        _ => name,
    }
}

#[cfg(test)]
mod tests;
