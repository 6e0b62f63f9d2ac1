//! Reading the name and the arguments of a program that was started: by workers, since a process can hold
//! up whoever reads its arguments.

use super::Reading;
use crate::exec;
use crate::process::Process;
use crate::workers::{self, Holders, Owner, ServeError, Workers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Instant;

/// What a worker is started for.
pub const WORK: &str = "names";

/// What reads programs that were started.
pub trait ReadNames {
    /// Has a process of a user's server read.
    fn add(&mut self, owner: &Owner, server: u64, process: Process);
    /// What was read, by server and process; never waits.
    fn read(&mut self) -> Vec<(u64, Process, Reading)>;
    /// Readable when something was read.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;
    /// Users that hold whoever reads them.
    fn held(&self) -> BTreeSet<Owner>;
    /// Whether something waits for its turn.
    fn waits(&self) -> bool;
}

/// Workers for it.
pub struct Names(Workers<Job, Answer>);

#[derive(Serialize, Deserialize)]
struct Job {
    server: u64,
    pid: u32,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    server: u64,
    pid: u32,
    gone: bool,
    pattern: Option<String>,
}

impl Names {
    /// With workers that are this program.
    pub fn new(ourselves: PathBuf, holders: Holders) -> Names {
        let program = move || workers::command(&ourselves, WORK);
        Names(Workers::new(holders, program))
    }
}

impl ReadNames for Names {
    fn add(&mut self, owner: &Owner, server: u64, process: Process) {
        let pid = process.pid();
        self.0.add(owner, Job { server, pid });
    }

    fn read(&mut self) -> Vec<(u64, Process, Reading)> {
        let answers = self.0.turn(Instant::now()).into_iter();
        answers
            .map(|(_, answer)| {
                let pattern = answer.pattern.as_deref().and_then(exec::pattern);
                let reading = match (answer.gone, pattern) {
                    (true, _) => Reading::Gone,
                    (false, Some(pattern)) => Reading::Pattern(pattern),
                    (false, None) => Reading::Nothing,
                };
                (answer.server, Process::new(answer.pid), reading)
            })
            .collect()
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.fds().collect()
    }

    fn held(&self) -> BTreeSet<Owner> {
        self.0.held().map(|(owner, _)| owner.clone()).collect()
    }

    fn waits(&self) -> bool {
        self.0.waits()
    }
}

/// The worker's side.
///
/// # Errors
/// It was not started as one.
pub fn work() -> Result<(), ServeError> {
    let exec = exec::Exec::new().ok();
    workers::serve(|job: Job| {
        let process = Process::new(job.pid);
        let looked = exec.as_ref().map(|exec| exec.look(&process));
        Answer {
            server: job.server,
            pid: job.pid,
            gone: !matches!(looked, Some(Ok(_))),
            pattern: looked.and_then(Result::ok).flatten().map(str::to_owned),
        }
    })
}
