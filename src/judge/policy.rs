//! What the judge goes by, as plain data.

use crate::units::{CoreSeconds, Cores};
use std::time::Duration;

/// CPU policy of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most it may use while it has credits; `None` is no limit of ours.
    pub limit: Option<Cores>,
    /// Refill rate, and the limit once credits are spent.
    pub baseline: Cores,
    /// The most credits it can have.
    pub size: CoreSeconds,
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
}
