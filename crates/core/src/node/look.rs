//! A look at places: the one order of what is decided at a tick, and before one.

use super::{Effect, Node};
use crate::accounts::{Contention, LookSettings, Readings};
use crate::actuator::is_other_quota;
use crate::faults::{Fault, has};
use quantities::{CgroupId, Cores, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What was read for a look.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// The places that are looked at; `None` at a tick, for all.
    pub only: Option<BTreeSet<CgroupId>>,
    /// Their counters, and those of their users' other places.
    pub readings: Readings,
    /// The quotas that the kernel holds, where that can be told.
    pub quotas: BTreeMap<CgroupId, Option<Cores>>,
    /// How long others wait for the CPU.
    pub contention: Contention,
}

impl Node {
    /// What is tried again comes first, then what the accounts say, then the parts of the baselines.
    pub(super) fn look(&mut self, looked: &Looked, now: Time, effects: &mut Vec<Effect>) {
        // Whoever is asked about those gives up long before.
        self.departed
            .retain(|_, (actuator, _)| !actuator.is_lost(now));
        let mut due = match has(Fault::RetriesLeftOut) {
            true => Vec::new(),
            false => self.due_again(looked, now),
        };
        let settings = LookSettings {
            supervised: !self.settings.off,
            tick: self.settings.tick,
            hot: self.settings.hot,
        };
        let (only, readings) = (looked.only.as_ref(), &looked.readings);
        let look = self
            .accounts
            .look(only, readings, &looked.contention, &settings, now);
        for (id, verdict) in &look.verdicts {
            effects.push(Effect::Decided(*id, verdict.clone()));
        }
        for (id, warning) in look.warnings {
            effects.push(Effect::Warned(id, warning));
        }
        let decided = look
            .verdicts
            .into_iter()
            .map(|(id, verdict)| (id, Some(verdict)));
        for (id, verdict) in decided.chain(look.followed) {
            if let Some(governed) = self.governed.get_mut(&id) {
                if let Some(verdict) = verdict {
                    governed.actuator.decide(verdict);
                }
                due.push(id);
            }
        }
        if looked.only.is_none() {
            self.ticked = now;
        }
        if looked.only.is_none() && !has(Fault::BaselineNotDivided) {
            let parts = self.accounts.divide_baselines(now);
            self.queue(parts);
        }
        for id in due {
            self.wake(id, now, effects);
        }
    }

    /// The places where something is to be tried again, renewed or brought about anew.
    fn due_again(&mut self, looked: &Looked, now: Time) -> Vec<CgroupId> {
        let mut due = Vec::new();
        for (id, governed) in &mut self.governed {
            if looked.only.as_ref().is_some_and(|only| !only.contains(id)) {
                continue;
            }
            let place = self.accounts.place(*id);
            let waits = place
                .is_some_and(|place| place.standing().waits_for_end_of_processes(place.policy()));
            let actuator = &mut governed.actuator;
            let ours = actuator.ours().map(|ours| ours.quota);
            let known = ours.unwrap_or(place.and_then(|place| place.limit()));
            let other = || is_other_quota(known, looked.quotas.get(id).copied());
            if actuator.is_due(now) || waits || (!actuator.is_busy() && other()) {
                due.push(*id);
            }
        }
        due
    }
}
