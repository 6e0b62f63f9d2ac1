//! One account for each user, however many places they work in.
//!
//! A place is a server, or the login slice (`user-UID.slice`) of a hub user. What is used in one
//! place is booked on every server of the user, so that all of them have spent, and rested, at the
//! same time. A login slice follows the user's server: it has no account of its own while there is
//! one. A server that comes begins where the others stand; of the last one the standing is kept until
//! the user has rested.
//!
//! The baseline is divided among a user's places (`baseline`). Who waits for the CPU is the
//! shell's to read (`contention`).

mod baseline;
mod contention;
mod look;
mod place;
mod waits;

pub use contention::Contention;
pub use look::{Look, LookSettings};
pub use place::{Newcomer, Place, PlaceKind, Reading};

use policy::{Event, FindingKind, Policy, Standing, Verdict, finding::Strength, step};
use quantities::{CgroupId, Cores, HubUser, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Readings of counters, by cgroup. A cgroup that is gone or cannot be read is not among them.
pub type Readings = BTreeMap<CgroupId, Reading>;

/// The accounts of all users.
#[derive(Debug, Default)]
pub struct Accounts {
    places: BTreeMap<CgroupId, Box<Place>>,
    by_user: BTreeMap<HubUser, BTreeSet<CgroupId>>,
    /// How users stood when their last place ended, and when; until they have rested.
    rested: BTreeMap<HubUser, (Standing, Time)>,
    /// Places to look at before the next tick: their credits end, or they may be hot.
    looks: BTreeMap<CgroupId, Time>,
}

impl Accounts {
    /// Opens a place's account.
    ///
    /// Without a standing of its own it begins where the user's other servers stand, or with what a
    /// login slice carried on, or with what is left of the last place, or afresh.
    pub fn admit(&mut self, id: CgroupId, newcomer: Newcomer, now: Time) {
        let user = newcomer.user.clone();
        let standing = newcomer
            .standing
            .unwrap_or_else(|| self.case_for(&newcomer, now));
        if newcomer.kind == PlaceKind::Server {
            self.rested.remove(&user);
        }
        self.places
            .insert(id, Box::new(Place::new(newcomer, standing)));
        self.by_user.entry(user).or_default().insert(id);
    }

    /// Closes a place's account: its standing goes on with the user's other places, or rests.
    pub fn forget(&mut self, id: CgroupId, now: Time) {
        let Some(ended) = self.places.remove(&id) else {
            return;
        };
        self.looks.remove(&id);
        let others = self.by_user.entry(ended.user.clone()).or_default();
        others.remove(&id);
        let others = others.clone();
        if others.is_empty() {
            self.by_user.remove(&ended.user);
        }
        self.hand_over(id, &ended, &others, now);
    }

    /// A place, to be read.
    pub fn place(&self, id: CgroupId) -> Option<&Place> {
        self.places.get(&id).map(|place| &**place)
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = (CgroupId, &Place)> {
        self.places.iter().map(|(id, place)| (*id, &**place))
    }

    /// The place that something of this one goes to the account of: itself, or the server that it
    /// follows.
    pub fn account_of(&self, id: CgroupId) -> CgroupId {
        self.places
            .get(&id)
            .and_then(|place| place.lead)
            .unwrap_or(id)
    }

    /// Has a login slice follow a server.
    pub fn follow(&mut self, slice: CgroupId, server: CgroupId) {
        if let Some(place) = self.places.get_mut(&slice) {
            place.lead = Some(server);
        }
    }

    /// What the user may use changed.
    pub fn set_policy(&mut self, id: CgroupId, policy: Policy) {
        if let Some(place) = self.places.get_mut(&id) {
            place.policy = policy;
        }
    }

    /// This quota is in force, with the place's part of the baseline; `None` is no quota.
    pub fn set_limit(&mut self, id: CgroupId, limit: Option<Cores>) {
        if let Some(place) = self.places.get_mut(&id) {
            place.limit = limit;
            place.share.take_changed();
        }
    }

    /// There is evidence against a place; the next look goes by it.
    pub fn accuse(&mut self, id: CgroupId, level: Strength, of: FindingKind, now: Time) {
        self.judge(id, &Event::Evidence { level, of }, now);
    }

    /// The processes were ended that evidence was of.
    pub fn processes_ended(&mut self, id: CgroupId, count: usize, now: Time) -> Option<Verdict> {
        self.judge(id, &Event::ProcessesEnded { count }, now)
    }

    fn judge(&mut self, id: CgroupId, event: &Event, now: Time) -> Option<Verdict> {
        let place = self.places.get_mut(&id)?;
        step(&mut place.standing, event, now, &place.policy)
    }

    /// Before verdicts are carried out that so far were only reported: see [`Standing::reopen`].
    pub fn reopen(&mut self, now: Time) {
        for place in self.places.values_mut() {
            place.standing.reopen(now);
        }
    }

    /// How users stood when their last place ended, and when.
    pub fn rested(&self) -> &BTreeMap<HubUser, (Standing, Time)> {
        &self.rested
    }

    /// Takes over what an earlier daemon knew of users without a place.
    pub fn resume_rested(&mut self, rested: BTreeMap<HubUser, (Standing, Time)>) {
        self.rested = rested;
    }

    /// Forgets users who have rested enough for a full account by what each may use.
    pub fn forget_rested(&mut self, now: Time, policies: &BTreeMap<HubUser, Policy>) {
        self.rested.retain(|user, (standing, at)| {
            policies.get(user).is_none_or(|policy| {
                let rested = Standing::after_rest(standing, now.since(*at), policy);
                !rested.credits.is_full(policy)
            })
        });
    }

    /// What each throttled server and the slices that follow it may use together.
    pub fn shared_limits(&self) -> BTreeMap<CgroupId, Cores> {
        let mut sums: BTreeMap<CgroupId, Cores> = BTreeMap::new();
        for slice in self.places.values() {
            if let Some(lead) = slice.lead
                && let Some(server) = self.places.get(&lead)
                && server.is_throttled()
                && let (Some(here), Some(there)) = (slice.limit, server.limit)
            {
                sums.entry(lead).or_insert(there).0 += here.0;
            }
        }
        sums
    }

    fn of_user(&self, user: &HubUser) -> impl Iterator<Item = (CgroupId, &Place)> {
        let ids = self.by_user.get(user).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.place(*id)?)))
    }

    fn case_for(&self, newcomer: &Newcomer, now: Time) -> Standing {
        let policy = &newcomer.policy;
        if newcomer.kind == PlaceKind::Server {
            let goes_on =
                |place: &Place| Standing::after_rest(&place.standing, Duration::ZERO, policy);
            let mut others = self.of_user(&newcomer.user);
            if let Some((_, server)) = others.find(|(_, place)| place.is_server()) {
                return goes_on(server);
            }
            let mut others = self.of_user(&newcomer.user);
            if let Some((_, slice)) = others.find(|(_, place)| place.lead.is_none()) {
                return goes_on(slice);
            }
        }
        match self.rested.get(&newcomer.user) {
            Some((standing, at)) => Standing::after_rest(standing, now.since(*at), policy),
            None => Standing::new(policy),
        }
    }

    fn hand_over(&mut self, id: CgroupId, ended: &Place, others: &BTreeSet<CgroupId>, now: Time) {
        let is_server = |id: &&CgroupId| self.place(**id).is_some_and(Place::is_server);
        let heir = others.iter().find(is_server).copied();
        let mut goes_on = ended.lead.is_some() || heir.is_some();
        for other in others {
            if let Some(slice) = self.places.get_mut(other)
                && slice.lead == Some(id)
            {
                slice.lead = heir;
                slice.standing = ended.standing;
                slice.standing.credits.restart();
                goes_on = true;
            }
        }
        if !goes_on && !ended.standing.credits.is_full(&ended.policy) {
            self.rested
                .insert(ended.user.clone(), (ended.standing, now));
        }
    }
}
