//! What the daemon knows of each cgroup it was told of.

use super::refusal_log::Refusals;
use super::registry::Found;
use crate::hub::{Server, Spawner, UnitName};
use crate::report::Story;
use cgroup::stat::CpuStat;
use egress::{Admitted, ClassName};
use quantities::{CgroupId, CgroupPath};
use quantities::{Mode, Time};
use sensors::workers;
use std::collections::BTreeMap;

/// One cgroup that is or may be a server.
pub(super) enum Cgroup {
    /// systemd or a container's engine was asked what it is; `asking` is false when the answer has
    /// to be sought again, and `why` then says what was in the way.
    Pending {
        cgroup: CgroupPath,
        asking: bool,
        why: Option<String>,
    },
    /// Not a server, or nobody can tell whose; in words.
    Ignored {
        cgroup: CgroupPath,
        why: String,
        /// It is known to be no server.
        is_admins: bool,
        /// The number by which it is let out, if that is needed.
        exempt: Option<u32>,
    },
    /// The slice of a Unix user of whom no server is known.
    UserSlice { cgroup: CgroupPath, uid: u32 },
    /// A hub user's server, or the slice of a hub user's.
    Server(Box<Guarded>),
}

/// A server under supervision.
pub(super) struct Guarded {
    pub server: Server,
    pub cgroup: CgroupPath,
    pub id: CgroupId,
    pub class: ClassName,
    /// What refusals name it by; unique among the living.
    pub number: u32,
    /// What the last sample said.
    pub stat: Option<CpuStat>,
    /// Why its counters cannot be read, as logged last.
    pub unreadable: Option<String>,
    /// The class that judges it instead of its own, while something holds it back.
    pub instead: Option<ClassName>,
    /// Denied names it asked for, told lately.
    pub asked: BTreeMap<String, Time>,
    /// What was refused.
    pub refusals: Refusals,
}

impl Guarded {
    pub fn new(found: Found, number: u32) -> Guarded {
        Guarded {
            server: found.server,
            cgroup: found.cgroup,
            id: found.id,
            class: found.class,
            number,
            stat: None,
            unreadable: None,
            instead: None,
            asked: BTreeMap::new(),
            refusals: Refusals::default(),
        }
    }

    /// The user whose loss it is when its processes cannot be read.
    pub fn read_for(&self) -> workers::Owner {
        self.server.user.as_str().into()
    }

    /// What the packet rules are to know of it; nothing where they do not look at its level. That
    /// is a container below a parent of its own, whose traffic leaves by a bridge anyhow.
    pub fn admitted(&self) -> Option<Admitted> {
        let level = level(&self.cgroup);
        if self.is_outside() {
            return None;
        }
        Admitted::LEVELS.contains(&level).then(|| Admitted {
            cgroup: self.id,
            level,
            class: self.class_in_force().clone(),
            number: self.number,
        })
    }

    /// The class that judges its packets now.
    pub fn class_in_force(&self) -> &ClassName {
        self.instead.as_ref().unwrap_or(&self.class)
    }

    /// Whether it is what a user runs outside the server.
    pub fn is_outside(&self) -> bool {
        self.server.spawner == Spawner::Login
    }

    pub fn story(&self, mode: Mode) -> Story<'_> {
        Story {
            server: &self.server,
            cgroup: &self.cgroup,
            id: self.id,
            mode,
            shares: None,
        }
    }
}

/// The level as the packet rules count it; one they do not look at is refused by them.
pub(super) fn level(cgroup: &CgroupPath) -> u8 {
    u8::try_from(cgroup.level()).unwrap_or(u8::MAX)
}

pub(super) fn unit_of(cgroup: &CgroupPath) -> UnitName {
    UnitName(cgroup.name().to_owned())
}
