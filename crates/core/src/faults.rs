//! Deliberate faults, by which the simulation shows that it would find them (feature `faults`).
//!
//! Without the feature there are none, and the compiler removes every trace of them.

/// One deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A change is made before it is on record.
    ChangedBeforeRecorded,
    /// What its owner set is taken for in force again without being put back.
    RestoreSkipped,
    /// A verdict is logged twice.
    VerdictLoggedTwice,
    /// A verdict is not logged.
    VerdictNotLogged,
    /// A number is given though somebody has it.
    NumberGivenTwice,
    /// The baseline is not divided among a user's places.
    BaselineNotDivided,
    /// What is to be tried again is left out of a tick.
    RetriesLeftOut,
    /// Whatever is found is taken for what its owner set.
    OursTakenForTheirs,
    /// A server stands still without a timer that thaws it.
    FrozenWithoutTimer,
    /// Verdicts are carried out whatever the mode, and while supervision is off.
    ActsAlways,
    /// A limit is looser than the one its owner set.
    LooserThanTheirs,
    /// The kernel is not asked whether something of ours stands.
    KernelNotAsked,
    /// A quota written past systemd stays.
    QuotaPastOwnerStays,
    /// What was set is not read back.
    NotReadBack,
    /// What went to a unit made anew under the same name is forgotten.
    StrayForgotten,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 15] = [
        Fault::ChangedBeforeRecorded,
        Fault::RestoreSkipped,
        Fault::VerdictLoggedTwice,
        Fault::VerdictNotLogged,
        Fault::NumberGivenTwice,
        Fault::BaselineNotDivided,
        Fault::RetriesLeftOut,
        Fault::OursTakenForTheirs,
        Fault::FrozenWithoutTimer,
        Fault::ActsAlways,
        Fault::LooserThanTheirs,
        Fault::KernelNotAsked,
        Fault::QuotaPastOwnerStays,
        Fault::NotReadBack,
        Fault::StrayForgotten,
    ];
}

#[cfg(feature = "faults")]
thread_local! {
    static BUILT_IN: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// From now on, this thread's core has this fault, or none.
#[cfg(feature = "faults")]
pub fn build_in(fault: Option<Fault>) {
    BUILT_IN.set(fault);
}

#[cfg(feature = "faults")]
pub(crate) fn has(fault: Fault) -> bool {
    BUILT_IN.get() == Some(fault)
}

#[cfg(not(feature = "faults"))]
pub(crate) const fn has(_: Fault) -> bool {
    false
}
