//! What a hot server really does: kernel facts that tell a miner from a training job.
//!
//! Sustained CPU only says where to look. What is found there is a [`Fact`] with the numbers that
//! prove it; what facts amount to together is [`crate::judge::suspicion`]'s to say. One file a
//! sense:
//! - [`modes`], [`rounding`]: which rounding modes the CPU's SSE unit is switched to;
//! - [`constants`]: RandomX's consensus constants in memory;
//! - [`exec`]: what a process calls itself and is told on its command line;
//! - [`binary`]: what a process is in truth.
//!
//! [`senses`] has them look at hot servers, and at nobody else. [`insight`] is for people: what runs
//! in a server, by kind of program.
//!
//! Contents of users' memory and command lines are never kept: a fact holds which pattern
//! matched, and nothing of what surrounded it.

pub mod binary;
pub mod constants;
pub mod exec;
pub mod insight;
pub mod modes;
pub mod process;
pub mod rounding;
pub mod senses;

pub use modes::Modes;

use crate::units::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Of RandomX's seven constants this many prove it: one alone is a number like any other.
pub const CONSTANTS_NEEDED: usize = 4;

/// Who finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sense {
    /// Rounding modes, seen at context switches.
    Rounding,
    /// Constants in memory.
    Constants,
    /// Names and arguments.
    Exec,
    /// What kind of program runs.
    Binary,
    /// Mining protocol in traffic.
    Stratum,
}

impl Sense {
    /// The word used in the journal's `EVIDENCE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Sense::Rounding => "rounding",
            Sense::Constants => "constants",
            Sense::Exec => "exec",
            Sense::Binary => "binary",
            Sense::Stratum => "stratum",
        }
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much something proves, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// It looks odd and has an honest explanation, which is said.
    Exonerates,
    /// Worth a line in the journal, and nothing more.
    Suspicious,
    /// No honest program measured does this.
    High,
    /// Two independent signs of it.
    Certain,
}

impl Strength {
    /// The word used in the journal, in `explain` and in the corpus.
    pub fn as_str(self) -> &'static str {
        match self {
            Strength::Exonerates => "exonerates",
            Strength::Suspicious => "suspicious",
            Strength::High => "high",
            Strength::Certain => "certain",
        }
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was seen, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Rule R: all three directed modes at random with denormals flushed, as RandomX computes.
    RandomRounding(Modes),
    /// All three directed modes, without flushing: RandomX would flush.
    MixedRounding(Modes),
    /// Rounding up, or up and down: interval arithmetic.
    IntervalRounding(Modes),
    /// RandomX's constants are in memory: how many of seven.
    Constants {
        /// How many.
        found: usize,
    },
    /// A miner's name or option.
    Named(&'static str),
    /// It calls itself `python` and has no Python in it.
    NoPythonInPython,
    /// Mining protocol in its traffic.
    Stratum,
}

impl Fact {
    /// Whose fact it is.
    pub fn sense(&self) -> Sense {
        match self {
            Fact::RandomRounding(_) | Fact::MixedRounding(_) | Fact::IntervalRounding(_) => {
                Sense::Rounding
            }
            Fact::Constants { .. } => Sense::Constants,
            Fact::Named(_) => Sense::Exec,
            Fact::NoPythonInPython => Sense::Binary,
            Fact::Stratum => Sense::Stratum,
        }
    }

    /// What it proves by itself, about a server that is hot.
    pub fn strength(&self) -> Strength {
        match self {
            Fact::Constants { found } if *found >= CONSTANTS_NEEDED => Strength::High,
            Fact::Stratum => Strength::High,
            Fact::IntervalRounding(_) => Strength::Exonerates,
            Fact::RandomRounding(_)
            | Fact::MixedRounding(_)
            | Fact::Constants { .. }
            | Fact::Named(_)
            | Fact::NoPythonInPython => Strength::Suspicious,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::RandomRounding(modes) => write!(
                f,
                "rounding modes change at random with denormals flushed, as RandomX computes \
                 ({modes}; 4 of each and 90 % flushed are needed)"
            ),
            Fact::MixedRounding(modes) => write!(
                f,
                "all rounding modes are used, but denormals are not flushed as RandomX does \
                 ({modes})"
            ),
            Fact::IntervalRounding(modes) => write!(
                f,
                "rounding goes up, or up and down, and never to zero: interval arithmetic, which \
                 is honest ({modes})"
            ),
            Fact::Constants { found } => write!(
                f,
                "{found} of RandomX's 7 constants are in its memory ({CONSTANTS_NEEDED} are needed)"
            ),
            Fact::Named(pattern) => write!(f, "its name or arguments say {pattern:?}"),
            Fact::NoPythonInPython => f.write_str("it calls itself python and has no Python in it"),
            Fact::Stratum => f.write_str("it speaks stratum, the mining pools' protocol"),
        }
    }
}

/// One observed fact about one process of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// What.
    pub fact: Fact,
    /// Of which process (thread group).
    pub pid: u32,
    /// When.
    pub at: Time,
}

impl Evidence {
    /// What it proves by itself.
    pub fn strength(&self) -> Strength {
        self.fact.strength()
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}: {}", self.pid, self.fact)
    }
}
