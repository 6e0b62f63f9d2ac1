//! One place where a user's programs run.

use super::baseline::BaselineShare;
use super::waits::Waits;
use policy::{Policy, Stage, Standing};
use quantities::{Cores, HubUser};
use std::time::Duration;

/// What kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// A hub user's server.
    Server,
    /// What a hub user runs outside the servers: `user-UID.slice`.
    UserSlice,
}

/// A reading of a cgroup's `cpu.stat` (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// CPU time used since the cgroup was made.
    pub usage: Duration,
    /// Periods in which the quota ran out; only there with the cpu controller.
    pub throttled_periods: Option<u64>,
}

/// A place whose account is to be opened.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// The user whose account it is.
    pub user: HubUser,
    /// What it is.
    pub kind: PlaceKind,
    /// What the user may use.
    pub policy: Policy,
    /// How it stood when an earlier daemon knew it.
    pub standing: Option<Standing>,
    /// What the user had used in other places while this one ran.
    pub used_elsewhere: Duration,
}

/// A place with an account.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) user: HubUser,
    pub(super) kind: PlaceKind,
    pub(super) standing: Standing,
    pub(super) policy: Policy,
    pub(super) lead: Option<super::CgroupId>,
    pub(super) used_elsewhere: Duration,
    /// What it had used when the user's other servers were last charged for it; `None` for the
    /// user's only server.
    pub(super) charged_others: Option<Duration>,
    pub(super) share: BaselineShare,
    pub(super) reading: Option<Reading>,
    pub(super) at_its_quota: bool,
    pub(super) waits: Waits,
    pub(super) limit: Option<Cores>,
}

impl Place {
    pub(super) fn new(newcomer: Newcomer, standing: Standing) -> Place {
        Place {
            user: newcomer.user,
            kind: newcomer.kind,
            standing,
            policy: newcomer.policy,
            lead: None,
            used_elsewhere: newcomer.used_elsewhere,
            charged_others: None,
            share: BaselineShare::default(),
            reading: None,
            at_its_quota: false,
            waits: Waits::default(),
            limit: None,
        }
    }

    /// The user whose account it is.
    pub fn user(&self) -> &HubUser {
        &self.user
    }

    /// How it stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What its user may use, grants included.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What its user may use, as far as this place goes: with its part of the baseline.
    pub fn policy_here(&self) -> Policy {
        let mut policy = self.policy.clone();
        if let Some(Cores(part)) = self.share.part {
            policy.baseline = Cores(policy.baseline.0.min(part));
        }
        policy
    }

    /// The server that it follows, for a login slice while there is one.
    pub fn lead(&self) -> Option<super::CgroupId> {
        self.lead
    }

    /// Its part of the baseline; `None` is all of it.
    pub fn part(&self) -> Option<Cores> {
        self.share.part
    }

    /// Whether it got another part of the baseline that is not in force yet.
    pub fn is_reshared(&self) -> bool {
        self.share.changed
    }

    /// The quota in force, ours or its owner's, as last seen.
    pub fn limit(&self) -> Option<Cores> {
        self.limit
    }

    /// What its user used in other places while it ran.
    pub fn used_elsewhere(&self) -> Duration {
        self.used_elsewhere
    }

    /// What it used between the last two readings; of a user's only server, with all that the user
    /// ran outside it.
    pub fn rate(&self) -> Cores {
        match self.lead.is_some() || self.charged_others.is_some() {
            true => self.share.rate,
            false => self.standing.credits.rate,
        }
    }

    /// Whether it uses so much that sensors should look at it, or would if it got the CPU that it waits
    /// for. One at its quota would use more.
    pub fn is_hot(&self, above: Cores) -> bool {
        self.waits.without(self.rate()) > above || self.at_its_quota
    }

    /// Whether the user's CPU is held at the baseline, or the place stands still.
    pub fn is_throttled(&self) -> bool {
        self.standing.stage >= Stage::Throttled
    }

    /// What it is.
    pub fn kind(&self) -> PlaceKind {
        self.kind
    }

    /// Whether it is a server.
    pub fn is_server(&self) -> bool {
        self.kind == PlaceKind::Server
    }

    /// Takes a reading in; the one before it.
    pub(super) fn read(&mut self, reading: Reading) -> Option<Reading> {
        let ran_out = |reading: Reading| reading.throttled_periods.unwrap_or(0);
        let before = self.reading.replace(reading);
        self.at_its_quota = ran_out(reading) > before.map_or(0, ran_out);
        before
    }

    /// What it used since its user's other servers were last charged; nothing the first time.
    pub(super) fn used_since_charged(&mut self, reading: Option<&Reading>) -> Duration {
        let Some(reading) = reading else {
            return Duration::ZERO;
        };
        let before = self.charged_others.replace(reading.usage);
        before.map_or(Duration::ZERO, |before| {
            reading.usage.saturating_sub(before)
        })
    }
}
