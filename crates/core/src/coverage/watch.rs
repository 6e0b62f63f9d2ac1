//! What the daemon watches, whom it maps, and what the configuration can express.

use super::{Listed, Location};
use quantities::{CgroupPath, HubUser};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What the daemon does on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Every cgroup that it looks at, by its path.
    pub known: BTreeMap<CgroupPath, Known>,
    /// Uids of which each is one hub user's own. Not in it: the uids of admins, of the system's accounts,
    /// and those that several users share.
    pub uids: BTreeMap<u32, HubUser>,
    /// Servers that the hub or an engine lists.
    pub listed: Vec<Listed>,
    /// The configuration, as far as it says where servers are.
    pub naming: Naming,
}

/// What the daemon knows of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A hub user's server, or the login slice of a user whose server is known.
    Server {
        /// Its user.
        user: HubUser,
        /// Packet rules know the bridge port that its packets come by.
        port: bool,
        /// Why CPU limits do not hold it, where they do not; a clause without a full stop.
        cpu: Option<String>,
        /// Why packet rules do not hold it, where they do not; likewise.
        packets: Option<String>,
    },
    /// The configuration has it looked at; the daemon was not asked.
    Expected,
    /// It may be a server, and its user is being asked for. `why` says what is in the way.
    Pending {
        /// A clause without a full stop.
        why: Option<String>,
    },
    /// It may be a server, and its user cannot be told.
    Unmapped {
        /// A clause without a full stop.
        why: String,
    },
    /// An admin's unit.
    NotAServer,
    /// The login slice of a Unix user of whom no server is known.
    Login,
}

/// Keys of `[hub]` as they stand, and what else bounds what can be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// `slice`.
    pub slice: String,
    /// `unit_names`, as text.
    pub unit_names: Vec<String>,
    /// `hub_units`.
    pub hub_units: Vec<String>,
    /// `container_parents`, as cgroup paths.
    pub container_parents: Vec<String>,
    /// Whether `docker` is a socket and not "none".
    pub docker: bool,
    /// Whether `podman` is.
    pub podman: bool,
    /// Whether `api_url` is set.
    pub api: bool,
    /// Whether `egress.outside` has uid rules hold what users run outside their servers.
    pub uid_rules: bool,
    /// Levels of cgroups that packet rules look at; the root is 0.
    pub levels: RangeInclusive<usize>,
}

impl Watch {
    /// What is known of the cgroup that a place or a process is in: the nearest one above it counts.
    pub fn known_of(&self, cgroup: &CgroupPath) -> Option<&Known> {
        let mut path = cgroup.as_str();
        loop {
            if let Some(known) = self.known.get(&CgroupPath::new(path)) {
                return Some(known);
            }
            path = path.rsplit_once('/')?.0;
        }
    }

    /// Whether all that is in this cgroup is a known user's, so that what a process there says of itself
    /// does not matter.
    pub fn is_mapped(&self, cgroup: &CgroupPath) -> bool {
        matches!(self.known_of(cgroup), Some(Known::Server { .. }))
    }

    /// Whether the hub's own unit is there.
    pub(super) fn is_hubs(&self, place: &Location) -> bool {
        let is = |unit: &str| self.naming.hub_units.iter().any(|name| name == unit);
        place.unit().is_some_and(is)
    }
}
