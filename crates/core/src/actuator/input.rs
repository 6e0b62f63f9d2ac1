//! What comes in.

use super::Failure;
use crate::undo::{KernelControls, Start, Undo};
use policy::{Controls, Verdict};
use quantities::Cores;

/// What comes in.
#[derive(Debug, Clone)]
pub enum Input {
    /// Something may have to be done.
    Wake,
    /// What became of a request.
    Answer(Ticket, Answer),
}

/// Which request an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub u64);

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// What stands.
    Read(Result<Box<Standing>, Failure>),
    /// What is on record cannot be read, so what stands may be ours.
    Unread(String),
    /// It is on record, or why it is not.
    Recorded(Result<(), String>),
    /// The timer is set.
    TimerSet(Result<(), Failure>),
    /// What was to be set was told to its owner; and which life of the unit is the present one.
    Applied(Result<(), Failure>, Start),
    /// What the kernel holds.
    Kernel(Result<KernelControls, Failure>),
    /// It was done.
    Done(Result<(), Failure>),
    /// They were ended, and what the ladder makes of that.
    ProcessesEnded(Result<Option<Verdict>, Failure>),
}

/// What stands on a unit.
#[derive(Debug, Clone)]
pub struct Standing {
    /// By its owner's word.
    pub controls: Controls,
    /// The unit's present life.
    pub start: Start,
    /// What is on record of it.
    pub record: Option<Undo>,
    /// The quota that the kernel holds, `Some(None)` for none; `None` where that cannot be told.
    pub kernel_quota: Option<Option<Cores>>,
}
