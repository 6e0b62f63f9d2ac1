//! What is known of the processes of this node.

use super::Said;
use quantities::{CgroupPath, HubUser};
use std::collections::BTreeMap;

/// A process, as one reading found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's, where that was read (proc(5), `stat`).
    pub parent: Option<u32>,
    /// Its effective uid, which the kernel gives `/proc/PID` (fs/proc/base.c, `task_dump_owner`).
    pub uid: u32,
    /// Its cgroup (cgroups(7), `/proc/PID/cgroup`).
    pub cgroup: Membership,
    /// Its network namespace (namespaces(7)).
    pub network: Network,
    /// What it says of itself; `None` where reading that took too long, or was not needed.
    pub said: Option<Said>,
    /// Whether `said` was asked for and could not be had.
    pub unread: bool,
}

/// Where a process is in the cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// Cgroup v2 alone, or without the CPU controller elsewhere.
    Unified(CgroupPath),
    /// Cgroup v2, with the CPU controller on a hierarchy of v1.
    Hybrid(CgroupPath),
    /// A hierarchy of cgroup v1 only; its path there.
    V1(CgroupPath),
}

impl Membership {
    /// Reads `/proc/PID/cgroup`: lines of `number:controllers:path`, where v2 has number 0 and no
    /// controllers (cgroups(7)). `None` for what has no such line, or for a cgroup that was removed.
    pub fn read(text: &str) -> Option<Membership> {
        let (mut unified, mut first, mut cpu) = (None, None, None);
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (number, controllers) = (fields.next()?, fields.next()?);
            let path = fields.next()?;
            match (number, controllers) {
                ("0", "") => unified = Some(path),
                _ if controllers.split(',').any(|name| name == "cpu") => cpu = Some(path),
                _ => first = first.or(Some(path)),
            }
        }
        let deleted = |path: &str| path.ends_with(" (deleted)");
        let found = match (unified, cpu.or(first)) {
            (Some(path), _) if cpu.is_none() => (path, Membership::Unified as fn(_) -> _),
            (Some(path), _) => (path, Membership::Hybrid as fn(_) -> _),
            (None, Some(path)) => (path, Membership::V1 as fn(_) -> _),
            (None, None) => return None,
        };
        let (path, kind) = found;
        (!deleted(path)).then(|| kind(CgroupPath::new(path)))
    }

    /// The path.
    pub fn path(&self) -> &CgroupPath {
        match self {
            Membership::Unified(path) | Membership::Hybrid(path) | Membership::V1(path) => path,
        }
    }
}

/// Which network namespace a process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// The node's.
    Host,
    /// Another one, by its inode number.
    Other(u64),
    /// It could not be read.
    Unknown,
}

/// A network namespace other than the node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its interfaces but `lo`; the first few.
    pub devices: Vec<String>,
    /// The bridge of this node that has a port leading there.
    pub bridge: Option<String>,
}

/// A server that the hub or an engine lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its user, in the hub's words.
    pub user: HubUser,
    /// Where it is said to run.
    pub place: ListedAt,
}

/// Where a server is said to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedAt {
    /// A unit, with its suffix.
    Unit(String),
    /// A container, by its full id.
    Container(String),
    /// That is not said.
    Unsaid,
}

/// All that one survey goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processes, but for the kernel's own threads; in any order.
    pub processes: Vec<Process>,
    /// Processes beyond [`super::MOST_PROCESSES`] or beyond the time for reading them.
    pub unseen: usize,
    /// Network namespaces that processes are in, by inode number.
    pub namespaces: BTreeMap<u64, Namespace>,
    /// Names of accounts, by uid, of those that were looked up.
    pub accounts: BTreeMap<u32, String>,
    /// Units among the places that have a unit file, so that an admin made them and no spawner.
    pub unit_files: std::collections::BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_lines_of_all_layouts_are_read() {
        let path = |text: &str| CgroupPath::new(text);
        let unified = "0::/system.slice/x.service\n";
        let hybrid = "4:cpu,cpuacct:/y\n1:name=systemd:/x\n0::/x\n";
        let named = "1:net_cls:/y\n0::/x\n";
        let v1 = "4:cpu,cpuacct:/y\n1:name=systemd:/x\n";
        for (text, expected) in [
            (
                unified,
                Some(Membership::Unified(path("system.slice/x.service"))),
            ),
            (hybrid, Some(Membership::Hybrid(path("x")))),
            (named, Some(Membership::Unified(path("x")))),
            (v1, Some(Membership::V1(path("y")))),
            ("0::/a:b\n", Some(Membership::Unified(path("a:b")))),
            ("0::/x (deleted)\n", None),
            ("", None),
            ("garbage", None),
        ] {
            assert_eq!(Membership::read(text), expected, "{text}");
        }
    }
}
