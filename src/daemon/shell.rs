//! What the daemon knows besides the core: the world as it was read last, and what was said of it.

use super::abuse::Abuse;
use super::cgroup_filter::{filter, slices};
use super::cgroups::{Cgroup, Guarded};
use super::connections::Connections;
use super::containers::Networks;
use super::counters::Counters;
use super::coverage::Coverage;
use super::egress::Surroundings;
use super::evidence::SensorThread;
use super::metrics::Meter;
use super::off::OffSwitch;
use super::orphans::Orphans;
use super::packet_rules::PacketRules;
use super::refusal_log::Unlogged;
use super::sampling::Sampler;
use super::saving::Saver;
use super::shares::Shares;
use super::state::{Exempt, ServerState, State, StateError, Store};
use super::trace::TraceWriter;
use super::traffic::Traffic;
use super::troubles::Troubles;
use super::uid_egress::UidEgress;
use crate::act::{Placement, UndoStore};
use crate::config::Config;
use crate::hub::{HubDirectory, UnitName};
use crate::report::{Journal, Kind, Level, LogEntry};
use cgroup::{CgroupError, Tree};
use egress::Firewall;
use egress::lists::List;
use egress::names::Counts;
use hubwarden_core::actuator::Actuator;
use hubwarden_core::node::{Effect, Node};
use policy::Grant;
use quantities::{CgroupId, Mode, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that the daemon knows.
pub(super) struct Shell {
    pub config: Config,
    /// Where cgroup v2 is mounted.
    pub root: PathBuf,
    /// The users' places, and what is done with them.
    pub node: Node,
    /// What is to be done by it.
    pub effects: Vec<Effect>,
    /// Supervision is switched off.
    pub off: bool,
    pub registry: Registry,
    pub hub: Hub,
    pub limits: Limits,
    pub network: Network,
    pub report: Reports,
    pub sensors: SensorThread,
    pub storage: Storage,
}

/// The node's cgroups, and what each is.
pub(super) struct Registry {
    pub tree: Tree,
    /// The tree could be read when it was read last.
    pub tree_reads: bool,
    pub entries: BTreeMap<CgroupId, Cgroup>,
    /// Raised by whatever bears on who is judged by which class.
    pub changes: u64,
    /// Servers whose cgroup is gone and whose end goes on.
    pub departed: BTreeMap<CgroupId, Box<Guarded>>,
    /// Counters of cgroups.
    pub sampler: Sampler,
    /// Quotas have an effect, and the kernel can be asked which stands.
    pub cpu_controller: bool,
    /// The topmost slices of those that spawners themselves asked for, other than the configured one.
    pub spawner_slices: BTreeSet<String>,
    /// Topmost slices in which an admin's units were seen too.
    pub shared_slices: BTreeSet<String>,
    /// Containers logged as nobody's.
    pub logged_unknown: BTreeSet<UnitName>,
}

/// The hub's word.
#[derive(Default)]
pub(super) struct Hub {
    /// What the hub said last of its servers and people.
    pub directory: HubDirectory,
    /// The kind of trouble for which the hub was not heard, as last logged.
    pub trouble: Option<String>,
    /// Ports by which the hub is open to everybody, servers included.
    pub fronts: BTreeSet<u16>,
    /// Who is covered by nothing.
    pub coverage: Coverage,
    /// Units and containers of which the hub said another than what is known, and what.
    pub logged_contradictions: BTreeSet<(UnitName, String)>,
}

/// What users may use besides the configuration, and what was changed for that.
pub(super) struct Limits {
    /// Admins' exceptions, by hub user.
    pub grants: BTreeMap<String, Grant>,
    /// What was changed on units, as it is on record.
    pub undo: UndoStore,
    /// Records of units that are no server known, and since when.
    pub orphans: Orphans,
    /// What is done with the guarded slice.
    pub slice_cap: Option<Actuator>,
    /// Where new servers are started.
    pub placement: Placement,
    /// Why processes cannot be ended here.
    pub cannot_stop: Option<String>,
}

/// The packet rules, and what they tell.
pub(super) struct Network {
    pub rules: PacketRules,
    /// What of the rules could not be brought about last, in words.
    pub trouble: BTreeSet<String>,
    /// What they were worked out from last.
    pub reconciled: Option<Surroundings>,
    /// What no class reaches, as read at start and at each reload.
    pub lists: Arc<Vec<List>>,
    pub containers: Networks,
    /// Who is judged outside the server.
    pub uid_egress: UidEgress,
    /// What the rules counted, as of this tick.
    pub counters: Counters,
    /// What users sent and received today.
    pub traffic: Traffic,
    /// Who abused the network at the last tick.
    pub abuse: Abuse,
    /// Who ran into a share.
    pub shares: Shares,
    /// The kernel's table of connections.
    pub table: ConnectionTable,
    /// What became of resolvers' answers.
    pub answers: Arc<Counts>,
    /// The queue that answers are read from; it was bound at the start.
    pub dns_queue: u16,
    /// What was refused to somebody unknown.
    pub unknown: UnknownRefused,
}

/// What is known of the kernel's table of connections.
#[derive(Default)]
pub(super) struct ConnectionTable {
    /// Whether connections are tracked, as of this tick.
    pub tracking: egress::Tracking,
    /// How full it is, while there is little room in it.
    pub connections: Option<Connections>,
    /// The users who were held to their part of it at the last tick.
    pub filling: BTreeSet<String>,
}

/// What was refused to somebody unknown.
#[derive(Default)]
pub(super) struct UnknownRefused {
    /// When that was logged last, and in which mode.
    pub logged: Option<(Mode, Time)>,
    /// What no line of the journal stands for.
    pub unlogged: Unlogged,
}

/// Where everything is said and shown.
pub(super) struct Reports {
    pub journal: Journal,
    pub troubles: Troubles,
    pub meter: Meter,
    pub trace: TraceWriter,
}

/// What outlives the daemon.
pub(super) struct Storage {
    pub store: Store,
    pub switch: OffSwitch,
    /// Something changed that should be on disk soon.
    pub dirty: bool,
    /// Who waits for that.
    pub savers: Vec<Saver>,
}

impl Registry {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// The tree cannot be watched.
    pub fn new(root: &Path, config: &Config) -> Result<Registry, CgroupError> {
        Ok(Registry {
            cpu_controller: cgroup::has_cpu_controller(root),
            tree: Tree::new(
                root,
                &slices(),
                filter(
                    &config.hub,
                    [config.hub.slice.clone()].into(),
                    BTreeSet::new(),
                ),
            )?,
            spawner_slices: BTreeSet::new(),
            shared_slices: BTreeSet::new(),
            tree_reads: true,
            entries: BTreeMap::new(),
            changes: 0,
            departed: BTreeMap::new(),
            sampler: Sampler::default(),
            logged_unknown: BTreeSet::new(),
        })
    }
}

impl Registry {
    pub fn insert(&mut self, id: CgroupId, entry: Cgroup) {
        self.changes += 1;
        self.entries.insert(id, entry);
    }

    pub fn remove(&mut self, id: CgroupId) -> Option<Cgroup> {
        self.changes += 1;
        self.entries.remove(&id)
    }
}

impl Limits {
    pub fn new(undo: UndoStore, placement: Placement) -> Limits {
        Limits {
            placement,
            grants: BTreeMap::new(),
            undo,
            orphans: Orphans::default(),
            slice_cap: None,
            cannot_stop: None,
        }
    }
}

impl Network {
    pub fn new(firewall: Box<dyn Firewall>, answers: Arc<Counts>, dns_queue: u16) -> Network {
        Network {
            rules: PacketRules::new(firewall),
            trouble: BTreeSet::new(),
            reconciled: None,
            lists: Arc::default(),
            containers: Networks::default(),
            uid_egress: UidEgress::default(),
            counters: Counters::default(),
            traffic: Traffic::default(),
            abuse: Abuse::default(),
            shares: Shares::default(),
            table: ConnectionTable::default(),
            answers,
            dns_queue,
            unknown: UnknownRefused::default(),
        }
    }
}

impl Reports {
    pub fn new(journal: Journal, config: &Config, state: &Path) -> Reports {
        Reports {
            journal,
            troubles: Troubles::default(),
            meter: Meter::new(config),
            trace: TraceWriter::new(config, state),
        }
    }
}

impl Storage {
    pub fn new(store: Store, switch: OffSwitch) -> Storage {
        Storage {
            store,
            switch,
            dirty: false,
            savers: Vec::new(),
        }
    }
}

impl Shell {
    pub(super) fn log(&self, entry: LogEntry) {
        self.report.journal.log(entry);
    }

    pub(super) fn guarded(&mut self, id: CgroupId) -> Option<&mut Guarded> {
        match self.registry.entries.get_mut(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => None,
        }
    }

    pub(super) fn state(&self) -> State {
        let mut state = self.storage.store.empty();
        state.mode = Some(self.config.mode);
        state.grants = self.limits.grants.clone();
        state.rested = self.node.accounts().rested().clone();
        state.changes = self.limits.undo.records().cloned().collect();
        state.other_containers = self.other_containers();
        state.fronts = self.hub.fronts.clone();
        state.shared_slices = self.registry.shared_slices.clone();
        state.spawner_slices = self.registry.spawner_slices.clone();
        state.bridges = self.network.containers.bridges.clone();
        state.traffic = self.network.traffic.clone();
        let uids = self.server_uids();
        let mut accounts = self.network.uid_egress.accounts.clone();
        accounts.retain(|uid, _| uids.contains(uid));
        state.accounts = accounts;
        for (id, entry) in &self.registry.entries {
            match entry {
                Cgroup::Server(guarded) => state.servers.extend(self.state_of(guarded)),
                Cgroup::Ignored {
                    cgroup,
                    why,
                    exempt: Some(_),
                    ..
                } => state.exempt.push(Exempt {
                    cgroup: cgroup.clone(),
                    id: *id,
                    why: why.clone(),
                }),
                _ => {}
            }
        }
        state
    }

    fn state_of(&self, guarded: &Guarded) -> Option<ServerState> {
        let place = self.node.accounts().place(guarded.id)?;
        Some(ServerState {
            server: guarded.server.clone(),
            cgroup: guarded.cgroup.clone(),
            id: guarded.id,
            class: guarded.class.clone(),
            standing: *place.standing(),
            used_outside: place.used_elsewhere(),
        })
    }

    pub(super) fn state_trouble(&mut self, error: &StateError) {
        self.log_once(LogEntry::new(
            Kind::Trouble,
            Level::Error,
            error.to_string(),
        ));
    }

    /// Logs a trouble, unless the journal has it.
    pub(super) fn log_once(&mut self, entry: LogEntry) {
        if self.report.troubles.is_news(&entry.message, super::now()) {
            self.log(entry);
        }
    }

    /// For `systemctl status`.
    pub(super) fn status_line(&self) -> String {
        let mut servers = 0;
        let mut held = 0;
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry {
                servers += 1;
                held += usize::from(self.stands_on(guarded.id) > Some(policy::Stage::Free));
            }
        }
        let mode = if self.off {
            "off"
        } else {
            self.config.mode.as_str()
        };
        let would = match self.config.mode {
            Mode::Observe => "would be ",
            Mode::Enforce => "",
        };
        format!("{mode}: {servers} servers, {held} {would}held back")
    }
}
