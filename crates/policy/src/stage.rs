//! The steps of the ladder.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One step of the ladder, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Only the limits that everybody has.
    Free,
    /// A low weight: yields to whoever else wants the CPU.
    Deprioritised,
    /// A quota at the baseline.
    Throttled,
    /// Stands still, and loses nothing.
    Frozen,
    /// Ended. The user may start a new one.
    Stopped,
}

impl Stage {
    /// All stages, mildest first.
    pub const ALL: [Stage; 5] = [
        Stage::Free,
        Stage::Deprioritised,
        Stage::Throttled,
        Stage::Frozen,
        Stage::Stopped,
    ];

    /// The word used in the journal's `VERDICT`, in `status` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Free => "free",
            Stage::Deprioritised => "deprioritised",
            Stage::Throttled => "throttled",
            Stage::Frozen => "frozen",
            Stage::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
