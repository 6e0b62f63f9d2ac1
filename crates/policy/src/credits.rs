//! Credits: core-seconds a server may use above its baseline.
//!
//! Over a time `t` with CPU use `u` the account changes by `baseline × t − u`, and stays between
//! nothing and its size. A server that uses just its baseline keeps what it has; one that rests
//! fills up in `size / baseline`.

use super::Policy;
use quantities::{CoreSeconds, Cores, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One server's account.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Credits {
    /// What is left; from zero to the policy's size.
    pub left: CoreSeconds,
    /// The rate of use between the last two readings.
    pub rate: Cores,
    /// The size that `left` was measured by.
    size: CoreSeconds,
    last: Option<Reading>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Reading {
    at: Time,
    usage: Duration,
}

impl Credits {
    /// A rested server's account.
    pub fn full(policy: &Policy) -> Credits {
        Credits {
            left: policy.size,
            rate: Cores(0.0),
            size: policy.size,
            last: None,
        }
    }

    /// Books a reading of `usage` (CPU time since the cgroup was made) at `now`.
    ///
    /// The first reading only sets the starting point, and so does one that went backwards (the
    /// cgroup was made anew) or whose time did not advance: without a span there is nothing to
    /// book, and guessing would charge an innocent.
    /// `drain` above 1 makes use cost more.
    pub(super) fn book(&mut self, usage: Duration, now: Time, drain: f64, policy: &Policy) {
        self.follow(policy.size);
        let reading = Reading { at: now, usage };
        let Some(last) = self.last.replace(reading) else {
            return;
        };
        let span = now.since(last.at);
        if let (Some(used), false) = (usage.checked_sub(last.usage), span.is_zero()) {
            let earned = CoreSeconds::of(policy.baseline, span);
            self.left.0 += earned.0 - drain * used.as_secs_f64();
            self.rate = Cores(used.as_secs_f64() / span.as_secs_f64());
        }
        self.left.0 = self.left.0.clamp(0.0, policy.size.0);
    }

    /// Keeps the share when the policy's size changed: who was rested is rested still, and who had
    /// spent all is not forgiven.
    fn follow(&mut self, size: CoreSeconds) {
        if self.size != size {
            self.left.0 *= size.0 / self.size.0;
            self.size = size;
        }
    }

    /// The account after a rest, for a counter that begins anew.
    pub(super) fn after_rest(mut self, rest: Duration, policy: &Policy) -> Credits {
        self.follow(policy.size);
        self.left.0 += CoreSeconds::of(policy.baseline, rest).0;
        self.left.0 = self.left.0.clamp(0.0, policy.size.0);
        self.restart();
        self
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, policy: &Policy) -> bool {
        self.left >= policy.size
    }

    /// Forgets the starting point, for a cgroup whose counter begins anew.
    pub fn restart(&mut self) {
        self.last = None;
        self.rate = Cores(0.0);
    }

    /// What is left as a share of the size, 0.0 to 1.0.
    pub fn share(&self, policy: &Policy) -> f64 {
        self.left.0 / policy.size.0
    }

    /// How long a resting server takes to hold `share` of its size.
    pub fn rest_until(&self, share: f64, policy: &Policy) -> Duration {
        let missing = (policy.size.0 * share - self.left.0).max(0.0);
        Duration::try_from_secs_f64(missing / policy.baseline.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(size: f64) -> Policy {
        Policy {
            size: CoreSeconds(size),
            baseline: Cores(0.5),
            ..Policy::default()
        }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    /// An account of which so much was used over a hundred seconds.
    fn used(seconds: u64, policy: &Policy) -> Credits {
        let mut credits = Credits::full(policy);
        credits.book(Duration::ZERO, at(0), 1.0, policy);
        credits.book(Duration::from_secs(seconds), at(100), 1.0, policy);
        credits
    }

    #[test]
    fn rest_earns_the_baseline_and_no_more_than_all() {
        let policy = policy(1000.0);
        let spent = used(550, &policy);
        assert_eq!(spent.left, CoreSeconds(500.0));
        assert!(!spent.is_full(&policy));
        let rested = spent.after_rest(Duration::from_secs(600), &policy);
        assert_eq!(rested.left, CoreSeconds(800.0));
        assert!(!rested.is_full(&policy));
        let rested = spent.after_rest(Duration::from_secs(6000), &policy);
        assert_eq!(rested.left, CoreSeconds(1000.0));
        assert!(rested.is_full(&policy));
    }

    #[test]
    fn another_size_keeps_the_share() {
        let spent = used(550, &policy(1000.0));
        for (size, left) in [(2000.0, 1000.0), (100.0, 50.0)] {
            let same = spent.after_rest(Duration::ZERO, &policy(size));
            assert_eq!(same.left, CoreSeconds(left));
            assert_eq!(same.share(&policy(size)), 0.5);
        }
    }

    #[test]
    fn a_counter_that_begins_anew_charges_nothing_at_first() {
        let policy = policy(1000.0);
        let mut credits = used(550, &policy);
        assert_eq!(credits.rate, Cores(5.5));
        credits.restart();
        assert_eq!(credits.rate, Cores(0.0));
        credits.book(Duration::from_secs(9000), at(200), 1.0, &policy);
        assert_eq!(credits.left, CoreSeconds(500.0));
        credits.book(Duration::from_secs(9100), at(300), 2.0, &policy);
        assert_eq!(credits.left, CoreSeconds(350.0), "use costs twice as much");
    }

    #[test]
    fn the_rest_that_is_needed_is_what_is_missing_by_the_baseline() {
        let policy = policy(1000.0);
        let spent = used(1050, &policy);
        assert_eq!(spent.left, CoreSeconds(0.0));
        let needed = spent.rest_until(0.1, &policy);
        assert_eq!(needed, Duration::from_secs(200));
        let half = used(550, &policy);
        assert_eq!(half.rest_until(0.1, &policy), Duration::ZERO);
    }
}
