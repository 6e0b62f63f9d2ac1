//! Recorded days: each server's use becomes what it asks for.
//!
//! What a server used between two samples it is taken to have wanted then, on as many cores as it
//! kept busy. A server that was throttled already while it was recorded wanted more, and nobody
//! knows how much: such sessions are counted and named as such.

use super::outcome::Outcome;
use super::server::{Burst, NEVER};
use super::shell::Shell;
use crate::trace::{Event, Frame, Reader, TraceError};
use policy::Policy;
use quantities::{CgroupId, CoreSeconds, Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::time::Duration;

/// A node of which this share is used is busy: whoever works there is taken to wait, too.
const BUSY: f64 = 0.9;
/// Who uses less, in cores, is not taken to wait.
const IDLE: f64 = 0.05;

/// Runs a trace; `policy` is told whose a server is, or nothing where users are not named: then each
/// server is taken for another user's. Every user starts with full credits, also of servers that ran
/// before.
///
/// How others waited is not recorded. With the node's `cores` it is guessed: others wait while all
/// servers together use nearly all of them and others than the user in question have a part in
/// that. Without, they always wait, the stricter case.
///
/// # Errors
/// The trace cannot be read or is damaged.
pub fn recorded<R: BufRead>(
    reader: &mut Reader<R>,
    policy: impl Fn(&str) -> Policy,
    cores: Option<Cores>,
) -> Result<Outcome, TraceError> {
    let mut days = Days {
        policy: &policy,
        tick: Duration::from_millis(reader.header().tick_ms.clamp(1, 3_600_000)),
        before: Time::default(),
        now: Time::default(),
        users: BTreeMap::new(),
        numbers: BTreeMap::new(),
        living: BTreeMap::new(),
        awake: BTreeSet::new(),
        cores,
        rates: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    while let Some(frame) = reader.next_frame()? {
        days.live(frame);
    }
    let left: Vec<u32> = days.living.keys().copied().collect();
    for server in left {
        days.end(server);
    }
    days.outcome.span = days.now.0;
    days.outcome.finish();
    Ok(days.outcome)
}

/// A user, by number: names are not compared at each sample.
type UserNumber = usize;

struct Living {
    user: UserNumber,
    was_held: bool,
}

struct Days<'p> {
    policy: &'p dyn Fn(&str) -> Policy,
    tick: Duration,
    before: Time,
    now: Time,
    users: BTreeMap<UserNumber, Shell>,
    /// Of users who are named.
    numbers: BTreeMap<String, UserNumber>,
    living: BTreeMap<u32, Living>,
    /// Users for whom a look may decide something.
    awake: BTreeSet<UserNumber>,
    /// The node's, if that is to be gone by.
    cores: Option<Cores>,
    /// What each user used on this tick, in cores.
    rates: BTreeMap<UserNumber, f64>,
    outcome: Outcome,
}

impl Days<'_> {
    fn live(&mut self, frame: Frame) {
        self.before = std::mem::replace(&mut self.now, Time(frame.at));
        self.rates.clear();
        let mut appeared: BTreeMap<UserNumber, Vec<u32>> = BTreeMap::new();
        let mut gone = Vec::new();
        for event in frame.events {
            match event {
                Event::Appeared { server, user } => {
                    let user = self.appeared(server, user);
                    appeared.entry(user).or_default().push(server);
                }
                Event::Gone { server } => gone.push(server),
                Event::Held { server, held } => {
                    if let Some(living) = self.living.get_mut(&server) {
                        living.was_held |= held;
                    }
                }
                Event::Used { server, cpu } => self.used(server, cpu),
            }
        }
        self.tick(&mut appeared);
        for server in gone {
            self.end(server);
        }
    }

    /// Lets those who are awake work until now, and looks at them unless that can decide nothing
    /// before the next frame but one.
    fn tick(&mut self, appeared: &mut BTreeMap<UserNumber, Vec<u32>>) {
        let others_wait = self.waiting();
        let (users, now) = (&mut self.users, self.now);
        let soon = Time(now.0 + 2 * self.tick);
        self.awake.retain(|user| {
            let Some(shell) = users.get_mut(user) else {
                return false;
            };
            shell.run(now);
            // Pressure is a mean over the last seconds: what begins now is not felt before.
            shell.contended(others_wait(*user));
            for server in appeared.remove(user).unwrap_or_default() {
                shell.begin(cgroup(server), &[]);
            }
            if shell.quiet_until() <= soon {
                shell.look();
            }
            shell.quiet_until() < NEVER
        });
    }

    /// Whether others than a user wait, by what was used on this tick.
    fn waiting(&mut self) -> impl Fn(UserNumber) -> bool + use<> {
        let rates = std::mem::take(&mut self.rates);
        let total: f64 = rates.values().sum();
        let busy = self.cores.map(|cores| total > BUSY * cores.0);
        move |user| match busy {
            None => true,
            Some(busy) => busy && total - rates.get(&user).unwrap_or(&0.0) > IDLE,
        }
    }

    /// Notes whose a server is that begins on this tick.
    fn appeared(&mut self, server: u32, name: String) -> UserNumber {
        // There is a user for each server at most, so the number is free.
        let mut user = server as UserNumber;
        if !name.is_empty() {
            user = *self.numbers.entry(name.clone()).or_insert(user);
        }
        let (policy, tick) = (self.policy, self.tick);
        self.users.entry(user).or_insert_with(|| {
            let policy = policy(&name);
            match name.as_str() {
                "" => Shell::new(&format!("user {}", u64::from(server) + 1), &policy, tick),
                name => Shell::new(name, &policy, tick),
            }
        });
        let was_held = false;
        self.living.insert(server, Living { user, was_held });
        self.awake.insert(user);
        user
    }

    fn used(&mut self, server: u32, cpu: Duration) {
        let span = self.now.since(self.before).as_secs_f64();
        let Some(user) = self.living.get(&server).map(|living| living.user) else {
            return;
        };
        let Some(shell) = self.users.get_mut(&user) else {
            return;
        };
        if span <= 0.0 || cpu.is_zero() {
            return;
        }
        let work = cpu.as_secs_f64();
        *self.rates.entry(user).or_default() += work / span;
        // It may have slept until now.
        shell.run(self.before);
        let burst = Burst {
            at: self.before,
            work: CoreSeconds(work),
            cores: Cores(work / span),
        };
        shell.ask(cgroup(server), burst);
        self.awake.insert(user);
    }

    fn end(&mut self, server: u32) {
        let Some(living) = self.living.remove(&server) else {
            return;
        };
        let Some(shell) = self.users.get_mut(&living.user) else {
            return;
        };
        self.outcome.throttled_while_recorded += usize::from(living.was_held);
        shell.run(self.now);
        if let Some(server) = shell.end(cgroup(server)) {
            let (user, policy) = (shell.user(), shell.policy());
            self.outcome.add(user, None, &server, policy, self.tick);
        }
        // One without a name has no other server, and none comes.
        if shell.quiet_until() == NEVER && !self.numbers.contains_key(shell.user()) {
            self.users.remove(&living.user);
        }
        self.awake.insert(living.user);
    }
}

fn cgroup(server: u32) -> CgroupId {
    CgroupId(u64::from(server))
}
