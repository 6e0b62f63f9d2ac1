//! One pass over `/proc`.

use super::accounts::Accounts;
use super::network::{self, Bridges};
use super::{Ask, Directories};
use hubwarden_core::coverage::{
    Facts, Known, Location, LocationKind, MOST_PROCESSES, Membership, Network, Process, Said, Watch,
};
use quantities::CgroupPath;
use rustix::fs::{CWD, Dir, Mode, OFlags, fstat, openat, readlinkat};
use sensors::workers::{self, Owner, ServeError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The pass ends after this; processes that are left are counted.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a file of the kernel's that are read: a cgroup's path has 4096 at most.
const MOST_KERNEL: usize = 8 * 1024;
/// Bytes of a process's arguments and of its environment.
const MOST_ARGUMENTS: usize = 4 * 1024;
const MOST_ENVIRONMENT: usize = 64 * 1024;
/// Namespaces that are looked into.
const MOST_NAMESPACES: usize = 4096;
/// Of the flags in `stat`: a thread of the kernel's (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// What a worker that reads for a survey is started for.
pub const WORK: &str = "coverage";

/// Processes that say something of a hub.
pub(crate) type Asked = Vec<(u32, Said)>;

/// The worker's side: reads what processes say of themselves until the daemon is gone.
///
/// # Errors
/// Standard input is no socket that jobs come by.
pub fn work() -> Result<(), ServeError> {
    workers::serve(|pids: Vec<u32>| said(Path::new("/proc"), &pids))
}

/// Which of these processes say something of a hub. A process can hold this up for good.
pub(crate) fn said(proc: &Path, pids: &[u32]) -> Asked {
    let mut arguments = vec![0; MOST_ARGUMENTS];
    let mut environment = vec![0; MOST_ENVIRONMENT];
    let mut of = |pid: u32| {
        let path = |name: &str| proc.join(format!("{pid}/{name}"));
        // One that has ended, or that is not ours to read, says nothing.
        let arguments = read_once(CWD, path("cmdline"), &mut arguments).unwrap_or_default();
        let environment = read_once(CWD, path("environ"), &mut environment).unwrap_or_default();
        (pid, Said::read(arguments, environment))
    };
    let all = pids.iter().map(|pid| of(*pid));
    all.filter(|(_, said)| !said.is_nothing()).collect()
}

/// The beginning of a file of procfs, which gives all that there is room for at the first read
/// (fs/seq_file.c, `single_open`; fs/proc/base.c, `environ_read`).
fn read_once(directory: impl AsFd, name: impl AsRef<Path>, buffer: &mut [u8]) -> Option<&[u8]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(directory, name.as_ref(), flags, Mode::empty()).ok()?;
    let read = rustix::io::read(&file, &mut *buffer).ok()?;
    buffer.get(..read)
}

/// What can be read without waiting for any process.
#[derive(Debug, Default)]
pub(super) struct Scan {
    processes: Vec<Process>,
    pub unseen: usize,
}

impl Scan {
    /// The cgroups of all processes, with repetitions.
    pub fn cgroups(&self) -> impl Iterator<Item = &CgroupPath> {
        self.processes.iter().map(|process| process.cgroup.path())
    }
}

/// Looks at every process; none where there is no `/proc`.
pub(super) fn scan(proc: &Path) -> Scan {
    scan_within(proc, MOST_PROCESSES, PATIENCE)
}

/// Looks at so many processes at most, for so long at most.
pub(super) fn scan_within(proc: &Path, most: usize, patience: Duration) -> Scan {
    let mut scan = Scan::default();
    let Ok(directory) = openat(
        CWD,
        proc,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return scan;
    };
    let Ok(entries) = Dir::read_from(&directory) else {
        return scan;
    };
    let host = network_of(&directory, "self");
    let until = Instant::now() + patience;
    let mut buffer = vec![0; MOST_KERNEL];
    for entry in entries.flatten() {
        let name = entry.file_name().to_str().unwrap_or_default();
        let Ok(pid) = name.parse() else {
            continue;
        };
        if scan.processes.len() >= most || Instant::now() >= until {
            scan.unseen += 1;
        } else {
            scan.processes
                .extend(process(&directory, name, pid, host, &mut buffer));
        }
    }
    scan
}

/// A process; `None` where it has ended or is a thread of the kernel's. What is opened below its directory
/// is of the same process, or of none (fs/proc/base.c).
fn process(
    proc: &OwnedFd,
    name: &str,
    pid: u32,
    host: Option<u64>,
    buffer: &mut [u8],
) -> Option<Process> {
    let directory = openat(proc, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let uid = fstat(&directory).ok()?.st_uid;
    let cgroup = membership(read_once(&directory, "cgroup", buffer)?)?;
    let mut process = Process {
        pid,
        parent: None,
        uid,
        cgroup,
        network: Network::Unknown,
        said: None,
        unread: false,
    };
    // The kernel's threads are in the root cgroup.
    if process.cgroup.path().as_str().is_empty() {
        let (parent, flags) = stat(read_once(&directory, "stat", buffer)?)?;
        if flags & PF_KTHREAD != 0 {
            return None;
        }
        process.parent = Some(parent);
    }
    process.network = match (network_of(&directory, "."), host) {
        (Some(inode), Some(host)) if inode == host => Network::Host,
        (Some(inode), Some(_)) => Network::Other(inode),
        _ => Network::Unknown,
    };
    Some(process)
}

fn membership(bytes: &[u8]) -> Option<Membership> {
    Membership::read(&String::from_utf8_lossy(bytes))
}

/// The inode number of a process's network namespace: `net:[4026531840]` (namespaces(7)).
fn network_of(directory: impl AsFd, process: &str) -> Option<u64> {
    let link = readlinkat(directory, format!("{process}/ns/net"), Vec::new()).ok()?;
    let text = link.to_str().ok()?;
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Parent and flags, fields 4 and 9 of `stat`; the name before them may hold anything (proc(5)).
fn stat(bytes: &[u8]) -> Option<(u32, u32)> {
    let text = String::from_utf8_lossy(bytes);
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(4)?.parse().ok()?))
}

/// Adds what takes longer, of the places that are not mapped to a user: parents, what processes say, names
/// of accounts, unit files; and what is in the namespaces of those that are watched.
pub(super) fn complete(
    scan: Scan,
    directories: &Directories,
    watch: &Watch,
    ask: Ask<'_>,
    accounts: &mut Accounts,
    bridges: &mut Bridges,
) -> Facts {
    let proc = directories.proc.as_path();
    let mut facts = Facts {
        processes: scan.processes,
        unseen: scan.unseen,
        ..Facts::default()
    };
    // Many processes share a cgroup.
    let mut places: HashMap<CgroupPath, (Location, bool)> = HashMap::new();
    let mut jobs: BTreeMap<Owner, Vec<u32>> = BTreeMap::new();
    let mut owners: HashMap<u32, Owner> = HashMap::new();
    let mut buffer = vec![0; MOST_KERNEL];
    for process in &mut facts.processes {
        let cgroup = process.cgroup.path();
        let (place, mapped) = places
            .entry(cgroup.clone())
            .or_insert_with(|| (Location::of(cgroup), watch.is_mapped(cgroup)));
        if *mapped {
            continue;
        }
        // Root in a container may be a user, who is to hold up the reading of that container alone.
        let owner: Owner = format!("uid {} in {}", process.uid, place.cgroup).into();
        owners.insert(process.pid, Owner::clone(&owner));
        jobs.entry(owner).or_default().push(process.pid);
        if process.parent.is_none() {
            let file = proc.join(format!("{}/stat", process.pid));
            let parent = read_once(CWD, file, &mut buffer).and_then(stat);
            process.parent = parent.map(|(parent, _)| parent);
        }
    }
    let (wanted, asked) = (jobs.len(), owners.len());
    let answers = ask(jobs);
    if answers.is_empty() && wanted > 0 {
        // No worker could be started: no user is at fault.
        facts.unseen += asked;
    }
    let mut said: HashMap<u32, Said> = HashMap::new();
    let served: BTreeSet<&Owner> = answers.keys().collect();
    for process in &mut facts.processes {
        let owner = owners.get(&process.pid);
        process.unread = owner.is_some_and(|owner| !served.contains(owner)) && !served.is_empty();
    }
    drop(served);
    said.extend(answers.into_values().flatten());
    let mut uids = BTreeSet::new();
    for process in &mut facts.processes {
        if !owners.contains_key(&process.pid) || process.unread {
            continue;
        }
        let found = said.remove(&process.pid);
        // The number may be another process's by now.
        let found = found.filter(|_| is_still(proc, process, &mut buffer));
        if found.is_some() {
            uids.insert(process.uid);
            let place = places.get(process.cgroup.path()).map(|(place, _)| place);
            let unit = place.and_then(Location::unit);
            if let Some(unit) = unit.filter(|unit| unit.ends_with(".service"))
                && !directories.transient.join(unit).exists()
            {
                facts.unit_files.insert(unit.to_owned());
            }
        }
        process.said = Some(found.unwrap_or_default());
    }
    facts.accounts = accounts.names(&uids);
    bridges.begin();
    for process in &facts.processes {
        let Network::Other(inode) = process.network else {
            continue;
        };
        let is_login = places.get(process.cgroup.path());
        let is_login =
            is_login.is_some_and(|(one, _)| matches!(one.kind, LocationKind::Login { .. }));
        let known = watch.known_of(process.cgroup.path());
        let watched = matches!(known, Some(Known::Server { .. } | Known::Expected));
        let room = facts.namespaces.len() < MOST_NAMESPACES;
        if watched && !is_login && room && !facts.namespaces.contains_key(&inode) {
            let namespace = network::namespace(proc, process.pid, bridges);
            facts.namespaces.insert(inode, namespace);
        }
    }
    facts
}

fn is_still(proc: &Path, process: &Process, buffer: &mut [u8]) -> bool {
    let file = proc.join(format!("{}/cgroup", process.pid));
    let now = read_once(CWD, file, buffer).and_then(membership);
    now.as_ref() == Some(&process.cgroup)
}
