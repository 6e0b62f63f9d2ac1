//! A made-up node under random schedules and faults, and the core on it.
//!
//! A schedule is a list of numbers, and each step reads its meaning from its own: leaving some out gives
//! another schedule, so that a failing one can be made short. Everything is as it was for the same seed.

mod daemon;
mod invariants;
mod schedule;
mod world;

pub use daemon::{Broken, Config, Daemon, Delivery};
pub use schedule::{Outcome, Schedule, Step};
pub use world::{Fate, World};
