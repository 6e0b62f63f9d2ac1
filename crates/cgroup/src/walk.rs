//! The processes of a cgroup and of all below it, found by directory descriptors.
//!
//! Users make cgroups below their own: nested beyond `PATH_MAX`, many, and new ones all the time. So a
//! walk never uses a path of more than one directory below its top, goes up by `..`, and holds three
//! descriptors whatever the depth. It stops when its budget is used up, and goes on from there the next
//! time.
//!
//! `..` is safe here: a cgroup v2 never moves to another parent, and the `..` of a removed one still
//! is what its parent was (Linux 6.18).

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of names of cgroups that wait to be entered; only those with processes wait.
const MOST_NAMES: usize = 4 << 20;
/// Processes of one cgroup that are kept apart from those already found.
const MOST_IN_ONE: usize = 65_536;
/// Bytes of `cgroup.procs`: a pid has at most seven digits and a newline.
const MOST_BYTES: u64 = 8 * MOST_IN_ONE as u64;

/// What a walk may use before it stops.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Cgroups looked at, empty ones included (8 to 15 µs each).
    pub cgroups: usize,
    /// Processes found.
    pub processes: usize,
    /// When to stop, however little was done.
    pub until: Instant,
}

impl Budget {
    /// So many cgroups and processes, and so much time from now on.
    pub fn new(cgroups: usize, processes: usize, time: Duration) -> Budget {
        Budget {
            cgroups,
            processes,
            until: Instant::now() + time,
        }
    }
}

/// How much a walk has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Cgroups looked at, empty ones included.
    pub cgroups: usize,
    /// Processes found.
    pub processes: usize,
    /// Levels below the top, at most.
    pub depth: usize,
    /// Something was passed over: more names than [`MOST_NAMES`], or more processes in one cgroup
    /// than [`MOST_IN_ONE`].
    pub lost: bool,
}

/// A walk over a cgroup and what is below it.
#[derive(Debug)]
pub struct Walk {
    /// The directory that the walk is at.
    here: OwnedFd,
    step: Step,
    /// From the top to `here`, once `here` has been read.
    above: Vec<Level>,
    /// Bytes of names in `above`.
    names: usize,
    seen: Seen,
}

/// What is next to be done at a directory.
#[derive(Debug)]
enum Step {
    /// Reading its processes, of which these were found. The file is read anew each time: a number
    /// that was read a round ago may be another user's process by now.
    Processes(BTreeSet<u32>),
    /// Reading which children have processes.
    Children(Box<Dir>),
    /// Entering the next child, or going up.
    Next,
    Done,
}

/// A directory whose children are being entered.
#[derive(Debug)]
struct Level {
    inode: u64,
    /// Children with processes that were not entered yet.
    left: Vec<CString>,
}

impl Walk {
    /// Begins at this directory, a cgroup's.
    ///
    /// # Errors
    /// It cannot be opened; mostly since it is gone.
    pub fn new(top: &Path) -> std::io::Result<Walk> {
        Ok(Walk {
            here: File::open(top)?.into(),
            step: Step::Processes(BTreeSet::new()),
            above: Vec::new(),
            names: 0,
            seen: Seen::default(),
        })
    }

    /// How much it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Goes on until everything was seen (true) or the budget is used up (false), and adds the
    /// processes that it comes by, as `/proc` numbers them.
    pub fn go_on(&mut self, budget: Budget, found: &mut Vec<u32>) -> bool {
        let (most_cgroups, most_processes) = (
            self.seen.cgroups.saturating_add(budget.cgroups),
            found.len().saturating_add(budget.processes),
        );
        loop {
            if matches!(self.step, Step::Done) {
                return true;
            }
            if found.len() >= most_processes
                || self.seen.cgroups >= most_cgroups
                || Instant::now() >= budget.until
            {
                return false;
            }
            self.step = match std::mem::replace(&mut self.step, Step::Done) {
                Step::Processes(known) => self.read_processes(known, most_processes, found),
                Step::Children(children) => self.read_child(children),
                Step::Next => self.next(),
                Step::Done => Step::Done,
            };
        }
    }

    fn read_processes(
        &mut self,
        mut known: BTreeSet<u32>,
        most: usize,
        found: &mut Vec<u32>,
    ) -> Step {
        let (pids, all) = processes_in(self.here.as_fd());
        self.seen.lost |= !all;
        for pid in pids {
            if known.contains(&pid) {
                continue;
            }
            if known.len() >= MOST_IN_ONE {
                self.seen.lost = true;
                break;
            }
            if found.len() >= most {
                return Step::Processes(known);
            }
            known.insert(pid);
            found.push(pid);
            self.seen.processes += 1;
        }
        self.seen.cgroups += 1;
        // Gone meanwhile: there is nothing in it.
        let (Ok(children), Ok(stat)) = (Dir::read_from(&self.here), fstat(&self.here)) else {
            return self.up();
        };
        self.above.push(Level {
            inode: stat.st_ino,
            left: Vec::new(),
        });
        self.seen.depth = self.seen.depth.max(self.above.len() - 1);
        Step::Children(Box::new(children))
    }

    /// One child: it waits to be entered if there is any process in it or below it.
    fn read_child(&mut self, mut children: Box<Dir>) -> Step {
        let Some(Ok(entry)) = children.read() else {
            return Step::Next;
        };
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            if is_empty(self.here.as_fd(), name) {
                self.seen.cgroups += 1;
            } else if self.names + name.count_bytes() > MOST_NAMES {
                self.seen.lost = true;
            } else if let Some(level) = self.above.last_mut() {
                self.names += name.count_bytes();
                level.left.push(name.to_owned());
            }
        }
        Step::Children(children)
    }

    fn next(&mut self) -> Step {
        let Some(level) = self.above.last_mut() else {
            return Step::Done;
        };
        let Some(child) = level.left.pop() else {
            self.above.pop();
            return self.up();
        };
        self.names -= child.count_bytes();
        match openat(&self.here, &child, DIRECTORY, Mode::empty()) {
            Ok(child) => {
                self.here = child;
                Step::Processes(BTreeSet::new())
            }
            // Gone meanwhile.
            Err(_) => Step::Next,
        }
    }

    /// From a directory that is done with to the one above it, which is the last of `above`.
    fn up(&mut self) -> Step {
        let Some(level) = self.above.last() else {
            return Step::Done;
        };
        let up = openat(&self.here, c"..", DIRECTORY, Mode::empty());
        match up.and_then(|up| Ok((fstat(&up)?.st_ino, up))) {
            Ok((inode, up)) if inode == level.inode => {
                self.here = up;
                Step::Next
            }
            // No kernel seen does this. Nothing else can be reached from here.
            _ => {
                self.seen.lost = true;
                Step::Done
            }
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The processes of one cgroup, and whether these are all. None where it is gone, and of a threaded
/// cgroup (EOPNOTSUPP): the nearest one above that is not threaded lists its processes
/// (Documentation/admin-guide/cgroup-v2.rst, "Threads").
fn processes_in(directory: BorrowedFd<'_>) -> (Vec<u32>, bool) {
    let mut text = read_below(directory, c"cgroup.procs", MOST_BYTES).unwrap_or_default();
    let all = (text.len() as u64) < MOST_BYTES;
    if !all {
        // The last number may be half of one, which would name another process.
        let end = text.iter().rposition(|byte| *byte == b'\n');
        text.truncate(end.unwrap_or(0));
    }
    let pids = text.split(|byte| *byte == b'\n');
    let pids = pids
        .filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok())
        // 0 is a process that our pid namespace does not show.
        .filter(|pid| *pid != 0)
        .collect();
    (pids, all)
}

/// Whether a child says that no process is in it or below it. One without the file is entered: it is
/// gone, or no cgroup.
fn is_empty(directory: BorrowedFd<'_>, child: &CStr) -> bool {
    let name = [child.to_bytes(), b"/cgroup.events"].concat();
    let Ok(name) = CString::new(name) else {
        return false;
    };
    let text = read_below(directory, &name, 256).unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .any(|line| line == b"populated 0")
}

fn read_below(directory: BorrowedFd<'_>, name: &CStr, most: u64) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// The processes of a cgroup and of all below it, within this budget, and whether these are all.
/// None where it is gone.
pub fn processes(directory: &Path, budget: Budget) -> (Vec<u32>, bool) {
    let mut found = Vec::new();
    let all = match Walk::new(directory) {
        Ok(mut walk) => walk.go_on(budget, &mut found) && !walk.seen.lost,
        Err(_) => true,
    };
    (found, all)
}

#[cfg(test)]
mod tests;
