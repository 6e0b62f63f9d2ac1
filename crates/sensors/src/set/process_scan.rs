//! Reading single processes: what they are called, what they run and what is in their memory.

use super::Found;
use crate::binary::{self, Kind};
use crate::constants::{self, Constants};
use crate::exec::{self, Exec};
use crate::process::Process;
use crate::workers::{self, Holders, Owner, ServeError, Workers};
use policy::finding::{Evidence, Fact, Sensor};
use quantities::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first is given so long: the node may just boot.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// One that is held for longer does not wait for a slow disk.
const HELD_ON_PURPOSE: Duration = Duration::from_secs(10);

/// What a worker is started for.
pub const WORK: &str = "processes";

/// A process of a server, and what is to be looked for.
#[derive(Serialize, Deserialize)]
struct Job {
    server: u64,
    pid: u32,
    sensors: BTreeSet<Sensor>,
}

/// What was seen in a process.
#[derive(Serialize, Deserialize)]
struct Seen {
    server: u64,
    pid: u32,
    named: Option<String>,
    no_python_in_python: bool,
    constants: usize,
    starved: bool,
}

/// What reads processes, whoever they are.
pub(super) struct Into {
    workers: Workers<Job, Seen>,
    /// Whether memory can be read here.
    memory: bool,
    /// Whether a worker can be started here.
    works: bool,
    /// Since when a user has held a worker.
    holds: BTreeMap<Owner, Time>,
}

impl Into {
    /// With workers that are this program.
    pub fn new(ourselves: PathBuf, holders: Holders) -> Into {
        Into {
            workers: Workers::new(holders, move || workers::command(&ourselves, WORK)),
            memory: false,
            works: false,
            holds: BTreeMap::new(),
        }
    }

    /// Proves that processes can be read here, and their memory searched; until then it is not.
    ///
    /// # Errors
    /// It is closed to us, or there can be no worker; in words.
    pub fn try_out(&mut self) -> Result<(), String> {
        let nothing = Job {
            server: 0,
            pid: std::process::id(),
            sensors: BTreeSet::new(),
        };
        let tried = self.workers.try_out(&nothing, STARTS_WITHIN);
        tried.map_err(|error| {
            format!("the worker that would search memory cannot be started: {error}")
        })?;
        self.works = true;
        constants::try_out().map_err(|error| error.to_string())?;
        self.memory = true;
        Ok(())
    }

    /// Has a process of a user's server read. One that is gone meanwhile says nothing more.
    pub fn add(
        &mut self,
        owner: &Owner,
        server: u64,
        process: Process,
        sensors: &BTreeSet<Sensor>,
    ) {
        let mut wanted: BTreeSet<Sensor> =
            sensors & &BTreeSet::from([Sensor::Binary, Sensor::Exec]);
        if self.memory {
            wanted.extend(sensors.get(&Sensor::Constants));
        }
        if wanted.is_empty() || !self.works {
            return;
        }
        let job = Job {
            server,
            pid: process.pid(),
            sensors: wanted,
        };
        self.workers.add(owner, job);
    }

    /// Whether a process of this user's holds whoever reads it.
    pub fn is_held(&self, owner: &Owner) -> bool {
        self.workers.is_held(owner)
    }

    /// What was read, waiting for it until then at most, for users that hold nobody. Processes that
    /// there was no CPU to read to the end of are named to `starved`, with their server.
    pub fn turn(
        &mut self,
        until: Instant,
        now: Time,
        mut starved: impl FnMut(u64, Process),
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for (_, seen) in self.workers.turn(until) {
            let process = Process::new(seen.pid);
            if seen.starved {
                starved(seen.server, process);
            }
            found.extend(told(seen.server, process, seen.facts(), now));
        }
        found
    }

    /// Readable when something was read.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.workers.fds()
    }

    /// Who of these servers holds whoever reads it.
    pub fn late(&mut self, servers: &BTreeSet<u64>, now: Time) -> Vec<Found> {
        let workers = &self.workers;
        self.holds.retain(|owner, _| workers.is_held(owner));
        let mut found = Vec::new();
        for (owner, job) in workers.held() {
            let since = *self.holds.entry(owner.clone()).or_insert(now);
            if servers.contains(&job.server) && now.since(since) >= HELD_ON_PURPOSE {
                let process = Process::new(job.pid);
                found.extend(told(job.server, process, vec![Fact::Unreadable], now));
            }
        }
        found
    }

    /// Users that hold whoever reads their processes, and why others cannot be read either.
    pub fn held(&self) -> Held {
        Held {
            users: self
                .workers
                .held()
                .map(|(owner, _)| owner.clone())
                .collect(),
            trouble: self.workers.trouble(),
        }
    }
}

/// Who cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Users with a process that holds whoever reads it.
    pub users: BTreeSet<Owner>,
    /// Why others cannot be read either; in words.
    pub trouble: Option<String>,
}

fn told(id: u64, process: Process, facts: Vec<Fact>, at: Time) -> impl Iterator<Item = Found> {
    let pid = process.pid();
    facts.into_iter().map(move |fact| Found {
        id,
        evidence: Evidence { fact, pid, at },
    })
}

impl Seen {
    fn facts(&self) -> Vec<Fact> {
        let python = self.no_python_in_python.then_some(Fact::NoPythonInPython);
        let found = self.constants;
        let constants = (found > 0).then_some(Fact::Constants { found });
        let named = self
            .named
            .as_deref()
            .and_then(exec::pattern)
            .map(Fact::Named);
        named.into_iter().chain(python).chain(constants).collect()
    }
}

/// The worker's side.
///
/// # Errors
/// It was not started as one.
pub fn work() -> Result<(), ServeError> {
    let constants = Constants::new().ok();
    let exec = Exec::new().ok();
    workers::serve(|job: Job| {
        let process = Process::new(job.pid);
        let is_wanted = |sensor| job.sensors.contains(&sensor);
        let scan = is_wanted(Sensor::Constants)
            .then(|| constants.as_ref()?.scan(&process).ok())
            .flatten();
        let named = is_wanted(Sensor::Exec)
            .then(|| exec.as_ref()?.look(&process).ok().flatten())
            .flatten();
        Seen {
            server: job.server,
            pid: job.pid,
            named: named.map(str::to_owned),
            no_python_in_python: is_wanted(Sensor::Binary)
                && matches!(binary::look(&process), Ok(Kind::NotPython)),
            constants: scan.map_or(0, |scan| scan.found),
            starved: scan.is_some_and(|scan| scan.starved),
        }
    })
}
