mod node;
mod recorded;

use super::*;
use crate::config::Config;
use policy::{Stage, TimeLimits};
use proptest::prelude::*;
use quantities::{CoreSeconds, Cores};
use std::collections::BTreeSet;

const TICK: Duration = Duration::from_secs(5);

fn policy() -> Policy {
    crate::daemon::policy(&Config::default().limits)
}

fn some(users: u32) -> Population {
    Population {
        users,
        ..Population::default()
    }
}

fn seconds(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

/// The server of a user's only session, at its end.
fn alone(session: &Session, policy: &Policy) -> Server {
    let mut ended = live("x", std::slice::from_ref(session), policy, TICK);
    ended.pop().unwrap().1
}

#[test]
fn session_cpu_follows_the_published_figures() {
    let mut cpu: Vec<f64> = some(10_000)
        .sessions()
        .filter(|session| session.kind == Kind::Honest)
        .map(|session| session.bursts.iter().map(|burst| burst.work.0).sum())
        .collect();
    cpu.sort_by(f64::total_cmp);
    assert!(cpu.len() > 50_000, "{}", cpu.len());
    let quantile = |share: f64| cpu[(share * cpu.len() as f64) as usize];
    let above =
        |most: f64| cpu.iter().filter(|cpu| **cpu >= most).count() as f64 / cpu.len() as f64;
    for (found, published, slack) in [
        (quantile(0.5), 6.0, 0.05),
        (quantile(0.9), 33.0, 0.05),
        (quantile(0.99), 810.0, 0.1),
        (above(1800.0), 0.005, 0.15),
        (above(3600.0), 0.003, 0.15),
    ] {
        assert!(
            (found / published - 1.0).abs() < slack,
            "{found} is not {published}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_days() {
    let days = |seed, users| {
        let population = Population {
            seed,
            ..some(users)
        };
        population.sessions().collect::<Vec<_>>()
    };
    assert_eq!(days(1, 100), days(1, 100));
    assert_ne!(days(1, 100), days(2, 100));
    // And a user's days do not depend on who else is there.
    assert!(days(1, 200).starts_with(&days(1, 100)));
}

#[test]
fn the_default_policy_spares_honest_sessions_and_catches_every_spinner() {
    let population = Population {
        users: 3000,
        spinners: 0.02,
        ..Population::default()
    };
    let outcome = synthetic(&population, &policy(), TICK);
    let is_spinner = |t: &&Throttled| t.spinner == Some(true);
    let spinning = outcome.throttled.iter().filter(is_spinner);
    let spinning: BTreeSet<&str> = spinning.map(|t| t.user.as_str()).collect();
    // What else a user runs who spins has no credits either.
    let spared = |t: &&Throttled| !spinning.contains(t.user.as_str());
    let honest = outcome.throttled.iter().filter(spared).count();
    let percent = 100.0 * honest as f64 / outcome.sessions as f64;
    assert!(
        percent <= 0.5,
        "{percent} % of honest sessions are throttled"
    );
    let spinners = outcome.spinners.unwrap();
    assert!(spinners.sessions > 30, "{spinners:?}");
    assert_eq!(spinners.caught, spinners.sessions);
    assert!(outcome.users_throttled > 0 && outcome.users <= 3000);
    assert!(outcome.given_back_core_seconds > 0.0);
}

#[test]
fn a_replay_of_the_same_days_says_the_same() {
    let run = || synthetic(&some(300), &policy(), TICK);
    assert_eq!(run(), run());
}

fn spin(cores: f64, hours: u64) -> Server {
    let session = Session {
        user: 1,
        kind: Kind::Spinner,
        start: seconds(3),
        end: seconds(3 + hours * 3600),
        bursts: vec![Burst {
            at: seconds(3),
            work: CoreSeconds(cores * 3600.0 * hours as f64),
            cores: Cores(cores),
        }],
    };
    alone(&session, &policy())
}

/// 3600 core-seconds at 2 − 0.25 cores last 2057 s, then a quarter core is left.
#[test]
fn a_spinner_gets_its_credits_and_then_the_baseline() {
    let server = spin(4.0, 10);
    let held = server.held().unwrap();
    let lasted = held.first.since(seconds(3)).as_secs();
    assert!((2057..=2062).contains(&lasted), "{lasted}");
    assert_eq!(held.times, 1);
    assert_eq!(held.total, seconds(36_003).since(held.first));
    let expected = 2.0 * lasted as f64 + 0.25 * held.total.as_secs_f64();
    assert!(
        (server.used().0 - expected).abs() < 3.0,
        "{:?} {expected}",
        server.used()
    );
    let given_back = 1.75 * held.total.as_secs_f64();
    assert!((held.given_back.0 - given_back).abs() < 1e-3, "{held:?}");
}

#[test]
fn throttled_work_is_done_later_and_not_lost() {
    let session = Session {
        user: 1,
        kind: Kind::Honest,
        start: seconds(0),
        end: seconds(3600),
        bursts: vec![Burst {
            at: seconds(10),
            work: CoreSeconds(6000.0),
            cores: Cores(2.0),
        }],
    };
    let server = alone(&session, &policy());
    assert!((server.used().0 - 6000.0).abs() < 1e-6);
    // It had done 4115 core-seconds or so, and would have done the rest at once.
    let given_back = server.held().unwrap().given_back.0;
    assert!((1500.0..1900.0).contains(&given_back), "{given_back}");
    // Unhindered it would have taken 3000 s.
    assert!(server.now() > seconds(6000), "{:?}", server.now());
}

#[test]
fn without_a_limit_of_ours_a_server_gets_all_it_asks_for() {
    let policy = Policy {
        limit: None,
        size: CoreSeconds(1e9),
        ..policy()
    };
    let session = Session {
        user: 1,
        kind: Kind::Honest,
        start: seconds(0),
        end: seconds(5),
        bursts: vec![Burst {
            at: seconds(1),
            work: CoreSeconds(64.0),
            cores: Cores(64.0),
        }],
    };
    let server = alone(&session, &policy);
    assert!(server.is_done());
    assert_eq!(server.now(), seconds(5));
    assert_eq!(server.used(), CoreSeconds(64.0));
}

#[test]
fn a_server_that_the_policy_stops_is_counted_and_does_no_more() {
    let policy = Policy {
        time: TimeLimits {
            wall: Some(Duration::from_secs(3600)),
            then: Stage::Stopped,
            ..policy().time
        },
        ..policy()
    };
    let outcome = synthetic(&some(50), &policy, TICK);
    assert!(outcome.sessions_stopped > 0);
    assert!(outcome.used_core_seconds < outcome.asked_core_seconds);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Looking only where something can happen must not change what happens.
    #[test]
    fn skipping_idle_ticks_changes_no_verdict(
        works in prop::collection::vec((0u64..40_000, 0.1..3000.0f64, 0.1..8.0f64), 1..12),
    ) {
        let mut works = works;
        works.sort_by_key(|work| work.0);
        let bursts: Vec<Burst> = works
            .into_iter()
            .map(|(at, work, cores)| Burst {
                at: seconds(at),
                work: CoreSeconds(work),
                cores: Cores(cores),
            })
            .collect();
        let session = Session {
            user: 1,
            kind: Kind::Spinner,
            start: seconds(0),
            end: seconds(60_000),
            bursts,
        };
        let policy = policy();
        let skipping = alone(&session, &policy);
        let mut ticking = Shell::new("x", &policy, TICK);
        ticking.begin(CgroupId(0), &session.bursts);
        ticking.look();
        while ticking.now() < skipping.now() {
            ticking.run(Time(ticking.now().0 + TICK));
            ticking.look();
        }
        let ticking = ticking.end(CgroupId(0)).unwrap();
        prop_assert!((ticking.used().0 - skipping.used().0).abs() < 1e-3);
        match (ticking.held(), skipping.held()) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                // Of a sum of many small steps the last digits are others.
                let same = |a: Duration, b: Duration| a.abs_diff(b) < Duration::from_millis(1);
                prop_assert_eq!(a.times, b.times);
                prop_assert!(same(a.first.0, b.first.0) && same(a.total, b.total), "{:?} {:?}", a, b);
                prop_assert!((a.given_back.0 - b.given_back.0).abs() < 1e-2, "{:?} {:?}", a, b);
            }
            (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
        }
        prop_assert!(skipping.used().0 <= skipping.asked().0 + 1e-6);
        let given_back = skipping.held().map_or(0.0, |held| held.given_back.0);
        prop_assert!(given_back <= skipping.asked().0);
    }
}
