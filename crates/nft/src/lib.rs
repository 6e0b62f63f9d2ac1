//! Netlink for the kernel's packet filter and what stands around it: tables of nf_tables, packets
//! held by NFQUEUE or logged by NFLOG, tracked connections, sockets (`sock_diag`), interfaces and
//! their queues. Bytes and sockets; what rules are good for is the caller's business.

// What is read here comes from the kernel or the network; none of it may end the process.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

pub mod conntrack;
pub mod decode;
pub mod devices;
pub mod encode;
mod error;
pub mod expr;
pub mod foreign_change;
pub mod links;
mod listener;
pub mod message;
pub mod monitor;
pub mod nflog;
pub mod nfqueue;
pub mod nla;
mod own_writes;
pub mod readback;
mod rtnl;
pub mod ruleset;
pub mod sock_diag;
mod socket;
mod transaction;
pub mod uapi;

pub use error::Error;
pub use own_writes::{OwnWrites, Since};
pub use socket::Netlink;
