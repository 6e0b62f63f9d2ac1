//! How long nothing can be decided: the ticks of which a replay leaves the looks out.
//!
//! Most servers rest most of the time, and what spins is held at the baseline for hours. A look then
//! says what the one before it said. Property tests hold a replay that skips against one that does not.

use policy::{Policy, Stage, Standing};
use quantities::Cores;
use std::time::Duration;

/// For how long no look decides anything while a user's only server goes on at this rate and no limit
/// on wall time ends: until its credits come to the share from which it is free, from above or below.
pub(super) fn undecided(standing: &Standing, rate: Cores, policy: &Policy) -> Duration {
    let falls = rate.0 - policy.baseline.0;
    let above = standing.credits.left.0 - policy.free_above * policy.size.0;
    let drains_evenly = policy.repeat.is_none() || rate.0 == 0.0;
    let by_credits = policy.time.cpu.is_none() && policy.time.wall.is_none() && !policy.unlimited;
    let stays = match standing.stage {
        Stage::Free => drains_evenly && (policy.time.cpu.is_none() || rate.0 == 0.0),
        Stage::Deprioritised => by_credits && drains_evenly && above < 0.0 && falls < 0.0,
        Stage::Throttled => {
            let by_others = policy.contended_above.is_some();
            by_credits && above < 0.0 && !by_others && policy.sustained.freeze_after.is_none()
        }
        Stage::Frozen | Stage::Stopped => false,
    };
    let leaves_threshold = match standing.stage {
        Stage::Free => falls <= 0.0,
        _ => falls >= 0.0,
    };
    match (stays, leaves_threshold) {
        (false, _) => Duration::ZERO,
        (true, true) => Duration::MAX,
        (true, false) => {
            let comes_in = (above / falls).max(0.0);
            Duration::try_from_secs_f64(comes_in).unwrap_or(Duration::MAX)
        }
    }
}
