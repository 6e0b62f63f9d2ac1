//! Where the senses look, and what becomes of what they find.
//!
//! They look at servers that are hot, and at those that evidence stands against, and listen to all
//! for what is rare. What they find goes to the journal, and to the judge as soon as it amounts to
//! something.

mod behind;
mod dossier;
mod missed;
mod thread;

pub(super) use dossier::Dossier;
pub(super) use thread::Dossiers;

use super::entries::Entry;
use super::{Daemon, Inner};
use crate::act::{CpuControl, Named};
use crate::hub::Units;
use policy::finding::{Evidence, Fact, Strength};
use policy::{Matter, evidence_of, matter, suspicion};
use quantities::CgroupId;
use quantities::Time;
use sensors::senses::{Found, Suspect};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use thread::Order;

/// Somebody of whom something was found is looked at for so long, hot or not.
const LOOKED_AT_FOR: Duration = Duration::from_secs(60);
/// Who comes is listened to at once, or this long after others who came: each order to the senses
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

    /// Takes in what the senses found, and has the judge act on it at once.
    pub(super) fn found(self: &Rc<Self>, found: &[Found], now: Time) {
        let mut inner = self.inner.borrow_mut();
        let act = inner.take_evidence(found, now);
        drop(inner);
        if !act.is_empty() {
            self.look_at(now, Some(&act));
            self.inner.borrow_mut().settle_classes(now);
        }
    }

    /// Has the senses listen to who has just come. A miner's name is told once, when it is started, and
    /// that may be before the next tick.
    pub(super) async fn listen_to_who_comes(self: Rc<Self>) {
        loop {
            self.senses_due.notified().await;
            self.inner.borrow_mut().send_senses(super::run::now());
            tokio::time::sleep(LISTENED_TO_WITHIN).await;
        }
    }

    /// Weighs what is known anew: a server may have become hot since. The judge acts at once.
    pub(super) fn weigh_all(self: &Rc<Self>, now: Time) {
        let mut act = BTreeSet::new();
        {
            let mut inner = self.inner.borrow_mut();
            let known: Vec<CgroupId> = inner.dossiers.servers.keys().copied().collect();
            for id in known {
                if inner.weigh(id, &[], now) {
                    act.insert(id);
                }
            }
        }
        if !act.is_empty() {
            self.look_at(now, Some(&act));
        }
    }
}

impl Inner {
    /// Notes who is hot, and sends the senses there.
    pub(super) fn send_senses(&mut self, now: Time) {
        let mut known = std::mem::take(&mut self.dossiers.servers);
        let mut looked_at = BTreeSet::new();
        let mut hot_accounts = BTreeSet::new();
        for (id, place) in self.accounts.places() {
            if place.is_hot(self.config.evidence.hot) {
                hot_accounts.insert(place.lead().unwrap_or(id));
            }
        }
        let stands = self.config.evidence.consequences.stands;
        for (id, place) in self.accounts.places() {
            if place.lead().is_some() {
                continue;
            }
            let mut dossier = known.remove(&id).unwrap_or_default();
            let hot = !self.off && hot_accounts.contains(&id);
            dossier.hot_since = hot.then(|| dossier.hot_since.unwrap_or(now));
            dossier.forget(now, stands);
            let long = dossier
                .hot_since
                .is_some_and(|at| now.since(at) >= self.config.evidence.hot_for);
            if long || dossier.look_until.is_some_and(|until| now < until) {
                looked_at.insert(id);
            }
            if place.case().is_accused(now) {
                looked_at.insert(id);
            }
            self.dossiers.servers.insert(id, dossier);
        }
        let mut order = Order {
            settings: self.config.evidence.settings.clone(),
            ..Order::default()
        };
        let (mut everybody, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for (id, entry) in &self.entries {
            let Entry::Guarded(guarded) = entry else {
                continue;
            };
            // While switched off nobody is looked at.
            if self.off {
                break;
            }
            let path = guarded.cgroup.as_str().trim_start_matches('/');
            let directory = self.root.join(path);
            if looked_at.contains(&self.accounts.account_of(*id)) {
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
        if let Some(orders) = &self.dossiers.orders {
            orders.give(order);
        }
    }

    /// Books what was found; returns the servers that the judge has to look at.
    fn take_evidence(&mut self, found: &[Found], now: Time) -> BTreeSet<CgroupId> {
        let mut fresh: BTreeMap<CgroupId, Vec<Evidence>> = BTreeMap::new();
        for Found { id, evidence } in found {
            let used = &self.config.evidence.settings.senses;
            if self.off || !used.contains(&evidence.fact.sense()) {
                continue;
            }
            let id = self.accounts.account_of(CgroupId(*id));
            let Some(dossier) = self.dossiers.servers.get_mut(&id) else {
                continue;
            };
            dossier.add(*evidence);
            if evidence.strength() > Strength::Exonerates {
                dossier.look_until = Some(Time(now.0 + LOOKED_AT_FOR));
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
            self.send_senses(now);
        }
        act
    }

    /// What is known of a server, now that this was found; true when the judge has to look.
    fn weigh(&mut self, id: CgroupId, fresh: &[Evidence], now: Time) -> bool {
        let mode = self.config.mode;
        let Some(mut dossier) = self.dossiers.servers.remove(&id) else {
            return false;
        };
        let hot = dossier.hot_since.map(|at| now.since(at));
        let level = suspicion(&dossier.evidence, hot);
        let journal = self.journal.clone();
        let mut act = false;
        if let (Some(guarded), Some(level)) = (self.guarded(id), level) {
            for matter in Matter::ALL {
                let evidence = evidence_of(matter, &dossier.evidence);
                if let Some(level) = suspicion(&evidence, hot)
                    && Some(&level) > dossier.told.get(&matter)
                {
                    journal.tell(guarded.story(mode).evidence(level, &evidence));
                    dossier.told.insert(matter, level);
                }
            }
            let stood = self
                .accounts
                .place(id)
                .and_then(|place| place.case().accusation(now));
            let stood = stood.map(|before| before.level);
            let of = matter(&dossier.evidence, hot, level);
            // What is weaker, or of something else, may come from somebody else of the same server,
            // and says nothing of whether this goes on.
            let goes_on = fresh.iter().any(|fresh| match of {
                Matter::Mining => fresh.fact.is_of_mining(),
                Matter::Network => fresh.fact.accuses(),
            });
            if level >= Strength::High && (Some(level) > stood || goes_on) {
                self.accounts.accuse(id, level, of, now);
                self.dirty = true;
                act = true;
            }
        }
        self.dossiers.servers.insert(id, dossier);
        act
    }

    /// The processes that evidence of mining is of, with when they were started.
    pub(super) fn mining_processes(&self, id: CgroupId) -> Vec<Named> {
        let Some(dossier) = self.dossiers.servers.get(&id) else {
            return Vec::new();
        };
        let of_mining = dossier
            .evidence
            .iter()
            .filter(|one| one.fact.is_of_mining());
        let pids: BTreeSet<u32> = of_mining.map(|one| one.pid).collect();
        let named = |pid| {
            let started = *dossier.processes.get(&pid)?;
            Some(Named { pid, started })
        };
        pids.into_iter().filter_map(named).collect()
    }

    /// Starts a server's dossier anew, once what was found is ended.
    pub(super) fn close_dossier(&mut self, id: CgroupId) {
        self.dossiers.servers.insert(id, Dossier::default());
    }
}
