//! Who owns a server's cgroup, and the dispatch to the driver that goes through that owner.

use super::{ActError, CgroupCpu, CpuControl, SystemdCpu};
use crate::cgroup::{CgroupId, CgroupPath};
use crate::hub::{Control, Server, UnitName};
use crate::judge::Controls;
use std::fmt;

/// Whoever a limit has to be set through, with what names the server there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// systemd made the cgroup for this service or scope.
    Systemd(UnitName),
    /// Nobody but the kernel: the files of this cgroup are written, as long as it has this id.
    Cgroup(CgroupPath, CgroupId),
}

impl Owner {
    /// The owner of a server's cgroup.
    pub fn of(server: &Server, cgroup: &CgroupPath, id: CgroupId) -> Owner {
        match server.control {
            Control::Systemd => Owner::Systemd(server.unit.clone()),
            Control::Cgroup => Owner::Cgroup(cgroup.clone(), id),
        }
    }

    /// Settings as this owner will hold them, so that reading them back compares equal: systemd
    /// keeps what it is told, the kernel keeps whole microseconds a period and has no "not set".
    pub fn as_held(&self, settings: &Controls) -> Controls {
        match self {
            Owner::Systemd(_) => *settings,
            Owner::Cgroup(..) => super::cgroup::as_held(settings),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Systemd(unit) => unit.fmt(f),
            Owner::Cgroup(cgroup, _) => cgroup.to_string().escape_debug().fmt(f),
        }
    }
}

/// Both drivers; each server's owner chooses.
#[derive(Debug, Clone)]
pub struct ByOwner {
    systemd: SystemdCpu,
    cgroup: CgroupCpu,
}

impl ByOwner {
    /// Joins the drivers.
    pub fn new(systemd: SystemdCpu, cgroup: CgroupCpu) -> ByOwner {
        ByOwner { systemd, cgroup }
    }
}

impl CpuControl for ByOwner {
    async fn read(&self, owner: &Owner) -> Result<Controls, ActError> {
        match owner {
            Owner::Systemd(unit) => self.systemd.read(unit).await,
            Owner::Cgroup(cgroup, id) => self.cgroup.read(cgroup, *id),
        }
    }

    async fn apply(
        &self,
        owner: &Owner,
        from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        match owner {
            Owner::Systemd(unit) => self.systemd.apply(unit, from, to).await,
            Owner::Cgroup(cgroup, id) => self.cgroup.apply(cgroup, *id, from, to),
        }
    }

    async fn stop(&self, owner: &Owner) -> Result<(), ActError> {
        match owner {
            Owner::Systemd(unit) => self.systemd.stop(unit).await,
            Owner::Cgroup(cgroup, id) => self.cgroup.stop(cgroup, *id),
        }
    }
}
