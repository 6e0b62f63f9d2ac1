//! Wires the wings together and owns the loop; the only room that knows all of them.
//!
//! Everything runs on one thread, and the loop alone owns what the daemon knows: methods of [`Daemon`] and
//! [`Shell`] never wait. What has to wait, for systemd or an engine, is a task beside the loop ([`Tasks`]),
//! so that a slow answer holds up nobody; it reaches what the daemon knows by turns in the loop.

mod abuse;
mod addresses;
mod ask_cpu;
mod bridges;
mod cgroup_filter;
mod cgroups;
mod classes;
mod commands;
mod connections;
mod containers;
mod counters;
mod coverage;
mod denied_dns;
mod desired_network;
mod due;
mod egress;
mod ending;
mod enforce;
mod evidence;
mod explain;
mod flows;
mod following;
mod grants;
mod guarded_slices;
mod health;
mod hub_poller;
mod identify;
mod limits;
mod lock;
mod metrics;
mod off;
mod offline_off;
mod orphans;
mod packet_rules;
mod process_list;
#[cfg(not(test))]
pub(crate) mod readers;
mod refusal_log;
mod refusals;
mod registry;
mod repairs;
mod resolvers;
mod run;
mod sampling;
mod saving;
mod shares;
mod shell;
mod slice_cap;
mod state;
mod subordinate;
mod switch;
mod tasks;
mod trace;
mod traffic;
mod troubles;
mod uid_egress;
mod user_slices;

pub(crate) use cgroup_filter::watched_cgroup;
pub(crate) use connections::Connections;
pub use health::log_panics;
pub use limits::policy;
pub use lock::{DaemonLock, LockError};
pub use off::OffSwitch;
pub use offline_off::{Lifted, lift};
pub(crate) use resolvers::resolvers;
pub use run::run;
pub use state::{State, StateError, Store};

use crate::act::{Placement, Stopper, UndoStore};
use crate::config::Config;
use crate::control::Inbox;
use crate::coverage::Surveyor;
use crate::heartbeats::Heartbeats;
use crate::report::Journal;
use ::egress::names::{Asked, Counts};
use ::egress::{Admitted, Firewall, Refusal, Repair};
use cgroup::CgroupError;
use due::Due;
use hubwarden_core::node::Node;
use run::now;
use shell::{Limits, Network, Registry, Reports, Shell, Storage};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tasks::{Tasks, Turns};
use tokio::sync::mpsc;

/// Everything the daemon is made of, so that tests and benches can exchange any part.
pub struct Parts<C, U> {
    /// The configuration in force at start.
    pub config: Config,
    /// Where a reload finds it.
    pub config_path: PathBuf,
    /// Where cgroup v2 is mounted.
    pub root: PathBuf,
    /// Where the state is kept.
    pub store: Store,
    /// Where records of what was changed are kept.
    pub undo: UndoStore,
    /// Where new servers are started.
    pub placement: Placement,
    /// Whether supervision is off.
    pub switch: OffSwitch,
    /// The power over CPU.
    pub cpu: C,
    /// Who knows units.
    pub units: U,
    /// The power over packets.
    pub firewall: Box<dyn Firewall>,
    /// Where everything is told.
    pub journal: Journal,
    /// The daemon's threads, which its loop watches.
    pub heartbeats: Heartbeats,
    /// What became of resolvers' answers.
    pub answers: Arc<Counts>,
    /// What others say.
    pub inlets: Inlets,
}

/// What the loop hears of others, at their own pace.
pub struct Inlets {
    /// What packets were refused.
    pub refusals: mpsc::Receiver<Refusal>,
    /// Who asked for denied names.
    pub asked: mpsc::Receiver<Asked>,
    /// Who else changed the packet rules, and what was put back.
    pub repairs: mpsc::Receiver<Repair>,
    /// What people ask and order.
    pub commands: Inbox,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The cgroup tree cannot be watched.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The clock or the event queue failed.
    #[error("the system refuses what a daemon needs: {0}")]
    System(#[from] std::io::Error),
    /// Whoever serves requests has gone.
    #[error(
        "no orders can come any more: the service's threads have ended; what is enforced stays"
    )]
    ServiceLost,
    /// What it had begun will not be ended.
    #[error("a part of the daemon's loop panicked, as the journal says; what is enforced stays")]
    Panicked,
}

/// The daemon: what it knows, and what does what it wants. The loop owns it; see the module's text.
struct Daemon<C, U> {
    shell: Shell,
    /// What runs beside the loop.
    tasks: Tasks<C, U>,
    config_path: PathBuf,
    heartbeats: Heartbeats,
    /// What is to be done soon.
    due: Due,
    /// Ticks since the start.
    ticks: u32,
}

impl<C, U> Daemon<C, U> {
    /// Puts the parts together; nothing is read or changed yet.
    fn new(parts: Parts<C, U>) -> Result<(Self, Turns<C, U>, Inlets), DaemonError> {
        let holders = sensors::workers::Holders::default();
        let (turns_in, turns) = mpsc::unbounded_channel();
        let tasks = Tasks {
            cpu: Rc::new(parts.cpu),
            units: Rc::new(parts.units),
            stopper: Rc::new(Stopper::new(&parts.root)),
            observer: Rc::new(process_list::Observer::new(&holders, &parts.heartbeats)),
            surveyor: Arc::new(std::sync::Mutex::new(Surveyor::new(&holders))),
            turns: turns_in,
        };
        let sensors = evidence::SensorThread::new(&holders, &parts.heartbeats);
        let daemon = Daemon {
            shell: Shell {
                sensors,
                node: Node::new(
                    enforce::settings(&parts.config, false),
                    1..=Admitted::NUMBER_MAX,
                ),
                effects: Vec::new(),
                registry: Registry::new(&parts.root, &parts.config)?,
                hub: shell::Hub::default(),
                limits: Limits::new(parts.undo, parts.placement),
                network: Network::new(parts.firewall, parts.answers, parts.config.egress.dns_queue),
                report: Reports::new(parts.journal, &parts.config, parts.store.directory()),
                storage: Storage::new(parts.store, parts.switch),
                off: false,
                config: parts.config,
                root: parts.root,
            },
            tasks,
            config_path: parts.config_path,
            heartbeats: parts.heartbeats,
            due: Due::default(),
            ticks: 0,
        };
        Ok((daemon, turns, parts.inlets))
    }
}

#[cfg(test)]
mod tests;
