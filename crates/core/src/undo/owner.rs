//! Who owns a cgroup, so that limits on it have to be set through them.

use policy::Controls;
use quantities::{CgroupId, CgroupPath, UnitName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Through whom a server's limits are changed: whoever made its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// systemd, which would overwrite what anybody else writes.
    #[default]
    Systemd,
    /// The cgroup's own files: a container engine with the cgroupfs driver made it.
    Cgroup,
}

/// Whoever a limit has to be set through, with what names the server there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// systemd made the cgroup for this unit; where it is, if that is known.
    Systemd(UnitName, Option<(CgroupPath, CgroupId)>),
    /// Nobody but the kernel: the files of this cgroup are written, as long as it has this id.
    Cgroup(CgroupPath, CgroupId),
}

impl Owner {
    /// The owner of a unit's cgroup.
    pub fn of(control: Control, unit: &UnitName, cgroup: &CgroupPath, id: CgroupId) -> Owner {
        match control {
            Control::Systemd => Owner::Systemd(unit.clone(), Some((cgroup.clone(), id))),
            Control::Cgroup => Owner::Cgroup(cgroup.clone(), id),
        }
    }

    /// Whether both are one unit's, or one cgroup's: a unit that is started again has another cgroup.
    pub fn is_same_unit(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::Systemd(a, _), Owner::Systemd(b, _)) => a == b,
            (a, b) => a == b,
        }
    }

    /// Settings as this owner will hold them, so that reading them back compares equal: systemd
    /// keeps what it is told, the kernel keeps whole microseconds a period and has no "not set".
    pub fn as_held(&self, settings: &Controls) -> Controls {
        match self {
            Owner::Systemd(..) => *settings,
            Owner::Cgroup(..) => super::as_held(settings),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Systemd(unit, _) => unit.fmt(f),
            Owner::Cgroup(cgroup, _) => cgroup.to_string().escape_debug().fmt(f),
        }
    }
}
