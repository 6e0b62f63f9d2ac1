//! Host names in classes, without a proxy: what a resolver answers is read before the server that
//! asked is, and the addresses enter the sets of the classes that allow the name.
//!
//! The kernel queues questions and answers to a thread of the daemon's ([`Reader`], by NFQUEUE). It
//! remembers each question until it is answered (`questions`), takes each answer
//! apart (`wire`, `streams`, `answer`), has the table learn the addresses
//! ([`Kernel::hear`](super::Kernel::hear)) and then lets the answer go on. What is denied by name is answered
//! with "no such name" instead (`Segment::refused`).
//!
//! - Addresses are a class's, not a server's: that a name has an address is true for all who may
//!   reach the name. An answer that someone else on this node asked for (Docker's resolver,
//!   systemd-resolved) therefore counts like a server's own.
//! - Only what was asked is answered, once: nothing is learned from an answer without its question.
//! - The asked name decides, with the `CNAME` records that lead on from it. Records of other names
//!   that an answer brings along are not looked at.
//! - Who reads nothing lets nothing through: where the reader is gone the kernel drops the answers
//!   of classes with names, and what was learned lives out its time.

mod answer;
mod began;
mod contained;
mod counts;
mod dictionary;
mod learned;
mod pattern;
mod questions;
mod queueing;
mod reader;
mod rules;
mod streams;
mod wire;

pub use answer::{Answer, Unusable};
pub(super) use began::{try_labels, without_labels};
pub(super) use contained::{by_address, extend as extend_for_containers};
pub use counts::{Counts, Scarce, Tally};
pub use dictionary::DeniedBy;
pub(super) use dictionary::Dictionary;
pub(super) use learned::{Learned, Lesson, messages};
pub use pattern::{NamePattern, PatternError};
pub use questions::Sender;
#[cfg(any(test, fuzzing))]
pub(super) use questions::{Question, Questions};
pub use queueing::Queueing;
pub(super) use queueing::{queued_by, try_queueing};
pub use reader::{Asked, Reader};
pub(super) use rules::{
    DNS, TO_RESOLVERS, ask, ask_of_any_class, asking_sets, chains, elements_of, names_set,
    networks, places, reached, reads, relayed, sets, uses,
};
#[cfg(any(test, fuzzing))]
pub(super) use streams::{Brings, Streams};
#[cfg(any(test, fuzzing))]
pub(super) use wire::{SYN, Segment, refuse};
