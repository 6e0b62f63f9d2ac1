//! Processes for what a process can hold up: reading its memory and its files.
//!
//! A page of its memory may be a file's, on a file system that answers late or never: a FUSE mount of
//! the user's own, served by nobody. Whoever reads it through `/proc/PID/mem` waits in the kernel,
//! where not even SIGKILL wakes it (seen on 6.18, in `filemap_fault`), until the mount's server is
//! gone; and a process does not end before the last of its threads. So such work is given to a helper,
//! a process of our own, which is waited for with patience. One that is late is left at it, and another
//! helps the others; a server that holds one is not helped with again until it lets go, so that nobody
//! holds more than one. The daemon itself ends when it is to, and who is held then ends when let go.

mod helper;

pub use helper::{Helper, serve};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Helpers that may be held at once; with these all held nobody is helped with.
const MOST_HELD: usize = 16;
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

/// What became of a piece of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It is done.
    Done(A),
    /// It is late, from now on; [`Helpers::released`] has its answer, if there ever is one.
    Late,
    /// It was not begun: earlier work on the same server is still late, or helpers are too few.
    Held,
}

/// Helpers for one kind of work, from a job to an answer.
pub struct Helpers<J, A> {
    program: Box<dyn Fn() -> Command + Send>,
    free: Option<Helper<J, A>>,
    held: BTreeMap<u64, Helper<J, A>>,
}

impl<J: Serialize, A: DeserializeOwned> Helpers<J, A> {
    /// Helpers that are this program; there is none before there is any work.
    pub fn new(program: impl Fn() -> Command + Send + 'static) -> Self {
        Helpers {
            program: Box::new(program),
            free: None,
            held: BTreeMap::new(),
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
        self.free = Some(helper);
        Ok(())
    }

    /// Has a job of this server's done, and waits for it so long.
    pub fn give(&mut self, server: u64, job: &J, patience: Duration) -> Outcome<A> {
        if self.held.contains_key(&server) || self.held.len() >= MOST_HELD {
            return Outcome::Held;
        }
        let hire = || Helper::start((self.program)()).ok();
        let Some(mut helper) = self.free.take().or_else(hire) else {
            return Outcome::Held;
        };
        let answer = helper
            .give(job)
            .and_then(|()| helper.answer_within(patience));
        match answer {
            Ok(Some(answer)) => {
                self.free = Some(helper);
                Outcome::Done(answer)
            }
            Ok(None) => {
                self.held.insert(server, helper);
                Outcome::Late
            }
            // It has ended: there is nothing to be had of this job.
            Err(_) => Outcome::Held,
        }
    }

    /// Answers that came late, by server.
    pub fn released(&mut self) -> Vec<(u64, A)> {
        let mut answers = Vec::new();
        let mut still = BTreeMap::new();
        for (server, mut helper) in std::mem::take(&mut self.held) {
            match helper.answer_within(Duration::ZERO) {
                Ok(Some(answer)) => {
                    answers.push((server, answer));
                    self.free.get_or_insert(helper);
                }
                Ok(None) => drop(still.insert(server, helper)),
                Err(_) => {}
            }
        }
        self.held = still;
        answers
    }

    /// Servers that hold one.
    pub fn held(&self) -> impl Iterator<Item = u64> {
        self.held.keys().copied()
    }

    /// Whether so many are held that nobody is helped with.
    pub fn are_all_held(&self) -> bool {
        self.held.len() >= MOST_HELD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    /// Helpers that multiply by ten, that wait at a door with odd numbers, and that nought ends.
    fn helpers() -> (tempfile::TempDir, Helpers<u64, u64>) {
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
        (directory, Helpers::new(program))
    }

    fn open(door: &tempfile::TempDir) {
        std::fs::write(door.path().join("open"), "").unwrap();
    }

    #[test]
    fn who_holds_a_helper_is_left_alone_with_it_and_the_others_are_helped() {
        let (door, mut helpers) = helpers();
        assert_eq!(helpers.give(1, &2, LONG), Outcome::Done(20));
        assert_eq!(helpers.give(1, &3, SHORT), Outcome::Late);
        assert_eq!(helpers.give(1, &4, LONG), Outcome::Held);
        assert_eq!(helpers.give(2, &4, LONG), Outcome::Done(40));
        assert_eq!(helpers.held().collect::<Vec<_>>(), [1]);
        assert_eq!(helpers.released(), []);
        open(&door);
        let mut released = Vec::new();
        for _ in 0..2000 {
            released = helpers.released();
            if !released.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(released, [(1, 30)]);
        assert_eq!(helpers.give(1, &4, LONG), Outcome::Done(40));
    }

    #[test]
    fn no_more_are_held_than_there_may_be() {
        let (_door, mut helpers) = helpers();
        for server in 0..MOST_HELD as u64 {
            assert_eq!(helpers.give(server, &1, SHORT), Outcome::Late);
        }
        assert!(helpers.are_all_held());
        assert_eq!(helpers.give(1000, &2, LONG), Outcome::Held);
        assert_eq!(helpers.held().count(), MOST_HELD);
    }

    #[test]
    fn a_helper_that_ends_is_no_answer_and_the_next_job_is_done() {
        let (_door, mut helpers) = helpers();
        assert_eq!(helpers.give(1, &0, LONG), Outcome::Held);
        assert_eq!(helpers.give(1, &6, LONG), Outcome::Done(60));
    }

    #[test]
    fn nobody_is_helped_with_where_no_helper_can_be_started() {
        let mut helpers: Helpers<u64, u64> = Helpers::new(|| Command::new("/nonexistent/helper"));
        assert!(helpers.try_out(&2, LONG).is_err());
        assert_eq!(helpers.give(1, &2, LONG), Outcome::Held);
        let mut helpers: Helpers<u64, u64> = Helpers::new(|| Command::new("false"));
        assert!(helpers.try_out(&2, LONG).is_err());
    }
}
