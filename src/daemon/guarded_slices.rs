//! The slices in which servers are started: what is in them and not known reaches nothing.
//!
//! That is the configured slice, in which systemd is had to start new servers while verdicts are carried out;
//! and, where a spawner asks for a slice of its own, that one as it is.

use super::cgroup_filter::top;
use super::cgroups::unit_of;
use super::state::Exempt;
use super::{Daemon, Shell, Tasks};
use crate::act::{CpuControl, NewServers, is_fit};
use crate::hub::fronts::PROXIES;
use crate::hub::{HAS_FILE, Server, Spawner, UnitName, Units};
use crate::report::{Kind, Level, LogEntry};
use quantities::{CgroupId, CgroupPath};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

/// systemd's own slices: much else is in them.
const SYSTEMS_OWN: [&str; 3] = ["system.slice", "user.slice", "machine.slice"];
/// A spawner may make a slice of its own for each user.
const MOST_SLICES: usize = 64;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Has new servers started in a guarded slice, while verdicts are carried out.
    pub(super) fn place_new_servers(&mut self) {
        // Why not is logged.
        let _ = self.shell.place_new_servers();
        for slice in self.shell.slices_to_start() {
            self.tasks.begin(|tasks| tasks.start_slice(slice));
        }
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Has systemd keep a slice while nobody is in it: a rule names it by the number of its cgroup.
    async fn start_slice(self, slice: UnitName) {
        let started = self.units.start_slice(&slice).await;
        self.post(move |daemon| match started {
            Ok(()) => daemon.shell.reconcile_network(),
            Err(error) => {
                let text = format!("{slice} cannot be kept while it is empty: {error}.");
                let told = LogEntry::new(Kind::Trouble, Level::Warning, text);
                daemon.shell.log_once(told);
            }
        });
    }
}

impl Shell {
    /// The topmost slices whose unknown members reach nothing. A spawner's own slice is one as long as
    /// nothing but servers is in it: what an admin runs there is closed to nobody.
    pub(super) fn guarded_tops(&self) -> BTreeSet<String> {
        let mut tops = self.registry.spawner_slices.clone();
        tops.insert(self.config.hub.slice.clone());
        let others = |slice: &String| {
            SYSTEMS_OWN.contains(&slice.as_str()) || self.registry.shared_slices.contains(slice)
        };
        tops.retain(|slice| !others(slice));
        tops
    }

    /// Notes that an admin's unit is in a slice. It is let out where the slice is guarded; but when it
    /// starts again while no daemon runs, nobody is there to do that.
    pub(super) fn note_admins_unit(&mut self, cgroup: &CgroupPath) {
        let slice = top(cgroup).to_owned();
        let name = cgroup.name();
        // Into the configured slice an admin has put it, knowingly, unless it is the hub.
        let is_hubs =
            self.config.hub.hub_units.iter().any(|unit| unit == name) || PROXIES.contains(&name);
        if (is_hubs || slice != self.config.hub.slice)
            && self.guarded_tops().contains(&slice)
            && self.registry.shared_slices.insert(slice)
        {
            self.storage.dirty = true;
            self.look_for_servers();
            // The daemon may end before the next tick.
            self.reconcile_network();
        }
    }

    /// What an earlier daemon knew to be no server, of that which still is there: it is asked about anew.
    pub(super) fn resume_exempt(&mut self, exempt: Vec<Exempt>) -> Vec<(CgroupPath, CgroupId)> {
        let mut resumed = Vec::new();
        for Exempt { cgroup, id, why } in exempt {
            if self.registry.tree.members().get(&cgroup) == Some(&id)
                && !self.registry.entries.contains_key(&id)
            {
                resumed.push((cgroup.clone(), id));
                self.set_aside(cgroup, id, why, true);
            }
        }
        resumed
    }

    /// What is in a guarded slice, as this daemon finds it, and has a unit file: the hub may be among it, and
    /// the first rules must not close it until systemd has been asked.
    pub(super) fn admit_admins_units(&mut self) -> Vec<(CgroupPath, CgroupId)> {
        let tops = self.guarded_tops();
        let members = self.registry.tree.members().iter();
        let members = members.map(|(cgroup, id)| (cgroup.clone(), *id));
        let mut found: Vec<(CgroupPath, CgroupId)> = members
            .filter(|(cgroup, id)| {
                tops.contains(top(cgroup))
                    && !self.registry.entries.contains_key(id)
                    && self.limits.placement.is_admins(&unit_of(cgroup))
            })
            .collect();
        found.sort();
        for (cgroup, id) in &found {
            self.set_aside(cgroup.clone(), *id, HAS_FILE.into(), true);
        }
        found
    }

    /// Those of them that exist.
    pub(super) fn guarded_slices(&self) -> Vec<CgroupId> {
        let tops = self.guarded_tops().into_iter();
        tops.filter_map(|slice| std::fs::metadata(self.root.join(slice)).ok())
            .map(|metadata| CgroupId(metadata.ino()))
            .collect()
    }

    /// Notes the slice that a spawner itself asked for.
    pub(super) fn note_slice(&mut self, server: &Server) {
        if server.spawner != Spawner::Systemd {
            return;
        }
        if let Some(slice) = self.limits.placement.asked_for(&server.unit)
            && slice != self.config.hub.slice
            && self.registry.spawner_slices.len() < MOST_SLICES
            && !self.registry.spawner_slices.contains(&topmost(&slice))
        {
            let top = topmost(&slice);
            // Guarded first and looked at afterwards, the hub itself would be closed for that long.
            if self.limits.placement.is_shared(&top) {
                self.registry.shared_slices.insert(top.clone());
            }
            self.registry.spawner_slices.insert(top);
            self.storage.dirty = true;
            self.look_for_servers();
            // Why not is logged.
            let _ = self.place_new_servers();
        }
    }

    /// Has new servers started in the configured slice while verdicts are carried out, unless their spawner
    /// has a slice of its own; what could not be done, in words.
    pub(super) fn place_new_servers(&mut self) -> Option<String> {
        let config = &self.config.hub;
        let wanted = self.places_new_servers().then(|| NewServers {
            slice: config.slice.clone(),
            prefixes: config
                .unit_names
                .iter()
                .map(|name| name.prefix().to_owned())
                .collect(),
        });
        let error = self.limits.placement.bring_about(wanted.as_ref()).err()?;
        let text = match wanted {
            Some(_) => format!(
                "New servers are not started in {}, so what they send in their first moments is not judged: \
                 {error}.",
                self.config.hub.slice
            ),
            None => format!("New servers are still started in a slice of hubwarden's: {error}."),
        };
        self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
        Some(format!(
            "new servers are still placed by hubwarden: {error}"
        ))
    }

    fn places_new_servers(&self) -> bool {
        self.acts() && self.registry.spawner_slices.is_empty()
    }

    /// Guarded slices that are not there.
    fn slices_to_start(&self) -> Vec<UnitName> {
        if !self.acts() {
            return Vec::new();
        }
        let mut missing = self.guarded_tops();
        missing.retain(|slice| !self.root.join(slice).exists());
        missing.into_iter().map(UnitName).collect()
    }

    /// What `status` says where new servers cannot be held from their first packet on.
    pub(super) fn placement_lack(&self) -> Option<String> {
        if !self.acts() {
            return None;
        }
        let tops = self.guarded_tops();
        let configured = [self.config.hub.slice.clone()];
        let slices = match self.registry.spawner_slices.is_empty() {
            true => configured.iter().collect(),
            false => Vec::from_iter(&self.registry.spawner_slices),
        };
        let open = |slice: &&&String| !tops.contains(**slice);
        if let Some(slice) = slices.iter().find(open) {
            return Some(format!(
                "the spawner starts servers in {slice}, where other services run too, so what a server sends \
                 in its first moments is not judged; leave c.SystemdSpawner.slice unset, or give servers a \
                 slice of their own"
            ));
        }
        let names = self.config.hub.unit_names.iter();
        let mut unfit = names.filter(|name| !is_fit(name.prefix()));
        let name = unfit.next().filter(|_| self.places_new_servers())?;
        Some(format!(
            "units named {name} cannot be started in {}, since systemd goes by a dash before the user's name; \
             what a server sends in its first moments is not judged. Set c.SystemdSpawner.slice = '{}'",
            self.config.hub.slice, self.config.hub.slice
        ))
    }
}

/// The topmost slice of a nested one: systemd nests by dashes.
fn topmost(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let top = stem.split('-').next().filter(|top| !top.is_empty());
    format!("{}.slice", top.unwrap_or(stem))
}

#[cfg(test)]
mod tests {
    use super::topmost;

    #[test]
    fn slices_nest_by_dashes() {
        for (slice, top) in [
            ("jupyter.slice", "jupyter.slice"),
            ("jhub-host-users.slice", "jhub.slice"),
            ("a_b.slice", "a_b.slice"),
        ] {
            assert_eq!(topmost(slice), top);
        }
    }
}
