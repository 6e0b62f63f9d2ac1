//! Reads what runs on this node, and shows who is covered by nothing.
//!
//! [`Surveyor::survey`] looks at every process once and blocks meanwhile: for a thread of its own, once a
//! minute and after news, never for the loop. 5,000 processes take some tens of milliseconds; a user who
//! holds up readers costs three seconds at most, once. `hubwarden_core::coverage` judges what is read.
//!
//! The caller reads `/proc/PID`'s owner, `cgroup`, `stat`, `ns/net` and `net/dev`, of which none waits for
//! the process: they need no lock of its memory (fs/proc/array.c, kernel/cgroup/cgroup.c). `cmdline` and
//! `environ` do (fs/proc/base.c, `access_remote_vm`), so a worker reads them, one at a time for each user and
//! place. Nothing is asked of processes in places that are mapped to a user: whatever they say of themselves,
//! they are that user's.

mod accounts;
mod network;
mod processes;
mod shown;
mod watch;

pub use processes::{WORK, work};
pub use shown::{UncoveredStatus, check_lines, entries, statuses};
pub use watch::{listed, naming};

use crate::config::Config;
use accounts::Accounts;
use hubwarden_core::coverage::{Facts, Known, Survey, Watch, survey};
use processes::{Asked, Scan};
use quantities::CgroupPath;
use sensors::workers::{Holders, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What reads processes' arguments and environments: by owner, which processes; a missing answer is an
/// owner who holds up readers.
pub(crate) type Ask<'a> = &'a mut dyn FnMut(BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, Asked>;

/// Surveys this node, again and again.
pub struct Surveyor {
    directories: Directories,
    accounts: Accounts,
    bridges: network::Bridges,
    #[cfg(not(test))]
    readers: crate::daemon::readers::Readers<Asked>,
}

/// Where to look; tests have others.
#[derive(Debug, Clone)]
struct Directories {
    proc: PathBuf,
    /// Where systemd keeps the unit files of transient units (systemd.unit(5)).
    transient: PathBuf,
}

impl Surveyor {
    /// Beside others who read users' processes.
    pub fn new(holders: &Holders) -> Surveyor {
        #[cfg(test)]
        let _ = holders;
        Surveyor {
            directories: Directories {
                proc: "/proc".into(),
                transient: "/run/systemd/transient".into(),
            },
            accounts: Accounts::default(),
            bridges: network::Bridges::default(),
            #[cfg(not(test))]
            readers: crate::daemon::readers::Readers::new(holders, WORK),
        }
    }

    /// Computes what is not covered by what the daemon does. Blocks.
    pub fn survey(&mut self, watch: &Watch) -> Survey {
        let scan = processes::scan(&self.directories.proc);
        let facts = self.facts(scan, watch);
        survey(&facts, watch)
    }

    /// Computes what this configuration does not cover, where no daemon can be asked: who a server's user is
    /// and what the daemon could not do remains open. Blocks.
    pub fn survey_by(&mut self, config: &Config) -> Survey {
        let scan = processes::scan(&self.directories.proc);
        let expected = |cgroup: &CgroupPath| {
            let watched = crate::daemon::watched_cgroup(&config.hub, cgroup)?;
            Some((watched, Known::Expected))
        };
        let cgroups: BTreeSet<&CgroupPath> = scan.cgroups().collect();
        let watch = Watch {
            known: cgroups.into_iter().filter_map(expected).collect(),
            uids: BTreeMap::new(),
            listed: Vec::new(),
            naming: naming(config),
        };
        let facts = self.facts(scan, &watch);
        survey(&facts, &watch)
    }

    #[cfg(not(test))]
    fn facts(&mut self, scan: Scan, watch: &Watch) -> Facts {
        let readers = &mut self.readers;
        let mut ask = |processes| readers.read(processes);
        let (accounts, bridges) = (&mut self.accounts, &mut self.bridges);
        let facts =
            processes::complete(scan, &self.directories, watch, &mut ask, accounts, bridges);
        // The next survey is a minute away.
        self.readers.rest();
        facts
    }

    /// These tests are no hubwarden that could be started as a worker.
    #[cfg(test)]
    fn facts(&mut self, scan: Scan, watch: &Watch) -> Facts {
        let proc = self.directories.proc.clone();
        let mut ask = |processes: BTreeMap<Owner, Vec<u32>>| {
            let read = |(owner, pids): (Owner, Vec<u32>)| (owner, processes::said(&proc, &pids));
            processes.into_iter().map(read).collect()
        };
        let (accounts, bridges) = (&mut self.accounts, &mut self.bridges);
        processes::complete(scan, &self.directories, watch, &mut ask, accounts, bridges)
    }
}

#[cfg(test)]
mod tests;
