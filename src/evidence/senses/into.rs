//! Looking into single processes: what they run and what is in their memory.

use super::Found;
use crate::evidence::binary::{self, Kind};
use crate::evidence::constants::{self, Constants};
use crate::evidence::helpers::{self, Helpers, Outcome, ServeError};
use crate::evidence::process::Process;
use crate::evidence::{Evidence, Fact, Sense};
use crate::units::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// A helper is waited for so long: three times what a scan of memory takes at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first is given so long: the node may just boot.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// One that is held for longer does not wait for a slow disk.
const HELD_ON_PURPOSE: Duration = Duration::from_secs(10);

/// What a helper is started for.
pub const WORK: &str = "processes";

/// A process, and what is to be looked for.
#[derive(Serialize, Deserialize)]
struct Job {
    pid: u32,
    senses: BTreeSet<Sense>,
}

/// What was seen in a process.
#[derive(Serialize, Deserialize)]
struct Seen {
    pid: u32,
    no_python_in_python: bool,
    constants: usize,
}

/// What reads processes, whoever they are.
pub(super) struct Into {
    helpers: Helpers<Job, Seen>,
    /// Whether memory can be read here.
    memory: bool,
    /// Which process of a server holds a helper, and since when.
    holds: BTreeMap<u64, (Process, Time)>,
}

impl Into {
    /// With helpers that are this program.
    pub fn new(ourselves: PathBuf) -> Into {
        Into {
            helpers: Helpers::new(move || helpers::command(&ourselves, WORK)),
            memory: false,
            holds: BTreeMap::new(),
        }
    }

    /// Proves that processes' memory can be searched here; until then it is not.
    ///
    /// # Errors
    /// It is closed to us, or there can be no helper; in words.
    pub fn try_out(&mut self) -> Result<(), String> {
        constants::try_out().map_err(|error| error.to_string())?;
        let nothing = Job {
            pid: std::process::id(),
            senses: BTreeSet::new(),
        };
        let tried = self.helpers.try_out(&nothing, STARTS_WITHIN);
        tried.map_err(|error| {
            format!("the helper that would search memory cannot be started: {error}")
        })?;
        self.memory = true;
        Ok(())
    }

    /// Looks into one process of a server. One that is gone meanwhile says nothing more.
    pub fn look(
        &mut self,
        server: u64,
        process: Process,
        senses: &BTreeSet<Sense>,
        now: Time,
    ) -> Vec<Found> {
        let mut wanted: BTreeSet<Sense> = senses & &BTreeSet::from([Sense::Binary]);
        if self.memory {
            wanted.extend(senses.get(&Sense::Constants));
        }
        if wanted.is_empty() {
            return Vec::new();
        }
        let job = Job {
            pid: process.pid(),
            senses: wanted,
        };
        match self.helpers.give(server, &job, PATIENCE) {
            Outcome::Done(seen) => told(server, process, seen.facts(), now).collect(),
            Outcome::Late => {
                self.holds.insert(server, (process, now));
                Vec::new()
            }
            Outcome::Held => Vec::new(),
        }
    }

    /// What came late, and who of these servers does not let go.
    pub fn late(&mut self, servers: &BTreeSet<u64>, now: Time) -> Vec<Found> {
        let released = self.helpers.released().into_iter();
        let mut found: Vec<Found> = released
            .flat_map(|(server, seen)| told(server, Process::new(seen.pid), seen.facts(), now))
            .collect();
        let held: BTreeSet<u64> = self.helpers.held().collect();
        self.holds.retain(|server, _| held.contains(server));
        for (server, (process, since)) in &self.holds {
            if servers.contains(server) && now.since(*since) >= HELD_ON_PURPOSE {
                found.extend(told(*server, *process, vec![Fact::Unreadable], now));
            }
        }
        found
    }

    /// Servers that hold whoever looks into them, and whether that is so many that nobody is looked
    /// into.
    pub fn held(&self) -> (usize, bool) {
        (self.helpers.held().count(), self.helpers.are_all_held())
    }
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
        python.into_iter().chain(constants).collect()
    }
}

/// The helper's side.
///
/// # Errors
/// It was not started as one.
pub fn help() -> Result<(), ServeError> {
    let constants = Constants::new().ok();
    helpers::serve(|job: Job| {
        let process = Process::new(job.pid);
        let is_wanted = |sense| job.senses.contains(&sense);
        let scan = is_wanted(Sense::Constants)
            .then(|| constants.as_ref()?.scan(&process).ok())
            .flatten();
        Seen {
            pid: job.pid,
            no_python_in_python: is_wanted(Sense::Binary)
                && matches!(binary::look(&process), Ok(Kind::NotPython)),
            constants: scan.map_or(0, |scan| scan.found),
        }
    })
}
