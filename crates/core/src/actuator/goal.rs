//! What a unit is to have, as the rest of the core knows it at this moment.

use crate::accounts::Place;
use crate::faults::{Fault, has};
use crate::undo::Owner;
use policy::{Controls, Policy, Stage, wanted};
use quantities::{Cores, Mode};
use std::time::Duration;

/// What a unit is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Whether anything is to stand here.
    pub acts: Acts,
    /// What.
    pub wants: Wants,
    /// Whether something is to end.
    pub ends: Ends,
    /// The hub is asked to end it first, its owner only if the hub does not.
    pub by_hub: bool,
    /// Only its part of the baseline changed, which is no news.
    pub quietly: bool,
}

/// Whether verdicts are carried out on a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acts {
    /// They are.
    Yes,
    /// Supervision is off.
    Off,
    /// They are only logged.
    Observes,
    /// It is not the server of the user that it was taken for.
    Released,
}

impl Acts {
    /// By whether supervision is off, and the mode.
    pub fn of(off: bool, mode: Mode) -> Acts {
        match (off, mode) {
            (true, _) => Acts::Off,
            (false, Mode::Observe) => Acts::Observes,
            (false, Mode::Enforce) => Acts::Yes,
        }
    }
}

/// The limits of a unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Wants {
    /// What a place may use on a stage.
    Stage(Stage, Box<Policy>),
    /// This quota at most, where there is any; of a slice.
    Cap(Option<Cores>),
}

/// What is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Nothing.
    Nothing,
    /// Those of its processes that mine, while it stands still.
    Processes,
    /// It is asked to stop.
    Stop,
    /// It is killed.
    Kill,
}

impl Goal {
    /// What a place is to have.
    pub fn of(place: &Place, acts: Acts, by_hub: bool) -> Goal {
        let (standing, policy) = (place.standing(), place.policy());
        let ends = match standing.stage {
            _ if acts != Acts::Yes => Ends::Nothing,
            Stage::Stopped if standing.ends_as_miner() && place.is_server() => Ends::Kill,
            Stage::Stopped => Ends::Stop,
            _ if standing.waits_for_end_of_processes(policy) => Ends::Processes,
            _ => Ends::Nothing,
        };
        Goal {
            acts,
            wants: Wants::Stage(standing.stage, Box::new(place.policy_here())),
            ends,
            by_hub,
            quietly: place.is_reshared(),
        }
    }

    /// Every limit of ours is to go; the unit is no known server.
    pub fn nothing() -> Goal {
        Goal {
            acts: Acts::Off,
            wants: Wants::Cap(None),
            ends: Ends::Nothing,
            by_hub: false,
            quietly: true,
        }
    }

    /// What is to stand where its owner set this. Never looser than that.
    pub fn target(&self, owner: &Owner, before: &Controls) -> Controls {
        if self.acts != Acts::Yes && !has(Fault::ActsAlways) {
            return *before;
        }
        let wanted = match &self.wants {
            Wants::Stage(stage, policy) if has(Fault::LooserThanTheirs) => {
                wanted(*stage, policy, &Controls::default())
            }
            Wants::Stage(stage, policy) => wanted(*stage, policy, before),
            Wants::Cap(cap) => {
                let tighter = |cap: &Cores| before.quota.is_none_or(|standing| *cap < standing);
                Controls {
                    quota: cap.filter(tighter).or(before.quota),
                    ..*before
                }
            }
        };
        match wanted == *before {
            true => wanted,
            false => owner.as_held(&wanted),
        }
    }

    /// What would stand by a verdict, for people.
    pub(super) fn shown(&self, to: Stage, before: &Controls) -> Controls {
        match &self.wants {
            Wants::Stage(_, policy) => wanted(to, policy, before),
            Wants::Cap(_) => *before,
        }
    }

    /// For how long a server stands still at a time.
    pub(super) fn freeze_for(&self) -> Duration {
        match &self.wants {
            Wants::Stage(_, policy) => policy.sustained.freeze_for,
            Wants::Cap(_) => Duration::ZERO,
        }
    }
}
