//! A server over hours, in no time.

mod accused;
mod anything;
mod contention;
mod said;
mod standing;

use super::*;
use crate::finding::Strength;
use quantities::{CoreSeconds, Cores, Time};
use std::time::Duration;

pub(super) fn policy() -> Policy {
    Policy::default()
}

/// A server under simulation: it wants some cores and gets what its stage allows.
struct Server {
    standing: Standing,
    policy: Policy,
    now: Time,
    usage: Duration,
    contended: bool,
    verdicts: Vec<(Time, Verdict)>,
}

impl Server {
    fn new(policy: Policy) -> Server {
        let mut server = Server {
            standing: Standing::new(&policy),
            policy,
            now: Time(Duration::from_secs(1000)),
            usage: Duration::ZERO,
            contended: true,
            verdicts: Vec::new(),
        };
        server.sample();
        server
    }

    fn sample(&mut self) {
        if let Some(verdict) = step(
            &mut self.standing,
            &Event::Sampled {
                usage: self.usage,
                contended: self.contended,
            },
            self.now,
            &self.policy,
        ) {
            self.verdicts.push((self.now, verdict));
        }
    }

    fn run(&mut self, cores: f64, time: Duration) {
        let allowed = match self.standing.stage {
            Stage::Throttled => self.policy.baseline.0,
            Stage::Frozen | Stage::Stopped => 0.0,
            _ => self.policy.limit.map_or(f64::MAX, |limit| limit.0),
        };
        self.usage += time.mul_f64(cores.min(allowed));
        self.now.0 += time;
        self.sample();
    }

    fn run_for(&mut self, cores: f64, time: Duration, tick: Duration) {
        for _ in 0..time.as_millis() / tick.as_millis() {
            self.run(cores, tick);
        }
    }

    /// Runs until it stands on this stage, which it comes to within a day.
    fn run_until(&mut self, stage: Stage, cores: f64) {
        let end = Time(self.now.0 + 24 * HOUR);
        while self.standing.stage != stage {
            assert!(self.now < end, "it stands on {}", self.standing.stage);
            self.run(cores, TICK);
        }
    }

    fn stages(&self) -> Vec<Stage> {
        self.verdicts
            .iter()
            .map(|(_, verdict)| verdict.to)
            .collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Credits that only count while others wait for the CPU, and no minimum stay.
fn while_others_wait() -> Policy {
    Policy {
        contended_above: Some(0.1),
        min_stay: Duration::ZERO,
        ..policy()
    }
}

/// A server that has spun for an hour while others waited.
fn spinner_beside_others() -> Server {
    let mut server = Server::new(while_others_wait());
    server.run_for(2.0, HOUR, SECOND);
    server
}

#[test]
fn spinner_bursts_for_as_long_as_promised_then_yields_then_is_throttled() {
    let mut server = Server::new(policy());
    server.run_for(2.0, HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Deprioritised, Stage::Throttled]);
    // 3600 core-seconds at 2 − 0.25 cores last 2057 s; the verdict falls on the next tick.
    let lasted = server.verdicts[1].0.0.as_secs() - 1000;
    assert!((2057..=2062).contains(&lasted), "{lasted}");
}

#[test]
fn throttled_server_stays_so_while_it_keeps_asking() {
    let mut server = Server::new(policy());
    server.run_for(2.0, 5 * HOUR, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
    assert_eq!(server.verdicts.len(), 2);
}

#[test]
fn throttled_server_is_released_after_the_rest_it_was_told() {
    let mut server = Server::new(policy());
    server.run_for(2.0, HOUR, TICK);
    let Reason::CreditsSpent { rest, .. } = server.verdicts[1].1.reason else {
        panic!("not throttled: {:?}", server.verdicts);
    };
    assert_eq!(rest, Duration::from_secs(1440));
    server.run_for(0.0, rest - TICK, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
    server.run(0.0, TICK);
    assert_eq!(server.standing.stage, Stage::Free);
}

#[test]
fn server_at_its_baseline_is_never_touched() {
    let mut server = Server::new(policy());
    server.run_for(0.25, 100 * HOUR, TICK);
    assert!(server.verdicts.is_empty());
    assert_eq!(server.standing.credits.left, CoreSeconds(3600.0));
}

#[test]
fn counters_running_backwards_charge_nobody() {
    let mut server = Server::new(policy());
    server.run_for(2.0, Duration::from_secs(600), TICK);
    let left = server.standing.credits.left;
    server.usage = Duration::ZERO;
    server.now.0 += TICK;
    server.sample();
    assert_eq!(server.standing.credits.left, left);
}

#[test]
fn a_gap_between_samples_is_booked_exactly() {
    let mut ticked = Server::new(policy());
    let mut gapped = Server::new(policy());
    ticked.run_for(1.0, Duration::from_secs(600), TICK);
    gapped.run(1.0, Duration::from_secs(600));
    assert!((ticked.standing.credits.left.0 - gapped.standing.credits.left.0).abs() < 1e-6);
}

#[test]
fn a_change_of_size_keeps_the_share() {
    let mut rested = Server::new(policy());
    let mut spent = Server::new(policy());
    spent.run_for(2.0, HOUR, TICK);
    for server in [&mut rested, &mut spent] {
        server.policy.size = CoreSeconds(7200.0);
        server.run(0.25, TICK);
    }
    assert_eq!(rested.standing.credits.left, CoreSeconds(7200.0));
    assert_eq!(rested.standing.stage, Stage::Free);
    assert_eq!(spent.standing.credits.left, CoreSeconds(0.0));
}

#[test]
fn sustained_load_is_frozen_and_stopped_only_where_configured() {
    let sustained = Sustained {
        freeze_after: Some(HOUR),
        freeze_for: Duration::from_secs(600),
        stop: false,
    };
    let mut released = Server::new(Policy {
        sustained,
        ..policy()
    });
    released.run_for(2.0, 3 * HOUR, TICK);
    let expected = [
        Stage::Deprioritised,
        Stage::Throttled,
        Stage::Frozen,
        Stage::Throttled,
    ];
    assert_eq!(released.stages()[..4], expected);
    let at = |verdict: usize| released.verdicts[verdict].0;
    assert_eq!(at(2).since(at(1)), HOUR);
    assert_eq!(at(3).since(at(2)), sustained.freeze_for);
    let sustained = Sustained {
        stop: true,
        ..sustained
    };
    let mut stopped = Server::new(Policy {
        sustained,
        ..policy()
    });
    stopped.run_for(2.0, 10 * HOUR, TICK);
    assert_eq!(stopped.stages().last(), Some(&Stage::Stopped));
    assert!(!stopped.standing.ends_as_miner());
}

#[test]
fn running_time_is_warned_of_once_and_ends_on_the_configured_stage() {
    let time = TimeLimits {
        wall: Some(2 * HOUR),
        then: Stage::Stopped,
        ..policy().time
    };
    let mut server = Server::new(Policy { time, ..policy() });
    let mut warnings = Vec::new();
    for _ in 0..3 * 720 {
        server.run(0.0, TICK);
        let (usage, now) = (server.usage, server.now);
        warnings.extend(Warning::due(
            &mut server.standing,
            usage,
            now,
            &server.policy,
        ));
    }
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].left, HOUR);
    assert_eq!(server.stages(), [Stage::Stopped]);
    assert_eq!(
        server.verdicts[0].1.reason,
        Reason::WallTimeSpent { limit: 2 * HOUR }
    );
}

#[test]
fn cpu_time_that_is_used_up_throttles_for_good() {
    let time = TimeLimits {
        cpu: Some(CoreSeconds(900.0)),
        ..policy().time
    };
    let mut server = Server::new(Policy { time, ..policy() });
    server.run_for(1.0, HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Throttled]);
    server.run_for(0.0, 10 * HOUR, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
}

#[test]
fn repeated_throttling_drains_credits_faster_within_the_window() {
    let repeat = Some(Repeat {
        window: 24 * HOUR,
        faster: 1.0,
    });
    let mut server = Server::new(Policy { repeat, ..policy() });
    let burst = |server: &mut Server| {
        let start = server.now;
        server.run_until(Stage::Throttled, 2.0);
        let lasted = server.now.since(start);
        server.run_for(0.0, 5 * HOUR, TICK);
        lasted
    };
    let first = burst(&mut server);
    let second = burst(&mut server);
    let ratio = first.as_secs_f64() / second.as_secs_f64();
    // 2 − 0.25 cores against 2 × 2 − 0.25 cores.
    assert!((2.1..2.2).contains(&ratio), "{first:?} {second:?}");
}

#[test]
fn a_grant_of_unlimited_credits_frees_at_once() {
    let mut server = Server::new(policy());
    server.run_for(2.0, HOUR, TICK);
    server.policy.unlimited = true;
    server.run(2.0, Duration::from_secs(1));
    assert_eq!(server.standing.stage, Stage::Free);
    server.run_for(2.0, 10 * HOUR, TICK);
    assert_eq!(server.standing.stage, Stage::Free);
}

#[test]
fn reasons_read_as_sentences() {
    let mut server = Server::new(policy());
    server.run_for(2.0, HOUR, TICK);
    assert_eq!(
        server.verdicts[1].1.reason.to_string(),
        "its 1 core-hour of CPU credits are spent, and it uses 2 cores; it is free again after 24 min of rest"
    );
}
