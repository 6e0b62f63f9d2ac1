//! An admin's exception for one user.

use super::Policy;
use quantities::{ClassName, CoreSeconds, Cores};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What one user may use for a while, why, and who said so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The limit while there are credits; `None` leaves it.
    pub limit: Option<Cores>,
    /// The rate at which credits refill; `None` leaves it.
    pub baseline: Option<Cores>,
    /// The credits; `None` leaves them.
    pub credits: Option<GrantedCredits>,
    /// The egress class; `None` leaves it.
    pub class: Option<ClassName>,
    /// Why, in the admin's words.
    pub reason: String,
    /// The admin.
    pub by: String,
    /// When it was given.
    pub since: SystemTime,
    /// When it ends by itself. Wall-clock time, since people say "until Friday".
    pub until: SystemTime,
}

/// Credits by grant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantedCredits {
    /// Credits do not matter.
    Unlimited,
    /// Another size.
    Size(CoreSeconds),
}

impl Grant {
    /// Whether it holds at this moment.
    pub fn holds(&self, now: SystemTime) -> bool {
        now < self.until
    }

    /// How long it still holds.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }

    /// Lays the grant over a user's policy.
    pub fn apply(&self, policy: &mut Policy) {
        if let Some(limit) = self.limit {
            policy.limit = Some(limit);
        }
        if let Some(baseline) = self.baseline {
            policy.baseline = baseline;
        }
        match self.credits {
            Some(GrantedCredits::Unlimited) => policy.unlimited = true,
            Some(GrantedCredits::Size(size)) => policy.size = size,
            None => {}
        }
        // A limit below the baseline would make the baseline a lie.
        policy.limit = policy.limit.map(|limit| {
            if limit < policy.baseline {
                policy.baseline
            } else {
                limit
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::policy;

    #[test]
    fn a_grant_changes_what_it_names_until_it_ends() {
        let since = SystemTime::UNIX_EPOCH;
        let grant = Grant {
            limit: Some(Cores(8.0)),
            baseline: None,
            credits: Some(GrantedCredits::Unlimited),
            class: None,
            reason: "thesis training".into(),
            by: "root".into(),
            since,
            until: since + Duration::from_secs(3 * 86400),
        };
        let mut policy = policy();
        grant.apply(&mut policy);
        assert_eq!(policy.limit, Some(Cores(8.0)));
        assert!(policy.unlimited);
        assert_eq!(policy.baseline, Cores(0.25));
        assert!(grant.holds(since + Duration::from_secs(86400)));
        assert!(!grant.holds(grant.until));
        assert_eq!(grant.left(grant.until), Duration::ZERO);
        assert_eq!(grant.left(since), Duration::from_secs(3 * 86400));
    }

    #[test]
    fn a_limit_is_never_below_the_baseline() {
        let grant = Grant {
            limit: Some(Cores(1.0)),
            baseline: Some(Cores(4.0)),
            credits: Some(GrantedCredits::Size(CoreSeconds(100.0))),
            class: None,
            reason: "thesis training".into(),
            by: "root".into(),
            since: SystemTime::UNIX_EPOCH,
            until: SystemTime::UNIX_EPOCH,
        };
        let mut policy = policy();
        grant.apply(&mut policy);
        assert_eq!(policy.limit, Some(Cores(4.0)));
        assert_eq!(policy.baseline, Cores(4.0));
        assert_eq!(policy.size, CoreSeconds(100.0));
        assert!(!policy.unlimited);
    }
}
