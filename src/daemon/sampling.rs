//! Looks at servers: reads their counters, has the accounts state them, and has done what is due.

use super::cgroups::Cgroup;
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::hub::Units;
use cgroup::stat::CpuStat;
use cgroup::{CgroupError, Reader, pressure};
use hubwarden_core::accounts::{Contention, LookSettings, Reading, Readings};
use hubwarden_core::actuator::is_other_quota;
use policy::Policy;
use quantities::{CgroupId, CgroupPath, Cores, HubUser, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
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
    pub(super) fn look_at(self: &Rc<Self>, now: Time, only: Option<&BTreeSet<CgroupId>>) {
        let mut inner = self.inner.borrow_mut();
        let mut due = inner.due_again(now, only);
        due.extend(inner.take_look(now, only));
        let parts = match only {
            None => inner.accounts.divide_baselines(now),
            Some(_) => Vec::new(),
        };
        drop(inner);
        for id in due {
            self.enforce(id);
        }
        self.enforce_in_turn(parts);
    }
}

impl Inner {
    /// The places where something is to be tried again, renewed or brought about anew.
    fn due_again(&mut self, now: Time, only: Option<&BTreeSet<CgroupId>>) -> Vec<CgroupId> {
        let mut due = Vec::new();
        for (id, entry) in &mut self.entries {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            if only.is_some_and(|only| !only.contains(id)) {
                continue;
            }
            let waits = |place: &hubwarden_core::accounts::Place| {
                place.standing().waits_for_end_of_processes(place.policy())
            };
            if guarded.actuator.is_due(now) || self.accounts.place(*id).is_some_and(waits) {
                due.push(*id);
            } else if self.cpu_controller && !guarded.actuator.is_busy() {
                let ours = guarded.actuator.ours().map(|ours| ours.quota);
                let limit = self.accounts.place(*id).and_then(|place| place.limit());
                if is_other_quota(ours.unwrap_or(limit), self.sampler.kernel_quota(*id)) {
                    due.push(*id);
                }
            }
        }
        due
    }

    /// Reads what a look needs, books it, and logs what follows; the places whose standing changed.
    fn take_look(&mut self, now: Time, only: Option<&BTreeSet<CgroupId>>) -> Vec<CgroupId> {
        let contention = self.contention();
        let (stats, errors) = self.sampler.read(&self.accounts.to_read(only));
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
        let settings = LookSettings {
            supervised: !self.off,
            tick: self.config.tick,
            hot: self.config.evidence.hot,
        };
        let look = self
            .accounts
            .look(only, &readings, &contention, &settings, now);
        let mut moved = Vec::new();
        self.dirty |= !look.verdicts.is_empty();
        for (id, verdict) in look.verdicts {
            self.meter.ledger.verdict(id, verdict.to);
            moved.push((id, Some(verdict)));
        }
        moved.extend(look.followed);
        let mode = self.config.mode;
        for (id, warning) in look.warnings {
            if let Some(guarded) = self.guarded(id) {
                let told = guarded.story(mode).warned(&warning);
                self.log(told);
            }
        }
        let mut ids = Vec::new();
        for (id, verdict) in moved {
            if let Some(guarded) = self.guarded(id) {
                if let Some(verdict) = verdict {
                    guarded.actuator.decide(verdict);
                }
                ids.push(id);
            }
        }
        ids
    }

    fn cannot_read(&mut self, id: CgroupId, error: &CgroupError) {
        let mode = self.config.mode;
        // What the tree does not tell of a slice that follows a server is no news.
        let follows = self.accounts.account_of(id) != id;
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
        if self.off || !self.accounts.asks_for_pressure() {
            return contention;
        }
        for (id, user) in self.accounts.may_wait() {
            if let Some(pressure) = self.sampler.pressure(id) {
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
    pub(super) fn forget_rested(&mut self, now: Time) {
        let users = self.accounts.rested().keys();
        let policies: BTreeMap<HubUser, Policy> = users
            .map(|user| (user.clone(), self.policy_of_user(user.as_str()).0))
            .collect();
        self.accounts.forget_rested(now, &policies);
    }
}
