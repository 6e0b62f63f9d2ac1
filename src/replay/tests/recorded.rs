//! Traces: what was recorded, replayed.

use super::*;
use crate::trace::{Event, Header, Reader};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// The sessions as the daemon would have recorded them on a node with cores for everybody.
fn trace(sessions: &[Session]) -> Vec<u8> {
    let plenty = Cores(f64::INFINITY);
    let mut frames: BTreeMap<Duration, Vec<Event>> = BTreeMap::new();
    for (server, session) in (0u32..).zip(sessions) {
        let mut running = Server::new(session.start);
        session.bursts.iter().for_each(|burst| running.ask(*burst));
        let user = format!("user {server}");
        let events = frames.entry(session.start.0).or_default();
        events.push(Event::Appeared { server, user });
        let mut written = Duration::ZERO;
        while running.now() < session.end {
            running.run(Time(running.now().0 + TICK), plenty, plenty);
            let used = running.usage().saturating_sub(written);
            let cpu = Duration::from_millis(used.as_millis() as u64);
            written += cpu;
            if !cpu.is_zero() {
                let events = frames.entry(running.now().0).or_default();
                events.push(Event::Used { server, cpu });
            }
        }
        let events = frames.entry(session.end.0).or_default();
        events.push(Event::Gone { server });
    }
    crate::trace::encode(&Header::new(0, TICK, true), frames)
}

/// On whole ticks a trace loses nothing but how use is spread over one: both ways must come to the same,
/// but for the look within a tick at which credits end.
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
        let server = alone(session, &policy());
        direct.add("x", None, &server, &policy(), TICK);
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
    let (replayed, direct) = (throttled(&replayed), throttled(&direct));
    assert_eq!(replayed.len(), direct.len());
    for (a, b) in replayed.iter().zip(&direct) {
        assert!(
            a.0 == b.0 && a.1.0.abs_diff(b.1.0) <= TICK,
            "{a:?} is not {b:?}"
        );
    }
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

proptest! {
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

/// Servers of users that use so many cores from one time to another.
fn spinning(servers: &[(&str, f64, u64, u64)]) -> Vec<u8> {
    let mut frames: BTreeMap<Duration, Vec<Event>> = BTreeMap::new();
    for (server, (user, cores, from, to)) in (0u32..).zip(servers) {
        let user = (*user).to_owned();
        let from = Duration::from_secs(*from);
        let to = Duration::from_secs(*to);
        let first = frames.entry(from).or_default();
        first.push(Event::Appeared { server, user });
        let mut now = from + TICK;
        while now <= to {
            let cpu = TICK.mul_f64(*cores);
            let events = frames.entry(now).or_default();
            events.push(Event::Used { server, cpu });
            now += TICK;
        }
        frames.entry(to).or_default().push(Event::Gone { server });
    }
    crate::trace::encode(&Header::new(0, TICK, true), frames)
}

fn replayed(trace: &[u8]) -> Outcome {
    let mut reader = Reader::new(Path::new("x"), trace).unwrap();
    recorded(&mut reader, |_| policy(), None).unwrap()
}

#[test]
fn two_recorded_servers_of_one_user_share_credits_and_baseline() {
    let outcome = replayed(&spinning(&[
        ("alice", 1.0, 0, 7200),
        ("alice", 1.0, 0, 7200),
        ("bob", 1.0, 0, 4000),
    ]));
    let of: Vec<(&str, u64)> = outcome
        .throttled
        .iter()
        .map(|t| (t.user.as_str(), t.at.0.as_secs()))
        .collect();
    // 3600 core-seconds at 2 − 0.25 cores last 2057 s, from the first look on.
    let at = of[0].1;
    assert!((2057..=2062).contains(&at), "{at}");
    assert_eq!(of, [("alice", at), ("alice", at)]);
    let got: f64 = outcome.throttled.iter().map(|t| t.used_core_seconds).sum();
    let lasted = outcome.throttled[0].at.0.as_secs_f64();
    let expected = 2.0 * lasted + 0.25 * (7200.0 - lasted);
    assert!((got - expected).abs() < 1.0, "{got} {expected}");
    // Two users have an account each.
    let apart = replayed(&spinning(&[
        ("", 1.0, 0, 4000),
        ("", 1.0, 0, 4000),
        ("", 1.0, 0, 4000),
    ]));
    assert_eq!((apart.users, apart.throttled.len()), (3, 0));
}

#[test]
fn a_recorded_server_that_comes_back_begins_where_it_stood() {
    let spins = ("alice", 4.0, 0, 3000);
    let soon = replayed(&spinning(&[spins, ("alice", 4.0, 3060, 3660)]));
    let back = &soon.throttled[1];
    assert_eq!((back.started, back.at), (seconds(3060), seconds(3060)));
    assert_eq!((back.times, back.total), (1, Duration::from_secs(600)));
    assert!((back.used_core_seconds - 150.0).abs() < 1.0, "{back:?}");
    // After four hours at 0.25 cores the account is full again.
    let later = replayed(&spinning(&[spins, ("alice", 4.0, 18_000, 18_600)]));
    assert_eq!(later.throttled.len(), 1);
    assert_eq!(later.users, 1);
}
