//! The ladder: which stage a server stands on, and why it moves.

use super::{Accusation, Credits, FindingKind, Policy, Reason, Stop};
use crate::finding::Strength;
use quantities::{CoreSeconds, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

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

/// A server's standing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its account.
    pub credits: Credits,
    /// Where it stands.
    #[serde(alias = "rung")]
    pub stage: Stage,
    /// Since when, and whether it went up to get there; `None` before any verdict.
    moved: Option<Move>,
    /// When it was first seen.
    started: Option<Time>,
    /// Its last throttlings, newest first.
    offences: [Option<Time>; OFFENCES],
    /// It was told that its time ends.
    warned: bool,
    /// What evidence amounts to.
    #[serde(default)]
    accusation: Option<Accusation>,
    /// Certain evidence went on for so long that what mines is ended.
    #[serde(default)]
    ends: bool,
    /// How often others waited again soon after it was let up for their calm.
    #[serde(default)]
    relapses: u32,
    /// Since when others have not waited, while it is held.
    #[serde(default)]
    calm_since: Option<Time>,
}

/// More than these within one window change nothing further.
const OFFENCES: usize = 4;
/// An uncontended node gives a throttled server its CPU back after this many minimum stays: the
/// throttling itself relieves the others, so calm proves little at first. Each time that this
/// turns out so, twice as many.
const CALM: u32 = 4;
/// But never sooner: the kernel's pressure is a mean over ten seconds (Documentation/accounting/
/// psi.rst), and says little of the last few.
const LEAST_CALM: Duration = Duration::from_secs(30);
/// Doubled so often at most: sixteenfold, half an hour of the default minimum stay.
const MOST_RELAPSES: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Move {
    at: Time,
    up: bool,
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

    /// A new server of a user whose earlier one ended on this standing, so long ago: stopping and
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
    fn stood(&self, now: Time) -> Duration {
        self.moved
            .map_or(Duration::ZERO, |moved| now.since(moved.at))
    }

    /// How long others must be calm before it is let up, though it has not rested.
    fn calm(&self, policy: &Policy) -> Duration {
        (CALM * policy.min_stay).max(LEAST_CALM) * 2u32.pow(self.relapses.min(MOST_RELAPSES))
    }

    /// Notes whether others wait: one reading without that is no calm.
    fn note_calm(&mut self, contended: bool, now: Time) {
        if contended || self.stage < Stage::Throttled {
            self.calm_since = None;
        } else {
            self.calm_since.get_or_insert(now);
        }
    }

    /// For how long others have not waited, without a break, while it is held.
    fn was_calm(&self, now: Time) -> Duration {
        self.calm_since.map_or(Duration::ZERO, |at| now.since(at))
    }

    /// Notes whether letting it up did others good: it is throttled again, for theirs.
    fn relapse(&mut self, now: Time, policy: &Policy) {
        let was_let_up =
            self.stage == Stage::Deprioritised && self.moved.is_some_and(|moved| !moved.up);
        if was_let_up && self.stood(now) < self.calm(policy) {
            self.relapses = (self.relapses + 1).min(MOST_RELAPSES);
        } else {
            self.relapses = 0;
        }
    }

    /// How much faster than its use its credits drain.
    fn drain(&self, now: Time, policy: &Policy) -> f64 {
        let Some(repeat) = policy.repeat else {
            return 1.0;
        };
        let recent = |at: &&Time| now.since(**at) < repeat.window;
        1.0 + repeat.faster * self.offences.iter().flatten().filter(recent).count() as f64
    }
}

/// Something that happened to a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Its counters were read.
    Sampled {
        /// CPU time used since its cgroup was made.
        usage: Duration,
        /// Other servers or the hub wait for the CPU.
        contended: bool,
    },
    /// There is evidence of mining or of abuse of the network; the next sample's verdict goes by it.
    Evidence {
        /// What it amounts to, high or certain.
        level: Strength,
        /// What it is of.
        of: FindingKind,
    },
    /// The processes that the evidence was of were ended.
    ProcessesEnded {
        /// How many.
        count: usize,
    },
}

/// A decided change of stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Where it stood.
    pub from: Stage,
    /// Where it stands now.
    pub to: Stage,
    /// Why.
    pub reason: Reason,
}

/// A server's time is about to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warning {
    /// How long it still has: wall time, or CPU time at one core.
    pub left: Duration,
    /// What comes then.
    pub then: Stage,
}

/// Books an event and says whether the server moves.
pub fn step(standing: &mut Standing, event: &Event, now: Time, policy: &Policy) -> Option<Verdict> {
    let (usage, contended) = match *event {
        Event::Sampled { usage, contended } => (usage, contended),
        Event::Evidence { level, of } => {
            standing.accusation = Some(Accusation::again(
                standing.accusation,
                (level, of),
                now,
                policy,
            ));
            return None;
        }
        Event::ProcessesEnded { count } => return processes_ended(standing, count, now),
    };
    // Nothing comes after that, whatever a unit that is about to end still does.
    if standing.stage == Stage::Stopped {
        return None;
    }
    standing.started.get_or_insert(now);
    standing.note_calm(contended, now);
    let drain = standing.drain(now, policy);
    standing.credits.book(usage, now, drain, policy);
    let (due, reason) = due(standing, usage, contended, now, policy);
    standing.ends = matches!(reason, Reason::EvidenceGoesOn { .. });
    let urgent = due > standing.stage && reason.is_urgent();
    if due == standing.stage || !(urgent || may_move(standing, due, now, policy)) {
        return None;
    }
    let verdict = Verdict {
        from: standing.stage,
        to: due,
        reason,
    };
    if due == Stage::Throttled && standing.stage < due {
        standing.relapse(now, policy);
        standing.offences.rotate_right(1);
        standing.offences[0] = Some(now);
    }
    standing.moved = Some(Move {
        at: now,
        up: due > standing.stage,
    });
    standing.stage = due;
    Some(verdict)
}

/// What mined is gone, so what else the server does goes on; a rest is not asked of it.
fn processes_ended(standing: &mut Standing, count: usize, now: Time) -> Option<Verdict> {
    standing.accusation = None;
    standing.ends = false;
    let from = standing.stage;
    if from != Stage::Frozen {
        return None;
    }
    standing.stage = Stage::Throttled;
    standing.moved = Some(Move { at: now, up: false });
    Some(Verdict {
        from,
        to: standing.stage,
        reason: Reason::ProcessesEnded { count },
    })
}

impl Warning {
    /// The warning that is due, once for each server.
    pub fn due(
        standing: &mut Standing,
        usage: Duration,
        now: Time,
        policy: &Policy,
    ) -> Option<Warning> {
        let time = &policy.time;
        let left = time_left(standing, usage, now, policy)?;
        if standing.warned || left > time.warn || left.is_zero() {
            return None;
        }
        standing.warned = true;
        Some(Warning {
            left,
            then: time.then,
        })
    }
}

/// What is left of the shorter of the two time limits.
fn time_left(standing: &Standing, usage: Duration, now: Time, policy: &Policy) -> Option<Duration> {
    let ran = now.since(standing.started.unwrap_or(now));
    let wall = policy.time.wall.map(|limit| limit.saturating_sub(ran));
    let cpu = policy.time.cpu.map(|CoreSeconds(limit)| {
        Duration::try_from_secs_f64(limit)
            .unwrap_or(Duration::MAX)
            .saturating_sub(usage)
    });
    wall.into_iter().chain(cpu).min()
}

/// The stage that everything together calls for, and why.
fn due(
    standing: &Standing,
    usage: Duration,
    contended: bool,
    now: Time,
    policy: &Policy,
) -> (Stage, Reason) {
    let (by_load, reason) = due_by_load(standing, contended, now, policy);
    if time_left(standing, usage, now, policy) == Some(Duration::ZERO) && policy.time.then > by_load
    {
        return (policy.time.then, time_reason(usage, policy));
    }
    // Whom an admin gave unlimited CPU was looked at by a person.
    if let Some(accusation) = standing.accusation(now)
        && !policy.unlimited
        && let Some((stage, reason)) = accusation.calls_for(standing.stage, now, policy)
        && stage >= by_load
    {
        return (stage, reason);
    }
    (by_load, reason)
}

fn time_reason(usage: Duration, policy: &Policy) -> Reason {
    match (policy.time.cpu, policy.time.wall) {
        (Some(limit), _) if usage.as_secs_f64() >= limit.0 => Reason::CpuTimeSpent { limit },
        (_, Some(limit)) => Reason::WallTimeSpent { limit },
        (Some(limit), None) => Reason::CpuTimeSpent { limit },
        (None, None) => Reason::DecidedBefore,
    }
}

/// The stage that credits call for. Between the two thresholds a server stays where it is: that is
/// the hysteresis.
fn due_by_load(
    standing: &Standing,
    contended: bool,
    now: Time,
    policy: &Policy,
) -> (Stage, Reason) {
    let Credits { left, rate, .. } = standing.credits;
    let size = policy.size;
    let share = standing.credits.share(policy);
    let spent = || Reason::CreditsSpent {
        size,
        rate,
        rest: standing
            .credits
            .rest_until(policy.free_above, policy)
            .max(policy.min_stay),
    };
    if policy.unlimited {
        return (Stage::Free, Reason::Granted);
    }
    if standing.stage >= Stage::Throttled && share < policy.free_above {
        return due_while_held(standing, now, policy, spent());
    }
    if left.0 <= 0.0 {
        return if policy.contended_above.is_some() && !contended {
            (Stage::Deprioritised, Reason::SpentUncontended { size })
        } else {
            (Stage::Throttled, spent())
        };
    }
    if share >= policy.free_above {
        (Stage::Free, Reason::Rested { left, size })
    } else if share < policy.deprioritise_below {
        (
            Stage::Deprioritised,
            Reason::CreditsLow { left, size, rate },
        )
    } else {
        (standing.stage, Reason::DecidedBefore)
    }
}

/// What becomes of a server that is throttled or frozen and has not rested.
fn due_while_held(
    standing: &Standing,
    now: Time,
    policy: &Policy,
    spent: Reason,
) -> (Stage, Reason) {
    let stood = standing.stood(now);
    let sustained = policy.sustained;
    match (standing.stage, sustained.freeze_after) {
        (Stage::Throttled, Some(after)) if stood >= after => {
            (Stage::Frozen, Reason::Sustained { after })
        }
        (Stage::Throttled, _)
            if policy.contended_above.is_some()
                && standing.was_calm(now) >= standing.calm(policy) =>
        {
            let size = policy.size;
            (Stage::Deprioritised, Reason::SpentUncontended { size })
        }
        (Stage::Frozen, _) if stood >= sustained.freeze_for => {
            let after = sustained.freeze_for;
            let to = if sustained.stop {
                Stage::Stopped
            } else {
                Stage::Throttled
            };
            (to, Reason::FrozenLongEnough { after })
        }
        (stage, _) => (stage, spent),
    }
}

/// Going on in the same direction is always allowed, turning back only after the minimum stay.
fn may_move(standing: &Standing, due: Stage, now: Time, policy: &Policy) -> bool {
    match standing.moved {
        // Whom an admin helps should not have to wait.
        _ if policy.unlimited => true,
        Some(moved) if moved.up != (due > standing.stage) => now.since(moved.at) >= policy.min_stay,
        _ => true,
    }
}
