//! `hubwarden grant`, `grants` and `revoke`.

use super::Failure;
use super::answer::{ask, order, show};
use crate::config::{parse_amount, parse_duration};
use crate::control::{GrantOrder, GrantStatus};
use clap::Args;
use quantities::Plain;
use std::time::Duration;

/// What to grant, to whom, for how long and why.
#[derive(Debug, Args)]
pub struct Grant {
    /// The hub user's name
    user: String,
    /// The limit while there are credits, in cores
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpu: Option<f64>,
    /// The rate at which credits refill, in cores
    #[arg(long, value_name = "CORES", value_parser = cores)]
    baseline: Option<f64>,
    /// Credits: "unlimited", or such as "10 core-hours"
    #[arg(long, value_name = "AMOUNT", value_parser = credits)]
    credits: Option<f64>,
    /// Egress class, one of the configuration's
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// How long it holds, such as "8h" or "3d"
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Duration,
    /// Why; the journal keeps it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

fn cores(text: &str) -> Result<f64, String> {
    let number = text
        .trim()
        .trim_end_matches("cores")
        .trim_end_matches("core")
        .trim();
    match number.parse::<f64>() {
        Ok(cores) if (0.01..=4096.0).contains(&cores) => Ok(cores),
        _ => Err("expected a number of cores from 0.01 to 4096, such as 8".to_owned()),
    }
}

fn credits(text: &str) -> Result<f64, String> {
    match text {
        "unlimited" => Ok(-1.0),
        text => parse_amount(text),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

pub(super) fn grant(grant: Grant) -> Result<(), Failure> {
    let exception = GrantOrder {
        user: grant.user,
        limit_cores: grant.cpu.unwrap_or(0.0),
        baseline_cores: grant.baseline.unwrap_or(0.0),
        credits_core_seconds: grant.credits.unwrap_or(0.0),
        class: grant.class.unwrap_or_default(),
        seconds: grant.lasts.as_secs(),
        reason: grant.reason,
        by: String::new(),
    };
    order(async |client| client.grant(&exception).await)
}

pub(super) fn revoke(user: &str) -> Result<(), Failure> {
    order(async |client| client.revoke(user).await)
}

pub(super) fn grants(json: bool) -> Result<(), Failure> {
    let grants = ask(async |client| client.grants().await)?;
    show(&grants, json, |grants| in_words(grants))
}

fn in_words(grants: &[GrantStatus]) -> String {
    if grants.is_empty() {
        return "No grants.".to_owned();
    }
    let line = |grant: &GrantStatus| format!("{}, by {}\n", grant.words, Plain(&grant.order.by));
    grants.iter().map(line).collect()
}
