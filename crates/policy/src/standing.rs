//! How a server stands on the ladder, and since when.

use super::{Accusation, Credits, Policy, Stage, Stop};
use quantities::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A server's standing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its account.
    pub credits: Credits,
    /// Where it stands.
    #[serde(alias = "rung")]
    pub stage: Stage,
    /// Since when, and whether it went up to get there; `None` before any verdict.
    pub(crate) moved: Option<Move>,
    /// When it was first seen.
    pub(crate) started: Option<Time>,
    /// Its last throttlings, newest first.
    pub(crate) offences: [Option<Time>; OFFENCES],
    /// It was told that its time ends.
    pub(crate) warned: bool,
    /// What evidence amounts to.
    #[serde(default)]
    pub(crate) accusation: Option<Accusation>,
    /// Certain evidence went on for so long that what mines is ended.
    #[serde(default)]
    pub(crate) ends: bool,
    /// How often others waited again soon after it was let up for their calm.
    #[serde(default)]
    pub(crate) relapses: u32,
    /// Since when others have not waited, while it is held.
    #[serde(default)]
    pub(crate) calm_since: Option<Time>,
}

/// More than these within one window change nothing further.
pub(crate) const OFFENCES: usize = 4;
/// An uncontended node gives a throttled server its CPU back after this many minimum stays: the
/// throttling itself relieves the others, so calm proves little at first. Each time that this
/// turns out so, twice as many.
pub(crate) const CALM: u32 = 4;
/// But never sooner: the kernel's pressure is a mean over ten seconds (Documentation/accounting/
/// psi.rst), and says little of the last few.
pub(crate) const LEAST_CALM: Duration = Duration::from_secs(30);
/// Doubled so often at most: sixteenfold, half an hour of the default minimum stay.
pub(crate) const MOST_RELAPSES: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) at: Time,
    pub(crate) up: bool,
}

impl Standing {
    /// A server nobody has anything against.
    pub fn new(policy: &Policy) -> Standing {
        Standing {
            credits: Credits::full(policy),
            stage: Stage::Free,
            moved: None,
            started: None,
            offences: [None; OFFENCES],
            warned: false,
            accusation: None,
            ends: false,
            relapses: 0,
            calm_since: None,
        }
    }

    /// A new server of a user whose earlier one ended so long ago and stood like this: stopping and
    /// starting again brings rest, and no new credits.
    pub fn after_rest(earlier: &Standing, rest: Duration, policy: &Policy) -> Standing {
        Standing {
            credits: earlier.credits.after_rest(rest, policy),
            offences: earlier.offences,
            // The next sample frees it if it has rested; till then it stands where it stood.
            stage: earlier.stage.min(Stage::Throttled),
            moved: earlier.moved,
            relapses: earlier.relapses,
            ..Standing::new(policy)
        }
    }

    /// The evidence of mining that stands against it.
    pub fn accusation(&self, now: Time) -> Option<&Accusation> {
        self.accusation.as_ref().filter(|one| one.stands(now))
    }

    /// Whether evidence of mining stands against it.
    pub fn is_accused(&self, now: Time) -> bool {
        self.accusation(now).is_some()
    }

    /// Whether its processes are not to be asked, but ended.
    pub fn ends_as_miner(&self) -> bool {
        self.stage == Stage::Stopped && self.ends
    }

    /// Whether it stands still so that the processes that mine can be ended.
    pub fn waits_for_end_of_processes(&self, policy: &Policy) -> bool {
        self.stage == Stage::Frozen && self.ends && policy.evidence.stop == Stop::Processes
    }

    /// Before verdicts are carried out that so far were only told: nothing stands still or is
    /// ended for what was found while nobody acted. Evidence stands, and its delay begins now.
    pub fn reopen(&mut self, now: Time) {
        if let Some(accusation) = &mut self.accusation {
            accusation.since = now;
        }
        self.ends = false;
        self.stage = self.stage.min(Stage::Throttled);
    }

    /// How long the credits last at the present rate; `None` where they do not fall or are spent.
    pub fn lasts(&self, policy: &Policy) -> Option<Duration> {
        let falls = self.credits.rate.0 - policy.baseline.0;
        if self.stage >= Stage::Throttled || falls <= 0.0 || policy.unlimited {
            return None;
        }
        Duration::try_from_secs_f64(self.credits.left.0 / falls).ok()
    }

    /// When the last verdict was.
    pub fn moved_at(&self) -> Option<Time> {
        self.moved.map(|moved| moved.at)
    }

    /// How long it has stood on this stage.
    pub(crate) fn stood(&self, now: Time) -> Duration {
        self.moved
            .map_or(Duration::ZERO, |moved| now.since(moved.at))
    }

    /// How long others must be calm before it is let up, though it has not rested.
    pub(crate) fn calm(&self, policy: &Policy) -> Duration {
        (CALM * policy.min_stay).max(LEAST_CALM) * 2u32.pow(self.relapses.min(MOST_RELAPSES))
    }

    /// Notes whether others wait: one reading without that is no calm.
    pub(crate) fn note_calm(&mut self, contended: bool, now: Time) {
        if contended || self.stage < Stage::Throttled {
            self.calm_since = None;
        } else {
            self.calm_since.get_or_insert(now);
        }
    }

    /// For how long others have not waited, without a break, while it is held.
    pub(crate) fn was_calm(&self, now: Time) -> Duration {
        self.calm_since.map_or(Duration::ZERO, |at| now.since(at))
    }

    /// Notes whether letting it up did others good: it is throttled again, for theirs.
    pub(crate) fn relapse(&mut self, now: Time, policy: &Policy) {
        let was_let_up =
            self.stage == Stage::Deprioritised && self.moved.is_some_and(|moved| !moved.up);
        if was_let_up && self.stood(now) < self.calm(policy) {
            self.relapses = (self.relapses + 1).min(MOST_RELAPSES);
        } else {
            self.relapses = 0;
        }
    }

    /// How much faster than its use its credits drain.
    pub(crate) fn drain(&self, now: Time, policy: &Policy) -> f64 {
        let Some(repeat) = policy.repeat else {
            return 1.0;
        };
        let recent = |at: &&Time| now.since(**at) < repeat.window;
        1.0 + repeat.faster * self.offences.iter().flatten().filter(recent).count() as f64
    }
}
