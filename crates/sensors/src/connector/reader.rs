//! The thread that finds out whose a started program is, and has it read.

use super::names::ReadNames;
use super::wire::{Message, Socket};
use super::{Matched, Missed, Reading};
use crate::process::Process;
use crate::set::{MOST_PROCESSES, owner};
use crate::workers::Owner;
use cgroup::walk;
use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Starts of one server that are read in a second, as `bpf/starts.bpf.c` has it.
const MOST_A_SECOND: u32 = 100;
/// After an overflow everybody is looked at again, this often at most.
const LOOKED_AGAIN: Duration = Duration::from_secs(10);
/// Cgroups of one server that are looked at then.
const MOST_CGROUPS: usize = 4096;
/// And for so long at most.
const LOOKED_FOR: Duration = Duration::from_millis(500);
/// How often a start is tried again that waits for its user's other one to be read.
const TRIED_EVERY: Duration = Duration::from_millis(20);
/// And how often workers that are at work are looked at.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(1);

/// Between the thread and who listens.
pub(super) struct Shared {
    /// Where cgroups are.
    pub root: PathBuf,
    pub guarded: Mutex<BTreeMap<PathBuf, u64>>,
    pub counts: Mutex<Counts>,
    pub owners: Mutex<BTreeMap<u64, Owner>>,
    /// Users that hold whoever reads their processes.
    pub held: Mutex<BTreeSet<Owner>>,
    pub end: OwnedFd,
    pub heard: OwnedFd,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub missed: Missed,
}

impl Shared {
    pub fn watch(&self, servers: &BTreeMap<u64, PathBuf>) {
        let paths = servers.iter().map(|(id, path)| (path.clone(), *id));
        *held(&self.guarded) = paths.collect();
    }

    pub fn owned_by(&self, owners: BTreeMap<u64, Owner>) {
        *held(&self.owners) = owners;
    }

    pub fn held(&self) -> BTreeSet<Owner> {
        held(&self.held).clone()
    }

    pub fn counts(&self) -> Counts {
        *held(&self.counts)
    }

    fn count(&self, add: impl FnOnce(&mut Missed)) {
        add(&mut held(&self.counts).missed);
    }

    /// The guarded server that a cgroup is, or is below.
    fn server(&self, cgroup: &Path) -> Option<u64> {
        let guarded = held(&self.guarded);
        cgroup
            .ancestors()
            .find_map(|path| guarded.get(path).copied())
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one server has started in this second.
struct Budget {
    begun: Instant,
    read: u32,
}

pub(super) struct Reader<R> {
    socket: Socket,
    shared: Arc<Shared>,
    tell: SyncSender<Matched>,
    names: R,
    budgets: BTreeMap<u64, Budget>,
    overflown: bool,
    looked: Option<Instant>,
}

impl<R: ReadNames> Reader<R> {
    pub fn new(socket: Socket, shared: Arc<Shared>, tell: SyncSender<Matched>, names: R) -> Self {
        Reader {
            socket,
            shared,
            tell,
            names,
            budgets: BTreeMap::new(),
            overflown: false,
            looked: None,
        }
    }

    pub fn read_until_the_end(&mut self) {
        while self.wait() {
            loop {
                match self.socket.next() {
                    Ok(Some(Message::Exec { pid })) => self.started(Process::new(pid)),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(Errno::ENOBUFS) => {
                        self.overflown = true;
                        self.shared.count(|missed| missed.overflows += 1);
                        // What lies in the queue is old; the look at everybody comes first if due.
                        break;
                    }
                    // Nothing else is said of a socket that stays open.
                    Err(_) => return,
                }
            }
            self.tell_what_was_read();
            if self.overflown && self.until_looked_again().is_zero() {
                self.look_again();
            }
        }
    }

    /// Until there is something to do; false at the end.
    fn wait(&self) -> bool {
        let mut longest = self.overflown.then(|| self.until_looked_again());
        if self.names.waits() {
            longest = Some(longest.map_or(TRIED_EVERY, |time| time.min(TRIED_EVERY)));
        }
        // One that becomes late says so by nothing that could be waited for.
        if !self.names.fds().is_empty() {
            longest = Some(longest.map_or(AGAIN_AT_LEAST, |time| time.min(AGAIN_AT_LEAST)));
        }
        let longest = longest.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        let end = self.shared.end.as_fd();
        let fds = [end, self.socket.as_fd()].into_iter();
        let mut ready: Vec<PollFd<'_>> = fds
            .chain(self.names.fds())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Interrupted or not, the next round finds what there is.
        let _ = poll(&mut ready, longest.as_ref());
        ready.first().is_some_and(|end| end.revents().is_empty())
    }

    fn until_looked_again(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |at| {
            LOOKED_AGAIN.saturating_sub(at.elapsed())
        })
    }

    fn started(&mut self, process: Process) {
        let cgroup = match cgroup_of(process) {
            Ok(cgroup) => cgroup,
            // Whose it is cannot be read so: it is found by looking at everybody.
            Err(Untold::TooDeep) => {
                self.overflown = true;
                return;
            }
            Err(Untold::Gone) => {
                self.shared.count(|missed| missed.ended += 1);
                return;
            }
        };
        let Some(server) = self.shared.server(&self.shared.root.join(cgroup)) else {
            return;
        };
        if !self.may_be_read(server) {
            self.shared.count(|missed| missed.too_fast += 1);
            return;
        }
        self.read(server, process);
    }

    fn read(&mut self, server: u64, process: Process) {
        let owner = owner(&held(&self.shared.owners), server);
        self.names.add(&owner, server, process);
    }

    fn tell_what_was_read(&mut self) {
        for (server, process, reading) in self.names.read() {
            match reading {
                Reading::Gone => self.shared.count(|missed| missed.ended += 1),
                Reading::Nothing => {}
                Reading::Pattern(pattern) => self.tell_of(server, process, pattern),
            }
        }
        *held(&self.shared.held) = self.names.held();
    }

    fn may_be_read(&mut self, server: u64) -> bool {
        let now = Instant::now();
        let is_over = |begun: Instant| now.duration_since(begun) >= Duration::from_secs(1);
        if !self.budgets.contains_key(&server) {
            self.budgets.retain(|_, budget| !is_over(budget.begun));
        }
        let new = Budget {
            begun: now,
            read: 0,
        };
        let budget = self.budgets.entry(server).or_insert(new);
        if is_over(budget.begun) {
            *budget = Budget {
                begun: now,
                read: 0,
            };
        }
        budget.read = budget.read.saturating_add(1);
        budget.read <= MOST_A_SECOND
    }

    fn tell_of(&self, cgroup: u64, process: Process, pattern: &'static str) {
        let pid = process.pid();
        // Full: more of the same says no more.
        let _ = self.tell.try_send(Matched {
            cgroup,
            pid,
            pattern,
        });
        let _ = rustix::io::write(&self.shared.heard, &1u64.to_ne_bytes());
    }

    /// Reads everybody who runs in a guarded server, since a start may have been thrown away. Each server
    /// has as much of the time that is left, so that no one uses up that of others.
    fn look_again(&mut self) {
        let end = Instant::now() + LOOKED_FOR;
        let servers = held(&self.shared.guarded).clone();
        let many = servers.len();
        for (at, (directory, server)) in servers.into_iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(many - at).unwrap_or(u32::MAX);
            let budget = walk::Budget::new(MOST_CGROUPS, MOST_PROCESSES, share);
            let (found, _) = walk::processes(&directory, budget);
            for pid in found {
                if Instant::now() >= budget.until {
                    break;
                }
                self.read(server, Process::new(pid));
            }
        }
        self.overflown = false;
        self.looked = Some(Instant::now());
    }
}

/// Why a process's cgroup is not told.
#[derive(Debug, PartialEq, Eq)]
enum Untold {
    Gone,
    /// Its path is longer than `PATH_MAX`: ENAMETOOLONG. Linux 6.18 gives the beginning, which is enough.
    TooDeep,
}

/// A process's cgroup, or its beginning, without the leading slash.
fn cgroup_of(process: Process) -> Result<PathBuf, Untold> {
    let text =
        process
            .read("cgroup", 16 << 10)
            .map_err(|error| match error.source.raw_os_error() {
                Some(nix::libc::ENAMETOOLONG) => Untold::TooDeep,
                _ => Untold::Gone,
            })?;
    // The unified hierarchy is number 0 and names no controllers (cgroups(7)).
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::/"));
    let line = line.ok_or(Untold::Gone)?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(line)))
}
