//! What has to hold: before something is done, after each step, and once nothing fails.

use crate::daemon::{Call, Daemon};
use crate::world::{World, name_of};
use hubwarden_core::actuator::{Acts, Actuator, Event, Request};
use policy::{Reason, Stage, wanted};
use quantities::{CgroupId, Cores, HubUser};
use std::collections::{BTreeMap, BTreeSet};

/// What a quota may differ by that systemd and the kernel round.
const ROUNDING: f64 = 1e-6;

impl Daemon {
    /// A verdict is logged once, and none that was not decided.
    pub(crate) fn logged(&mut self, id: CgroupId, event: Event) {
        let Event::Verdict { verdict, .. } = event else {
            return;
        };
        let place = self.node.accounts().place(id);
        let is_slice = place.map_or(self.slices.contains(&id), |place| !place.is_server());
        if verdict.reason == Reason::DecidedBefore {
            return;
        }
        let waiting = self.decided.entry(id).or_default();
        if is_slice {
            // It logs the verdicts on the server that it follows, too.
            return waiting.retain(|decided| *decided != verdict);
        }
        if !self.known.contains_key(&id) {
            // What was not carried out before it went is nothing to log.
            while waiting.front().is_some_and(|decided| *decided != verdict) {
                waiting.pop_front();
            }
        }
        match waiting.pop_front() {
            Some(decided) if decided == verdict => {}
            other => self.breaks(
                "each verdict is logged once",
                format!("{id} logs {verdict:?}, and what was decided is {other:?}"),
            ),
        }
    }

    /// A change was made just now.
    pub(crate) fn check_change(&mut self, world: &World, call: &Call) {
        let name = name_of(&call.owner);
        let Some(unit) = world
            .units
            .get(name)
            .filter(|unit| call.start.is_some_and(|start| start.is_same(unit.start())))
        else {
            return;
        };
        if !matches!(call.request, Request::Apply(_)) {
            return;
        }
        if let (Some(Cores(theirs)), Some(quota)) = (unit.theirs.quota, unit.standing.quota)
            && quota.0 > theirs + ROUNDING
        {
            self.breaks(
                "never looser than its owner set it",
                format!("{name} has {quota}, and its owner set {theirs}"),
            );
        }
        if unit.theirs.quota.is_some() && unit.standing.quota.is_none() {
            self.breaks(
                "never looser than its owner set it",
                format!("{name} has no quota, and its owner set one"),
            );
        }
        let thaws = unit.timer.is_some_and(|at| at > world.now);
        if unit.standing.frozen && !unit.theirs.frozen && !thaws {
            self.breaks(
                "a timer thaws what stands still",
                format!("{name} stands still, and no timer thaws it"),
            );
        }
        // Whoever reads the record now must not take for the owner's what is ours.
        let Some(mut record) = world.records.get(name).cloned() else {
            if !unit.ever_theirs.contains(&unit.standing) {
                self.breaks(
                    "on record before it is changed",
                    format!("{name} was changed, and nothing is on record"),
                );
            }
            return;
        };
        record.observe(&unit.standing);
        if record.start.is_same(unit.start()) && !unit.ever_theirs.contains(record.before()) {
            self.breaks(
                "on record before it is changed",
                format!(
                    "{name}: after a crash {:?} would be taken for its owner's",
                    record.before()
                ),
            );
        }
    }

    /// What holds at any time.
    pub fn check(&mut self, world: &World) {
        let mut numbers = BTreeSet::new();
        for id in self.known.keys() {
            let number = self.node.number_of(*id);
            if number.is_none_or(|number| {
                !numbers.insert(number) || self.node.numbers().holder(number) != Some(*id)
            }) {
                return self.breaks(
                    "a number names one place",
                    format!("{id} has the number {number:?}, and so has another"),
                );
            }
        }
        for (name, unit) in &world.units {
            let noted = world.records.get(name);
            let noted = noted.filter(|record| record.start == unit.start());
            let known = self.node.actuator(unit.cgroup).and_then(Actuator::undo);
            for undo in noted.into_iter().chain(known) {
                if undo.start == unit.start() && !unit.ever_theirs.contains(undo.before()) {
                    let before = *undo.before();
                    return self.breaks(
                        "what is put back is what its owner set",
                        format!("{name}: {before:?} is taken for what its owner set"),
                    );
                }
            }
        }
    }

    /// What holds once nothing is under way and nothing fails.
    pub fn check_settled(&mut self, world: &World) {
        let acts = Acts::of(self.off, self.config.mode) == Acts::Yes;
        let mut shares: BTreeMap<&HubUser, f64> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (id, name) in &self.known {
            let (Some(place), Some((_, unit))) = (self.node.accounts().place(*id), world.at(*id))
            else {
                wrong.push(format!("{name} has no account"));
                continue;
            };
            let stage = place.standing().stage;
            let target = match acts {
                true => wanted(stage, &place.policy_here(), &unit.theirs),
                false => unit.theirs,
            };
            if unit.standing != target {
                wrong.push(format!(
                    "{name} is {stage}, and has {:?} instead of {target:?}",
                    unit.standing
                ));
            }
            if unit.kernel.quota != target.quota {
                wrong.push(format!("the kernel has {:?} for {name}", unit.kernel.quota));
            }
            if let Some(trouble) = self.node.actuator(*id).and_then(Actuator::trouble) {
                wrong.push(format!("{name}: {trouble}"));
            }
            if acts
                && stage == Stage::Throttled
                && let Some(Cores(quota)) = unit.standing.quota
            {
                *shares.entry(place.user()).or_default() += quota;
            }
        }
        let baseline = self.config.baseline.0;
        for (user, sum) in shares {
            if sum > baseline * 1.01 + 0.01 {
                wrong.push(format!(
                    "{user} has {sum} cores at a baseline of {baseline}"
                ));
            }
        }
        for (id, verdicts) in &self.decided {
            let place = self.node.accounts().place(*id);
            if !verdicts.is_empty() && place.is_some_and(|place| place.is_server()) {
                wrong.push(format!("{id}: not logged: {verdicts:?}"));
            }
        }
        if let Some(first) = wrong.into_iter().next() {
            self.breaks("all is as it should be once nothing fails", first);
        }
    }
}
