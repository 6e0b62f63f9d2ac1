//! What the daemon knows and decides, without I/O and without a clock.
//!
//! [`accounts`] has the CPU of the hub's users: credits, the share of the baseline that each of a
//! user's places has, and what is due. The daemon and `replay` hand in readings and the time, and
//! carry out what comes out. [`evidence`] has what sensors found, [`coverage`] computes who is not covered.

pub mod accounts;
pub mod actuator;
pub mod coverage;
pub mod evidence;
pub mod faults;
pub mod node;
pub mod numbers;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod undo;
