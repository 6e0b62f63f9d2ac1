//! The sensors at work: a thread that looks at hot servers, and listens for what is rare in all.
//!
//! What a process could hold up is left to workers ([`super::workers`]); what is found goes to the daemon
//! through a queue.

mod down;
mod look;
mod process_scan;
mod scan_schedule;
mod windows;

pub use down::SensorDown;
pub use process_scan::{Held, WORK, work};
pub use scan_schedule::Behind;
pub(super) use scan_schedule::MOST_PROCESSES;

use super::connector::{Connector, Missed, Names};
use super::exec::Exec;
use super::process::Process;
use super::program;
use super::rounding::{Nudge, Rounding};
use super::starts::Starts;
use super::stratum::Stratum;
use super::workers::{Holders, OURSELVES, Owner};
use down::load_or_note;
use policy::finding::{Evidence, Fact, Sensor};
use process_scan::Into;
use quantities::Time;
use scan_schedule::Turns;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use windows::Windows;

/// Time for looking into processes in one round, of all users together; each has a share, and what did
/// not fit comes in the next round.
const MOST_TIME: Duration = Duration::from_millis(300);
/// And before that for finding them.
const FINDING_TIME: Duration = Duration::from_millis(200);
/// Threads of one process that are asked for their CPU.
const MOST_THREADS: usize = 256;

/// What an admin sets of the sensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Those that are used.
    pub sensors: BTreeSet<Sensor>,
    /// How long samples of rounding modes are counted together.
    pub window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sensors: Sensor::ALL.into_iter().collect(),
            window: Duration::from_secs(30),
        }
    }
}

/// A server to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Its cgroup's id.
    pub id: u64,
    /// Its cgroup's directory.
    pub directory: PathBuf,
    /// Who answers for it: what one user's servers cost is taken from that user's time.
    pub user: String,
}

/// What was found about a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its cgroup's id.
    pub id: u64,
    /// What.
    pub evidence: Evidence,
}

/// Processes of one user that did something: CPU time used since each was looked into, in clock ticks,
/// its server and itself; most first.
type Busy = Vec<(u64, u64, Process)>;

/// All sensors that work here.
pub struct Sensors {
    settings: Settings,
    rounding: Option<(Rounding, Nudge)>,
    exec: Option<Exec>,
    starts: Option<Starts>,
    /// Stands in for `starts`.
    connector: Option<Connector>,
    stratum: Option<Stratum>,
    guarded: BTreeMap<u64, PathBuf>,
    /// The user of each server; one that is not in it is a user of its own.
    owners: BTreeMap<u64, Owner>,
    down: Vec<SensorDown>,
    windows: Windows,
    turns: Turns,
    /// The user who has the first turn in the next round: the first for whom there was no time.
    first: String,
    into: Into,
}

impl Sensors {
    /// Starts what works here; [`Sensors::down`] says what does not and why.
    pub fn start() -> Sensors {
        Sensors::start_on(Path::new(program::TYPES), Path::new(OURSELVES))
    }

    /// The same, where others read users' processes too.
    pub fn start_beside(holders: &Holders) -> Sensors {
        Sensors::start_with(Path::new(program::TYPES), Path::new(OURSELVES), holders)
    }

    /// The same, where this file describes the kernel's types, and this is our own program.
    pub fn start_on(types: &Path, ourselves: &Path) -> Sensors {
        Sensors::start_with(types, ourselves, &Holders::default())
    }

    fn start_with(types: &Path, ourselves: &Path, holders: &Holders) -> Sensors {
        let mut down = Vec::new();
        let types = program::types_in(types);
        let with_types = || types.as_ref().map_err(ToString::to_string);
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let rounding = with_types().and_then(|types| {
            let nudge = Nudge::start().map_err(|error| format!("no thread: {error}"))?;
            Ok((Rounding::load(types).map_err(|e| said(&e))?, nudge))
        });
        let starts = with_types().and_then(|types| Starts::load(types).map_err(|e| said(&e)));
        let (starts, connector) = starts_or_connector(starts, &mut down, ourselves, holders);
        let stratum = Stratum::load().map_err(|error| said(&error));
        let mut into = Into::new(ourselves.to_owned(), holders.clone());
        load_or_note(Sensor::Constants, into.try_out(), &mut down);
        Sensors {
            settings: Settings::default(),
            rounding: load_or_note(Sensor::Rounding, rounding, &mut down),
            exec: load_or_note(Sensor::Exec, Exec::new().map_err(|e| said(&e)), &mut down),
            starts,
            connector,
            stratum: load_or_note(Sensor::Stratum, stratum, &mut down),
            guarded: BTreeMap::new(),
            owners: BTreeMap::new(),
            down,
            windows: Windows::default(),
            turns: Turns::default(),
            first: String::new(),
            into,
        }
    }

    /// Whether the threads that belong to these sensors run; if not, sensors started anew have them.
    pub fn are_whole(&self) -> bool {
        let nudge = self.rounding.as_ref().is_none_or(|(_, nudge)| nudge.runs());
        nudge && self.connector.as_ref().is_none_or(Connector::runs)
    }

    /// What does not work here, or not for everybody.
    pub fn down(&self) -> &[SensorDown] {
        &self.down
    }

    /// Starts of programs that could not be read.
    pub fn starts_missed(&self) -> Missed {
        match (&self.starts, &self.connector) {
            (Some(starts), _) => Missed {
                too_fast: starts.missed(),
                ..Missed::default()
            },
            (None, Some(connector)) => connector.missed(),
            (None, None) => Missed::default(),
        }
    }

    /// Users that hold whoever reads their processes, and why others cannot be read either.
    pub fn held(&self) -> Held {
        let mut held = self.into.held();
        if let Some(connector) = &self.connector {
            held.users.extend(connector.held());
        }
        held
    }

    /// Servers by user: what one server of a user's holds up is the loss of this user alone, and of
    /// all the user's servers.
    pub fn owned_by(&mut self, owners: BTreeMap<u64, Owner>) {
        if let Some(connector) = &self.connector {
            connector.owned_by(owners.clone());
        }
        self.owners = owners;
    }

    fn owner(&self, server: u64) -> Owner {
        owner(&self.owners, server)
    }

    /// Uses just these settings from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        // Whoever is not to be used any more is to let go.
        let guarded = std::mem::take(&mut self.guarded);
        self.guard(guarded);
    }

    /// Listens to just these servers, cgroup ids and directories, for what is rare: a miner's name
    /// when it is started, stratum.
    pub fn guard(&mut self, servers: BTreeMap<u64, PathBuf>) {
        self.guarded = servers;
        let nobody = BTreeMap::new();
        let of = |sensor| match self.settings.sensors.contains(&sensor) {
            true => &self.guarded,
            false => &nobody,
        };
        let mut trouble = Vec::new();
        if let Some(starts) = &mut self.starts {
            let ids = of(Sensor::Exec).keys().copied().collect();
            trouble.extend(starts.watch(&ids).err().map(|error| (Sensor::Exec, error)));
        }
        if let Some(connector) = &self.connector {
            connector.watch(of(Sensor::Exec));
        }
        if let Some(stratum) = &mut self.stratum {
            let watched = stratum.watch(of(Sensor::Stratum));
            trouble.extend(watched.err().map(|error| (Sensor::Stratum, error)));
        }
        for (sensor, error) in trouble {
            let why = format!("not every server can be listened to: {error}");
            if !self.down.iter().any(|down| down.sensor == sensor) {
                self.down.push(SensorDown::new(sensor, why));
            }
        }
    }

    /// Readable when [`Sensors::listen`] has something to hear.
    pub fn ears(&self) -> Vec<BorrowedFd<'_>> {
        let starts = self.starts.iter().map(AsFd::as_fd);
        let connector = self.connector.iter().map(AsFd::as_fd);
        let stratum = self.stratum.iter().map(AsFd::as_fd);
        let others = starts.chain(connector).chain(stratum);
        others.chain(self.into.fds()).collect()
    }

    /// What the kernel told since the last time, and what was read since.
    pub fn listen(&mut self, now: Time) -> Vec<Found> {
        let mut found = self.read(Instant::now(), now);
        if let (Some(starts), Some(exec)) = (&mut self.starts, &self.exec) {
            starts.read(|start| {
                if let Some(pattern) = exec.started(start.name, start.arguments) {
                    found.push(Found {
                        id: start.cgroup,
                        evidence: Evidence {
                            fact: Fact::Named(pattern),
                            pid: start.pid,
                            at: now,
                        },
                    });
                }
            });
        }
        for matched in self.connector.iter().flat_map(Connector::read) {
            let (fact, pid) = (Fact::Named(matched.pattern), matched.pid);
            found.push(Found {
                id: matched.cgroup,
                evidence: Evidence { fact, pid, at: now },
            });
        }
        for heard in self.stratum.iter_mut().flat_map(Stratum::read) {
            let fact = Fact::Stratum {
                word: heard.word,
                port: heard.port,
            };
            let evidence = Evidence {
                fact,
                pid: Evidence::NO_PROCESS,
                at: now,
            };
            found.push(Found {
                id: heard.cgroup,
                evidence,
            });
        }
        found
    }
}

/// The user of a server, where it is known.
pub(super) fn owner(owners: &BTreeMap<u64, Owner>, server: u64) -> Owner {
    let known = owners.get(&server).cloned();
    known.unwrap_or_else(|| format!("cgroup {server}").into())
}

/// What tells of programs that are started; the connector where BPF does not.
fn starts_or_connector(
    starts: Result<Starts, String>,
    down: &mut Vec<SensorDown>,
    ourselves: &Path,
    holders: &Holders,
) -> (Option<Starts>, Option<Connector>) {
    let refused = match starts {
        Ok(starts) => return (Some(starts), None),
        Err(refused) => refused,
    };
    let connector = cgroup::find_root()
        .map_err(|error| error.to_string())
        .and_then(|root| {
            let names = Names::new(ourselves.to_owned(), holders.clone());
            Connector::start(&root, names).map_err(|error| error.to_string())
        });
    match connector {
        Ok(connector) => {
            down.push(SensorDown {
                sensor: Sensor::Exec,
                why: refused,
                remains: "the process connector tells of starts instead: a program that ends at once is \
                          gone before its name is read, others are read",
            });
            (None, Some(connector))
        }
        Err(error) => {
            down.push(SensorDown::new(Sensor::Exec, format!("{refused}; {error}")));
            (None, None)
        }
    }
}
