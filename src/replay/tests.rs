use super::*;
use crate::config::Config;
use crate::trace::{Event, Header, Reader};
use policy::{Stage, TimeLimits};
use proptest::prelude::*;
use quantities::{CoreSeconds, Cores};
use std::collections::BTreeMap;
use std::path::Path;

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
    let percent = outcome.honest_throttled_percent();
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
    live(&session, &policy(), TICK)
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
    let server = live(&session, &policy(), TICK);
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
    let mut server = Server::new(seconds(0), &policy);
    server.ask(Burst {
        at: seconds(1),
        work: CoreSeconds(64.0),
        cores: Cores(64.0),
    });
    server.advance(seconds(5), &policy);
    assert!(server.is_idle());
    assert_eq!(server.used(), CoreSeconds(64.0));
}

/// The sessions as the daemon would have recorded them on a node with cores for everybody.
fn trace(sessions: &[Session]) -> Vec<u8> {
    let plenty = Policy {
        limit: None,
        size: CoreSeconds(1e12),
        ..policy()
    };
    let mut frames: BTreeMap<Duration, Vec<Event>> = BTreeMap::new();
    for (server, session) in (0u32..).zip(sessions) {
        let mut running = Server::new(session.start, &plenty);
        session.bursts.iter().for_each(|burst| running.ask(*burst));
        let user = format!("user {}", session.user);
        let start = Time(session.start.0);
        let events = frames.entry(start.0).or_default();
        events.push(Event::Appeared { server, user });
        let mut written = Duration::ZERO;
        while running.now() < session.end {
            let next = running.next_look(TICK).min(Time(session.end.0));
            running.advance(next, &plenty);
            let used = Duration::from_secs_f64(running.used().0).saturating_sub(written);
            let cpu = Duration::from_millis(used.as_millis() as u64);
            written += cpu;
            let events = frames.entry(next.0).or_default();
            events.push(Event::Used { server, cpu });
        }
        let events = frames.entry(session.end.0).or_default();
        events.push(Event::Gone { server });
    }
    crate::trace::encode(&Header::new(0, TICK, true), frames)
}

/// On whole ticks a trace loses nothing, so both ways must come to the same.
#[test]
fn a_recorded_week_says_what_the_same_week_says_directly() {
    let population = Population {
        users: 200,
        spinners: 0.05,
        ..Population::default()
    };
    let on_tick = |time: Time| Time(TICK * (time.0.as_secs() as u32 / 5));
    let sessions: Vec<Session> = population
        .sessions()
        .map(|mut session| {
            session.start = on_tick(session.start);
            session.end = on_tick(session.end);
            session
                .bursts
                .iter_mut()
                .for_each(|burst| burst.at = on_tick(burst.at));
            session
        })
        .collect();
    let mut direct = Outcome::default();
    for session in &sessions {
        let server = live(session, &policy(), TICK);
        direct.add("x", session.start, None, &server, &policy(), TICK);
    }
    direct.finish();
    let bytes = trace(&sessions);
    let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
    let replayed = recorded(&mut reader, |_| policy(), None).unwrap();
    assert_eq!(replayed.sessions, direct.sessions);
    let throttled = |outcome: &Outcome| {
        let mut found: Vec<_> = outcome
            .throttled
            .iter()
            .map(|t| (t.started, t.at))
            .collect();
        found.sort();
        found
    };
    assert!(direct.throttled.len() >= 5, "{}", direct.throttled.len());
    assert_eq!(throttled(&replayed), throttled(&direct));
}

#[test]
fn who_was_throttled_while_recorded_is_counted() {
    let user = String::new();
    let server = 4;
    let frames = [
        (TICK, vec![Event::Appeared { server, user }]),
        (2 * TICK, vec![Event::Held { server, held: true }]),
    ];
    let bytes = crate::trace::encode(&Header::new(0, TICK, false), frames);
    let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
    let outcome = recorded(&mut reader, |_| policy(), None).unwrap();
    assert_eq!((outcome.sessions, outcome.throttled_while_recorded), (1, 1));
    assert_eq!(outcome.span, 2 * TICK);
}

#[test]
fn each_named_user_is_judged_by_a_policy_of_their_own() {
    let spinner = |server, user: &str| {
        let appeared = Event::Appeared {
            server,
            user: user.into(),
        };
        (
            appeared,
            Event::Used {
                server,
                cpu: 2 * TICK,
            },
        )
    };
    let (alice, bob) = (spinner(0, "alice"), spinner(1, "bob"));
    let mut frames = BTreeMap::from([(TICK, vec![alice.0, bob.0])]);
    for count in 2..2000 {
        frames.insert(TICK * count, vec![alice.1.clone(), bob.1.clone()]);
    }
    let bytes = crate::trace::encode(&Header::new(0, TICK, true), frames);
    let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
    let granted = |user: &str| Policy {
        unlimited: user == "alice",
        ..policy()
    };
    let outcome = recorded(&mut reader, granted, None).unwrap();
    let throttled: Vec<&str> = outcome.throttled.iter().map(|t| t.user.as_str()).collect();
    assert_eq!(throttled, ["bob"]);
}

/// Alice spins on all four cores; bob begins to work beside her after three hours.
#[test]
fn with_the_node_s_cores_a_spender_is_throttled_only_while_others_work() {
    let policy = Policy {
        contended_above: Some(0.1),
        limit: None,
        ..policy()
    };
    let appeared = |server| Event::Appeared {
        server,
        user: String::new(),
    };
    let used = |server, cores: f64| Event::Used {
        server,
        cpu: TICK.mul_f64(cores),
    };
    let begins = 3 * 720;
    let mut frames = BTreeMap::from([(TICK, vec![appeared(0), appeared(1)])]);
    for count in 2..2 * begins {
        let events = match count < begins {
            true => vec![used(0, 4.0)],
            false => vec![used(0, 3.0), used(1, 1.0)],
        };
        frames.insert(TICK * count, events);
    }
    let bytes = crate::trace::encode(&Header::new(0, TICK, false), frames);
    let throttled_at = |cores| {
        let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
        let outcome = recorded(&mut reader, |_| policy.clone(), cores).unwrap();
        let at = |server: usize| {
            let user = format!("user {}", server + 1);
            let found = outcome.throttled.iter().find(|one| one.user == user);
            found.map(|one| one.at)
        };
        (at(0), at(1))
    };
    let (strict, _) = throttled_at(None);
    // 3600 core-seconds at 4 − 0.25 cores last 960 s.
    assert!(
        (960..=970).contains(&strict.unwrap().0.as_secs()),
        "{strict:?}"
    );
    let (alice, _) = throttled_at(Some(Cores(4.0)));
    let (begins, soon) = (TICK * begins, TICK * (begins + 2));
    assert!((begins..=soon).contains(&alice.unwrap().0), "{alice:?}");
    // With cores to spare nobody has to wait.
    assert_eq!(throttled_at(Some(Cores(8.0))), (None, None));
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
        let skipping = live(&session, &policy, TICK);
        let mut ticking = Server::new(session.start, &policy);
        for burst in &session.bursts {
            ticking.ask(*burst);
        }
        while ticking.now() < skipping.now() {
            ticking.advance(Time(ticking.now().0 + TICK), &policy);
        }
        prop_assert!((ticking.used().0 - skipping.used().0).abs() < 1e-3);
        match (ticking.held(), skipping.held()) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                prop_assert_eq!((a.first, a.times, a.total), (b.first, b.times, b.total));
            }
            (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
        }
        prop_assert!(skipping.used().0 <= skipping.asked().0 + 1e-6);
        let given_back = skipping.held().map_or(0.0, |held| held.given_back.0);
        prop_assert!(given_back <= skipping.asked().0);
    }

    /// Amounts that no machine could use, backwards or at once, in any order.
    #[test]
    fn no_record_makes_a_replay_panic(
        ticks in prop::collection::vec((0u64..1 << 33, any::<u64>(), 0u32..3), 0..60),
    ) {
        let mut now = Duration::ZERO;
        let mut frames = BTreeMap::new();
        let appeared = |server| Event::Appeared { server, user: String::new() };
        frames.insert(now, (0..3).map(appeared).collect());
        for (millis, cpu, server) in ticks {
            now += Duration::from_millis(millis);
            let cpu = Duration::from_millis(cpu);
            let events: &mut Vec<Event> = frames.entry(now).or_default();
            events.push(Event::Used { server, cpu });
        }
        let bytes = crate::trace::encode(&Header::new(0, TICK, false), frames);
        let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
        let _ = recorded(&mut reader, |_| policy(), None).is_ok();
    }
}
