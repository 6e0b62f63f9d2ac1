//! Admins' exceptions: given, listed, revoked, expired.

use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::control::{GrantOrder, GrantStatus};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use egress::ClassName;
use policy::{Grant, GrantedCredits};
use quantities::HubUser;
use quantities::{CoreSeconds, Cores, in_words};
use std::time::{Duration, SystemTime};

/// Longer than any thesis: beyond that it is configuration.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Grants are few; a list beyond this is a script gone wrong.
const MOST: usize = 10_000;
/// Longest name and reason, in bytes.
const LONGEST_TEXT: usize = 1000;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Gives a user an exception; it replaces an earlier one.
    pub(super) fn grant(&mut self, order: GrantOrder) -> Result<String, String> {
        let now = SystemTime::now();
        let shell = &mut self.shell;
        let grant = shell.understand(&order, now)?;
        let words = in_grants_words(&order.user, &grant, now);
        let message = format!("{} gave {words}.", HubUser(order.by.clone()));
        shell.limits.grants.insert(order.user.clone(), grant);
        shell.log(
            LogEntry::new(Kind::Granted, Level::Notice, message.clone())
                .with("HUB_USER", &order.user)
                .with("ADMIN", &order.by)
                .with("REASON", &order.reason),
        );
        self.grants_changed();
        Ok(message)
    }

    /// Takes a user's exception back.
    pub(super) fn revoke(&mut self, who: &str, user: &str) -> Result<String, String> {
        let shell = &mut self.shell;
        let shown = HubUser(user.to_owned());
        if shell.limits.grants.remove(user).is_none() {
            return Err(format!(
                "{shown} has no grant; `hubwarden grants` lists them"
            ));
        }
        let message = format!("{who} took back what was granted to {shown}.");
        shell.log(
            LogEntry::new(Kind::Revoked, Level::Notice, message.clone())
                .with("HUB_USER", user)
                .with("ADMIN", who),
        );
        self.grants_changed();
        Ok(message)
    }

    /// Once a tick: those whose time is over.
    pub(super) fn expire_grants(&mut self) {
        let now = SystemTime::now();
        let shell = &mut self.shell;
        let over: Vec<String> = shell
            .limits
            .grants
            .iter()
            .filter(|(_, grant)| !grant.holds(now))
            .map(|(user, _)| user.clone())
            .collect();
        if over.is_empty() {
            return;
        }
        for user in over {
            shell.limits.grants.remove(&user);
            let shown = HubUser(user.clone());
            let message = format!("What was granted to {shown} has ended, as agreed.");
            shell.log(LogEntry::new(Kind::Revoked, Level::Notice, message).with("HUB_USER", &user));
        }
        self.grants_changed();
    }

    fn grants_changed(&mut self) {
        self.policies_changed();
        // On disk at once: an admin who was told "granted" may rely on it.
        self.save();
    }
}

impl Shell {
    /// An order as a grant, or what is wrong with it.
    fn understand(&self, order: &GrantOrder, now: SystemTime) -> Result<Grant, String> {
        let too_long = order.user.len() > LONGEST_TEXT || order.reason.len() > LONGEST_TEXT;
        if order.user.is_empty() || too_long {
            return Err(format!(
                "a user and a reason of up to {LONGEST_TEXT} bytes are needed"
            ));
        }
        if order.reason.trim().is_empty() {
            return Err("a reason is needed: whoever reads the journal later will ask".to_owned());
        }
        let lasts = Duration::from_secs(order.seconds);
        if lasts.is_zero() || lasts > LONGEST {
            return Err(format!(
                "it must hold from 1s to 366d, and not for {}",
                in_words(lasts)
            ));
        }
        if self.limits.grants.len() >= MOST && !self.limits.grants.contains_key(&order.user) {
            return Err(format!(
                "there are {MOST} grants already; revoke some first"
            ));
        }
        let class = match order.class.as_str() {
            "" => None,
            text => {
                let class: ClassName = text.parse().map_err(|error| format!("{error}"))?;
                if !self.config.egress.classes.contains_key(&class) {
                    return Err(format!(
                        "there is no egress class {class} in the configuration; to have it there, add \
                         [egress.classes.{class}] and run hubwarden reload"
                    ));
                }
                Some(class)
            }
        };
        let grant = Grant {
            limit: cores(order.limit_cores, "the limit")?,
            baseline: cores(order.baseline_cores, "the baseline")?,
            credits: match order.credits_core_seconds {
                0.0 => None,
                credits if credits < 0.0 => Some(GrantedCredits::Unlimited),
                credits if (1.0..=3.6e6).contains(&credits) => {
                    Some(GrantedCredits::Size(CoreSeconds(credits)))
                }
                _ => return Err("credits must be from 1 core-second to 1000 core-hours".into()),
            },
            class,
            reason: order.reason.clone(),
            by: order.by.clone(),
            since: now,
            until: now + lasts,
        };
        let nothing = grant.limit.is_none()
            && grant.baseline.is_none()
            && grant.credits.is_none()
            && grant.class.is_none();
        if nothing {
            return Err("say what is granted: --cpu, --baseline, --credits or --class".to_owned());
        }
        Ok(grant)
    }

    pub(super) fn grants_told(&self) -> Vec<GrantStatus> {
        let now = SystemTime::now();
        let told = |(user, grant): (&String, &Grant)| GrantStatus {
            order: GrantOrder {
                user: user.clone(),
                limit_cores: grant.limit.map_or(0.0, |limit| limit.0),
                baseline_cores: grant.baseline.map_or(0.0, |baseline| baseline.0),
                credits_core_seconds: match grant.credits {
                    None => 0.0,
                    Some(GrantedCredits::Unlimited) => -1.0,
                    Some(GrantedCredits::Size(size)) => size.0,
                },
                class: grant
                    .class
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                seconds: grant.left(now).as_secs(),
                reason: grant.reason.clone(),
                by: grant.by.clone(),
            },
            words: in_grants_words(user, grant, now),
        };
        self.limits.grants.iter().map(told).collect()
    }
}

fn cores(value: f64, what: &str) -> Result<Option<Cores>, String> {
    match value {
        0.0 => Ok(None),
        cores if (0.01..=4096.0).contains(&cores) => Ok(Some(Cores(cores))),
        other => Err(format!(
            "{what} must be from 0.01 to 4096 cores, and not {other}"
        )),
    }
}

/// "alice a limit of 8 cores and unlimited credits for 72 h 0 min (thesis training)".
fn in_grants_words(user: &str, grant: &Grant, now: SystemTime) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = grant.limit {
        parts.push(format!("a limit of {limit}"));
    }
    if let Some(baseline) = grant.baseline {
        parts.push(format!("a baseline of {baseline}"));
    }
    match grant.credits {
        Some(GrantedCredits::Unlimited) => parts.push("unlimited credits".to_owned()),
        Some(GrantedCredits::Size(size)) => parts.push(format!("{size} of credits")),
        None => {}
    }
    if let Some(class) = &grant.class {
        parts.push(format!("egress class {class}"));
    }
    format!(
        "{} {} for {} ({})",
        HubUser(user.to_owned()),
        parts.join(" and "),
        in_words(grant.left(now)),
        HubUser(grant.reason.clone())
    )
}
