//! Recorded days: each server's use becomes what it asks for.
//!
//! What a server used between two samples it is taken to have wanted then, on as many cores as it
//! kept busy. A server that was throttled already while it was recorded wanted more, and nobody
//! knows how much: such sessions are counted and named as such.

use super::outcome::Outcome;
use super::server::{Burst, Server};
use crate::trace::{Event, Frame, Reader, TraceError};
use policy::Policy;
use quantities::{CoreSeconds, Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::time::Duration;

/// Servers with nothing to do are looked at every so many frames, for limits on time.
const LOOK_AT_ALL: u64 = 60;

/// A node of which this share is used is busy: whoever works there is taken to wait, too.
const BUSY: f64 = 0.9;
/// Who uses less, in cores, is not taken to wait.
const IDLE: f64 = 0.05;

/// Runs a trace; `policy` is told whose a server is, or nothing where users are not named. Every
/// server starts with full credits, also one that ran before.
///
/// How others waited is not recorded. With the node's `cores` it is guessed: others wait while all
/// servers together use nearly all of them and others than the one in question have a part in
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
        before: Time(Duration::ZERO),
        now: Time(Duration::ZERO),
        living: BTreeMap::new(),
        awake: BTreeSet::new(),
        cores,
        rates: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    let mut count = 0;
    while let Some(frame) = reader.next_frame()? {
        count += 1;
        days.live(frame);
        if count % LOOK_AT_ALL == 0 {
            days.awake.extend(days.living.keys());
        }
    }
    let left: Vec<u32> = days.living.keys().copied().collect();
    for server in left {
        days.end(server);
    }
    days.outcome.span = days.now.0;
    days.outcome.finish();
    Ok(days.outcome)
}

struct Living {
    user: String,
    policy: Policy,
    started: Time,
    server: Server,
    was_held: bool,
}

struct Days<'p> {
    policy: &'p dyn Fn(&str) -> Policy,
    tick: Duration,
    before: Time,
    now: Time,
    living: BTreeMap<u32, Living>,
    /// Who has work, is not free, or is to be looked at anyway.
    awake: BTreeSet<u32>,
    /// The node's, if that is to be gone by.
    cores: Option<Cores>,
    /// What each server used on this tick.
    rates: BTreeMap<u32, f64>,
    outcome: Outcome,
}

impl Days<'_> {
    fn live(&mut self, frame: Frame) {
        self.before = std::mem::replace(&mut self.now, Time(frame.at));
        let mut gone = Vec::new();
        self.rates.clear();
        for event in frame.events {
            match event {
                Event::Appeared { server, user } => self.appeared(server, user),
                Event::Gone { server } => gone.push(server),
                Event::Held { server, held } => {
                    if let Some(living) = self.living.get_mut(&server) {
                        living.was_held |= held;
                    }
                }
                Event::Used { server, cpu } => self.used(server, cpu),
            }
        }
        let others_wait = self.waiting();
        let (living, now) = (&mut self.living, self.now);
        self.awake.retain(|server| {
            let Some(living) = living.get_mut(server) else {
                return false;
            };
            living.server.contended(others_wait(*server));
            living.server.advance(now, &living.policy);
            !living.server.is_idle()
        });
        for server in gone {
            self.end(server);
        }
    }

    /// Whether others than a server wait, by what was used on this tick.
    fn waiting(&mut self) -> impl Fn(u32) -> bool + use<> {
        let rates = std::mem::take(&mut self.rates);
        let total: f64 = rates.values().sum();
        let busy = self.cores.map(|cores| total > BUSY * cores.0);
        move |server| match busy {
            None => true,
            Some(busy) => busy && total - rates.get(&server).unwrap_or(&0.0) > IDLE,
        }
    }

    fn appeared(&mut self, server: u32, user: String) {
        let policy = (self.policy)(&user);
        let user = match user.as_str() {
            "" => format!("user {}", u64::from(server) + 1),
            _ => user,
        };
        let living = Living {
            user,
            started: self.now,
            server: Server::new(self.now, &policy),
            policy,
            was_held: false,
        };
        self.living.insert(server, living);
    }

    fn used(&mut self, server: u32, cpu: Duration) {
        let Some(living) = self.living.get_mut(&server) else {
            return;
        };
        let span = self.now.since(self.before).as_secs_f64();
        if span <= 0.0 {
            return;
        }
        // Who slept until now is looked at just before, so that rest is booked as rest.
        living.server.advance(self.before, &living.policy);
        let work = cpu.as_secs_f64();
        self.rates.insert(server, work / span);
        living.server.ask(Burst {
            at: self.before,
            work: CoreSeconds(work),
            cores: Cores(work / span),
        });
        self.awake.insert(server);
    }

    fn end(&mut self, server: u32) {
        let Some(mut living) = self.living.remove(&server) else {
            return;
        };
        living.server.advance(self.now, &living.policy);
        self.awake.remove(&server);
        self.outcome.throttled_while_recorded += usize::from(living.was_held);
        self.outcome.add(
            &living.user,
            living.started,
            None,
            &living.server,
            &living.policy,
            self.tick,
        );
    }
}
