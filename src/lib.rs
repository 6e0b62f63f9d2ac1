//! hubwarden keeps a JupyterHub node fair and clean.
//!
//! Data runs one way: kernel → `hub`, `cgroup`, `evidence` → `judge` → `act`, `egress`, `report`.
//! Nothing to the right is imported by anything to its left; `daemon` is the only room that knows
//! all of them. See `docs/architecture.md`.

pub mod act;
mod bus_socket;
pub mod cli;
pub mod config;
pub mod control;
pub mod coverage;
pub mod daemon;
pub mod heartbeats;
pub mod http;
pub mod hub;
mod memory;
pub mod readiness;
pub mod replay;
pub mod report;
pub mod sd_bus;
#[cfg(any(test, fuzzing))]
pub mod seams;
pub mod trace;
