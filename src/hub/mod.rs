//! Who is this? From a cgroup to one hub user's server, or a clear reason why not.

mod account;
mod account_files;
pub mod api;
mod container;
mod directory;
mod docker;
mod escapism;
pub mod fronts;
mod identify;
mod networks;
mod peer;
mod subordinate;
mod systemd;
mod unit_name;
mod unix_user;

pub use account::Account;
pub use account_files::{AccountFiles, NotNow};
pub use container::{
    ContainerCgroup, ContainerFacts, Engine, identify_container, is_other_container,
};
pub use directory::{HubDirectory, Listed, Person};
pub use docker::{EngineError, HubContainer, container_facts, hub_container};
pub use identify::{Finding, HAS_FILE, Identified, UnitFacts, expected_accounts, identify};
pub use networks::{network_bridge, with_networks};
pub use subordinate::subordinate_uids;
pub use systemd::Units;
pub use unit_name::{escape, unescape};
pub use unix_user::{matches_unix_user, name_of};

pub use hubwarden_core::undo::Control;
pub use quantities::UnitName;

use hubwarden_core::undo::Owner;
use quantities::{CgroupId, CgroupPath, HubUser};
use serde::{Deserialize, Serialize};

/// What started a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spawner {
    /// SystemdSpawner: a transient unit.
    Systemd,
    /// DockerSpawner: a container of Docker's.
    Docker,
    /// A container of root's Podman.
    Podman,
    /// None: what a hub user runs outside the server, in `user-UID.slice`.
    Login,
}

impl Spawner {
    /// The word used in the journal and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Spawner::Systemd => "systemd",
            Spawner::Docker => "docker",
            Spawner::Podman => "podman",
            Spawner::Login => "login",
        }
    }
}

/// JupyterHub's single-user server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Whose it is.
    pub user: HubUser,
    /// Its name; empty for the default server, as JupyterHub has it.
    pub name: String,
    /// What started it.
    pub spawner: Spawner,
    /// The unit it runs in; for a container that systemd knows nothing of, its cgroup's name.
    pub unit: UnitName,
    /// The Unix user it runs as, where it has a fixed one.
    pub uid: Option<u32>,
    /// Through whom its limits are changed.
    #[serde(default)]
    pub control: Control,
}

impl Server {
    /// Through whom its limits are changed, in this cgroup.
    pub fn owner(&self, cgroup: &CgroupPath, id: CgroupId) -> Owner {
        Owner::of(self.control, &self.unit, cgroup, id)
    }
}
