//! One account for each user, however many places they work in.
//!
//! A user may have several named servers, and things run outside of all of them. What is used in
//! one place is booked on every server of the user's, so that all of them have spent, and rested,
//! at the same time. A server that comes begins where the others stand; of the last one the case
//! is kept until the user has rested.

use super::Inner;
use super::entries::{Entry, Guarded};
use crate::hub::{Server, Spawner};
use policy::{Case, Policy};
use quantities::CgroupId;
use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

impl Inner {
    /// The case a user's new server begins with: that of the others, or the one that was carried
    /// on, or what is left of the last one, or a fresh one.
    pub(super) fn case_for(&mut self, server: &Server, policy: &Policy, now: Time) -> Case {
        if server.spawner != Spawner::Login {
            let mut carried_on = None;
            for entry in self.entries.values() {
                let Entry::Guarded(guarded) = entry else {
                    continue;
                };
                if guarded.server.user != server.user {
                    continue;
                }
                if !guarded.is_outside() {
                    return Case::after_rest(&guarded.case, Duration::ZERO, policy);
                }
                if guarded.lead.is_none() {
                    carried_on = Some(Case::after_rest(&guarded.case, Duration::ZERO, policy));
                }
            }
            if let Some(case) = carried_on {
                return case;
            }
        }
        match self.rested.get(server.user.as_str()) {
            Some((case, at)) => Case::after_rest(case, now.since(*at), policy),
            None => Case::new(policy),
        }
    }

    /// A server or a slice ended: its case goes on with the user's other places, or rests.
    pub(super) fn bequeath(&mut self, ended: &Guarded, now: Time) {
        let user = &ended.server.user;
        let other = self.entries.iter().find_map(|(id, entry)| match entry {
            Entry::Guarded(guarded) if !guarded.is_outside() && guarded.server.user == *user => {
                Some(*id)
            }
            _ => None,
        });
        let mut carried_on = ended.lead.is_some() || other.is_some();
        for entry in self.entries.values_mut() {
            if let Entry::Guarded(guarded) = entry
                && guarded.lead == Some(ended.id)
            {
                guarded.lead = other;
                guarded.case = ended.case;
                guarded.case.credits.restart();
                carried_on = true;
            }
        }
        if !carried_on && !ended.case.credits.is_full(&ended.policy) {
            let user = user.as_str().to_owned();
            self.rested.insert(user, (ended.case, now));
        }
    }

    /// Forgets those who have rested enough for a full account.
    pub(super) fn forget_rested(&mut self, now: Time) {
        let mut rested = std::mem::take(&mut self.rested);
        rested.retain(|user, (case, at)| {
            let policy = self.policy_of_user(user).0;
            !Case::after_rest(case, now.since(*at), &policy)
                .credits
                .is_full(&policy)
        });
        self.rested = rested;
    }

    /// What each server's user used elsewhere since the last look, by server.
    pub(super) fn used_elsewhere(&mut self) -> BTreeMap<CgroupId, Duration> {
        let outside = self.used_outside();
        let mut elsewhere = outside.clone();
        for servers in self.several() {
            let mut used = Vec::new();
            let mut total = Duration::ZERO;
            for id in &servers {
                let here = self
                    .guarded(*id)
                    .map_or(Duration::ZERO, Guarded::used_since);
                let here = here + outside.get(id).copied().unwrap_or_default();
                total += here;
                used.push(here);
            }
            for (id, here) in servers.into_iter().zip(used) {
                *elsewhere.entry(id).or_default() += total.saturating_sub(here);
            }
        }
        elsewhere
    }

    /// Reads the slices that follow a server: what each used since the last look, by server.
    fn used_outside(&mut self) -> BTreeMap<CgroupId, Duration> {
        let mut used = BTreeMap::new();
        for entry in self.entries.values_mut() {
            let Entry::Guarded(guarded) = entry else {
                continue;
            };
            let (Some(lead), Some(reader)) = (guarded.lead, &guarded.reader) else {
                continue;
            };
            // A slice that is gone is no news here: the tree tells.
            let Ok(sample) = reader.sample() else {
                continue;
            };
            let before = guarded.read(sample.cpu);
            let since = before.and_then(|before| sample.cpu.usage.checked_sub(before.usage));
            *used.entry(lead).or_default() += since.unwrap_or_default();
        }
        used
    }

    /// The servers of each user who has more than one.
    fn several(&mut self) -> Vec<Vec<CgroupId>> {
        let mut users: BTreeMap<&str, Vec<CgroupId>> = BTreeMap::new();
        for (id, entry) in &self.entries {
            if let Entry::Guarded(guarded) = entry
                && !guarded.is_outside()
            {
                let user = guarded.server.user.as_str();
                users.entry(user).or_default().push(*id);
            }
        }
        let (several, alone): (Vec<_>, Vec<_>) =
            users.into_values().partition(|servers| servers.len() > 1);
        let told_others = |id: &CgroupId| matches!(self.entries.get(id), Some(Entry::Guarded(one)) if one.is_one_of_several());
        let alone: Vec<CgroupId> = alone.into_iter().flatten().filter(told_others).collect();
        for id in alone {
            if let Some(guarded) = self.guarded(id) {
                guarded.told_others = None;
            }
        }
        several
    }
}

impl Guarded {
    /// What it used since this was last asked; nothing at first, and where it cannot be read.
    fn used_since(&mut self) -> Duration {
        let Some(Ok(sample)) = self.reader.as_ref().map(|reader| reader.sample()) else {
            return Duration::ZERO;
        };
        let usage = sample.cpu.usage;
        let before = self.told_others.replace(usage);
        before.map_or(Duration::ZERO, |before| usage.saturating_sub(before))
    }

    /// Whether its user has other servers too.
    pub fn is_one_of_several(&self) -> bool {
        self.told_others.is_some()
    }
}
