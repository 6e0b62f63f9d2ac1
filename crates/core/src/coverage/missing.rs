//! The ways in which a place can be uncovered.

use super::Engine;

/// What a place lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// Servers run in the hub's own cgroup.
    HubsCgroup,
    /// A hub runs here, and its unit is not in `hub_units`.
    OtherHub {
        /// Whether a unit of `hub_units` has a hub as well.
        second: bool,
    },
    /// A unit whose name fits no template.
    UnitName {
        /// The template that it would fit, where a name proves one.
        template: Option<String>,
    },
    /// A unit with a unit file, which no spawner makes.
    UnitFile,
    /// Containers of this engine are not looked at.
    EngineOff(Engine),
    /// A container below a parent that is not watched.
    ContainerParent {
        /// The parent as `cgroup_parent` has it: a slice or a path.
        parent: String,
    },
    /// A container of an engine that a user runs.
    Rootless,
    /// Another program made the cgroup.
    OtherManager(Manager),
    /// A login session or the like of a Unix user of whom no server is known.
    Login,
    /// A hub user's process in a service that is no server.
    OutsideServer {
        /// The service runs jobs at set times.
        timed: bool,
    },
    /// It is in the root cgroup or in a slice's own.
    NoUnit,
    /// Its user cannot be told.
    Unmapped {
        /// Why.
        why: String,
    },
    /// Its user is not known yet.
    Pending {
        /// Why.
        why: String,
    },
    /// The processes of a user hold up whoever reads them.
    Unread,
    /// The cgroup hierarchies are those of v1.
    CgroupV1,
    /// The CPU controller is on a hierarchy of v1.
    CpuOnV1,
    /// CPU limits do not hold it.
    Cpu {
        /// Why.
        why: String,
    },
    /// A container in a network namespace to which no known bridge port leads.
    ContainerNetwork {
        /// The interfaces there.
        devices: Vec<String>,
    },
    /// A unit in a network namespace of its own.
    UnitNetwork {
        /// The interfaces there.
        devices: Vec<String>,
    },
    /// It is in the node's network, at a level that packet rules do not look at.
    Level {
        /// Its cgroup's level; the root is 0.
        level: usize,
    },
    /// Packet rules do not hold it.
    Packets {
        /// Why.
        why: String,
    },
    /// The hub lists a server of which nothing is found here.
    NotFound,
}

/// A program that makes cgroups for what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// Kubernetes, by containerd or CRI-O.
    Kubernetes,
    /// LXC, LXD or Incus.
    Lxc,
    /// systemd-nspawn, libvirt: machines of systemd-machined.
    Machined,
    /// Slurm.
    Slurm,
    /// None that is known.
    Unknown,
}

/// How a row matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Users of the hub are not covered.
    Bad,
    /// They may not be, or not wholly.
    Note,
}

/// What does not hold a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lacks {
    /// CPU limits.
    pub cpu: bool,
    /// Packet rules.
    pub packets: bool,
}

impl Lacks {
    /// Neither holds.
    pub(super) const ALL: Lacks = Lacks {
        cpu: true,
        packets: true,
    };
}

impl Missing {
    /// The kind in one word, for programs; never changed.
    pub fn kind(&self) -> &'static str {
        match self {
            Missing::HubsCgroup => "hub-cgroup",
            Missing::OtherHub { .. } => "other-hub",
            Missing::UnitName { .. } => "unit-name",
            Missing::UnitFile => "unit-file",
            Missing::EngineOff(_) => "engine-off",
            Missing::ContainerParent { .. } => "container-parent",
            Missing::Rootless => "rootless-container",
            Missing::OtherManager(_) => "other-manager",
            Missing::Login => "login-session",
            Missing::OutsideServer { .. } => "outside-server",
            Missing::NoUnit => "no-unit",
            Missing::Unmapped { .. } => "not-mapped",
            Missing::Pending { .. } => "not-mapped-yet",
            Missing::Unread => "not-readable",
            Missing::CgroupV1 => "cgroup-v1",
            Missing::CpuOnV1 => "cpu-on-v1",
            Missing::Cpu { .. } => "cpu-limits",
            Missing::ContainerNetwork { .. } => "container-network",
            Missing::UnitNetwork { .. } => "unit-network",
            Missing::Level { .. } => "cgroup-level",
            Missing::Packets { .. } => "packet-rules",
            Missing::NotFound => "not-found",
        }
    }

    /// How it matters.
    pub fn weight(&self) -> Weight {
        match self {
            Missing::UnitFile
            | Missing::Login
            | Missing::OutsideServer { .. }
            | Missing::NotFound => Weight::Note,
            _ => Weight::Bad,
        }
    }

    /// What does not hold the place; `uid_rules` is [`super::Naming::uid_rules`].
    pub fn lacks(&self, uid_rules: bool) -> Lacks {
        let (cpu, packets) = match self {
            Missing::OtherHub { .. } => (false, false),
            Missing::CpuOnV1 | Missing::Cpu { .. } => (true, false),
            Missing::ContainerNetwork { .. }
            | Missing::UnitNetwork { .. }
            | Missing::Level { .. }
            | Missing::Packets { .. } => (false, true),
            // Uid rules know the users of known servers.
            Missing::OutsideServer { .. } => (true, !uid_rules),
            _ => (true, true),
        };
        Lacks { cpu, packets }
    }

    /// Whether it passes by itself as a rule, so that only one that lasts is worth an entry in the journal.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Missing::Pending { .. } | Missing::NotFound | Missing::Unread
        )
    }
}
