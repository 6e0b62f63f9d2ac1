//! What stands against a server, and what that calls for.
//!
//! Evidence moves a server up the ladder whatever its credits are and however idle the node is. It
//! stands for a while after it was last found; what is to be ended for good must still go on when
//! its time has come, and stands still before it is.

use super::{Policy, Reason, Stage, Stop};
use crate::finding::Strength;
use quantities::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Certain evidence goes on when it was found again within this time: two windows of rounding
/// modes and a few ticks.
const GOES_ON: Duration = Duration::from_secs(90);

/// What evidence is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// Mining.
    #[default]
    Mining,
    /// Abuse of the network, which is never certain.
    Network,
}

impl FindingKind {
    /// Both of them.
    pub const ALL: [FindingKind; 2] = [FindingKind::Mining, FindingKind::Network];
}

/// Evidence of mining or of abuse of the network, high or certain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accusation {
    /// What it amounts to.
    pub level: Strength,
    /// What it is of; of both, mining.
    #[serde(default)]
    pub of: FindingKind,
    /// When it first amounted to that.
    pub since: Time,
    /// When it was found last.
    pub last: Time,
    /// How long it stands, unless it is found again.
    pub until: Time,
}

impl Accusation {
    /// This and what stood before: a level does not fall while evidence stands.
    pub(super) fn again(
        before: Option<Accusation>,
        (level, of): (Strength, FindingKind),
        now: Time,
        policy: &Policy,
    ) -> Accusation {
        let until = Time(now.0 + policy.evidence.stands);
        match before.filter(|before| before.stands(now)) {
            Some(before) if before.level >= level => Accusation {
                of: before.of.min(of),
                last: now,
                until,
                ..before
            },
            _ => Accusation {
                level,
                of,
                since: now,
                last: now,
                until,
            },
        }
    }

    /// Whether it stands.
    pub fn stands(&self, now: Time) -> bool {
        now < self.until
    }

    /// When the server is ended if it goes on.
    pub fn ends_at(&self, policy: &Policy) -> Option<Time> {
        let after = policy.evidence.stop_after?;
        (self.level == Strength::Certain).then(|| Time(self.since.0 + after))
    }

    /// The stage it calls for, of a server on `stage`.
    pub(super) fn calls_for(
        &self,
        stage: Stage,
        now: Time,
        policy: &Policy,
    ) -> Option<(Stage, Reason)> {
        let consequences = &policy.evidence;
        let level = self.level;
        let plain = match level {
            Strength::Certain => consequences.certain,
            Strength::High => consequences.high,
            Strength::Exonerates | Strength::Suspicious => None,
        };
        let stop_after = consequences
            .stop_after
            .filter(|_| level == Strength::Certain);
        if let (Some(after), Some(at)) = (stop_after, self.ends_at(policy))
            && now >= at
        {
            // What stands still is found no more, and was found before.
            let frozen = stage >= Stage::Frozen;
            if frozen && consequences.stop == Stop::Server {
                return Some((Stage::Stopped, Reason::EvidenceGoesOn { after }));
            }
            if frozen || now.since(self.last) <= GOES_ON {
                return Some((Stage::Frozen, Reason::EvidenceGoesOn { after }));
            }
        }
        let stands = consequences.stands;
        let reason = Reason::Evidence {
            level,
            of: self.of,
            stands,
            stop_after,
        };
        plain.map(|stage| (stage, reason))
    }
}
