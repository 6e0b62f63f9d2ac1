//! Processes for what a process can hold up: reading its memory, its arguments and its files.
//!
//! A process can hold its own `mmap_lock` for good, and a page of its memory or its program may be a
//! file's on a file system that answers late or never. Whoever reads it then waits in the kernel, often
//! where not even SIGKILL wakes it (docs/evidence.md has what was measured), until the file system's
//! server is gone; and a process does not end before the last of its threads. So such work is given to a
//! helper, a process of our own. A user has one helper at work at most, whatever number of servers and
//! processes that user has. One that is late is left at it, other helpers serve the other users
//! meanwhile, and the user is asked about again once it is released. Nothing here ever waits without a
//! bound, and the daemon ends when it is to: who is held then ends when let go.

mod helper;
mod holders;

pub use helper::{Helper, serve};
pub use holders::{Claim, Holders, Owner};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Helpers that may be at work at once in all pools, late ones included. `TasksMax=` of the unit has room
/// for them.
pub const MOST_AT_WORK: usize = 128;
/// Helpers of one pool that may be at work in time; each keeps a core busy.
const MOST_IN_TIME: usize = 4;
/// One at work for longer makes room for another, since it waits and does not compute.
const IN_TIME: Duration = Duration::from_millis(300);
/// One at work for longer is late: a scan of memory takes two seconds at most, where the CPU is waited for.
const LATE: Duration = Duration::from_secs(3);
/// Jobs of one user that wait.
const MOST_WAITING: usize = 1024;
/// How often a user is tried again who has another pool's helper at work.
const TRIED_EVERY: Duration = Duration::from_millis(20);
/// The running program, also where its file is replaced.
pub const OURSELVES: &str = "/proc/self/exe";

/// Why a helper cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is nobody to answer.
    #[error("a helper is started by hubwarden itself, with a socket as standard input: {0}")]
    NoSocket(#[from] std::io::Error),
    /// What comes is no job.
    #[error("a helper was given something that is no job: {0}")]
    NoJob(#[from] serde_json::Error),
}

/// The command that starts a helper of ours.
pub fn command(ourselves: &Path, work: &str) -> Command {
    let mut command = Command::new(ourselves);
    command.args(["help-with", work]);
    command
}

/// Helpers for one kind of work, from a job to an answer, shared fairly among users.
pub struct Helpers<J, A> {
    program: Box<dyn Fn() -> Command + Send>,
    holders: Holders,
    free: Vec<Helper<J, A>>,
    at_work: BTreeMap<Owner, AtWork<J, A>>,
    waiting: BTreeMap<Owner, VecDeque<J>>,
    /// Who was served last; the next user's turn is next.
    last: Option<Owner>,
    /// Why no helper could be started when that was tried last.
    refused: Option<String>,
}

struct AtWork<J, A> {
    helper: Helper<J, A>,
    job: J,
    since: Instant,
    _claim: Claim,
}

impl<J: Serialize, A: DeserializeOwned> Helpers<J, A> {
    /// Helpers that are this program; there is none before there is any work.
    pub fn new(holders: Holders, program: impl Fn() -> Command + Send + 'static) -> Self {
        Helpers {
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
        let mut helper = Helper::start((self.program)())?;
        helper.give(job)?;
        if helper.answer_within(patience)?.is_none() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.free.push(helper);
        Ok(())
    }

    /// Has a job of this user's wait for its turn. False where it will have none: a helper is late with
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

    /// Gives jobs that wait to helpers, and returns the answers that are there. Waits for helpers that
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
        self.at_work.values().map(|at_work| at_work.helper.fd())
    }

    /// Users of whom a helper is late, with the job that it is late with.
    pub fn held(&self) -> impl Iterator<Item = (&Owner, &J)> {
        let late = self.at_work.iter().filter(|(_, at_work)| at_work.is_late());
        late.map(|(owner, at_work)| (owner, &at_work.job))
    }

    /// Whether a helper is late with this user's processes.
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
            match at_work.helper.answer_within(Duration::ZERO) {
                Ok(Some(answer)) => {
                    answers.push((owner, answer));
                    if self.free.len() < MOST_IN_TIME {
                        self.free.push(at_work.helper);
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
            let Some(helper) = self.hire() else {
                return;
            };
            self.begin(owner, helper, claim);
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

    fn hire(&mut self) -> Option<Helper<J, A>> {
        if let Some(helper) = self.free.pop() {
            return Some(helper);
        }
        let started = Helper::start((self.program)());
        self.refused = started.as_ref().err().map(ToString::to_string);
        started.ok()
    }

    fn begin(&mut self, owner: Owner, mut helper: Helper<J, A>, claim: Claim) {
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
        if helper.give(&job).is_err() {
            return;
        }
        let at_work = AtWork {
            helper,
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

impl<J, A> Drop for Helpers<J, A> {
    /// All are killed before the first is waited for, which is done for a moment only.
    fn drop(&mut self) {
        let at_work = self.at_work.values_mut().map(|one| &mut one.helper);
        let mut all: Vec<&mut Helper<J, A>> = at_work.chain(&mut self.free).collect();
        for helper in &mut all {
            helper.kill();
        }
        let begun = Instant::now();
        for helper in all {
            helper.end_by(begun + helper::ENDS_IN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Helpers that multiply by ten, that wait at a door with odd numbers, and that nought ends.
    fn helpers(holders: &Holders) -> (tempfile::TempDir, Helpers<u64, u64>) {
        let directory = tempfile::tempdir().unwrap();
        let door = directory.path().join("open");
        let work = "while read -r job; do [ \"$job\" != 0 ] || exit 1
            while [ $((job % 2)) = 1 ] && [ -d \"${0%/*}\" ] && [ ! -e \"$0\" ]; do sleep 0.02; done
            echo $((10 * job)) >&0; done";
        let program = move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", work]).arg(&door);
            shell
        };
        (directory, Helpers::new(holders.clone(), program))
    }

    fn owner(number: usize) -> Owner {
        format!("user {number:03}").into()
    }

    /// Waits until so many answers are there; a busy machine may make any helper late.
    fn answers(helpers: &mut Helpers<u64, u64>, count: usize) -> Vec<(Owner, u64)> {
        let begun = Instant::now();
        let mut all = Vec::new();
        while all.len() < count && begun.elapsed() < LONG {
            all.extend(helpers.turn(Instant::now() + TRIED_EVERY));
            std::thread::sleep(Duration::from_millis(1));
        }
        all
    }

    fn wait_until_held(helpers: &mut Helpers<u64, u64>, count: usize) {
        let begun = Instant::now();
        while helpers.held().count() < count && begun.elapsed() < 2 * LONG {
            assert_eq!(helpers.turn(Instant::now() + TRIED_EVERY), []);
        }
        assert_eq!(helpers.held().count(), count);
    }

    #[test]
    fn who_holds_a_helper_is_left_alone_with_it_and_the_others_are_helped() {
        let holders = Holders::default();
        let (door, mut helpers) = helpers(&holders);
        let [alice, bob] = [owner(1), owner(2)];
        assert!(helpers.add(&alice, 3));
        wait_until_held(&mut helpers, 1);
        assert_eq!(helpers.held().collect::<Vec<_>>(), [(&alice, &3)]);
        assert!(!helpers.add(&alice, 4), "a second one would be held");
        assert!(helpers.add(&bob, 4));
        assert_eq!(answers(&mut helpers, 1), [(bob, 40)]);
        std::fs::write(door.path().join("open"), "").unwrap();
        assert_eq!(answers(&mut helpers, 1), [(alice.clone(), 30)]);
        assert!(helpers.add(&alice, 4));
        assert_eq!(answers(&mut helpers, 1), [(alice, 40)]);
    }

    #[test]
    fn a_user_with_many_jobs_holds_one_helper_in_all_pools_together() {
        let holders = Holders::default();
        let (_door, mut first) = helpers(&holders);
        let (_other_door, mut second) = helpers(&holders);
        let alice = owner(1);
        for _ in 0..50 {
            first.add(&alice, 1);
        }
        wait_until_held(&mut first, 1);
        second.add(&alice, 2);
        assert_eq!(second.turn(Instant::now() + 2 * TRIED_EVERY), []);
        assert_eq!((first.fds().count(), second.fds().count()), (1, 0));
        assert_eq!(holders.count(), 1);
        assert_eq!(second.clear(), [alice]);
        drop(first);
        assert_eq!(holders.count(), 0);
    }

    #[test]
    fn sixteen_who_hold_helpers_take_none_from_a_seventeenth() {
        let (_door, mut helpers) = helpers(&Holders::default());
        for number in 0..16 {
            helpers.add(&owner(number), 1);
        }
        wait_until_held(&mut helpers, 16);
        assert_eq!(helpers.trouble(), None);
        helpers.add(&owner(99), 2);
        assert_eq!(answers(&mut helpers, 1), [(owner(99), 20)]);
    }

    #[test]
    fn each_user_has_a_turn_however_many_jobs_another_has() {
        let (_door, mut helpers) = helpers(&Holders::default());
        // Far more than another helper takes to start.
        for _ in 0..1000 {
            helpers.add(&owner(0), 2);
        }
        helpers.add(&owner(1), 4);
        helpers.add(&owner(2), 6);
        let all = answers(&mut helpers, 1002);
        assert_eq!(all.len(), 1002);
        let place = |number| all.iter().position(|(of, _)| *of == owner(number)).unwrap();
        assert!(
            place(1) < 900 && place(2) < 900,
            "{} {}",
            place(1),
            place(2)
        );
    }

    #[test]
    fn no_more_are_at_work_than_there_may_be_and_that_is_said() {
        let holders = Holders::default();
        let all: Vec<Claim> = (0..MOST_AT_WORK)
            .map(|number| holders.claim(&owner(number), MOST_AT_WORK).unwrap())
            .collect();
        let (_door, mut helpers) = helpers(&holders);
        helpers.add(&owner(999), 2);
        assert_eq!(helpers.turn(Instant::now() + TRIED_EVERY), []);
        assert!(helpers.trouble().unwrap().starts_with("128 users hold up"));
        drop(all);
        assert_eq!(answers(&mut helpers, 1), [(owner(999), 20)]);
        assert_eq!(helpers.trouble(), None);
    }

    #[test]
    fn a_helper_that_ends_is_no_answer_and_the_next_job_is_done() {
        let (_door, mut helpers) = helpers(&Holders::default());
        helpers.add(&owner(1), 0);
        helpers.add(&owner(1), 6);
        assert_eq!(answers(&mut helpers, 1), [(owner(1), 60)]);
    }

    #[test]
    fn where_no_helper_can_be_started_nothing_waits_and_that_is_said() {
        let program = || Command::new("/nonexistent/helper");
        let mut helpers: Helpers<u64, u64> = Helpers::new(Holders::default(), program);
        assert!(helpers.try_out(&2, LONG).is_err());
        helpers.add(&owner(1), 2);
        assert_eq!(helpers.turn(Instant::now() + LONG), []);
        let trouble = helpers.trouble().unwrap();
        assert!(trouble.contains("can be started"), "{trouble}");
        let program = || Command::new("false");
        let mut helpers: Helpers<u64, u64> = Helpers::new(Holders::default(), program);
        assert!(helpers.try_out(&2, LONG).is_err());
    }
}
