//! Traces with named users, replayed by the configuration of each user.

use super::*;
use crate::trace::{Event, Header, encode};
use clap::Parser;

const TICK: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Alice and bob have two servers each, and each of these uses half a core for an hour.
fn trace(user_names: bool) -> Vec<u8> {
    let users = ["alice", "alice", "bob", "bob"];
    let appeared = |(server, user): (u32, &str)| Event::Appeared {
        server,
        user: if user_names { user } else { "" }.to_owned(),
    };
    let mut frames = vec![(TICK, (0..).zip(users).map(appeared).collect())];
    for count in 2..720 {
        let cpu = TICK / 2;
        let used = |server| Event::Used { server, cpu };
        frames.push((TICK * count, (0..4).map(used).collect()));
    }
    encode(&Header::new(0, TICK, user_names), frames)
}

fn throttled(trace: &[u8], options: &[&str]) -> Vec<String> {
    let config = "[groups.students.cpu]\ncredits = \"20 core-minutes\"\n";
    let config = Config::parse(config).unwrap();
    let line = Line::parse_from(["replay", "x"].iter().chain(options));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.trace");
    std::fs::write(&file, trace).unwrap();
    let replay = from_file(&file, &config, &line.options).unwrap_or_else(|_| panic!());
    let throttled = replay.outcome.throttled.into_iter();
    throttled.map(|session| session.user).collect()
}

#[test]
fn members_of_a_group_have_its_limits_and_one_account_a_user() {
    let none: [&str; 0] = [];
    assert_eq!(throttled(&trace(true), &[]), none);
    // 1200 core-seconds at 1 − 0.25 cores last 1600 s; one server alone would need 4800 s.
    let member = ["--member", "students=alice"];
    assert_eq!(throttled(&trace(true), &member), ["alice", "alice"]);
    assert_eq!(throttled(&trace(false), &member), none);
}
