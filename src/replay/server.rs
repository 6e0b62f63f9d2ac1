//! One server's work: what it asks for, what it gets of that, and what it would have got unhindered.

use policy::Stage;
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

/// A time that never comes.
pub(super) const NEVER: Time = Time(Duration::MAX);
/// What is left of work that is done but for rounding, in core-seconds.
const NOTHING: f64 = 1e-9;
/// A damaged trace may claim any amount. So much of a million servers can still be added up.
const MOST_USAGE: Duration = Duration::from_secs(1 << 40);
/// So many bursts are looked ahead at most.
const LOOKED_AHEAD: usize = 64;

impl Burst {
    /// When what is left of it is done, from now on and at this rate.
    fn done(&self, now: Time, rate: f64) -> Time {
        let takes = Duration::try_from_secs_f64(self.work.0 / rate);
        Time(now.0.saturating_add(takes.unwrap_or(Duration::MAX)))
    }
}

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

    /// When the work in front begins, or is done.
    fn changes(&self, now: Time, allowed: f64) -> Time {
        match self.waiting.front() {
            None => NEVER,
            Some(burst) if burst.at > now => burst.at,
            Some(burst) => burst.done(now, burst.cores.0.min(allowed)),
        }
    }

    /// On how many cores it goes on, and until when at least that stays so.
    fn steady(&self, now: Time, allowed: f64) -> (f64, Time) {
        let (mut steady, mut until) = (None, now);
        for burst in self.waiting.iter().take(LOOKED_AHEAD) {
            let rate = burst.cores.0.min(allowed);
            if burst.at > until || steady.is_some_and(|steady| steady != rate) {
                return steady.map_or((0.0, burst.at), |steady| (steady, until));
            }
            steady = Some(rate);
            until = burst.done(until, rate);
        }
        steady.map_or((0.0, NEVER), |steady| (steady, until))
    }
}

/// A server under simulation.
#[derive(Debug, Clone)]
pub struct Server {
    started: Time,
    now: Time,
    stage: Stage,
    asked: f64,
    work: Work,
    /// The same work as it would have gone on had it never been throttled; kept from the first time.
    unhindered: Option<Work>,
    held: Option<Held>,
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
    /// A server that starts now, free and with nothing to do.
    pub(super) fn new(now: Time) -> Server {
        Server {
            started: now,
            now,
            stage: Stage::Free,
            asked: 0.0,
            work: Work::default(),
            unhindered: None,
            held: None,
        }
    }

    /// Asks for work; times must not go backwards.
    pub(super) fn ask(&mut self, burst: Burst) {
        self.asked += burst.work.0;
        self.work.waiting.push_back(burst);
        if let Some(unhindered) = &mut self.unhindered {
            unhindered.waiting.push_back(burst);
        }
    }

    /// Lets it work on so many cores until `to`; on so many as when `free`, had it never been
    /// throttled.
    pub(super) fn run(&mut self, to: Time, allowed: Cores, free: Cores) {
        while self.now < to && !self.is_stopped() {
            let from = self.now;
            let used = self.work.used;
            let Some(unhindered) = &mut self.unhindered else {
                self.work.run(from, to, allowed.0);
                self.now = to;
                return;
            };
            // What one has more than the other at one time is not made up for at another.
            let changes = self.work.changes(from, allowed.0);
            let changes = changes.min(unhindered.changes(from, free.0));
            let to = to.min(changes.max(Time(from.0 + Duration::from_nanos(1))));
            let would = unhindered.used;
            self.work.run(from, to, allowed.0);
            unhindered.run(from, to, free.0);
            let more = (unhindered.used - would) - (self.work.used - used);
            if let Some(held) = self.held.as_mut().filter(|_| is_held(self.stage)) {
                held.total += to.since(from);
                held.given_back.0 += more.max(0.0);
            }
            self.now = to;
        }
    }

    /// On how many cores it goes on, and until when at least that stays so.
    pub(super) fn steady(&self, allowed: Cores) -> (Cores, Time) {
        let (rate, until) = self.work.steady(self.now, allowed.0);
        (Cores(rate), until)
    }

    /// It stands on this stage from now on.
    pub(super) fn stands_on(&mut self, stage: Stage, baseline: Cores) {
        let was = std::mem::replace(&mut self.stage, stage);
        if is_held(was) || !is_held(stage) {
            return;
        }
        let earned = CoreSeconds::of(baseline, self.now.since(self.started));
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

    /// CPU time used since it was started, as its cgroup would count it.
    pub(super) fn usage(&self) -> Duration {
        let usage = Duration::try_from_secs_f64(self.work.used);
        usage.map_or(MOST_USAGE, |usage| usage.min(MOST_USAGE))
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether all work is done that will ever be.
    pub fn is_done(&self) -> bool {
        self.work.waiting.is_empty() || self.is_stopped()
    }

    /// Whether it was stopped: then nothing is judged or done any more.
    pub fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }

    /// When it was started.
    pub fn started(&self) -> Time {
        self.started
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

fn is_held(stage: Stage) -> bool {
    stage >= Stage::Throttled
}
