//! Servers that share the hub's own cgroup.
//!
//! LocalProcessSpawner and SudoSpawner start a user's server as a child of the hub, and it stays in
//! the hub's unit. A limit there would slow the hub, its proxy and everybody else's server, so such
//! servers are told of and never acted on. What a process calls itself is a user's to choose; here
//! it leads to a line of text and to nothing else.
//!
//! [`crate::coverage`] finds these among all other places that are not covered. This room is what the
//! daemon's poll still asks; it goes once the daemon asks for a survey instead.

use super::unix_user::name_of;
use hubwarden_core::coverage::Looks;
use quantities::CgroupPath;
use quantities::HubUser;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// So many processes of a unit are looked at.
const MOST_PROCESSES: usize = 10_000;
/// So many users are named.
const MOST_NAMED: usize = 5;

/// A hub's unit with users' servers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The unit's cgroup.
    pub cgroup: CgroupPath,
    /// How many servers run in it.
    pub servers: usize,
    /// The Unix users they run as; SudoSpawner and LocalProcessSpawner start each as its user.
    pub users: BTreeSet<u32>,
}

impl Shared {
    /// What is the matter and what to do, for `status` and `check`.
    pub fn in_words(&self) -> String {
        let mut named: Vec<String> = self
            .users
            .iter()
            .take(MOST_NAMED)
            .map(|uid| match name_of(*uid) {
                Some(name) => HubUser(name).to_string(),
                None => format!("uid {uid}"),
            })
            .collect();
        if self.users.len() > MOST_NAMED {
            named.push(format!("{} more", self.users.len() - MOST_NAMED));
        }
        let (servers, run) = match self.servers {
            1 => ("1 single-user server".to_owned(), "runs"),
            n => (format!("{n} single-user servers"), "run"),
        };
        format!(
            "{servers} (of {}) {run} in the hub's own cgroup, as LocalProcessSpawner and \
             SudoSpawner leave them; hubwarden does not act there, since it would throttle the hub \
             itself. Use SystemdSpawner or DockerSpawner to have each server in a cgroup of its own",
            named.join(", ")
        )
    }
}

/// What a process that reads for us is started for.
pub const WORK: &str = "servers";

/// Processes by Unix user, asked which of them are single-user servers ([`servers`]).
pub type ByUser = BTreeMap<u32, Vec<u32>>;

/// Looks for single-user servers in the hub's own units. Looks at every process of theirs: for once a
/// minute, not for the loop. `root` is where cgroup v2 is mounted, `proc` where procfs is. A process can
/// hold up whoever reads what it calls itself, so `which` is asked for that, and may leave users out.
pub fn find(
    root: &Path,
    proc: &Path,
    hub_units: &[String],
    which: impl FnOnce(ByUser) -> BTreeSet<u32>,
) -> Vec<Shared> {
    let mut units = Vec::new();
    let mut by_user = ByUser::new();
    for unit in hub_units {
        let cgroup = CgroupPath::new("system.slice").join(unit);
        let mut uids = BTreeMap::new();
        for pid in members(root, &cgroup).unwrap_or_default() {
            // Its owner, which asks nothing of the process.
            if let Ok(found) = std::fs::metadata(proc.join(pid.to_string())) {
                by_user.entry(found.uid()).or_default().push(pid);
                uids.insert(pid, found.uid());
            }
        }
        units.push((cgroup, uids));
    }
    if by_user.is_empty() {
        return Vec::new();
    }
    let which = which(by_user);
    let shared = |(cgroup, uids): (CgroupPath, BTreeMap<u32, u32>)| {
        let servers = uids.iter().filter(|(pid, _)| which.contains(pid));
        let users: Vec<u32> = servers.map(|(_, uid)| *uid).collect();
        (!users.is_empty()).then(|| Shared {
            cgroup,
            servers: users.len(),
            users: users.into_iter().collect(),
        })
    };
    units.into_iter().filter_map(shared).collect()
}

/// The processes of a unit; none where it does not run.
fn members(root: &Path, cgroup: &CgroupPath) -> Option<Vec<u32>> {
    let list = root.join(cgroup.as_str()).join("cgroup.procs");
    let mut text = String::new();
    // A pid has at most seven digits and a newline.
    File::open(list)
        .ok()?
        .take(8 * MOST_PROCESSES as u64)
        .read_to_string(&mut text)
        .ok()?;
    let pids = text.lines().filter_map(|line| line.parse().ok());
    Some(pids.collect())
}

/// Which of these processes are single-user servers. A process can hold this up for good.
pub fn servers(proc: &Path, pids: &[u32]) -> Vec<u32> {
    let said = crate::coverage::said(proc, pids).into_iter();
    let servers = said.filter(|(_, said)| said.looks == Some(Looks::Server));
    servers.map(|(pid, _)| pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed(tempfile::TempDir);

    impl Bed {
        fn new() -> Bed {
            Bed(tempfile::tempdir().unwrap())
        }

        fn process(&self, pid: u32, line: &str) {
            let directory = self.0.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("cmdline"), line).unwrap();
        }

        fn unit(&self, text: &str) {
            let directory = self.0.path().join("cgroup/system.slice/jupyterhub.service");
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("cgroup.procs"), text).unwrap();
        }

        fn find(&self) -> Vec<Shared> {
            let (root, proc) = (self.0.path().join("cgroup"), self.0.path().join("proc"));
            let units = ["jupyterhub.service".to_owned()];
            find(&root, &proc, &units, |by_user| {
                let pids: Vec<u32> = by_user.into_values().flatten().collect();
                servers(&proc, &pids).into_iter().collect()
            })
        }
    }

    #[test]
    fn servers_in_the_hub_s_cgroup_are_counted_and_their_users_named() {
        let bed = Bed::new();
        bed.process(10, "/usr/bin/python3\0/usr/bin/jupyterhub\0");
        bed.process(11, "/usr/bin/python3\0/usr/bin/jupyterhub-singleuser\0");
        bed.process(12, "jupyter-labhub\0");
        // 13 has ended meanwhile.
        bed.unit("10\n11\n12\n13\n");
        let found = bed.find();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].servers, 2);
        let words = found[0].in_words();
        assert!(words.starts_with("2 single-user servers (of "), "{words}");
        assert!(words.contains("does not act there"), "{words}");
    }

    #[test]
    fn a_hub_alone_in_its_cgroup_is_no_finding() {
        let bed = Bed::new();
        assert!(bed.find().is_empty());
        bed.process(10, "/usr/bin/python3\0/usr/bin/jupyterhub\0");
        bed.unit("10\n\n../../etc\n");
        assert!(bed.find().is_empty());
    }

    #[test]
    fn many_users_are_not_all_named() {
        let shared = Shared {
            cgroup: CgroupPath::new("system.slice/jupyterhub.service"),
            servers: 9,
            users: (4_000_000_001..4_000_000_010).collect(),
        };
        assert!(shared.in_words().contains("uid 4000000005, 4 more)"));
    }
}
