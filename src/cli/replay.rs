//! `hubwarden replay`.

use super::Failure;
use crate::config::Config;
use crate::judge::Policy;
use crate::record::Reader;
use crate::replay::{Outcome, Population, Throttled, recorded, synthetic};
use crate::units::{CoreSeconds, Time, in_words};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Records, from /var/lib/hubwarden/records; each stands for itself
    #[arg(value_name = "FILE", required_unless_present = "generate")]
    files: Vec<PathBuf>,
    /// The configuration to try; without, the one installed, or the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replay made-up days instead, with sessions like those on Binder and some spinners
    #[arg(long, conflicts_with = "files")]
    generate: bool,
    /// Made-up users
    #[arg(long, default_value_t = Population::default().users, requires = "generate",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// Made-up days; the first is a Monday
    #[arg(long, default_value_t = Population::default().days, requires = "generate",
          value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// The same seed gives the same days
    #[arg(long, default_value_t = Population::default().seed, requires = "generate")]
    seed: u64,
    /// Made-up users who let something spin for hours, in per cent
    #[arg(long, value_name = "PERCENT", requires = "generate", value_parser = percent,
          default_value_t = 100.0 * Population::default().spinners)]
    spinners: f64,
    /// Throttled sessions to list, the longest first
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    most: usize,
    /// Print JSON for programs, with all throttled sessions
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&number) {
        Ok(number)
    } else {
        Err("not from 0 to 100".to_owned())
    }
}

/// What `--json` prints; fields are only ever added.
#[derive(Serialize)]
struct Report {
    /// Where the policy comes from.
    policy: String,
    replays: Vec<Replay>,
}

#[derive(Serialize)]
struct Replay {
    /// The record, or how the days were made up.
    source: String,
    /// When the record was begun, in seconds since 1970.
    started: Option<u64>,
    #[serde(flatten)]
    outcome: Outcome,
    /// Whether the record's last frame was left out.
    cut_off: bool,
}

pub(super) fn replay(options: &Options) -> Result<(), Failure> {
    let (config, name) = config(options.config.as_deref())?;
    let policy = crate::daemon::policy(&config.limits);
    let mut replays = Vec::new();
    if options.generate {
        replays.push(made_up(options, &policy, config.tick));
    }
    for file in &options.files {
        replays.push(from_file(file, &config)?);
    }
    let report = Report {
        policy: name,
        replays,
    };
    let text = if options.json {
        serde_json::to_string_pretty(&report).map_err(Failure::new)?
    } else {
        in_text(&report, &policy, options.most)
    };
    // A closed pipe (`| head`) is the reader's choice.
    let _ = std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{}\n", text.trim_end()).as_bytes(),
    );
    Ok(())
}

/// The configuration and what to call it.
fn config(file: Option<&Path>) -> Result<(Config, String), Failure> {
    let installed = Path::new(crate::config::PATH);
    match file.or_else(|| installed.exists().then_some(installed)) {
        Some(path) => {
            let config = Config::load(path).map_err(Failure::input)?;
            Ok((config, path.display().to_string()))
        }
        None => Ok((Config::default(), "the defaults".to_owned())),
    }
}

fn made_up(options: &Options, policy: &Policy, tick: Duration) -> Replay {
    let population = Population {
        users: options.users,
        days: options.days,
        seed: options.seed,
        spinners: options.spinners / 100.0,
    };
    let outcome = synthetic(&population, policy, tick);
    Replay {
        source: format!("made-up days, seed {}", options.seed),
        started: None,
        outcome,
        cut_off: false,
    }
}

/// Who is in which group is the hub's to say, and is not recorded.
fn from_file(file: &Path, config: &Config) -> Result<Replay, Failure> {
    let mut reader = Reader::open(file).map_err(Failure::input)?;
    let policy = |user: &str| crate::daemon::policy(&config.limits_of(user, &BTreeSet::new()));
    let outcome = recorded(&mut reader, policy).map_err(Failure::input)?;
    Ok(Replay {
        source: file.display().to_string(),
        started: Some(reader.header().started),
        outcome,
        cut_off: reader.is_cut_off(),
    })
}

fn in_text(report: &Report, policy: &Policy, most: usize) -> String {
    let limit = match policy.limit {
        Some(limit) => limit.to_string(),
        None => "none".to_owned(),
    };
    let mut text = format!(
        "Policy of {}: limit {limit}, baseline {}, credits {}.\n",
        report.policy, policy.baseline, policy.size
    );
    if policy.contended_above.is_some() {
        text.push_str("Others are taken to wait for the CPU all the time, the stricter case.\n");
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
        let _ = writeln!(
            text,
            "The record's last tick is not whole and was left out."
        );
    }
}

fn table(sessions: &[Throttled], started: Option<u64>, text: &mut String) {
    let heads = [
        "USER",
        "STARTED",
        "THROTTLED",
        "FOR",
        "ASKED",
        "GOT",
        "GIVEN BACK",
        "",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for session in sessions {
        rows.push([
            shortened(&session.user),
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
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let widths = rows.iter().map(|row| row[column].chars().count());
            let width = widths.max().unwrap_or(0);
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// A name comes from a file: it cannot paint on the terminal.
fn shortened(user: &str) -> String {
    let shown = user.escape_debug().to_string();
    if shown.chars().count() <= 40 {
        return shown;
    }
    shown.chars().take(39).chain(['…']).collect()
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 2 * 86_400 => format!("{:.1} days", seconds as f64 / 86_400.0),
        _ => in_words(time),
    }
}

/// A point in time: of a record in UTC, of made-up days by their number.
fn when(time: Time, started: Option<u64>) -> String {
    let seconds = time.0.as_secs();
    let clock = |seconds: u64| format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60);
    match started {
        Some(started) => {
            let seconds = started.saturating_add(seconds);
            let (year, month, day) = date(seconds / 86_400);
            format!("{year}-{month:02}-{day:02} {}Z", clock(seconds))
        }
        None => format!("day {} {}", seconds / 86_400 + 1, clock(seconds)),
    }
}

/// The Gregorian date of a day since 1970 (Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.min(1 << 40) + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    // Months counted from March, so that the leap day is the last.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_454), (2026, 1, 1));
        assert_eq!(date(20_453), (2025, 12, 31));
        assert_eq!(
            when(Time(Duration::from_secs(60)), Some(0)),
            "1970-01-01 00:01Z"
        );
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
            outcome: synthetic(&population, &policy, Duration::from_secs(5)),
            cut_off: false,
        };
        let spinners = replay.outcome.spinners.unwrap().sessions;
        let report = Report {
            policy: "the defaults".to_owned(),
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
        assert_eq!(shortened("a\u{1b}[2J"), "a\\u{1b}[2J");
        assert_eq!(shortened(&"x".repeat(600)).chars().count(), 40);
    }
}
