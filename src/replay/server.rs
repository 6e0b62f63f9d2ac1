//! One server under simulation: it asks for work, gets what its stage allows, and is judged.

use policy::{Event, Policy, Stage, Standing, step};
use quantities::{CoreSeconds, Cores, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Work that is asked for at once. What is not allowed then is done later, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// When.
    pub at: Time,
    /// How much.
    pub work: CoreSeconds,
    /// On how many cores at most.
    pub cores: Cores,
}

/// What is left of work that is done but for rounding.
const NOTHING: f64 = 1e-9;

/// Work that waits, and work that is done.
#[derive(Debug, Clone, Default)]
struct Work {
    waiting: VecDeque<Burst>,
    used: f64,
}

impl Work {
    /// Works in order on at most so many cores.
    fn run(&mut self, from: Time, to: Time, allowed: f64) {
        let mut now = from;
        while let Some(burst) = self.waiting.front_mut() {
            now = now.max(burst.at);
            let span = to.since(now).as_secs_f64();
            if span <= 0.0 {
                return;
            }
            let rate = burst.cores.0.min(allowed);
            let takes = if rate > 0.0 {
                burst.work.0 / rate
            } else {
                span
            };
            let time = takes.min(span);
            self.used += rate * time;
            burst.work.0 -= rate * time;
            if burst.work.0 > NOTHING {
                return;
            }
            now.0 += Duration::from_secs_f64(time);
            self.waiting.pop_front();
        }
    }
}

/// A server and its standing.
#[derive(Debug, Clone)]
pub struct Server {
    standing: Standing,
    now: Time,
    started: Time,
    asked: f64,
    work: Work,
    /// The same work as it would have gone on had nobody throttled it; kept from the first time.
    unhindered: Option<Work>,
    held: Option<Held>,
    others_wait: bool,
}

/// What being held back came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// When it happened first.
    pub first: Time,
    /// CPU used above the baseline until then.
    pub above_baseline: CoreSeconds,
    /// How often it happened.
    pub times: u32,
    /// For how long in all.
    pub total: Duration,
    /// CPU it would have used meanwhile had it never been throttled: what others could use then.
    pub given_back: CoreSeconds,
}

impl Server {
    /// A server that starts now, with full credits.
    pub fn new(now: Time, policy: &Policy) -> Server {
        let mut server = Server {
            standing: Standing::new(policy),
            now,
            started: now,
            asked: 0.0,
            work: Work::default(),
            unhindered: None,
            held: None,
            // The stricter case, unless it is known.
            others_wait: true,
        };
        server.sample(policy);
        server
    }

    /// Asks for work; times must not go backwards.
    pub fn ask(&mut self, burst: Burst) {
        self.asked += burst.work.0;
        self.work.waiting.push_back(burst);
        if let Some(unhindered) = &mut self.unhindered {
            unhindered.waiting.push_back(burst);
        }
    }

    /// Says whether others wait for the CPU from now on; until it is said, they do.
    pub fn contended(&mut self, others_wait: bool) {
        self.others_wait = others_wait;
    }

    /// Lets it work until `to`, then samples and judges it, as the daemon's tick does.
    pub fn advance(&mut self, to: Time, policy: &Policy) {
        if to <= self.now || self.is_stopped() {
            return;
        }
        let used = self.work.used;
        let allowed_now = allowed(self.standing.stage, policy);
        self.work.run(self.now, to, allowed_now);
        let used = self.work.used - used;
        if let Some(unhindered) = &mut self.unhindered {
            let would = unhindered.used;
            unhindered.run(self.now, to, allowed(Stage::Free, policy));
            let would = unhindered.used - would;
            if let Some(held) = self.held.as_mut().filter(|_| is_held(self.standing.stage)) {
                held.total += to.since(self.now);
                held.given_back.0 += (would - used).max(0.0);
            }
        }
        self.now = to;
        self.sample(policy);
    }

    fn sample(&mut self, policy: &Policy) {
        // A damaged trace may claim any amount.
        let usage = Duration::try_from_secs_f64(self.work.used).unwrap_or(Duration::MAX);
        let event = Event::Sampled {
            usage,
            contended: self.others_wait,
        };
        let Some(verdict) = step(&mut self.standing, &event, self.now, policy) else {
            return;
        };
        if is_held(verdict.to) && !is_held(verdict.from) {
            let earned = CoreSeconds::of(policy.baseline, self.now.since(self.started));
            let held = self.held.get_or_insert(Held {
                first: self.now,
                above_baseline: CoreSeconds(self.work.used - earned.0),
                times: 0,
                total: Duration::ZERO,
                given_back: CoreSeconds(0.0),
            });
            held.times += 1;
            self.unhindered.get_or_insert_with(|| self.work.clone());
        }
    }

    /// When it has to be looked at again, in ticks of the daemon: at the next one while it works
    /// or is not free, else at the last one before it works.
    pub fn next_look(&self, tick: Duration) -> Time {
        let next = tick_after(self.now, tick);
        match self.work.waiting.front() {
            _ if self.standing.stage > Stage::Free => next,
            Some(burst) if burst.at > next => {
                let before = tick_after(burst.at, tick).since(Time(tick));
                Time(before).min(Time(self.now.0 + IDLE)).max(next)
            }
            Some(_) => next,
            None => Time(self.now.0 + IDLE),
        }
    }

    /// Whether there is nothing to do and nothing to wait for but work.
    pub fn is_idle(&self) -> bool {
        self.is_stopped() || self.work.waiting.is_empty() && self.standing.stage == Stage::Free
    }

    /// Whether all work is done that will ever be.
    pub fn is_done(&self) -> bool {
        self.work.waiting.is_empty() || self.is_stopped()
    }

    /// Whether it was stopped: then nothing is judged or done any more.
    pub fn is_stopped(&self) -> bool {
        self.standing.stage == Stage::Stopped
    }

    /// Its time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// All that it asked for.
    pub fn asked(&self) -> CoreSeconds {
        CoreSeconds(self.asked)
    }

    /// All that it got.
    pub fn used(&self) -> CoreSeconds {
        CoreSeconds(self.work.used)
    }

    /// What being held back came to, if it ever was.
    pub fn held(&self) -> Option<Held> {
        self.held
    }
}

/// An idle server is looked at this often all the same, for limits on time.
const IDLE: Duration = Duration::from_secs(300);

/// The first tick after a time; ticks count from zero, for all servers at once.
fn tick_after(time: Time, tick: Duration) -> Time {
    let tick = tick.as_nanos().max(1);
    let next = (time.0.as_nanos() / tick + 1) * tick;
    Time(Duration::from_nanos(
        u64::try_from(next).unwrap_or(u64::MAX),
    ))
}

/// What a stage lets a server use, in cores. A low weight holds nobody back on a node with a core
/// to spare, and here there is one.
fn allowed(stage: Stage, policy: &Policy) -> f64 {
    let limit = policy.limit.map_or(f64::INFINITY, |limit| limit.0);
    if stage < Stage::Throttled {
        limit
    } else if stage == Stage::Throttled {
        policy.baseline.0.min(limit)
    } else {
        0.0
    }
}

fn is_held(stage: Stage) -> bool {
    stage >= Stage::Throttled
}
