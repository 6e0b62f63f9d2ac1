//! Cgroups that are made up, and the accounts that follow them.

use hubwarden_core::accounts::{
    Accounts, Contention, Look, LookSettings, Newcomer, Place, PlaceKind, Reading, Readings,
};
use policy::{Policy, Stage};
use quantities::{CgroupId, CoreSeconds, Cores, HubUser, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const BASELINE: f64 = 0.25;
pub const SIZE: f64 = 100.0;
pub const TICK: Duration = Duration::from_secs(1);

pub fn policy() -> Policy {
    Policy {
        limit: Some(Cores(2.0)),
        baseline: Cores(BASELINE),
        size: CoreSeconds(SIZE),
        min_stay: Duration::from_secs(10),
        ..Policy::default()
    }
}

pub fn user(name: &str) -> HubUser {
    HubUser(name.to_owned())
}

pub struct Node {
    pub accounts: Accounts,
    pub settings: LookSettings,
    pub contention: Contention,
    /// What newcomers may use.
    pub policy: Policy,
    pub now: Time,
    usage: BTreeMap<CgroupId, Duration>,
    /// Periods in which the quota ran out.
    throttled: BTreeMap<CgroupId, u64>,
    next: u64,
}

impl Node {
    pub fn new() -> Node {
        Node {
            accounts: Accounts::default(),
            settings: LookSettings {
                supervised: true,
                tick: TICK,
                hot: Cores(0.9),
            },
            contention: Contention::default(),
            policy: policy(),
            now: Time(Duration::from_secs(1000)),
            usage: BTreeMap::new(),
            throttled: BTreeMap::new(),
            next: 1,
        }
    }

    /// So long some of its tasks have waited all in all.
    pub fn waits(&mut self, id: CgroupId, waited: Option<Duration>) {
        self.waits_of(&[(id, waited)]);
    }

    pub fn waits_of(&mut self, waited: &[(CgroupId, Option<Duration>)]) {
        let waited = waited.iter().copied().collect();
        let hot = self.settings.hot;
        self.accounts.have_waited(&waited, hot, self.now);
    }

    pub fn starts(&mut self, name: &str, kind: PlaceKind) -> CgroupId {
        let id = CgroupId(self.next);
        self.next += 1;
        let newcomer = Newcomer {
            user: user(name),
            kind,
            policy: self.policy.clone(),
            standing: None,
            used_elsewhere: Duration::ZERO,
        };
        self.accounts.admit(id, newcomer, self.now);
        self.usage.insert(id, Duration::ZERO);
        id
    }

    pub fn server(&mut self, name: &str) -> CgroupId {
        self.starts(name, PlaceKind::Server)
    }

    /// The login slice of a server's user, which follows the server.
    pub fn slice_of(&mut self, server: CgroupId) -> CgroupId {
        let name = self.place(server).user().0.clone();
        let slice = self.starts(&name, PlaceKind::UserSlice);
        self.accounts.follow(slice, server);
        slice
    }

    pub fn ends(&mut self, id: CgroupId) {
        self.accounts.forget(id, self.now);
        self.usage.remove(&id);
    }

    /// Time in which each place uses so many cores, without a look.
    pub fn passes(&mut self, time: Duration, use_of: &dyn Fn(CgroupId) -> f64) {
        self.now = Time(self.now.0 + time);
        for (id, usage) in &mut self.usage {
            *usage += time.mul_f64(use_of(*id));
        }
    }

    /// A place's quota ran out in one more period.
    pub fn runs_into_its_quota(&mut self, id: CgroupId) {
        *self.throttled.entry(id).or_default() += 1;
    }

    /// A look at all places, or at those that are due.
    pub fn look(&mut self, due: Option<&[CgroupId]>) -> Look {
        let due: Option<BTreeSet<CgroupId>> = due.map(|due| due.iter().copied().collect());
        let mut readings = Readings::new();
        for id in self.accounts.to_read(due.as_ref()) {
            let reading = Reading {
                usage: self.usage[&id],
                throttled_periods: self.throttled.get(&id).copied(),
            };
            readings.insert(id, reading);
        }
        self.accounts.look(
            due.as_ref(),
            &readings,
            &self.contention,
            &self.settings,
            self.now,
        )
    }

    /// A tick, before which each place uses so many cores.
    pub fn tick(&mut self, use_of: &dyn Fn(CgroupId) -> f64) -> Look {
        self.passes(self.settings.tick, use_of);
        let look = self.look(None);
        self.accounts.divide_baselines(self.now);
        look
    }

    pub fn ticks(&mut self, ticks: u32, use_of: &dyn Fn(CgroupId) -> f64) {
        for _ in 0..ticks {
            self.tick(use_of);
        }
    }

    /// A server that has spent its credits.
    pub fn spent_server(&mut self, name: &str) -> CgroupId {
        let id = self.server(name);
        self.ticks(60, &|one| if one == id { 2.0 } else { 0.0 });
        assert_eq!(self.credits(id), 0.0);
        id
    }

    pub fn place(&self, id: CgroupId) -> &Place {
        self.accounts.place(id).unwrap()
    }

    pub fn stage(&self, id: CgroupId) -> Stage {
        self.place(id).standing().stage
    }

    pub fn credits(&self, id: CgroupId) -> f64 {
        self.place(id).standing().credits.left.0
    }

    pub fn ids(&self) -> Vec<CgroupId> {
        self.usage.keys().copied().collect()
    }
}
