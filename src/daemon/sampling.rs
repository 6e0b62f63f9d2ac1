//! Looks at servers: reads their counters, has the accounts state them, and has done what is due.

use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::hub::Units;
use cgroup::stat::CpuStat;
use cgroup::{CgroupError, Reader, pressure};
use hubwarden_core::accounts::{Contention, Reading, Readings};
use hubwarden_core::node::{Input, Looked};
use policy::Policy;
use quantities::{CgroupId, CgroupPath, Cores, HubUser};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Units whose waiting for the CPU counts besides the servers': the hub and its proxy.
const HUB_UNITS: [&str; 2] = ["jupyterhub.service", "traefik.service"];

/// The counters of the cgroups that are watched, with kept descriptors.
#[derive(Default)]
pub(super) struct Sampler {
    readers: BTreeMap<CgroupId, Reader>,
}

impl Sampler {
    /// Opens a cgroup's counters; that it has gone meanwhile is no error.
    pub fn open(
        &mut self,
        root: &Path,
        cgroup: &CgroupPath,
        id: CgroupId,
    ) -> Result<(), CgroupError> {
        match Reader::open(root, cgroup) {
            Ok(reader) => {
                self.readers.insert(id, reader);
                Ok(())
            }
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Closes a cgroup's counters.
    pub fn forget(&mut self, id: CgroupId) {
        self.readers.remove(&id);
    }

    /// What a cgroup's counters say; nothing where they cannot be read.
    pub fn stat(&self, id: CgroupId) -> Option<CpuStat> {
        let sample = self.readers.get(&id)?.sample().ok()?;
        Some(sample.cpu)
    }

    /// Reads these; with what could not be read though it is there.
    fn read(
        &self,
        ids: &[CgroupId],
    ) -> (BTreeMap<CgroupId, CpuStat>, Vec<(CgroupId, CgroupError)>) {
        let (mut stats, mut errors) = (BTreeMap::new(), Vec::new());
        for id in ids {
            match self.readers.get(id).map(Reader::sample) {
                Some(Ok(sample)) => drop(stats.insert(*id, sample.cpu)),
                Some(Err(error)) if !error.is_gone() => errors.push((*id, error)),
                _ => {}
            }
        }
        (stats, errors)
    }

    /// The quota that the kernel holds; nothing without the cpu controller.
    pub fn kernel_quota(&mut self, id: CgroupId) -> Option<Option<Cores>> {
        let max = self.readers.get_mut(&id)?.cpu_max().ok()??;
        let rate = |quota| Cores(quota as f64 / max.period_usec.max(1) as f64);
        Some(max.quota_usec.map(rate))
    }

    /// For how long some of its tasks have waited for the CPU; nothing where that is not counted.
    pub fn waited(&self, id: CgroupId) -> Option<Duration> {
        self.readers.get(&id)?.waited()
    }

    fn pressure(&self, id: CgroupId) -> Option<f64> {
        self.readers.get(&id)?.cpu_pressure()
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Looks at every server, or at those that are due before the tick, and carries out what
    /// follows.
    pub(super) fn look_at(&mut self, only: Option<&BTreeSet<CgroupId>>) {
        let looked = self.shell.read_for_look(only);
        self.drive(Input::Looked(Box::new(looked)));
    }
}

impl Shell {
    /// Reads what a look needs.
    fn read_for_look(&mut self, only: Option<&BTreeSet<CgroupId>>) -> Looked {
        let contention = self.contention();
        let (stats, errors) = self
            .registry
            .sampler
            .read(&self.node.accounts().to_read(only));
        let mut readings = Readings::new();
        for (id, stat) in stats {
            readings.insert(
                id,
                Reading {
                    usage: stat.usage,
                    throttled_periods: stat.throttled_periods,
                },
            );
            if let Some(guarded) = self.guarded(id) {
                guarded.stat = Some(stat);
            }
        }
        for (id, error) in errors {
            self.cannot_read(id, &error);
        }
        Looked {
            only: only.cloned(),
            readings,
            quotas: self.kernel_quotas(only),
            contention,
        }
    }

    /// The quotas that the kernel holds where nothing is under way; none without the cpu controller.
    fn kernel_quotas(
        &mut self,
        only: Option<&BTreeSet<CgroupId>>,
    ) -> BTreeMap<CgroupId, Option<Cores>> {
        let mut quotas = BTreeMap::new();
        if !self.registry.cpu_controller {
            return quotas;
        }
        for (id, actuator) in self.node.actuators() {
            if only.is_none_or(|only| only.contains(&id))
                && !actuator.is_busy()
                && let Some(quota) = self.registry.sampler.kernel_quota(id)
            {
                quotas.insert(id, quota);
            }
        }
        quotas
    }

    fn cannot_read(&mut self, id: CgroupId, error: &CgroupError) {
        let mode = self.config.mode;
        // What the tree does not tell of a slice that follows a server is no news.
        let follows = self.node.accounts().account_of(id) != id;
        let Some(guarded) = self.guarded(id).filter(|_| !follows) else {
            return;
        };
        let text = error.to_string();
        if guarded.unreadable.as_ref() != Some(&text) {
            let told = guarded.story(mode).trouble("Reading the counters", error);
            guarded.unreadable = Some(text);
            self.log(told);
        }
    }

    /// The pressure on users and on the hub, read only if a verdict depends on it.
    fn contention(&self) -> Contention {
        let mut contention = Contention::default();
        if self.off || !self.node.accounts().asks_for_pressure() {
            return contention;
        }
        for (id, user) in self.node.accounts().may_wait() {
            if let Some(pressure) = self.registry.sampler.pressure(id) {
                contention.add(Some(user), pressure);
            }
        }
        for unit in HUB_UNITS {
            let directory = self.root.join("system.slice").join(unit);
            if let Some(pressure) = pressure(&directory) {
                contention.add(None, pressure);
            }
        }
        contention
    }

    /// Forgets users who have rested enough for a full account.
    pub(super) fn forget_rested(&mut self) {
        let users = self.node.accounts().rested().keys();
        let policies: BTreeMap<HubUser, Policy> = users
            .map(|user| (user.clone(), self.policy_of_user(user.as_str()).0))
            .collect();
        self.feed(Input::Rest(policies));
    }
}
