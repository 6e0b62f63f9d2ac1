//! The ladder: which stage a server stands on, and why it moves.

use super::{Accusation, Credits, FindingKind, Policy, Reason, Stage, Standing};
use crate::finding::Strength;
use crate::standing::Move;
use quantities::{CoreSeconds, Time};
use std::time::Duration;

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
