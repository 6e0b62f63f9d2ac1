//! What a hot server really does: kernel facts that tell a miner from a training job.
//!
//! Sustained CPU only says where to look. What is found there is a [`policy::finding::Fact`] with the numbers that
//! prove it; what facts amount to together is [`policy::suspicion`]'s to say. One file a
//! sensor:
//! - [`rounding`]: which rounding modes the CPU's SSE unit is switched to;
//! - [`constants`]: RandomX's consensus constants in memory;
//! - [`exec`], [`starts`], [`connector`]: what a process calls itself and is told on its command line;
//! - [`binary`]: what a process is in truth;
//! - [`stratum`]: the pools' protocol in what is sent.
//!
//! [`set`] has them look at hot servers, and listen to all; [`workers`] wait for what a process can
//! hold up. [`process_list`] is for people: what runs in
//! a server, by kind of program.
//!
//! Contents of users' memory and command lines are never kept: a fact holds which pattern
//! matched, and nothing of what surrounded it.

pub mod binary;
pub mod connector;
pub mod constants;
pub mod exec;
pub mod process;
pub mod process_list;
pub mod program;
pub mod rounding;
pub mod set;
pub mod starts;
pub mod stratum;
pub mod workers;
