//! Wires the wings together and owns the loop; the only room that knows all of them.
//!
//! Everything runs on one thread. What has to wait for systemd runs as a local task beside the
//! loop, so that one server's slow answer holds up nobody; shared state is never borrowed across
//! an await.

mod abuse;
mod ask_cpu;
mod bridges;
mod cgroup_filter;
mod cgroups;
mod classes;
mod commands;
mod containers;
mod counters;
mod denied_dns;
mod egress;
mod ending;
mod enforce;
mod evidence;
mod explain;
mod flows;
mod following;
mod grants;
mod health;
mod hub_poller;
mod identify;
mod inner;
mod limits;
mod lock;
mod metrics;
mod off;
mod offline_off;
mod orphans;
mod packet_rules;
mod process_list;
#[cfg(not(test))]
mod readers;
mod refusal_log;
mod refusals;
mod registry;
mod repairs;
mod resolvers;
mod run;
mod sampling;
mod saving;
mod slice_cap;
mod state;
mod switch;
mod trace;
mod traffic;
mod troubles;
mod uid_egress;
mod user_slices;

pub use health::log_panics;
pub(crate) use hub_poller::Looker;
pub use limits::policy;
pub use lock::{DaemonLock, LockError};
pub use off::OffSwitch;
pub use offline_off::{Lifted, lift};
pub use run::run;
pub use state::{State, StateError, Store};

use crate::act::{Stopper, UndoStore};
use crate::config::Config;
use crate::control::Inbox;
use crate::heartbeats::Heartbeats;
use crate::hub::shared::Shared;
use crate::hub::{HubDirectory, UnitName};
use crate::report::Journal;
use ::egress::lists::List;
use ::egress::names::{Asked, Counts};
use ::egress::{Admitted, Firewall, Refusal, Repair};
use cgroup::{CgroupError, Tree};
use cgroups::{Cgroup, Guarded};
use hubwarden_core::actuator::Actuator;
use hubwarden_core::node::{Effect, Node};
use policy::Grant;
use quantities::{CgroupId, Time};
use run::now;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};

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
    /// What packets were refused.
    pub refusals: mpsc::Receiver<Refusal>,
    /// Who asked for denied names.
    pub asked: mpsc::Receiver<Asked>,
    /// What became of resolvers' answers.
    pub answers: Arc<Counts>,
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

/// The daemon's shared state; see the module's text.
struct Daemon<C, U> {
    inner: RefCell<Inner>,
    cpu: C,
    stopper: Stopper,
    units: U,
    store: Store,
    config_path: PathBuf,
    savers: RefCell<Vec<Saver>>,
    save_wanted: Notify,
    reloaded: Notify,
    /// Somebody appeared: the hub may have news of them.
    hub_news: Notify,
    /// Who is judged outside the server may have changed.
    outsiders_due: Notify,
    /// Somebody came whom the sensors do not listen to yet.
    sensors_due: Notify,
    /// A request of an actuator was answered.
    answered: Notify,
    tree_reads: Cell<bool>,
    /// Who looks at processes when people ask.
    observer: process_list::Observer,
    heartbeats: Heartbeats,
    /// What looks for servers in the hub's own cgroup; one look at a time.
    hub_looker: Arc<std::sync::Mutex<hub_poller::Looker>>,
    /// Ticks since the start.
    ticks: Cell<u32>,
}

/// What the loop is told by others.
struct Inlets {
    refusals: mpsc::Receiver<Refusal>,
    asked: mpsc::Receiver<Asked>,
    repairs: mpsc::Receiver<Repair>,
    commands: Inbox,
}

/// Waits to hear that the state is on disk.
type Saver = oneshot::Sender<Result<(), Rc<StateError>>>;

struct Inner {
    config: Config,
    root: PathBuf,
    tree: Tree,
    entries: BTreeMap<CgroupId, Cgroup>,
    /// Servers whose cgroup is gone and whose end goes on.
    departed: BTreeMap<CgroupId, Box<Guarded>>,
    /// Admins' exceptions, by hub user.
    grants: BTreeMap<String, Grant>,
    /// The users' places, and what is done with them.
    node: Node,
    /// What is to be done by it.
    effects: Vec<Effect>,
    /// Counters of cgroups.
    sampler: sampling::Sampler,
    rules: packet_rules::PacketRules,
    /// Who abused the network at the last tick.
    abuse: abuse::Abuse,
    /// Containers' networks.
    networks: containers::Networks,
    /// What became of resolvers' answers.
    answers: Arc<Counts>,
    /// The queue that answers are read from; it was bound at the start.
    dns_queue: u16,
    /// What users sent and received today.
    traffic: traffic::Traffic,
    /// Who is judged outside the server.
    uid_egress: uid_egress::UidEgress,
    /// What no class reaches, as read at start and at each reload.
    lists: Arc<Vec<List>>,
    troubles: troubles::Troubles,
    /// What of the packet rules could not be brought about last, in words.
    rules_trouble: BTreeSet<String>,
    unknown_refused: Option<Time>,
    /// What was refused to them, and no line of the journal stands for.
    unknown_unlogged: refusal_log::Unlogged,
    /// What the packet rules counted, as of this tick.
    counters: counters::Counters,
    /// What the hub said last of its servers and people.
    directory: Rc<HubDirectory>,
    /// Containers told of as nobody's.
    logged_unknown: BTreeSet<UnitName>,
    /// Units and containers of which the hub said another than what is known, and what.
    logged_contradictions: BTreeSet<(UnitName, String)>,
    /// The kind of trouble for which the hub was not heard, as last told.
    hub_trouble: Option<String>,
    /// Servers in the hub's own cgroup, which are never acted on.
    shared: Vec<Shared>,
    journal: Journal,
    meter: metrics::Meter,
    trace: trace::TraceWriter,
    /// Why processes cannot be ended here.
    cannot_stop: Option<String>,
    sensors: evidence::SensorThread,
    off: bool,
    /// Quotas have an effect, and the kernel can be asked which stands.
    cpu_controller: bool,
    /// What is done with the guarded slice.
    slice_cap: Option<Actuator>,
    /// Something changed that should be on disk soon.
    dirty: bool,
    store: Store,
    /// What was changed on units, as it is on record.
    undo: UndoStore,
    /// Records of units that are no server known, and since when.
    orphans: orphans::Orphans,
    switch: OffSwitch,
}

impl<C, U> Daemon<C, U> {
    /// Puts the parts together; nothing is read or changed yet.
    fn new(parts: Parts<C, U>) -> Result<(Rc<Self>, Inlets), DaemonError> {
        let dns_queue = parts.config.egress.dns_queue;
        let holders = sensors::workers::Holders::default();
        let daemon = Rc::new(Daemon {
            stopper: Stopper::new(&parts.root),
            inner: RefCell::new(Inner {
                cpu_controller: cgroup::has_cpu_controller(&parts.root),
                tree: Tree::new(
                    &parts.root,
                    &cgroup_filter::slices(&parts.config.hub),
                    cgroup_filter::filter(&parts.config.hub),
                )?,
                meter: metrics::Meter::new(&parts.config),
                trace: trace::TraceWriter::new(&parts.config, parts.store.directory()),
                cannot_stop: None,
                sensors: evidence::SensorThread::new(&holders, &parts.heartbeats),
                node: Node::new(
                    enforce::settings(&parts.config, false),
                    1..=Admitted::NUMBER_MAX,
                ),
                config: parts.config,
                root: parts.root,
                entries: BTreeMap::new(),
                departed: BTreeMap::new(),
                grants: BTreeMap::new(),
                effects: Vec::new(),
                sampler: sampling::Sampler::default(),
                rules: packet_rules::PacketRules::new(parts.firewall),
                slice_cap: None,
                abuse: abuse::Abuse::default(),
                networks: containers::Networks::default(),
                answers: parts.answers,
                dns_queue,
                traffic: traffic::Traffic::default(),
                uid_egress: uid_egress::UidEgress::default(),
                lists: Arc::default(),
                troubles: troubles::Troubles::default(),
                rules_trouble: BTreeSet::new(),
                unknown_refused: None,
                unknown_unlogged: refusal_log::Unlogged::default(),
                counters: counters::Counters::default(),
                directory: Rc::default(),
                logged_unknown: BTreeSet::new(),
                logged_contradictions: BTreeSet::new(),
                hub_trouble: None,
                shared: Vec::new(),
                journal: parts.journal,
                off: false,
                dirty: false,
                store: parts.store.clone(),
                undo: parts.undo,
                orphans: orphans::Orphans::default(),
                switch: parts.switch,
            }),
            cpu: parts.cpu,
            units: parts.units,
            store: parts.store,
            config_path: parts.config_path,
            savers: RefCell::default(),
            save_wanted: Notify::new(),
            reloaded: Notify::new(),
            hub_news: Notify::new(),
            outsiders_due: Notify::new(),
            sensors_due: Notify::new(),
            answered: Notify::new(),
            observer: process_list::Observer::new(&holders, &parts.heartbeats),
            heartbeats: parts.heartbeats,
            hub_looker: Arc::new(std::sync::Mutex::new(hub_poller::Looker::new(&holders))),
            tree_reads: Cell::new(true),
            ticks: Cell::new(0),
        });
        let inlets = Inlets {
            refusals: parts.refusals,
            asked: parts.asked,
            repairs: parts.repairs,
            commands: parts.commands,
        };
        Ok((daemon, inlets))
    }
}

#[cfg(test)]
mod tests;
