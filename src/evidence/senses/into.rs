//! Looking into single processes: what they run and what is in their memory.

use super::Found;
use crate::evidence::binary::{self, Kind};
use crate::evidence::constants::Constants;
use crate::evidence::helpers::{Helpers, Outcome};
use crate::evidence::process::Process;
use crate::evidence::{Evidence, Fact, Sense};
use crate::units::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A helper is waited for so long: three times what a scan of memory takes at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that is held for longer does not wait for a slow disk.
const HELD_ON_PURPOSE: Duration = Duration::from_secs(10);

/// A process, and what is to be looked for.
struct Job {
    process: Process,
    senses: BTreeSet<Sense>,
}

type Answer = (Process, Vec<Fact>);

/// What reads processes, whoever they are.
pub(super) struct Into {
    helpers: Helpers<Job, Answer>,
    /// Which process of a server holds a helper, and since when.
    holds: BTreeMap<u64, (Process, Time)>,
}

impl Into {
    /// With `constants` where memory can be read here.
    pub fn new(constants: Option<Constants>) -> Into {
        Into {
            helpers: Helpers::new(move |job: Job| (job.process, facts(constants.as_ref(), &job))),
            holds: BTreeMap::new(),
        }
    }

    /// Looks into one process of a server. One that is gone meanwhile says nothing more.
    pub fn look(
        &mut self,
        server: u64,
        process: Process,
        senses: &BTreeSet<Sense>,
        now: Time,
    ) -> Vec<Found> {
        if !senses.contains(&Sense::Binary) && !senses.contains(&Sense::Constants) {
            return Vec::new();
        }
        let job = Job {
            process,
            senses: senses.clone(),
        };
        match self.helpers.give(server, job, PATIENCE) {
            Outcome::Done(answer) => told(server, answer, now).collect(),
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
            .flat_map(|(server, answer)| told(server, answer, now))
            .collect();
        let held: BTreeSet<u64> = self.helpers.held().collect();
        self.holds.retain(|server, _| held.contains(server));
        for (server, (process, since)) in &self.holds {
            if servers.contains(server) && now.since(*since) >= HELD_ON_PURPOSE {
                found.extend(told(*server, (*process, vec![Fact::Unreadable]), now));
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

fn told(id: u64, (process, facts): Answer, at: Time) -> impl Iterator<Item = Found> {
    let pid = process.pid();
    facts.into_iter().map(move |fact| Found {
        id,
        evidence: Evidence { fact, pid, at },
    })
}

fn facts(constants: Option<&Constants>, job: &Job) -> Vec<Fact> {
    let mut facts = Vec::new();
    if job.senses.contains(&Sense::Binary)
        && matches!(binary::look(&job.process), Ok(Kind::NotPython))
    {
        facts.push(Fact::NoPythonInPython);
    }
    if job.senses.contains(&Sense::Constants)
        && let Some(constants) = constants
        && let Ok(scan) = constants.scan(&job.process)
        && scan.found > 0
    {
        facts.push(Fact::Constants { found: scan.found });
    }
    facts
}
