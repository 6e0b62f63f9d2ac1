//! A made-up node: accounts and evidence by what a daemon sees of them.

// A test may unwrap; the helpers of these are tests too.
#![allow(clippy::unwrap_used)]

mod contention;
mod evidence;
mod lives;
mod looks;
mod made_up;
mod parts;
mod schedules;
