//! What is to be done.

#[cfg(doc)]
use super::Input;
use crate::actuator;
use crate::undo::Undo;
use policy::finding::{Evidence, Strength};
use policy::{Verdict, Warning};
use quantities::CgroupId;
use std::collections::BTreeSet;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// With a place's unit. Requests are answered by [`Input::Answer`].
    Unit(CgroupId, actuator::Effect),
    /// This is to be on record, if that can be.
    Note(Box<Undo>),
    /// A place's account has a verdict, which is carried out and logged later.
    Decided(CgroupId, Verdict),
    /// A place's time is about to end.
    Warned(CgroupId, Warning),
    /// What was released is as its owner set it: it is looked at afresh.
    LetGo(CgroupId),
    /// Sensors look at these.
    LookAt(BTreeSet<CgroupId>),
    /// Where sensors look may be another by now: see [`Input::Attend`].
    Attend,
    /// What was found of a server amounts to this, which the journal does not have yet.
    Evidence(CgroupId, Strength, Vec<Evidence>),
    /// There is evidence against these: they are looked at now.
    Accused(BTreeSet<CgroupId>),
}
