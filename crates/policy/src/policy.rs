//! What the judge goes by, as plain data.

use super::Stage;
use quantities::{Bytes, CoreSeconds, Cores};
use std::time::Duration;

/// Policy of one server: what its user may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most it may use while it has credits; `None` is no limit of ours.
    pub limit: Option<Cores>,
    /// Refill rate, and the limit once credits are spent.
    pub baseline: Cores,
    /// The most credits it can have.
    pub size: CoreSeconds,
    /// Credits do not matter: a grant.
    pub unlimited: bool,
    /// Spent credits throttle only while others wait for the CPU for more than this share of
    /// the time; `None` always.
    pub contended_above: Option<f64>,
    /// Share of `size` below which it yields to others.
    pub deprioritise_below: f64,
    /// Share of `size` from which it is free again.
    pub free_above: f64,
    /// CPU weight while it yields.
    pub weight: u64,
    /// Period of a quota at the baseline.
    pub period: Duration,
    /// Least time between two opposite verdicts.
    pub min_stay: Duration,
    /// What happens to those who stay throttled.
    pub sustained: Sustained,
    /// How repeated throttling makes credits drain faster.
    pub repeat: Option<Repeat>,
    /// Limits on how long a server may run.
    pub time: TimeLimits,
    /// Limits that hold on every stage.
    pub plain: PlainLimits,
    /// What evidence of mining leads to.
    pub evidence: Consequences,
}

/// What evidence of mining leads to, while it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequences {
    /// The stage for evidence that is high; `None` is a report and no more.
    pub high: Option<Stage>,
    /// The stage for evidence that is certain.
    pub certain: Option<Stage>,
    /// How long after that it is ended, if it still goes on; `None` is never.
    pub stop_after: Option<Duration>,
    /// What is ended.
    pub stop: Stop,
    /// How long evidence stands after it was last found.
    pub stands: Duration,
}

/// What is ended when certain evidence goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The whole server.
    Server,
    /// The processes that the evidence is of, and nothing else of the server.
    Processes,
}

impl Default for Consequences {
    fn default() -> Self {
        Consequences {
            high: Some(Stage::Throttled),
            certain: Some(Stage::Throttled),
            stop_after: Some(Duration::from_secs(600)),
            stop: Stop::Server,
            stands: Duration::from_secs(600),
        }
    }
}

/// What holds where nothing is configured (`config.example.toml` says the same).
impl Default for Policy {
    fn default() -> Self {
        Policy {
            limit: Some(Cores(2.0)),
            baseline: Cores(0.25),
            size: CoreSeconds(3600.0),
            unlimited: false,
            contended_above: None,
            deprioritise_below: 0.05,
            free_above: 0.10,
            weight: 20,
            period: Duration::from_millis(20),
            min_stay: Duration::from_secs(30),
            sustained: Sustained {
                freeze_after: None,
                freeze_for: Duration::from_secs(600),
                stop: false,
            },
            repeat: None,
            time: TimeLimits {
                cpu: None,
                wall: None,
                warn: Duration::from_secs(3600),
                then: Stage::Throttled,
            },
            plain: PlainLimits::default(),
            evidence: Consequences::default(),
        }
    }
}

/// What happens to a server that stays throttled: nothing, unless configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sustained {
    /// Frozen after this long.
    pub freeze_after: Option<Duration>,
    /// For this long at most.
    pub freeze_for: Duration,
    /// And stopped then, instead of let go on throttled.
    pub stop: bool,
}

/// Each throttling within the window makes credits drain by this much more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeat {
    /// How long a throttling counts.
    pub window: Duration,
    /// Share added to the drain for each: 0.5 after two means twice as fast.
    pub faster: f64,
}

/// How long a server may run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeLimits {
    /// CPU time since its start.
    pub cpu: Option<CoreSeconds>,
    /// Wall time since its start.
    pub wall: Option<Duration>,
    /// The user is told this long ahead: wall time, or CPU time at one core.
    pub warn: Duration,
    /// What happens then.
    pub then: Stage,
}

/// Limits that hold on every stage; `None` is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlainLimits {
    /// `memory.high`.
    pub memory_high: Option<Bytes>,
    /// `memory.max`.
    pub memory_max: Option<Bytes>,
    /// `pids.max`.
    pub tasks_max: Option<u64>,
    /// IO weight.
    pub io_weight: Option<u64>,
}
