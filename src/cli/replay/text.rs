//! A replay in words, for people.

use super::{Replay, Report};
use crate::cli::dates;
use crate::cli::table::Table;
use crate::replay::Throttled;
use policy::Policy;
use quantities::{CoreSeconds, Plain, Time, in_words};
use std::fmt::Write;
use std::time::Duration;

pub(super) fn in_text(report: &Report, policy: &Policy, most: usize) -> String {
    let limit = match policy.limit {
        Some(limit) => limit.to_string(),
        None => "none".to_owned(),
    };
    let mut text = format!(
        "Policy of {}: limit {limit}, baseline {}, credits {}.\n",
        report.policy, policy.baseline, policy.size
    );
    for line in &report.left_out {
        let _ = writeln!(text, "{line}");
    }
    for replay in &report.replays {
        summary(replay, &mut text);
        let outcome = &replay.outcome;
        let shown = &outcome.throttled[..outcome.throttled.len().min(most)];
        if !shown.is_empty() {
            text.push('\n');
            table(shown, replay.started, &mut text);
        }
        if outcome.throttled.len() > shown.len() {
            let more = outcome.throttled.len() - shown.len();
            let _ = writeln!(text, "… and {more} more (--most, --json)");
        }
    }
    text
}

fn summary(replay: &Replay, text: &mut String) {
    let outcome = &replay.outcome;
    let words = |core_seconds| CoreSeconds(core_seconds).to_string();
    let _ = writeln!(
        text,
        "\n{}: {}, {} users, {} sessions that asked for {} of CPU.",
        replay.source,
        span(outcome.span),
        outcome.users,
        outcome.sessions,
        words(outcome.asked_core_seconds),
    );
    let percent = 100.0 * outcome.throttled.len() as f64 / outcome.sessions.max(1) as f64;
    let _ = writeln!(
        text,
        "Throttled: {} sessions ({percent:.2} %) of {} users, which leaves {} to others.",
        outcome.throttled.len(),
        outcome.users_throttled,
        words(outcome.given_back_core_seconds),
    );
    if let Some(spinners) = outcome.spinners {
        let _ = writeln!(
            text,
            "Spinners: {} of {} caught within their credits, after {} at most; of the other \
             sessions {:.2} % are throttled.",
            spinners.caught,
            spinners.sessions,
            in_words(spinners.slowest),
            outcome.honest_throttled_percent(),
        );
    }
    if outcome.sessions_stopped > 0 {
        let _ = writeln!(text, "Stopped: {} sessions.", outcome.sessions_stopped);
    }
    if outcome.throttled_while_recorded > 0 {
        let _ = writeln!(
            text,
            "{} sessions were throttled while they were recorded: what they would have used \
             beyond is not known, so this says too little of them.",
            outcome.throttled_while_recorded
        );
    }
    if replay.cut_off {
        let _ = writeln!(text, "The trace's last tick is not whole and was left out.");
    }
}

fn table(sessions: &[Throttled], started: Option<u64>, text: &mut String) {
    let mut table = Table::new([
        "USER",
        "STARTED",
        "THROTTLED",
        "FOR",
        "ASKED",
        "GOT",
        "GIVEN BACK",
        "",
    ]);
    for session in sessions {
        table.row([
            // A name comes from a file: it cannot paint on the terminal.
            Plain(&session.user).to_string(),
            when(session.started, started),
            when(session.at, started),
            match session.times {
                1 => in_words(session.total),
                times => format!("{} ({times} times)", in_words(session.total)),
            },
            CoreSeconds(session.asked_core_seconds).to_string(),
            CoreSeconds(session.used_core_seconds).to_string(),
            CoreSeconds(session.given_back_core_seconds).to_string(),
            match session.spinner {
                Some(true) => "spinner".to_owned(),
                _ => String::new(),
            },
        ]);
    }
    text.push_str(&table.text());
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 2 * 86_400 => format!("{:.1} days", seconds as f64 / 86_400.0),
        _ => in_words(time),
    }
}

/// A point in time: of a trace in UTC, of made-up days by their number.
fn when(time: Time, started: Option<u64>) -> String {
    let seconds = time.0.as_secs();
    match started {
        Some(started) => dates::minute(started.saturating_add(seconds)),
        None => format!(
            "day {} {:02}:{:02}",
            seconds / 86_400 + 1,
            seconds / 3600 % 24,
            seconds / 60 % 60
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::replay::{Population, synthetic};

    #[test]
    fn a_point_in_time_is_of_the_calendar_or_of_made_up_days() {
        let minute = Time(Duration::from_secs(60));
        assert_eq!(when(minute, Some(0)), "1970-01-01 00:01Z");
        assert_eq!(when(Time(Duration::from_secs(90_000)), None), "day 2 01:00");
    }

    #[test]
    fn a_made_up_week_is_told_in_words_and_its_spinners_named() {
        let policy = crate::daemon::policy(&Config::default().limits);
        let population = Population {
            users: 100,
            spinners: 0.1,
            ..Population::default()
        };
        let replay = Replay {
            source: "made-up days, seed 1".to_owned(),
            started: None,
            user_names: None,
            outcome: synthetic(&population, &policy, Duration::from_secs(5)),
            cut_off: false,
        };
        let spinners = replay.outcome.spinners.unwrap().sessions;
        let report = Report {
            policy: "the defaults".to_owned(),
            left_out: Vec::new(),
            replays: vec![replay],
        };
        let text = in_text(&report, &policy, 3);
        let line = format!("Spinners: {spinners} of {spinners} caught within their credits");
        assert!(text.contains(&line), "{text}");
        assert!(
            text.contains("made-up days, seed 1: 7.0 days, 100 users, "),
            "{text}"
        );
        assert!(text.contains("… and "), "{text}");
        // Of the three sessions listed; an honest one may have been held for longer than a spinner.
        let named = text.lines().filter(|line| line.ends_with("spinner"));
        assert!((1..=3).contains(&named.count()), "{text}");
    }

    #[test]
    fn a_recorded_name_cannot_paint_on_the_terminal() {
        let session = Throttled {
            user: format!("a\u{1b}[2J{}", "x".repeat(600)),
            spinner: None,
            started: Time::default(),
            at: Time::default(),
            times: 1,
            total: Duration::ZERO,
            asked_core_seconds: 0.0,
            used_core_seconds: 0.0,
            given_back_core_seconds: 0.0,
        };
        let mut text = String::new();
        table(&[session], None, &mut text);
        assert!(text.contains("\na\\u{1b}[2Jxxx"), "{text}");
        assert!(text.contains("xxx…  day 1 00:00"), "{text}");
    }
}
