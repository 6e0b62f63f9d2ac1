//! Why a verdict was reached, in the words that the journal uses.

use super::FindingKind;
use crate::finding::Strength;
use quantities::{CoreSeconds, Cores, in_words};
use std::fmt;
use std::time::Duration;

/// Why a verdict was reached, with the readings that prove it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Credits fell below the share at which a server yields.
    CreditsLow {
        /// What is left.
        left: CoreSeconds,
        /// What a rested server has.
        size: CoreSeconds,
        /// Use since the reading before.
        rate: Cores,
    },
    /// Credits are spent.
    CreditsSpent {
        /// What a rested server has.
        size: CoreSeconds,
        /// Use since the reading before.
        rate: Cores,
        /// How long it must rest to be free.
        rest: Duration,
    },
    /// There is evidence of mining or of abuse of the network.
    Evidence {
        /// What it amounts to.
        level: Strength,
        /// What it is of.
        of: FindingKind,
        /// How long it stands after it was last found.
        stands: Duration,
        /// When it is ended if it goes on.
        stop_after: Option<Duration>,
    },
    /// Certain evidence went on for as long as the policy allows.
    EvidenceGoesOn {
        /// How long.
        after: Duration,
    },
    /// The processes that mined were ended.
    ProcessesEnded {
        /// How many.
        count: usize,
    },
    /// It was decided before, and could not be or was not carried out until now.
    DecidedBefore,
    /// Credits are spent, and nobody else waits for the CPU.
    SpentUncontended {
        /// What a rested server has.
        size: CoreSeconds,
    },
    /// It stayed throttled for as long as the policy allows.
    Sustained {
        /// How long.
        after: Duration,
    },
    /// It was frozen for as long as the policy allows.
    FrozenLongEnough {
        /// How long.
        after: Duration,
    },
    /// It used the CPU time it may.
    CpuTimeSpent {
        /// How much.
        limit: CoreSeconds,
    },
    /// It ran as long as it may.
    WallTimeSpent {
        /// How long.
        limit: Duration,
    },
    /// An admin's grant lets it.
    Granted,
    /// Credits came back.
    Rested {
        /// What is left.
        left: CoreSeconds,
        /// What a rested server has.
        size: CoreSeconds,
    },
}

impl Reason {
    /// Whether it leads up the ladder even right after a step down.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(
            self,
            Reason::Evidence { .. } | Reason::EvidenceGoesOn { .. }
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::CreditsLow { left, size, rate } => write!(
                f,
                "only {left} of {size} of CPU credits are left, and it uses {rate}"
            ),
            Reason::CreditsSpent { size, rate, rest } => write!(
                f,
                "its {size} of CPU credits are spent, and it uses {rate}; it is free again after \
                 {} of rest",
                in_words(*rest)
            ),
            Reason::SpentUncontended { size } => write!(
                f,
                "its {size} of CPU credits are spent, but nobody else waits for the CPU"
            ),
            Reason::Sustained { after } => {
                write!(f, "it stayed throttled for {}", in_words(*after))
            }
            Reason::FrozenLongEnough { after } => {
                write!(f, "it was frozen for {}", in_words(*after))
            }
            Reason::CpuTimeSpent { limit } => {
                write!(f, "it used the {limit} of CPU time that a server may")
            }
            Reason::WallTimeSpent { limit } => {
                write!(f, "it ran for the {} that a server may", in_words(*limit))
            }
            Reason::Evidence {
                level,
                of,
                stands,
                stop_after,
            } => {
                let what = match of {
                    FindingKind::Mining => "mines",
                    FindingKind::Network => "abuses the network",
                };
                write!(
                    f,
                    "the evidence that it {what} is {level}; this ends {} after the last sign of it",
                    in_words(*stands)
                )?;
                match stop_after {
                    Some(after) => write!(
                        f,
                        ", and it is stopped if it goes on for {}",
                        in_words(*after)
                    ),
                    None => Ok(()),
                }
            }
            Reason::EvidenceGoesOn { after } => write!(
                f,
                "the evidence that it mines is certain, and it went on for {} after that",
                in_words(*after)
            ),
            Reason::ProcessesEnded { count: 0 } => f.write_str("what mined had ended by itself"),
            Reason::ProcessesEnded { count: 1 } => f.write_str("the process that mined was ended"),
            Reason::ProcessesEnded { count } => {
                write!(f, "the {count} processes that mined were ended")
            }
            Reason::Granted => f.write_str("an admin granted it that"),
            Reason::DecidedBefore => f.write_str("that was decided before, and takes effect now"),
            Reason::Rested { left, size } => {
                write!(f, "it has {left} of {size} of CPU credits again")
            }
        }
    }
}
