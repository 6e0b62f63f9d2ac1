//! What a stage means in systemd's terms, given what stood there before.

use super::{Policy, Stage};
use quantities::{Bytes, Cores};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The properties of a unit that we set; `None` is systemd's "not set".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Controls {
    /// `CPUQuotaPerSecUSec`.
    pub quota: Option<Cores>,
    /// `CPUQuotaPeriodUSec`.
    pub period: Option<Duration>,
    /// `CPUWeight`.
    pub weight: Option<u64>,
    /// `MemoryHigh`.
    pub memory_high: Option<Bytes>,
    /// `MemoryMax`.
    pub memory_max: Option<Bytes>,
    /// `TasksMax`.
    pub tasks_max: Option<u64>,
    /// `IOWeight`.
    pub io_weight: Option<u64>,
    /// Its processes stand still.
    pub frozen: bool,
}

/// systemd's and the kernel's weight where none is set.
const DEFAULT_WEIGHT: u64 = 100;

/// The settings for a stage. Never looser than `before`, whoever set that; equal to it where we
/// have nothing to add.
pub fn wanted(stage: Stage, policy: &Policy, before: &Controls) -> Controls {
    let mut settings = *before;
    if let Some(limit) = policy.limit {
        tighten(&mut settings, limit, None);
    }
    let plain = &policy.plain;
    lower(&mut settings.memory_high, plain.memory_high);
    lower(&mut settings.memory_max, plain.memory_max);
    lower(&mut settings.tasks_max, plain.tasks_max);
    lower(&mut settings.io_weight, plain.io_weight);
    // Not on the stage above it: a frozen unit does not hear that it should stop.
    if stage == Stage::Frozen {
        settings.frozen = true;
    }
    if stage >= Stage::Deprioritised {
        let weight = before.weight.unwrap_or(DEFAULT_WEIGHT).min(policy.weight);
        if before.weight != Some(weight) {
            settings.weight = Some(weight);
        }
    }
    if stage >= Stage::Throttled {
        tighten(&mut settings, policy.baseline, Some(policy.period));
    }
    settings
}

/// Lowers the quota; a quota of ours comes with a period of ours.
fn tighten(settings: &mut Controls, quota: Cores, period: Option<Duration>) {
    if settings.quota.is_none_or(|standing| quota < standing) {
        // As systemd will hold it, so that reading it back compares equal.
        settings.quota = Cores::from_quota_per_sec_usec(quota.quota_per_sec_usec());
        if period.is_some() {
            settings.period = period;
        }
    }
}

/// Lowers a limit, and never raises one.
fn lower<T: PartialOrd + Copy>(standing: &mut Option<T>, ours: Option<T>) {
    if let Some(ours) = ours
        && standing.is_none_or(|standing| ours < standing)
    {
        *standing = Some(ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::policy;

    #[test]
    fn plain_limits_hold_on_every_stage_and_never_loosen() {
        let policy = Policy {
            plain: crate::PlainLimits {
                memory_max: Some(Bytes(1 << 30)),
                tasks_max: Some(500),
                ..Default::default()
            },
            ..policy()
        };
        let before = Controls {
            tasks_max: Some(100),
            ..Controls::default()
        };
        for stage in Stage::ALL {
            let settings = wanted(stage, &policy, &before);
            assert_eq!(settings.memory_max, Some(Bytes(1 << 30)));
            assert_eq!(settings.tasks_max, Some(100));
        }
    }

    #[test]
    fn free_server_has_just_the_limit() {
        let settings = wanted(Stage::Free, &policy(), &Controls::default());
        assert_eq!(
            settings,
            Controls {
                quota: Some(Cores(2.0)),
                ..Controls::default()
            }
        );
    }

    #[test]
    fn lower_limit_of_the_admin_stands() {
        let before = Controls {
            quota: Some(Cores(1.5)),
            period: Some(Duration::from_millis(50)),
            weight: Some(10),
            ..Controls::default()
        };
        assert_eq!(wanted(Stage::Free, &policy(), &before), before);
        assert_eq!(wanted(Stage::Deprioritised, &policy(), &before), before);
        let throttled = wanted(Stage::Throttled, &policy(), &before);
        assert_eq!(throttled.quota, Some(Cores(0.25)));
        assert_eq!(throttled.period, Some(policy().period));
        assert_eq!(throttled.weight, Some(10));
    }

    #[test]
    fn limit_below_the_baseline_is_never_raised() {
        let before = Controls {
            quota: Some(Cores(0.1)),
            ..Controls::default()
        };
        assert_eq!(
            wanted(Stage::Throttled, &policy(), &before).quota,
            Some(Cores(0.1))
        );
        assert_eq!(wanted(Stage::Throttled, &policy(), &before).period, None);
    }

    #[test]
    fn of_ours_and_the_owners_the_stricter_is_set() {
        let policy = Policy {
            plain: crate::PlainLimits {
                memory_high: Some(Bytes(2 << 30)),
                memory_max: Some(Bytes(3 << 30)),
                tasks_max: Some(500),
                io_weight: Some(50),
            },
            ..policy()
        };
        let before = Controls {
            quota: Some(Cores(8.0)),
            period: Some(Duration::from_millis(50)),
            weight: Some(100),
            memory_high: Some(Bytes(1 << 30)),
            memory_max: Some(Bytes(4 << 30)),
            tasks_max: Some(1000),
            io_weight: Some(50),
            frozen: false,
        };
        let throttled = Controls {
            quota: Some(policy.baseline),
            period: Some(policy.period),
            weight: Some(policy.weight),
            memory_max: Some(Bytes(3 << 30)),
            tasks_max: Some(500),
            ..before
        };
        assert_eq!(wanted(Stage::Throttled, &policy, &before), throttled);
        let frozen = Controls {
            frozen: true,
            ..throttled
        };
        assert_eq!(wanted(Stage::Frozen, &policy, &before), frozen);
        // A frozen unit does not hear that it should stop.
        assert_eq!(wanted(Stage::Stopped, &policy, &before), throttled);
        let free = Controls {
            quota: Some(Cores(2.0)),
            weight: before.weight,
            period: before.period,
            ..throttled
        };
        assert_eq!(wanted(Stage::Free, &policy, &before), free);
    }

    #[test]
    fn the_quota_that_stands_keeps_its_owner_s_period() {
        let before = Controls {
            quota: Some(policy().baseline),
            period: Some(Duration::from_millis(50)),
            ..Controls::default()
        };
        let throttled = wanted(Stage::Throttled, &policy(), &before);
        assert_eq!(
            (throttled.quota, throttled.period),
            (before.quota, before.period)
        );
        // A weight of systemd's default is none that was set.
        assert_eq!(throttled.weight, Some(policy().weight));
    }

    #[test]
    fn without_a_limit_of_ours_a_free_server_is_left_alone() {
        let policy = Policy {
            limit: None,
            ..policy()
        };
        assert_eq!(
            wanted(Stage::Free, &policy, &Controls::default()),
            Controls::default()
        );
    }
}
