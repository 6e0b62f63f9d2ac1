//! What is to be done.

#[cfg(doc)]
use super::Answer;
use super::{Acts, Ticket, Trouble};
use crate::undo::{Start, Undo};
use policy::{Controls, Verdict};
use std::time::Duration;

/// What is to be done in the world, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Something to be answered. It is always the last.
    Ask(Ticket, Request),
    /// An entry for the journal.
    Log(Box<Event>),
    /// The state should be on disk soon.
    Save,
    /// This is in force from now on.
    InForce(Controls),
    /// What was set went to a unit that was made anew under the same name meanwhile.
    Strayed {
        /// That unit's life.
        start: Start,
        /// What was set.
        set: Controls,
    },
}

/// What is asked of the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// What stands, and what is on record. [`Answer::Read`] or [`Answer::Unread`].
    Read,
    /// Put this on record, where a crash does not lose it. [`Answer::Recorded`].
    Record(Box<Undo>),
    /// Have it thawed after this time by someone who outlives the daemon. [`Answer::TimerSet`].
    ThawAfter(Duration),
    /// Take the timer away that would thaw it. [`Answer::Done`].
    ThawNoMore,
    /// Change what stands. [`Answer::Applied`].
    Apply(Box<Change>),
    /// What the kernel holds, whatever its owner says. [`Answer::Kernel`].
    ReadKernel,
    /// Lift in the kernel what this tells of, without the owner, who does not answer. [`Answer::Done`].
    Lift(Box<Undo>),
    /// Have the hub stop it. [`Answer::Done`].
    AskHub,
    /// Have its owner stop it. [`Answer::Done`].
    Stop,
    /// Kill all of its processes. [`Answer::Done`].
    Kill,
    /// Kill those of its processes that mine. [`Answer::ProcessesEnded`].
    EndProcesses,
}

impl Request {
    /// Change what stands `from` this `to` that.
    pub(super) fn apply(from: Option<Controls>, to: Controls) -> Request {
        Request::Apply(Box::new(Change { from, to }))
    }
}

/// A change of what stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What stands; what is equal in both is not touched. Without it everything is set, since something
    /// else than its owner says stands in the kernel.
    pub from: Option<Controls>,
    /// What is to stand.
    pub to: Controls,
}

/// What is for the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A verdict was carried out, or would have been.
    Verdict {
        /// The verdict.
        verdict: Verdict,
        /// What is in force by it, or would be.
        now: Controls,
        /// What its owner set.
        before: Controls,
    },
    /// The limits that all have were set.
    Limited {
        /// What is in force.
        now: Controls,
        /// What its owner set.
        before: Controls,
    },
    /// What its owner set is in force again.
    Restored {
        /// What is in force.
        now: Controls,
        /// Why.
        why: Acts,
    },
    /// Its owner, or another program, changed something while ours stood.
    LimitChanged {
        /// What they set.
        found: Controls,
        /// What stood before by us.
        ours: Controls,
    },
    /// The hub was asked to stop it and did not.
    HubDidNotStop(String),
    /// Something did not come about, and is tried again.
    Trouble(Trouble),
}
