//! Processes for what a process can hold up: reading its memory, its arguments and its files.
//!
//! A process can hold its own `mmap_lock` for good, and a page of its memory or its program may be a
//! file's on a file system that answers late or never. Whoever reads it then waits in the kernel, often
//! where not even SIGKILL wakes it (docs/evidence.md has what was measured), until the file system's
//! server is gone; and a process does not end before the last of its threads. So such work is given to a
//! worker, a process of our own. A user has one worker at work at most, whatever number of servers and
//! processes that user has. One that is late is left at it, other workers serve the other users
//! meanwhile, and the user is asked about again once it is released. Nothing here ever waits without a
//! bound, and the daemon ends when it is to: who is held then ends when let go.

mod holders;
mod worker;

pub use holders::{Claim, Holders, Owner};
pub use worker::{Worker, serve};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Workers that may be at work at once in all pools, late ones included. `TasksMax=` of the unit has room
/// for them.
pub const MOST_AT_WORK: usize = 128;
/// Workers of one pool that may be at work in time; each keeps a core busy.
const MOST_IN_TIME: usize = 4;
/// One at work for longer makes room for another, since it waits and does not compute.
const IN_TIME: Duration = Duration::from_millis(300);
/// One at work for longer is late: a scan of memory takes two seconds at most, where the CPU is waited for.
const LATE: Duration = Duration::from_secs(3);
/// Jobs of one user that wait.
const MOST_WAITING: usize = 1024;
/// How often a user is tried again who has another pool's worker at work.
const TRIED_EVERY: Duration = Duration::from_millis(20);
/// The running program, also where its file is replaced.
pub const OURSELVES: &str = "/proc/self/exe";

/// Why a worker cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is nobody to answer.
    #[error("a worker is started by hubwarden itself, with a socket as standard input: {0}")]
    NoSocket(#[from] std::io::Error),
    /// What comes is no job.
    #[error("a worker was given something that is no job: {0}")]
    NoJob(#[from] serde_json::Error),
}

/// The command that starts a worker of ours.
pub fn command(ourselves: &Path, work: &str) -> Command {
    let mut command = Command::new(ourselves);
    command.args(["worker", work]);
    command
}

/// Workers for one kind of work, from a job to an answer, shared fairly among users.
pub struct Workers<J, A> {
    program: Box<dyn Fn() -> Command + Send>,
    holders: Holders,
    free: Vec<Worker<J, A>>,
    at_work: BTreeMap<Owner, AtWork<J, A>>,
    waiting: BTreeMap<Owner, VecDeque<J>>,
    /// Who was served last; the next user's turn is next.
    last: Option<Owner>,
    /// Why no worker could be started when that was tried last.
    refused: Option<String>,
}

struct AtWork<J, A> {
    worker: Worker<J, A>,
    job: J,
    since: Instant,
    _claim: Claim,
}

impl<J: Serialize, A: DeserializeOwned> Workers<J, A> {
    /// Workers that are this program; there is none before there is any work.
    pub fn new(holders: Holders, program: impl Fn() -> Command + Send + 'static) -> Self {
        Workers {
            program: Box::new(program),
            holders,
            free: Vec::new(),
            at_work: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: None,
            refused: None,
        }
    }

    /// Proves that there can be one.
    ///
    /// # Errors
    /// It cannot be started, or does not answer this in that time.
    pub fn try_out(&mut self, job: &J, patience: Duration) -> std::io::Result<()> {
        let mut worker = Worker::start((self.program)())?;
        worker.give(job)?;
        if worker.answer_within(patience)?.is_none() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.free.push(worker);
        Ok(())
    }

    /// Ends the workers that have nothing to do.
    pub fn rest(&mut self) {
        self.free.clear();
    }

    /// Has a job of this user's wait for its turn. False where it will have none: a worker is late with
    /// an earlier job of the user's, or too many wait.
    pub fn add(&mut self, owner: &Owner, job: J) -> bool {
        if self.is_held(owner) {
            return false;
        }
        let waiting = self.waiting.entry(owner.clone()).or_default();
        if waiting.len() >= MOST_WAITING {
            return false;
        }
        waiting.push_back(job);
        true
    }

    /// Gives jobs that wait to workers, and returns the answers that are there. Waits for workers that
    /// are in time, no longer than until then, and never for one that is late.
    pub fn turn(&mut self, until: Instant) -> Vec<(Owner, A)> {
        let mut answers = Vec::new();
        loop {
            self.collect(&mut answers);
            self.start_waiting();
            let now = Instant::now();
            let in_time = self.at_work.values().filter_map(AtWork::time_left).max();
            let Some(longest) = in_time.or((!self.waiting.is_empty()).then_some(TRIED_EVERY))
            else {
                break;
            };
            if now >= until || self.refused.is_some() && in_time.is_none() {
                break;
            }
            let mut longest = longest.min(until.duration_since(now));
            if !self.waiting.is_empty() {
                longest = longest.min(TRIED_EVERY);
            }
            let longest = Timespec {
                tv_sec: longest.as_secs() as i64,
                tv_nsec: longest.subsec_nanos().into(),
            };
            let mut ready: Vec<PollFd<'_>> = self
                .fds()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            // Interrupted or not, the next round finds what there is.
            let _ = poll(&mut ready, Some(&longest));
        }
        answers
    }

    /// Readable when an answer is there.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.at_work.values().map(|at_work| at_work.worker.fd())
    }

    /// Users of whom a worker is late, with the job that it is late with.
    pub fn held(&self) -> impl Iterator<Item = (&Owner, &J)> {
        let late = self.at_work.iter().filter(|(_, at_work)| at_work.is_late());
        late.map(|(owner, at_work)| (owner, &at_work.job))
    }

    /// Whether a worker is late with this user's processes.
    pub fn is_held(&self, owner: &Owner) -> bool {
        self.at_work.get(owner).is_some_and(AtWork::is_late)
    }

    /// Why users are not served who hold nobody; in words.
    pub fn trouble(&self) -> Option<String> {
        match &self.refused {
            Some(why) => Some(format!("no process for it can be started: {why}")),
            None if self.holders.count() >= MOST_AT_WORK => Some(format!(
                "{MOST_AT_WORK} users hold up whoever reads their processes, and more processes for it are not started"
            )),
            None => None,
        }
    }

    /// Whether a job waits for its turn.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Gives up what waits; returns the users that it was for.
    pub fn clear(&mut self) -> Vec<Owner> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    fn collect(&mut self, answers: &mut Vec<(Owner, A)>) {
        for (owner, mut at_work) in std::mem::take(&mut self.at_work) {
            match at_work.worker.answer_within(Duration::ZERO) {
                Ok(Some(answer)) => {
                    answers.push((owner, answer));
                    if self.free.len() < MOST_IN_TIME {
                        self.free.push(at_work.worker);
                    }
                }
                Ok(None) => {
                    if at_work.is_late() {
                        self.waiting.remove(&owner);
                    }
                    self.at_work.insert(owner, at_work);
                }
                // It has ended: there is nothing to be had of this job.
                Err(_) => {}
            }
        }
    }

    fn start_waiting(&mut self) {
        let in_time = |at_work: &&AtWork<J, A>| at_work.time_left().is_some();
        let mut room = MOST_IN_TIME.saturating_sub(self.at_work.values().filter(in_time).count());
        for owner in self.in_turn() {
            if room == 0 {
                return;
            }
            if self.at_work.contains_key(&owner) {
                continue;
            }
            let Some(claim) = self.holders.claim(&owner, MOST_AT_WORK) else {
                continue;
            };
            let Some(worker) = self.hire() else {
                return;
            };
            self.begin(owner, worker, claim);
            room -= 1;
        }
    }

    /// Users with jobs that wait, in the order of their turns.
    fn in_turn(&self) -> Vec<Owner> {
        let Some(last) = &self.last else {
            return self.waiting.keys().cloned().collect();
        };
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let up_to = (Bound::Unbounded, Bound::Included(last));
        let later = self.waiting.range::<Owner, _>(after);
        let first = self.waiting.range::<Owner, _>(up_to);
        later.chain(first).map(|(owner, _)| owner.clone()).collect()
    }

    fn hire(&mut self) -> Option<Worker<J, A>> {
        if let Some(worker) = self.free.pop() {
            return Some(worker);
        }
        let started = Worker::start((self.program)());
        self.refused = started.as_ref().err().map(ToString::to_string);
        started.ok()
    }

    fn begin(&mut self, owner: Owner, mut worker: Worker<J, A>, claim: Claim) {
        let Some(jobs) = self.waiting.get_mut(&owner) else {
            return;
        };
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.waiting.remove(&owner);
        }
        self.last = Some(owner.clone());
        let Some(job) = job else {
            return;
        };
        // One that has ended since is no answer: what stands is asked for again.
        if worker.give(&job).is_err() {
            return;
        }
        let at_work = AtWork {
            worker,
            job,
            since: Instant::now(),
            _claim: claim,
        };
        self.at_work.insert(owner, at_work);
    }
}

impl<J, A> AtWork<J, A> {
    /// For how long it is still in time.
    fn time_left(&self) -> Option<Duration> {
        IN_TIME.checked_sub(self.since.elapsed())
    }

    fn is_late(&self) -> bool {
        self.since.elapsed() >= LATE
    }
}

impl<J, A> Drop for Workers<J, A> {
    /// All are killed before the first is waited for, which is done for a moment only.
    fn drop(&mut self) {
        let at_work = self.at_work.values_mut().map(|one| &mut one.worker);
        let mut all: Vec<&mut Worker<J, A>> = at_work.chain(&mut self.free).collect();
        for worker in &mut all {
            worker.kill();
        }
        let begun = Instant::now();
        for worker in all {
            worker.end_by(begun + worker::ENDS_IN);
        }
    }
}

#[cfg(test)]
mod tests;
