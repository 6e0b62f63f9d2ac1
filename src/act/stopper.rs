//! Ending what mines: a whole cgroup, or single processes of it, at once and for good.
//!
//! A unit whose time is up is stopped through systemd, which asks its processes first. A miner is
//! not asked. It stands still already when this is called, so that nothing of it can fork away,
//! and what was ended is looked at afterwards.

use super::cgroup::Opened;
use super::{ActError, CgroupCpu};
use cgroup::walk::{Budget, processes};
use quantities::{CgroupId, CgroupPath};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sensors::process::Process;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes that were killed may take to be gone; a frozen group of thousands took 1 ms.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// And to stand still: 8 ms for four that compute.
const FROZEN_WITHIN: Duration = Duration::from_secs(1);
const LOOKED_EVERY: Duration = Duration::from_millis(10);
/// Cgroups that a process is sought in, and for how long.
const MOST_CGROUPS: usize = 100_000;
const SOUGHT_FOR: Duration = Duration::from_secs(2);
/// Most processes ended one by one.
const MOST: usize = 512;

/// Ends processes of servers.
#[derive(Debug, Clone)]
pub struct Stopper {
    cgroups: CgroupCpu,
    root: PathBuf,
    proc: PathBuf,
}

/// A process by its number and by when it was started (clock ticks since the boot), so that no
/// other one of the same number is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its number.
    pub pid: u32,
    /// Field 22 of its `stat`.
    pub started: u64,
}

impl Stopper {
    /// Works below this mount of cgroup v2.
    pub fn new(root: &Path) -> Stopper {
        Stopper {
            cgroups: CgroupCpu::new(root),
            root: root.to_owned(),
            proc: PathBuf::from("/proc"),
        }
    }

    /// Proves, without ending anything, that [`Stopper::end_all`] would work.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn try_out_all(&self) -> Result<(), String> {
        // Ours, or any: the root itself has none.
        let own = std::fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let below = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        let file = std::iter::once(self.root.join(own.unwrap_or_default()))
            .chain(below.map(|entry| entry.path()))
            .map(|directory| directory.join("cgroup.kill"))
            .find(|file| file.exists())
            .ok_or("no cgroup has a cgroup.kill (Linux 5.14 has it)")?;
        std::fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .map(drop)
            .map_err(|error| format!("{} cannot be written: {error}", file.display()))
    }

    /// Proves, without ending anything, that [`Stopper::end`] would work.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn try_out_one(&self) -> Result<(), String> {
        // Continuing is what we do already.
        let me = open_process(std::process::id()).map_err(|error| format!("pidfd: {error}"))?;
        pidfd_send_signal(&me, Signal::CONT)
            .map_err(|error| format!("a pidfd's signal: {error}"))?;
        let others = std::fs::read_dir(&self.proc)
            .into_iter()
            .flatten()
            .flatten();
        let other = others
            .filter(|entry| entry.metadata().is_ok_and(|file| file.uid() != 0))
            .find_map(|entry| entry.file_name().to_str()?.parse().ok());
        match other {
            // Nobody's but root's, who is no user.
            None => Ok(()),
            Some(pid) => match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
                Err(error) => Err(format!(
                    "users' processes cannot be signalled (CAP_KILL is needed): {error}"
                )),
            },
        }
    }

    /// Ends everything in a cgroup and below it, and returns once it is gone.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the cgroup was removed or is another by now, which is success too;
    /// otherwise the kernel's refusal, or that something would not end.
    pub async fn end_all(&self, cgroup: &CgroupPath, id: CgroupId) -> Result<(), ActError> {
        let opened = self.cgroups.open(cgroup, id)?;
        if says(&opened, "populated 1")? {
            stand_still(&opened).await;
            opened.write("cgroup.kill", "1")?;
        }
        let begun = Instant::now();
        while says(&opened, "populated 1")? {
            if begun.elapsed() >= GONE_WITHIN {
                let why = "processes in it were killed and do not end (they wait for a disk?)";
                return Err(opened.failed("cgroup.events", why.to_owned()));
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        Ok(())
    }

    /// Ends these processes where they still are what they were and in this cgroup; returns how
    /// many were.
    ///
    /// # Errors
    /// As for [`Stopper::end_all`].
    pub async fn end(
        &self,
        cgroup: &CgroupPath,
        id: CgroupId,
        processes: &[Named],
    ) -> Result<usize, ActError> {
        let opened = self.cgroups.open(cgroup, id)?;
        let mut members = Members::new(&self.root.join(cgroup.as_str()), cgroup);
        let mut ended: Vec<OwnedFd> = Vec::new();
        for named in processes.iter().take(MOST) {
            let process = Process::new(named.pid);
            // In this order: what is open cannot become another, so what is asked then is of it.
            let Ok(open) = open_process(named.pid) else {
                continue;
            };
            if process.started() != Some(named.started) {
                continue;
            }
            match members.has(process).await {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    let why = format!(
                        "process {} may be in it, and was not found among its first {} cgroups; end the \
                         whole server (evidence.stop = \"server\")",
                        named.pid, MOST_CGROUPS
                    );
                    return Err(opened.failed("cgroup.procs", why));
                }
            }
            match pidfd_send_signal(&open, Signal::KILL) {
                Ok(()) => ended.push(open),
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    let why = format!("process {} could not be ended: {error}", named.pid);
                    return Err(opened.failed("cgroup.procs", why));
                }
            }
        }
        let begun = Instant::now();
        while !ended.iter().all(has_ended) {
            if begun.elapsed() >= GONE_WITHIN {
                let why = "a process was killed and does not end (it waits for a disk?)";
                return Err(opened.failed("cgroup.procs", why.to_owned()));
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        Ok(ended.len())
    }
}

/// Who is in a cgroup or below it.
struct Members {
    directory: PathBuf,
    /// As `/proc/PID/cgroup` has it.
    path: String,
    /// Its processes and whether these are all, once it was walked through.
    walked: Option<(Vec<u32>, bool)>,
}

impl Members {
    fn new(directory: &Path, cgroup: &CgroupPath) -> Members {
        Members {
            directory: directory.to_owned(),
            path: cgroup.as_str().trim_start_matches('/').to_owned(),
            walked: None,
        }
    }

    /// Whether a process is one of them; `None` where there is too much to look through.
    async fn has(&mut self, process: Process) -> Option<bool> {
        // Its beginning is enough: Linux 6.18 cuts a path that is longer than PATH_MAX. Others fail with
        // ENAMETOOLONG. What it does not name is sought in the lists of the cgroups, which decide.
        let told = match process.read("cgroup", 16 << 10) {
            Ok(text) if self.names(&text) => return Some(true),
            Ok(_) => Some(false),
            Err(error) if error.source.raw_os_error() == Some(nix::libc::ENAMETOOLONG) => None,
            Err(_) => return Some(false),
        };
        self.found_by_walking(process.pid()).await.or(told)
    }

    fn names(&self, text: &[u8]) -> bool {
        // The unified hierarchy is number 0 and names no controllers (cgroups(7)).
        let line = text
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"0::/"));
        let rest = line.and_then(|line| line.strip_prefix(self.path.as_bytes()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    async fn found_by_walking(&mut self, pid: u32) -> Option<bool> {
        let (members, all) = match self.walked.take() {
            Some(walked) => walked,
            None => {
                let directory = self.directory.clone();
                let budget = Budget::new(MOST_CGROUPS, usize::MAX, SOUGHT_FOR);
                // Some seconds of system calls, which must not delay other users.
                let walk = tokio::task::spawn_blocking(move || processes(&directory, budget));
                walk.await.unwrap_or_default()
            }
        };
        let (members, all) = self.walked.insert((members, all));
        match members.contains(&pid) {
            true => Some(true),
            false => all.then_some(false),
        }
    }
}

fn open_process(pid: u32) -> rustix::io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pidfd_open(pid.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn has_ended(process: &OwnedFd) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    poll(&mut asked, Some(&rustix::event::Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Freezes a cgroup, so that nothing in it does anything more. Killing works without that too,
/// so what is in the way of it is passed over.
async fn stand_still(opened: &Opened<'_>) {
    if opened.write("cgroup.freeze", "1").is_err() {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < FROZEN_WITHIN && says(opened, "frozen 1").is_ok_and(|frozen| !frozen) {
        tokio::time::sleep(LOOKED_EVERY).await;
    }
}

/// Whether `cgroup.events` has this line: "populated 1" is for anything alive in it or below it.
/// A cgroup that was removed is empty.
fn says(opened: &Opened<'_>, line: &str) -> Result<bool, ActError> {
    match opened.read("cgroup.events") {
        Ok(text) => Ok(text.lines().any(|one| one == line)),
        Err(error) if error.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
