//! One baseline for all of a user's places: what each server and the login slice get of it.
//!
//! A quota holds one cgroup, and a user's servers and `user-UID.slice` have no common parent of
//! their own. So the baseline is divided: by what each place wanted lately, anew at every tick, and
//! only where it matters, since each change is a call of systemd's.

use super::{Accounts, Place};
use policy::share_out;
use quantities::{CgroupId, Cores, Time};
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
pub(super) struct BaselineShare {
    seen: Option<(Time, Duration)>,
    /// What it used between the last two ticks.
    pub rate: Cores,
    wants: Cores,
    /// Its part of the baseline; `None` is all of it.
    pub part: Option<Cores>,
    /// It changed while it was in force, which is not brought about yet.
    pub changed: bool,
}

impl BaselineShare {
    /// Whether the part changed since this was last taken, while it was in force.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

impl Place {
    /// Notes what it used until the tick at `now`, once; what it would use if it could.
    fn wants(&mut self, now: Time) -> Cores {
        let Some(usage) = self.reading.map(|reading| reading.usage) else {
            return self.share.wants;
        };
        let Some((at, before)) = self.share.seen else {
            self.share.seen = Some((now, usage));
            return self.share.wants;
        };
        let span = now.since(at).as_secs_f64();
        if span <= 0.0 {
            return self.share.wants;
        }
        self.share.seen = Some((now, usage));
        let rate = usage.saturating_sub(before).as_secs_f64() / span;
        self.share.rate = Cores(rate);
        let all = self.policy.baseline.0;
        let wants_more = self.limit.is_some_and(|limit| rate >= WANTS_MORE * limit.0);
        let wants = if wants_more { all } else { rate.min(all) };
        self.share.wants = Cores(wants.max(FADES * self.share.wants.0));
        self.share.wants
    }

    /// Takes a part of the baseline; true if that is another than before.
    fn take_part(&mut self, part: Option<Cores>) -> bool {
        let changed = self.share.part != part;
        self.share.part = part;
        self.share.changed |= changed && self.is_throttled();
        changed
    }
}

impl Accounts {
    /// Divides each user's baseline among the user's places. Returns the places with another part
    /// than before, those that lost before those that gained: applied in this order they never have
    /// more than the baseline together.
    ///
    /// `now` is the last tick: what places use is measured from tick to tick, however often some user's
    /// servers come and go between.
    pub fn divide_baselines(&mut self, now: Time) -> Vec<CgroupId> {
        let Accounts {
            places, by_user, ..
        } = self;
        let (mut lost, mut gained) = (Vec::new(), Vec::new());
        for ids in by_user.values() {
            let mut of_user: Vec<CgroupId> = ids.iter().copied().collect();
            if let [alone] = *of_user {
                if let Some(place) = places.get_mut(&alone) {
                    // It has the whole baseline, again if it had a part, and what it uses is measured
                    // anew when it has to share.
                    place.share.seen = None;
                    if place.share.part.is_some() && place.take_part(None) {
                        gained.push(alone);
                    }
                }
                continue;
            }
            of_user.retain(|id| places.contains_key(id));
            let first = of_user.first().and_then(|first| places.get(first));
            let Some(total) = first.map(|first| first.policy.baseline) else {
                continue;
            };
            let mut wants = Vec::new();
            let mut parts = Vec::new();
            for id in &of_user {
                if let Some(place) = places.get_mut(id) {
                    wants.push(place.wants(now));
                    parts.push(place.share.part);
                }
            }
            let given = share_out(total, &wants);
            if !is_worth_it(total, &parts, &given) {
                continue;
            }
            for ((id, part), given) in of_user.iter().zip(parts).zip(given) {
                if let Some(place) = places.get_mut(id)
                    && place.take_part(Some(given))
                {
                    match part.unwrap_or(total) > given {
                        true => lost.push(*id),
                        false => gained.push(*id),
                    }
                }
            }
        }
        lost.extend(gained);
        lost
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
        // A twentieth too much is too much of a small baseline too.
        assert!(is_worth_it(
            Cores(0.02),
            &has([0.0105, 0.0105]),
            &cores([0.01, 0.01])
        ));
    }
}
