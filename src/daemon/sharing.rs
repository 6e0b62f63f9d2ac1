//! One baseline for all places of a user's: what each server and the slice beside it get of it.
//!
//! A quota holds one cgroup, and a user's servers and `user-UID.slice` have no common parent that
//! is theirs alone. So the baseline is divided: by what each place wanted lately, anew at every tick,
//! and only where it matters, since each change is a call of systemd's.

use super::Inner;
use super::entries::{Entry, Guarded};
use policy::{Policy, Rung, share_out};
use quantities::CgroupId;
use quantities::{Cores, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// A place that uses this much of its quota is taken to want more.
const WANTS_MORE: f64 = 0.8;
/// What a place wanted counts for so much less at each tick that it does not want it any more:
/// quick to give, slow to take, so that two that take turns do not swing.
const FADES: f64 = 0.8;
/// A part changes only by more than this share of the baseline.
const WORTH_IT: f64 = 0.1;

/// What one place used lately, and what it has of the baseline.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    seen: Option<(Time, Duration)>,
    /// What it used between the last two ticks.
    pub rate: Cores,
    wants: Cores,
    /// Its part of the baseline; `None` is all of it, for a place alone.
    pub part: Option<Cores>,
    /// The part changed, and nothing else: that is no news for the journal.
    pub quietly: bool,
}

impl Guarded {
    /// Notes what it used since the last tick, and says what it would use if it could.
    fn wants(&mut self, now: Time) -> Cores {
        let Some(usage) = self.stat.map(|stat| stat.usage) else {
            return self.place.wants;
        };
        let before = self.place.seen.replace((now, usage));
        let Some((at, before)) = before else {
            return self.place.wants;
        };
        let span = now.since(at).as_secs_f64();
        if span <= 0.0 {
            return self.place.wants;
        }
        let rate = usage.saturating_sub(before).as_secs_f64() / span;
        self.place.rate = Cores(rate);
        let all = self.policy.baseline.0;
        let wants_more = self.limit.is_some_and(|limit| rate >= WANTS_MORE * limit.0);
        let wants = if wants_more { all } else { rate.min(all) };
        self.place.wants = Cores(wants.max(FADES * self.place.wants.0));
        self.place.wants
    }

    /// What the user may use, as far as this place goes: with its part of the baseline.
    pub fn policy_here(&self) -> Policy {
        let mut policy = self.policy.clone();
        if let Some(Cores(part)) = self.place.part {
            policy.baseline = Cores(policy.baseline.0.min(part));
        }
        policy
    }

    /// Takes a part of the baseline; true if that is another than before.
    fn take_part(&mut self, part: Option<Cores>) -> bool {
        let changed = self.place.part != part;
        self.place.part = part;
        self.place.quietly |= changed && self.case.rung >= Rung::Throttled;
        changed
    }
}

impl Inner {
    /// Divides each account's baseline among its places; returns those whose part changed, who
    /// lost before who gained, so that together they have no more than the baseline meanwhile.
    pub(super) fn share_baselines(&mut self, now: Time) -> Vec<CgroupId> {
        let (alone, several) = self.accounts();
        let (mut lost, mut gained) = (Vec::new(), Vec::new());
        // Who was left alone has the whole baseline again.
        for id in alone {
            if let Some(guarded) = self.guarded(id)
                && guarded.take_part(None)
            {
                gained.push(id);
            }
        }
        for places in several {
            let first = places.first().and_then(|first| self.guarded(*first));
            let Some(total) = first.map(|first| first.policy.baseline) else {
                continue;
            };
            let mut wants = Vec::new();
            let mut parts = Vec::new();
            for place in &places {
                let guarded = self.guarded(*place);
                let (wanted, part) = guarded.map_or((Cores(0.0), None), |guarded| {
                    (guarded.wants(now), guarded.place.part)
                });
                wants.push(wanted);
                parts.push(part);
            }
            let given = share_out(total, &wants);
            if !is_worth_it(total, &parts, &given) {
                continue;
            }
            for ((place, part), given) in places.iter().zip(parts).zip(given) {
                if let Some(guarded) = self.guarded(*place)
                    && guarded.take_part(Some(given))
                {
                    match part.unwrap_or(total) > given {
                        true => lost.push(*place),
                        false => gained.push(*place),
                    }
                }
            }
        }
        lost.extend(gained);
        lost
    }

    /// The places of users with several, and before those who had a part and are alone now.
    fn accounts(&self) -> (Vec<CgroupId>, Vec<Vec<CgroupId>>) {
        let mut users: BTreeMap<&str, Vec<CgroupId>> = BTreeMap::new();
        for (id, entry) in &self.entries {
            if let Entry::Guarded(guarded) = entry {
                let user = guarded.server.user.as_str();
                users.entry(user).or_default().push(*id);
            }
        }
        let (several, alone): (Vec<_>, Vec<_>) =
            users.into_values().partition(|places| places.len() > 1);
        let had_a_part = |id: &CgroupId| matches!(self.entries.get(id), Some(Entry::Guarded(one)) if one.place.part.is_some());
        let alone = alone.into_iter().flatten().filter(had_a_part).collect();
        (alone, several)
    }

    /// What each throttled server and the slices that follow it may use together, by server.
    pub(super) fn shared_limits(&self) -> BTreeMap<CgroupId, Cores> {
        let mut sums: BTreeMap<CgroupId, Cores> = BTreeMap::new();
        for entry in self.entries.values() {
            if let Entry::Guarded(slice) = entry
                && let Some(lead) = slice.lead
                && let Some(Entry::Guarded(server)) = self.entries.get(&lead)
                && server.case.rung >= Rung::Throttled
                && let (Some(here), Some(there)) = (slice.limit, server.limit)
            {
                sums.entry(lead).or_insert(there).0 += here.0;
            }
        }
        sums
    }
}

/// Whether the parts are so far from what they should be that they have to change.
fn is_worth_it(total: Cores, parts: &[Option<Cores>], given: &[Cores]) -> bool {
    let mut sum = 0.0;
    for (part, given) in parts.iter().zip(given) {
        let Some(part) = part else { return true };
        if (part.0 - given.0).abs() > WORTH_IT * total.0 {
            return true;
        }
        sum += part.0;
    }
    (sum - total.0).abs() > 0.001 * total.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_change_where_it_matters_and_where_the_baseline_changed() {
        let cores = |parts: [f64; 2]| parts.map(Cores);
        let has = |parts| cores(parts).map(Some);
        let total = Cores(0.25);
        assert!(!is_worth_it(total, &has([0.1, 0.15]), &cores([0.12, 0.13])));
        assert!(is_worth_it(total, &has([0.1, 0.15]), &cores([0.13, 0.12])));
        assert!(is_worth_it(total, &[None, None], &cores([0.1, 0.15])));
        assert!(is_worth_it(
            Cores(0.2),
            &has([0.1, 0.15]),
            &cores([0.09, 0.14])
        ));
    }
}
