//! Evidence against places: where sensors look, what they found, and what that comes to.

use super::{Effect, Node};
use crate::evidence::Attention;
use policy::finding::Evidence;
use quantities::{CgroupId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something that a sensor found.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// The place where it was found.
    pub id: CgroupId,
    /// What.
    pub evidence: Evidence,
    /// When the process that it is of was started (field 22 of `/proc/PID/stat`), where that is known.
    pub started: Option<u64>,
}

impl Node {
    /// The places of which it counts for how long they wait for the CPU.
    pub fn waits_wanted(&self) -> Vec<CgroupId> {
        self.accounts.waits_wanted(self.settings.hot)
    }

    pub(super) fn attend(
        &mut self,
        waited: &BTreeMap<CgroupId, Option<Duration>>,
        now: Time,
    ) -> Effect {
        self.accounts.have_waited(waited, self.settings.hot, now);
        let attention = Attention {
            supervised: !self.settings.off,
            hot: self.settings.hot,
            hot_for: self.settings.hot_for,
            stands: self.settings.stands,
        };
        Effect::LookAt(self.evidence.attend(&self.accounts, &attention, now))
    }

    /// Keeps what was found of servers that are known, and weighs it.
    pub(super) fn sighted(&mut self, sightings: &[Sighting], now: Time, effects: &mut Vec<Effect>) {
        let mut fresh: BTreeMap<CgroupId, Vec<Evidence>> = BTreeMap::new();
        for sighting in sightings {
            let id = self.accounts.account_of(sighting.id);
            if !self.settings.off
                && self
                    .evidence
                    .add(id, sighting.evidence, sighting.started, now)
            {
                fresh.entry(id).or_default().push(sighting.evidence);
            }
        }
        let mut accused = BTreeSet::new();
        for (id, fresh) in &fresh {
            accused.extend(self.weigh(*id, fresh, now, effects));
        }
        if !fresh.is_empty() {
            effects.push(Effect::Attend);
        }
        push_accused(accused, effects);
    }

    /// Weighs anew what is known: a server may have become hot since.
    pub(super) fn weigh_all(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let known: Vec<CgroupId> = self.evidence.servers().collect();
        let mut accused = BTreeSet::new();
        for id in known {
            accused.extend(self.weigh(id, &[], now, effects));
        }
        push_accused(accused, effects);
    }

    /// What is known of a server, now that this was found; the server, if its account was told.
    fn weigh(
        &mut self,
        id: CgroupId,
        fresh: &[Evidence],
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Option<CgroupId> {
        let weighed = self.evidence.weigh(&mut self.accounts, id, fresh, now);
        for (level, findings) in weighed.news {
            effects.push(Effect::Evidence(id, level, findings));
        }
        weighed.accused.then_some(id)
    }
}

fn push_accused(accused: BTreeSet<CgroupId>, effects: &mut Vec<Effect>) {
    if !accused.is_empty() {
        effects.push(Effect::Accused(accused));
    }
}
