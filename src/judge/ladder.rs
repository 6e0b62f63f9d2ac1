//! The ladder: which rung a case stands on, and why it moves.

use super::{Credits, Policy};
use crate::units::{CoreSeconds, Cores, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// One step of the ladder, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Only the limit that everybody has.
    Free,
    /// A low weight: yields to whoever else wants the CPU.
    Deprioritised,
    /// A quota at the baseline.
    Throttled,
}

impl Rung {
    /// The word used in the journal's `VERDICT`, in `status` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Rung::Free => "free",
            Rung::Deprioritised => "deprioritised",
            Rung::Throttled => "throttled",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A server's standing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Its account.
    pub credits: Credits,
    /// Where it stands.
    pub rung: Rung,
    /// Since when, and whether it went up to get there; `None` before any verdict.
    moved: Option<Move>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Move {
    at: Time,
    up: bool,
}

impl Case {
    /// A server nobody has anything against.
    pub fn new(policy: &Policy) -> Case {
        Case {
            credits: Credits::full(policy),
            rung: Rung::Free,
            moved: None,
        }
    }

    /// How long the credits last at the present rate; `None` where they do not fall or are spent.
    pub fn lasts(&self, policy: &Policy) -> Option<Duration> {
        let falls = self.credits.rate.0 - policy.baseline.0;
        if self.rung == Rung::Throttled || falls <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(self.credits.left.0 / falls).ok()
    }

    /// When the last verdict was.
    pub fn moved_at(&self) -> Option<Time> {
        self.moved.map(|moved| moved.at)
    }
}

/// Something that happened to a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Its counters were read: CPU time used since its cgroup was made.
    Sampled(Duration),
}

/// A decided change of rung.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Where it stood.
    pub from: Rung,
    /// Where it stands now.
    pub to: Rung,
    /// Why.
    pub reason: Reason,
}

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
    /// It was decided before, and could not be or was not carried out until now.
    DecidedBefore,
    /// Credits came back.
    Rested {
        /// What is left.
        left: CoreSeconds,
        /// What a rested server has.
        size: CoreSeconds,
    },
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
                crate::units::in_words(*rest)
            ),
            Reason::DecidedBefore => f.write_str("that was decided before, and takes effect now"),
            Reason::Rested { left, size } => {
                write!(f, "it has {left} of {size} of CPU credits again")
            }
        }
    }
}

/// Books an event and says whether the case moves.
pub fn step(case: &mut Case, event: &Event, now: Time, policy: &Policy) -> Option<Verdict> {
    let Event::Sampled(usage) = event;
    case.credits.book(*usage, now, policy);
    let due = due(case, policy);
    if due == case.rung || !may_move(case, due, now, policy) {
        return None;
    }
    let verdict = Verdict {
        from: case.rung,
        to: due,
        reason: reason(case, due, policy),
    };
    case.moved = Some(Move {
        at: now,
        up: due > case.rung,
    });
    case.rung = due;
    Some(verdict)
}

/// The rung that credits alone call for. Between the two thresholds a case stays where it is:
/// that is the hysteresis.
fn due(case: &Case, policy: &Policy) -> Rung {
    let share = case.credits.share(policy);
    if case.credits.left.0 <= 0.0 {
        Rung::Throttled
    } else if share >= policy.free_above {
        Rung::Free
    } else if share < policy.deprioritise_below {
        case.rung.max(Rung::Deprioritised)
    } else {
        case.rung
    }
}

/// Going on in the same direction is always allowed, turning back only after the minimum stay.
fn may_move(case: &Case, due: Rung, now: Time, policy: &Policy) -> bool {
    match case.moved {
        Some(moved) if moved.up != (due > case.rung) => now.since(moved.at) >= policy.min_stay,
        _ => true,
    }
}

fn reason(case: &Case, due: Rung, policy: &Policy) -> Reason {
    let Credits { left, rate, .. } = case.credits;
    let size = policy.size;
    match due {
        Rung::Free => Reason::Rested { left, size },
        Rung::Deprioritised => Reason::CreditsLow { left, size, rate },
        Rung::Throttled => Reason::CreditsSpent {
            size,
            rate,
            rest: case
                .credits
                .rest_until(policy.free_above, policy)
                .max(policy.min_stay),
        },
    }
}
