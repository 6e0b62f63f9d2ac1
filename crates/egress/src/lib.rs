//! What servers may send, and to whom: class → ruleset (plain data) → messages to nf_tables.
//!
//! A [`Policy`] and the servers of the moment make one table (`table`), written as plain data, which
//! the crate `nft` sends as netlink messages and reads back, so that what stands can be compared with
//! what should. `docs/egress-table.md` shows the table and says why each rule is where it is;
//! `docs/decisions/001-own-codec-or-nftnl-mnl.md` says why it is not sent by libnftnl.
//!
//! To go further (containers, names, limits): a new kind of expression is a variant in
//! `nft::ruleset::Expr` with its two halves in `nft::expr`, a new condition or action a function in
//! `phrases`, a new set a few lines in `sets`, and a new rule a line in `table`.

// What is read here comes from the kernel, the network or a feed; none of it may end the daemon.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use nft::{Netlink, OwnWrites, Since, encode, message, monitor, readback, ruleset, uapi};

mod abuse;
mod attempts;
mod bridges;
mod class;
mod datagrams;
mod error;
mod filled;
mod firewall;
mod flows;
mod holder;
mod ids;
mod incoming;
mod installed;
mod intervals;
mod kernel;
mod limits;
mod listed;
pub mod lists;
pub mod names;
mod nflog;
mod phrases;
mod policy;
mod private;
mod reach;
mod refusal;
mod refused;
mod repair;
mod repair_thread;
#[cfg(any(test, fuzzing))]
pub mod seams;
mod senders;
mod sets;
mod shape;
mod shared;
mod table;
mod tracking;
mod uid_rules;

pub use abuse::Abuse;
pub use attempts::Attempts;
pub use bridges::{Bridges, ServerPort};
pub use class::{Class, Service, Transport};
pub use error::Error;
pub use firewall::{Audit, Audited, Firewall, Sent, Traffic};
pub use flows::{Flow, Flows};
pub use holder::{HOLDER, HolderError, Keeper, hold};
pub use ids::{CgroupId, ClassName, Mode};
pub use kernel::Kernel;
pub use limits::{BitsPerSecond, ClassLimits, Limit, Rate};
pub use nflog::Refusals;
pub use nft::{
    foreign_change::ForeignChange,
    links::{Link, LinkEvents, Links},
    monitor::{ForeignWrite, Monitor, Writer},
    readback::{Difference, DifferenceKind},
};
pub use policy::{AbuseLimits, Admitted, Policy};
pub use private::{Closed, lies_in};
pub use refusal::{Refusal, RefusedBy};
pub use refused::Refused;
pub use repair_thread::{Repair, RepairThread};
pub use senders::Sender;
pub use tracking::Tracking;
pub use uid_rules::{Place, Subordinate, UidRule, UidRules};
