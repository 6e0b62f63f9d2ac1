//! Netlink for the kernel's packet filter and what stands around it: tables of nf_tables, packets
//! held by NFQUEUE or logged by NFLOG, tracked connections, sockets (`sock_diag`), interfaces and
//! their queues. Bytes and sockets, without libnftnl, libmnl or the `nft` program.
//!
//! A table is plain data ([`ruleset`]). [`encode`] makes messages of it, [`Netlink::transact`] sends
//! them as one transaction, and [`readback`] reads the table into the same plain data, so that what
//! stands can be compared with what should:
//!
//! ```no_run
//! use nft::{Netlink, OwnWrites, encode, readback, ruleset::*, uapi::*};
//!
//! fn main() -> Result<(), nft::Error> {
//!     // A set of ports, and a rule that drops what is sent to one of them.
//!     let ports = Set {
//!         name: "closed".to_owned(),
//!         key_type: TYPE_INET_SERVICE,
//!         key_len: 2,
//!         elements: [23u16, 445].map(|port| Element::key(port.to_be_bytes().into())).into(),
//!         ..Set::default()
//!     };
//!     let register = Reg(0);
//!     let rule = Rule {
//!         exprs: vec![
//!             Expr::Meta { key: NFT_META_L4PROTO, to: register },
//!             Expr::Cmp { op: Cmp::Eq, from: register, value: vec![6] },
//!             Expr::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, len: 2, to: register },
//!             Expr::Lookup {
//!                 set: ports.name.clone(),
//!                 from: register,
//!                 to: LookupTo::Nothing,
//!                 invert: false,
//!             },
//!             Expr::Counter,
//!             Expr::Verdict(Verdict::Drop),
//!         ],
//!         comment: "not from here".to_owned(),
//!     };
//!     let ruleset = Ruleset {
//!         family: NFPROTO_INET,
//!         table: "example".to_owned(),
//!         chains: vec![Chain {
//!             name: "output".to_owned(),
//!             hook: Some(Hook { number: NF_INET_LOCAL_OUT, priority: 0 }),
//!             device: None,
//!             rules: vec![rule],
//!         }],
//!         sets: vec![ports],
//!         ..Ruleset::default()
//!     };
//!
//!     // All of it in one transaction, in place of what may stand there under the same name.
//!     let mut netlink = Netlink::open()?;
//!     netlink.transact("make the table", &encode::replace(&ruleset)?)?;
//!
//!     // Read back, whole and at one generation.
//!     let since = OwnWrites::default().since_now();
//!     let (family, table) = (NFPROTO_INET, "example");
//!     let (_, found) = readback::read(&mut netlink, "read the table", family, table, &since)?;
//!     assert!(readback::compare(&ruleset, found.as_ref(), true).is_empty());
//!     netlink.transact("remove the table", &encode::remove(family, table)?)
//! }
//! ```
//!
//! Numbers have the names of the kernel's headers ([`uapi`]). Everything happens in the network
//! namespace in which a socket was opened.

// What is read here comes from the kernel or the network; none of it may end the process.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod adopted;
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
