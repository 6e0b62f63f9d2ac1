//! What the default policy does to a made-up week, and how long it takes to find out.

use crate::figure;
use hubwarden::config::Config;
use hubwarden::replay::{Population, synthetic};
use std::time::Instant;

pub fn run() {
    let config = Config::default();
    let policy = hubwarden::daemon::policy(&config.limits);
    let population = Population::default();
    assert_eq!((population.users, population.days), (10_000, 7));
    let begun = Instant::now();
    let outcome = synthetic(&population, &policy, config.tick);
    let took = begun.elapsed();
    let spinners = outcome.spinners.unwrap_or_default();
    eprintln!(
        "{} sessions of {} users, {} of them spinners; {} sessions throttled, the slowest spinner \
         after {} s",
        outcome.sessions,
        outcome.users,
        spinners.sessions,
        outcome.throttled.len(),
        spinners.slowest.as_secs(),
    );
    let percent = outcome.honest_throttled_percent();
    figure("replay_sessions_throttled_percent", percent, "%");
    let caught = spinners.caught_percent();
    figure("replay_spinners_caught_percent", caught, "%");
    let seconds = took.as_secs_f64();
    figure("replay_week_10000_users_seconds", seconds, "s");
}
