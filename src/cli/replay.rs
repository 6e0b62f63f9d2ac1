//! `hubwarden replay`.

mod left_out;
mod text;

#[cfg(test)]
mod tests;

use super::Failure;
use super::answer::show;
use crate::config::Config;
use crate::replay::{Outcome, Population, recorded, synthetic};
use crate::trace::Reader;
use clap::{Args, ValueHint};
use policy::Policy;
use quantities::Cores;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    override_usage = "hubwarden replay [OPTIONS] <FILE>...\n       hubwarden replay [OPTIONS] --generate"
)]
pub(super) struct Options {
    /// Traces, from /var/lib/hubwarden/traces; each stands for itself
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath,
          required_unless_present = "generate")]
    files: Vec<PathBuf>,
    /// The configuration to try; without, the one installed, or the defaults
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Who is in which hub group, which traces do not say; may be repeated
    #[arg(long, value_name = "GROUP=USER", value_parser = member, conflicts_with = "generate")]
    member: Vec<(String, String)>,
    /// The node's cores: with throttle_when = "contended" others wait only while the recorded
    /// servers together use nearly all of them
    #[arg(long, value_name = "NUMBER", value_parser = cores, conflicts_with = "generate")]
    cores: Option<Cores>,
    /// Replay made-up days instead, with sessions like those on Binder and some spinners
    #[arg(long, conflicts_with = "files")]
    generate: bool,
    /// Made-up users
    #[arg(long, value_name = "COUNT", default_value_t = Population::default().users,
          requires = "generate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// Made-up days; the first is a Monday
    #[arg(long, value_name = "COUNT", default_value_t = Population::default().days,
          requires = "generate", value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// The same seed gives the same days
    #[arg(long, value_name = "NUMBER", default_value_t = Population::default().seed,
          requires = "generate")]
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

fn member(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((group, user)) if !group.is_empty() && !user.is_empty() => {
            Ok((group.to_owned(), user.to_owned()))
        }
        _ => Err("expected GROUP=USER, such as students=alice".to_owned()),
    }
}

fn cores(text: &str) -> Result<Cores, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100_000.0).contains(&number) {
        Ok(Cores(number))
    } else {
        Err("not from 0.1 to 100000".to_owned())
    }
}

/// What `--json` prints; fields are only ever added.
#[derive(Serialize)]
struct Report {
    /// Where the policy comes from.
    policy: String,
    /// What the daemon would go by and a replay does not, in sentences.
    left_out: Vec<String>,
    replays: Vec<Replay>,
}

#[derive(Serialize)]
struct Replay {
    /// The trace, or how the days were made up.
    source: String,
    /// When the trace was begun, in seconds since 1970.
    started: Option<u64>,
    /// Whether the trace names users; absent for made-up days.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_names: Option<bool>,
    #[serde(flatten)]
    outcome: Outcome,
    /// Whether the trace's last frame was left out.
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
        replays.push(from_file(file, &config, options)?);
    }
    let report = Report {
        policy: name,
        left_out: left_out::left_out(&config, options, &replays),
        replays,
    };
    show(&report, options.json, |report| {
        text::in_text(report, &policy, options.most)
    })
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
        user_names: None,
        outcome,
        cut_off: false,
    }
}

fn from_file(file: &Path, config: &Config, options: &Options) -> Result<Replay, Failure> {
    let mut reader = Reader::open(file).map_err(Failure::input)?;
    let policy = |user: &str| {
        let of_user = options.member.iter().filter(|(_, member)| member == user);
        let groups: BTreeSet<String> = of_user.map(|(group, _)| group.clone()).collect();
        crate::daemon::policy(&config.limits_of(user, &groups))
    };
    let outcome = recorded(&mut reader, policy, options.cores).map_err(Failure::input)?;
    Ok(Replay {
        user_names: Some(reader.header().user_names),
        source: file.display().to_string(),
        started: Some(reader.header().started),
        outcome,
        cut_off: reader.is_cut_off(),
    })
}
