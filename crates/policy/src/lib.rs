//! Facts, time and policy in; verdicts out. No I/O, no clock, no async.
//!
//! [`step`] is the one function that the daemon, the tests and `replay` share. What it promises,
//! and `tests.rs` checks for any sequence of events:
//! - credits are never negative and never above their size;
//! - two opposite verdicts are at least the minimum stay apart;
//! - rest leads back to [`Stage::Free`];
//! - the same events give the same verdicts.

mod accusation;
mod controls;
mod counterfactual;
mod credits;
mod evidence;
pub mod finding;
mod grant;
mod ladder;
mod policy;
mod reason;
mod share;
mod stage;
mod standing;

pub use accusation::{Accusation, FindingKind};
pub use controls::{Controls, wanted};
pub use counterfactual::{Counterfactual, counterfactuals};
pub use credits::Credits;
pub use evidence::{HOT_FOR_CERTAIN, evidence_of, kind_of_finding, suspicion};
pub use grant::{Grant, GrantedCredits};
pub use ladder::{Event, Verdict, Warning, step};
pub use policy::{Consequences, PlainLimits, Policy, Repeat, Stop, Sustained, TimeLimits};
pub use reason::Reason;
pub use share::share_out;
pub use stage::Stage;
pub use standing::Standing;

#[cfg(test)]
mod tests;
