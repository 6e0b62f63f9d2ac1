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
use super::{Daemon, Inner};
use crate::act::{CpuControl, Named};
use crate::hub::Units;
use hubwarden_core::evidence::Attention;
use policy::finding::{Evidence, Fact};
use quantities::CgroupId;
use quantities::Time;
use sensors::process::Process;
use sensors::set::{Found, Suspect};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use thread::Order;

/// Who comes is listened to at once, or this long after others who came: each order to the sensors
/// names all servers that there are.
const LISTENED_TO_WITHIN: Duration = Duration::from_millis(200);

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// A server asked for a host that a deny list names.
    pub(super) fn asked_for_listed(self: &Rc<Self>, id: CgroupId, now: Time) {
        let evidence = Evidence {
            fact: Fact::Listed,
            pid: Evidence::NO_PROCESS,
            at: now,
        };
        let id = id.0;
        self.found(&[Found { id, evidence }], now);
    }

    /// Takes in what the sensors found, and has the judge act on it at once.
    pub(super) fn found(self: &Rc<Self>, found: &[Found], now: Time) {
        let mut inner = self.inner.borrow_mut();
        let act = inner.take_evidence(found, now);
        drop(inner);
        if !act.is_empty() {
            self.look_at(Some(&act));
            let mut inner = self.inner.borrow_mut();
            inner.reconcile_classes(now);
            inner.reconcile_network();
        }
    }

    /// Has the sensors listen to who has just come. A miner's name is told once, when it is started, and
    /// that may be before the next tick.
    pub(super) async fn listen_to_who_comes(self: Rc<Self>) {
        loop {
            self.sensors_due.notified().await;
            self.inner.borrow_mut().send_sensors(super::run::now());
            tokio::time::sleep(LISTENED_TO_WITHIN).await;
        }
    }

    /// Weighs what is known anew: a server may have become hot since. The judge acts at once.
    pub(super) fn weigh_all(self: &Rc<Self>, now: Time) {
        let mut act = BTreeSet::new();
        {
            let mut inner = self.inner.borrow_mut();
            let known: Vec<CgroupId> = inner.evidence.servers().collect();
            for id in known {
                if inner.weigh(id, &[], now) {
                    act.insert(id);
                }
            }
        }
        if !act.is_empty() {
            self.look_at(Some(&act));
        }
    }
}

impl Inner {
    /// Notes who is hot, and sends the sensors there.
    pub(super) fn send_sensors(&mut self, now: Time) {
        let config = &self.config.evidence;
        let attention = Attention {
            supervised: !self.off,
            hot: config.hot,
            hot_for: config.hot_for,
            stands: config.consequences.stands,
        };
        for id in self.node.accounts_mut().waits_wanted(config.hot) {
            let waited = self.sampler.waited(id);
            self.node.accounts_mut().has_waited(id, waited, now);
        }
        let looked_at = self.evidence.attend(self.node.accounts(), &attention, now);
        let mut order = Order {
            settings: self.config.evidence.settings.clone(),
            ..Order::default()
        };
        let (mut everybody, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for (id, entry) in &self.entries {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            // While switched off nobody is looked at.
            if self.off {
                break;
            }
            let path = guarded.cgroup.as_str().trim_start_matches('/');
            let directory = self.root.join(path);
            if looked_at.contains(&self.node.accounts().account_of(*id)) {
                order.suspects.push(Suspect {
                    id: id.0,
                    directory: directory.clone(),
                    user: guarded.server.user.as_str().to_owned(),
                });
            }
            owners.insert(id.0, guarded.read_for());
            everybody.insert(id.0, directory);
        }
        order.owners = Arc::new(owners);
        order.guarded = Arc::new(everybody);
        if let Some(orders) = &self.sensors.orders {
            orders.give(order);
        }
    }

    /// Books what was found; returns the servers that the judge has to look at.
    fn take_evidence(&mut self, found: &[Found], now: Time) -> BTreeSet<CgroupId> {
        let mut fresh: BTreeMap<CgroupId, Vec<Evidence>> = BTreeMap::new();
        for Found { id, evidence } in found {
            let used = &self.config.evidence.settings.sensors;
            if self.off || !used.contains(&evidence.fact.sensor()) {
                continue;
            }
            let id = self.node.accounts().account_of(CgroupId(*id));
            let started = Process::new(evidence.pid).started();
            if !self.evidence.add(id, *evidence, started, now) {
                continue;
            }
            fresh.entry(id).or_default().push(*evidence);
        }
        let mut act = BTreeSet::new();
        for (id, fresh) in &fresh {
            if self.weigh(*id, fresh, now) {
                act.insert(*id);
            }
        }
        if !fresh.is_empty() {
            self.send_sensors(now);
        }
        act
    }

    /// What is known of a server, now that this was found; true when the judge has to look.
    fn weigh(&mut self, id: CgroupId, fresh: &[Evidence], now: Time) -> bool {
        let mode = self.config.mode;
        let weighed = self
            .evidence
            .weigh(self.node.accounts_mut(), id, fresh, now);
        for (level, findings) in weighed.news {
            if let Some(guarded) = self.guarded(id) {
                let told = guarded.story(mode).evidence(level, &findings);
                self.log(told);
            }
        }
        self.dirty |= weighed.accused;
        weighed.accused
    }

    /// The processes that evidence of mining is of, with when they were started.
    pub(super) fn mining_processes(&self, id: CgroupId) -> Vec<Named> {
        let processes = self.evidence.mining_processes(id).into_iter();
        processes
            .map(|(pid, started)| Named { pid, started })
            .collect()
    }
}
