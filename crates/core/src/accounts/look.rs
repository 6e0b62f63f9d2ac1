//! A look at places: readings are booked, and what is due comes out.

use super::waits::Waits;
use super::{Accounts, Contention, Place, Reading, Readings};
use policy::{Event, Verdict, Warning, step};
use quantities::{CgroupId, Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No place is looked at again sooner than this, however fast it spends.
const SOONEST: Duration = Duration::from_millis(200);
/// A server that used this share of what is hot is measured again after a second, not at the next
/// tick.
const WARM: f64 = 0.25;
const MEASURED_AGAIN: Duration = Duration::from_secs(1);

/// What a look goes by.
#[derive(Debug, Clone, Copy)]
pub struct LookSettings {
    /// False while supervision is off: what is used then is charged to no account.
    pub supervised: bool,
    /// The time between two ticks.
    pub tick: Duration,
    /// The use above which a server is hot.
    pub hot: Cores,
}

/// What a look came to.
#[derive(Debug, Default)]
pub struct Look {
    /// Verdicts on the places that have an account of their own.
    pub verdicts: Vec<(CgroupId, Verdict)>,
    /// Login slices that moved with the server that they follow, with its verdict.
    pub followed: Vec<(CgroupId, Option<Verdict>)>,
    /// Servers that reach a time limit soon.
    pub warnings: Vec<(CgroupId, Warning)>,
}

impl Accounts {
    /// The places to read for a look: all at a tick, else those that are `due` and those of users
    /// with several places, since their use is booked on the others too.
    pub fn to_read(&self, due: Option<&BTreeSet<CgroupId>>) -> Vec<CgroupId> {
        let several = |place: &Place| {
            self.by_user
                .get(&place.user)
                .is_some_and(|places| places.len() > 1)
        };
        self.places
            .iter()
            .filter(|(id, place)| due.is_none_or(|due| due.contains(id)) || several(place))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Books readings of all places, or of those that are `due`, and says what follows.
    pub fn look(
        &mut self,
        due: Option<&BTreeSet<CgroupId>>,
        readings: &Readings,
        contention: &Contention,
        settings: &LookSettings,
        now: Time,
    ) -> Look {
        let elsewhere = self.charge_elsewhere(readings);
        let mut look = Look::default();
        let mut looks = BTreeMap::new();
        for (id, place) in &mut self.places {
            // Read is read, whatever is due this time.
            place.used_elsewhere += elsewhere.get(id).copied().unwrap_or_default();
            // A slice that follows a server stands where that stands.
            if due.is_some_and(|due| !due.contains(id)) || place.lead.is_some() {
                continue;
            }
            if !settings.supervised {
                place.standing.credits.restart();
                continue;
            }
            if let Some(reading) = readings.get(id) {
                let contended = contention.for_place(place);
                let verdict = place.book(*reading, contended, now);
                look.verdicts.extend(verdict.map(|verdict| (*id, verdict)));
            }
            let usage = place.usage();
            let warning = Warning::due(&mut place.standing, usage, now, &place.policy);
            look.warnings.extend(warning.map(|warning| (*id, warning)));
            looks.extend(place.looked_at_again(settings, now).map(|at| (*id, at)));
        }
        // At a tick all others are due at the next one.
        self.looks
            .retain(|id, _| due.is_some_and(|due| !due.contains(id)));
        self.looks.extend(looks);
        look.followed = self.follow_servers(&look.verdicts);
        look
    }

    /// The places of which it counts how long they wait for the CPU, since they use less than what is hot.
    pub fn waits_wanted(&self, hot: Cores) -> Vec<CgroupId> {
        let wanted = |place: &Place| {
            let rate = place.rate();
            Waits::can_count(rate, hot) && rate <= hot && !place.at_its_quota
        };
        let places = self.places.iter().filter(|(_, place)| wanted(place));
        places.map(|(id, _)| *id).collect()
    }

    /// Books for how long those have waited for the CPU all in all; `None` where that is not known.
    pub fn have_waited(
        &mut self,
        waited: &BTreeMap<CgroupId, Option<Duration>>,
        hot: Cores,
        now: Time,
    ) {
        for (id, place) in &mut self.places {
            if let Some(waited) = waited.get(id) {
                place.waits.read(*waited, now);
            } else if !Waits::can_count(place.rate(), hot) {
                place.waits = Waits::default();
            }
        }
    }

    /// When the next look before a tick is due.
    pub fn next_look(&self) -> Option<Time> {
        self.looks.values().min().copied()
    }

    /// The places that are due for a look by now.
    pub fn looks_due(&self, now: Time) -> BTreeSet<CgroupId> {
        let due = |(id, at): (&CgroupId, &Time)| (*at <= now).then_some(*id);
        self.looks.iter().filter_map(due).collect()
    }

    /// What each server's user used elsewhere since the last look, by server.
    fn charge_elsewhere(&mut self, readings: &Readings) -> BTreeMap<CgroupId, Duration> {
        let in_slices = self.used_in_slices(readings);
        let mut elsewhere = in_slices.clone();
        let Accounts {
            places, by_user, ..
        } = self;
        for ids in by_user.values() {
            let is_server = |id: &&CgroupId| places.get(id).is_some_and(|place| place.is_server());
            let servers: Vec<CgroupId> = ids.iter().filter(is_server).copied().collect();
            if let [alone] = *servers {
                if let Some(place) = places.get_mut(&alone) {
                    place.charged_others = None;
                }
                continue;
            }
            let mut total = Duration::ZERO;
            let mut used = Vec::new();
            for id in &servers {
                let here = places.get_mut(id).map_or(Duration::ZERO, |place| {
                    place.used_since_charged(readings.get(id))
                });
                let here = here + in_slices.get(id).copied().unwrap_or_default();
                total += here;
                used.push(here);
            }
            for (id, here) in servers.into_iter().zip(used) {
                *elsewhere.entry(id).or_default() += total.saturating_sub(here);
            }
        }
        elsewhere
    }

    /// What the slices that follow a server used since the last look, by server.
    fn used_in_slices(&mut self, readings: &Readings) -> BTreeMap<CgroupId, Duration> {
        let mut used = BTreeMap::new();
        for (id, place) in &mut self.places {
            // A slice that is gone is no news here: the tree tells.
            let (Some(lead), Some(reading)) = (place.lead, readings.get(id)) else {
                continue;
            };
            let before = place.read(*reading);
            let since = before.and_then(|before| reading.usage.checked_sub(before.usage));
            *used.entry(lead).or_default() += since.unwrap_or_default();
        }
        used
    }

    /// Moves login slices to where the servers stand that they follow.
    fn follow_servers(
        &mut self,
        verdicts: &[(CgroupId, Verdict)],
    ) -> Vec<(CgroupId, Option<Verdict>)> {
        let verdicts: BTreeMap<CgroupId, &Verdict> = verdicts
            .iter()
            .map(|(id, verdict)| (*id, verdict))
            .collect();
        let stages: BTreeMap<CgroupId, policy::Stage> = self
            .places
            .iter()
            .filter(|(_, place)| place.is_server())
            .map(|(id, place)| (*id, place.standing.stage))
            .collect();
        let mut moved = Vec::new();
        for (id, slice) in &mut self.places {
            let Some(lead) = slice.lead else { continue };
            let Some(stage) = stages.get(&lead) else {
                continue;
            };
            if slice.standing.stage != *stage {
                slice.standing.stage = *stage;
                moved.push((*id, verdicts.get(&lead).copied().cloned()));
            }
        }
        moved
    }
}

impl Place {
    fn book(&mut self, reading: Reading, contended: bool, now: Time) -> Option<Verdict> {
        self.read(reading);
        let usage = self.usage();
        let event = Event::Sampled { usage, contended };
        step(&mut self.standing, &event, now, &self.policy)
    }

    /// CPU time used here, and by its user elsewhere while it ran.
    fn usage(&self) -> Duration {
        let here = self.reading.map_or(Duration::ZERO, |reading| reading.usage);
        here + self.used_elsewhere
    }

    /// When to look at it before the next tick: its credits end, or it may have become hot.
    fn looked_at_again(&self, settings: &LookSettings, now: Time) -> Option<Time> {
        if let Some(left) = self.standing.lasts(&self.policy)
            && left < settings.tick
        {
            return Some(Time(now.0 + left.max(SOONEST)));
        }
        let (rate, hot) = (self.standing.credits.rate, settings.hot);
        let waits = Waits::can_count(rate, hot) && self.waits.are_unread();
        let warm = (waits || rate.0 > WARM * hot.0) && rate <= hot;
        (warm && settings.tick > MEASURED_AGAIN).then(|| Time(now.0 + MEASURED_AGAIN))
    }
}
