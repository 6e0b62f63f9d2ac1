//! The egress table in the kernel: network namespaces and cgroups of our own, real processes.

// A test may unwrap; the helpers of these are tests too.
#![allow(clippy::unwrap_used)]

mod abuse;
mod bed;
mod bridges;
mod contained;
mod contained_names;
mod counters;
mod flows;
mod held;
mod holding;
mod incoming;
mod kernel;
mod limits;
mod listed;
mod loopback;
mod names;
mod outside;
mod owners;
mod private;
mod questions;
mod refusals;
mod scale;
mod shape;
mod shared_sets;
mod tracked;
mod translated;
mod uid_rules;
