//! What the kernel makes of a setting: its bounds and its steps.

use policy::Controls;
use quantities::{Bytes, Cores};
use std::time::Duration;

/// The kernel's default period, and the bounds it has for one (kernel/sched/core.c).
const DEFAULT_PERIOD: Duration = Duration::from_millis(100);
const SHORTEST_PERIOD_USEC: u64 = 1000;
/// The longest period that it takes, in microseconds.
pub const LONGEST_PERIOD_USEC: u64 = 1_000_000;
/// The least run time a period that the kernel takes, in microseconds.
pub const LEAST_QUOTA_USEC: u64 = 1000;
/// The kernel's weight where none is set.
pub const DEFAULT_WEIGHT: u64 = 100;

/// Settings as the kernel will hold them.
pub fn as_held(settings: &Controls) -> Controls {
    let (quota, period) = quota_and_period(settings);
    Controls {
        quota: quota.and_then(|quota| rate(quota, period)),
        period: Some(Duration::from_micros(period)),
        // 0 is what a cgroup with `cpu.idle` reads as; it is only ever left as it is.
        weight: Some(settings.weight.unwrap_or(DEFAULT_WEIGHT).min(10_000)),
        // The kernel counts memory in whole pages.
        memory_high: settings.memory_high.map(whole_pages),
        memory_max: settings.memory_max.map(whole_pages),
        ..*settings
    }
}

fn whole_pages(Bytes(bytes): Bytes) -> Bytes {
    Bytes(bytes / 4096 * 4096)
}

/// Both in microseconds. A quota too low for its period has the period lengthened, as systemd
/// does (src/core/cgroup.c, `cgroup_cpu_adjust_period`).
pub fn quota_and_period(settings: &Controls) -> (Option<u64>, u64) {
    let period = settings.period.unwrap_or(DEFAULT_PERIOD).as_micros();
    let period = u64::try_from(period)
        .unwrap_or(LONGEST_PERIOD_USEC)
        .clamp(SHORTEST_PERIOD_USEC, LONGEST_PERIOD_USEC);
    let Some(Cores(cores)) = settings.quota else {
        return (None, period);
    };
    let in_period = |period: u64| (cores * period as f64).round() as u64;
    if in_period(period) >= LEAST_QUOTA_USEC {
        return (Some(in_period(period)), period);
    }
    let longer = (LEAST_QUOTA_USEC as f64 / cores).ceil() as u64;
    let period = longer.clamp(period, LONGEST_PERIOD_USEC);
    (Some(in_period(period).max(LEAST_QUOTA_USEC)), period)
}

/// To a millionth of a core, as systemd counts, so that it comes back equal from the state file.
pub fn rate(quota_usec: u64, period_usec: u64) -> Option<Cores> {
    let millionths = quota_usec as f64 * 1e6 / period_usec.max(1) as f64;
    Cores::from_quota_per_sec_usec(millionths.round() as u64)
}
