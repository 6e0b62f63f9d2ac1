//! What users run outside their servers: ssh, lingering sessions, `systemd-run --user`. All of it
//! is in `user.slice/user-UID.slice`.
//!
//! Such a slice follows its user's server: what runs in it is booked on the server's credits, and
//! it stands on the same stage. When the server ends, the slice carries the standing on, so that
//! nobody escapes by stopping the server; the user's next server takes it over again.

use super::Shell;
use super::cgroups::{Cgroup, unit_of};
use super::registry::Found;
use crate::hub::{Control, Server, Spawner};
use hubwarden_core::node::Input;
use quantities::HubUser;
use quantities::{CgroupId, CgroupPath};
use std::collections::{BTreeMap, BTreeSet};

/// The slice that holds the users' own.
pub(super) const USER_SLICE: &str = "user.slice";

/// The uid of `user-UID.slice`; root's is nobody's.
pub(super) fn uid_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("user-")?.strip_suffix(".slice")?;
    let uid = digits.parse().ok()?;
    // systemd writes no leading zero or sign.
    (uid > 0 && digits == format!("{uid}")).then_some(uid)
}

/// The uid of a cgroup directly in the user slice.
pub(super) fn uid_of_cgroup(cgroup: &CgroupPath) -> Option<u32> {
    let (slice, name) = cgroup.as_str().split_once('/')?;
    uid_of(name).filter(|_| slice == USER_SLICE)
}

impl Shell {
    /// Puts the slices of users whose servers are known under supervision, and tells each which
    /// server it follows.
    pub(super) fn attach_outside(&mut self) {
        let mut servers: BTreeMap<u32, (CgroupId, Server)> = BTreeMap::new();
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry
                && !guarded.is_outside()
                && let Some(uid) = guarded.server.uid
            {
                servers.insert(uid, (guarded.id, guarded.server.clone()));
            }
        }
        // What an account that several share runs outside is nobody's in particular.
        let shared = self.shared_uids();
        servers.retain(|uid, _| !shared.contains(uid));
        let (mut found, mut follows) = (Vec::new(), Vec::new());
        for (id, entry) in &self.registry.entries {
            match entry {
                Cgroup::UserSlice { cgroup, uid } => {
                    if let Some((lead, server)) = servers.get(uid) {
                        found.push((*id, cgroup.clone(), *lead, server.clone()));
                    }
                }
                Cgroup::Server(guarded) if guarded.is_outside() => {
                    let uid = guarded.server.uid.unwrap_or(0);
                    if self.node.accounts().account_of(*id) == *id
                        && let Some((lead, _)) = servers.get(&uid)
                    {
                        follows.push((*id, *lead));
                    }
                }
                _ => {}
            }
        }
        for (slice, lead) in follows {
            self.feed(Input::Follows { slice, lead });
        }
        for (id, cgroup, lead, server) in found {
            let server = Server {
                name: String::new(),
                spawner: Spawner::Login,
                unit: unit_of(&cgroup),
                control: Control::Systemd,
                ..server
            };
            let class = self.policy_of(&server).1;
            let found = Found {
                class,
                server,
                cgroup,
                id,
            };
            self.guard(found, Some(lead), None);
        }
        self.feed(Input::Divide);
    }

    /// The uids that servers of more than one user run as.
    fn shared_uids(&self) -> BTreeSet<u32> {
        let mut users: BTreeMap<u32, &HubUser> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry
                && !guarded.is_outside()
                && let Some(uid) = guarded.server.uid
                && *users.entry(uid).or_insert(&guarded.server.user) != &guarded.server.user
            {
                shared.insert(uid);
            }
        }
        shared
    }

    /// The slices that have become nobody's in particular, to be let go of.
    pub(super) fn shared_slices(&self) -> Vec<CgroupId> {
        let shared = self.shared_uids();
        let mut disowned = Vec::new();
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry
                && guarded.is_outside()
                && !self.node.is_released(guarded.id)
                && guarded.server.uid.is_some_and(|uid| shared.contains(&uid))
            {
                disowned.push(guarded.id);
            }
        }
        disowned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_s_own_slice_counts() {
        assert_eq!(uid_of("user-1001.slice"), Some(1001));
        for name in [
            "user-0.slice",
            "user-01.slice",
            "user-+1.slice",
            "user-.slice",
            "user-1001",
        ] {
            assert_eq!(uid_of(name), None, "{name}");
        }
        assert_eq!(
            uid_of_cgroup(&CgroupPath::new("user.slice/user-7.slice")),
            Some(7)
        );
        assert_eq!(
            uid_of_cgroup(&CgroupPath::new("x.slice/user-7.slice")),
            None
        );
    }
}
