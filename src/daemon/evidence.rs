//! Where the sensors look, and what becomes of what they find.
//!
//! They look at servers that are hot, and at those that evidence stands against, and listen to all
//! for what is rare. What they find goes to the journal, and to the judge as soon as it amounts to
//! something.

mod behind;
mod missed;
mod thread;

pub(super) use thread::SensorThread;

use super::cgroups::Cgroup;
use super::{Daemon, Shell, now};
use crate::act::{CpuControl, Named};
use crate::hub::Units;
use hubwarden_core::node::{Input, Sighting};
use policy::finding::{Evidence, Fact, Strength};
use quantities::CgroupId;
use quantities::Time;
use sensors::process::Process;
use sensors::set::{Found, Suspect};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thread::{Listened, Order};

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// A server asked for a host that a deny list names.
    pub(super) fn asked_for_listed(&mut self, id: CgroupId, now: Time) {
        let evidence = Evidence {
            fact: Fact::Listed,
            pid: Evidence::NO_PROCESS,
            at: now,
        };
        let id = id.0;
        self.found(&[Found { id, evidence }]);
    }

    /// Takes in what the sensors found.
    pub(super) fn found(&mut self, found: &[Found]) {
        let sightings = self.shell.sightings(found);
        self.drive(Input::Sighted(sightings));
    }

    /// Has the judge act on evidence at once.
    pub(super) fn accused(&mut self, accused: &BTreeSet<CgroupId>) {
        self.shell.storage.dirty = true;
        self.look_at(Some(accused));
        let shell = &mut self.shell;
        shell.reconcile_classes(now());
        shell.reconcile_network();
    }

    /// Has it worked out where the sensors look, and sends them there.
    pub(super) fn attend(&mut self) {
        let waited = {
            let shell = &self.shell;
            let wanted = shell.node.waits_wanted().into_iter();
            wanted
                .map(|id| (id, shell.registry.sampler.waited(id)))
                .collect()
        };
        self.drive(Input::Attend(waited));
    }
}

impl Shell {
    /// Sends the sensors to these.
    pub(super) fn order_sensors(&mut self, looked_at: &BTreeSet<CgroupId>) {
        let listened = self.listened();
        let mut order = Order {
            settings: self.config.evidence.settings.clone(),
            owners: listened.owners,
            guarded: listened.guarded,
            ..Order::default()
        };
        // Of those looked at there are few: an account of one place or of some.
        let suspects = self.registry.entries.iter().filter(|(id, _)| {
            !looked_at.is_empty() && looked_at.contains(&self.node.accounts().account_of(**id))
        });
        for (id, entry) in suspects {
            let (Cgroup::Server(guarded), Some(directory)) = (entry, order.guarded.get(&id.0))
            else {
                continue;
            };
            order.suspects.push(Suspect {
                id: id.0,
                directory: directory.clone(),
                user: guarded.server.user.as_str().to_owned(),
            });
        }
        if let Some(orders) = &self.sensors.orders {
            orders.give(order);
        }
    }

    /// All servers, as the sensors are told of them: collected anew when one came or went.
    fn listened(&mut self) -> Listened {
        let now = (self.registry.changes, self.off);
        if let Some((at, listened)) = &self.sensors.listened
            && *at == now
        {
            return listened.clone();
        }
        let (mut guarded, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for (id, entry) in &self.registry.entries {
            // While switched off nobody is looked at.
            if let Cgroup::Server(server) = entry
                && !self.off
            {
                owners.insert(id.0, server.read_for());
                let path = server.cgroup.as_str().trim_start_matches('/');
                guarded.insert(id.0, self.root.join(path));
            }
        }
        let listened = Listened {
            owners: Arc::new(owners),
            guarded: Arc::new(guarded),
        };
        self.sensors.listened = Some((now, listened.clone()));
        listened
    }

    /// What was found, with the starts of the processes that it is of.
    fn sightings(&self, found: &[Found]) -> Vec<Sighting> {
        let used = &self.config.evidence.settings.sensors;
        let found = found.iter();
        found
            .filter(|found| used.contains(&found.evidence.fact.sensor()))
            .map(|Found { id, evidence }| Sighting {
                id: CgroupId(*id),
                evidence: *evidence,
                started: Process::new(evidence.pid).started(),
            })
            .collect()
    }

    /// Logs what findings of a server amount to.
    pub(super) fn log_evidence(&self, id: CgroupId, level: Strength, findings: &[Evidence]) {
        if let Some(guarded) = self.acting(id) {
            self.log(guarded.story(self.config.mode).evidence(level, findings));
        }
    }

    /// The processes that evidence of mining is of, with when they were started.
    pub(super) fn mining_processes(&self, id: CgroupId) -> Vec<Named> {
        let processes = self.node.evidence().mining_processes(id).into_iter();
        processes
            .map(|(pid, started)| Named { pid, started })
            .collect()
    }
}
