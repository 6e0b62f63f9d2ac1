//! What the kernel tells of a refused packet.

use std::net::IpAddr;

use super::ClassName;

/// A packet that was refused (or, when observing, would have been). Nothing of its content is
/// kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sending server's number; `None` for a unit that is not admitted.
    pub number: Option<u32>,
    /// What refused it.
    pub by: RefusedBy,
    /// The sending socket's owner, where the kernel still knew it.
    pub uid: Option<u32>,
    /// The protocol's number in the IP header: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6.
    pub protocol: u8,
    /// Where it was sent.
    pub destination: IpAddr,
    /// The destination port of TCP, UDP, DCCP or SCTP.
    pub port: Option<u16>,
}

/// Which part of the table refused a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The server's class does not allow it.
    Class(ClassName),
    /// On loopback, it was meant for a listener of somebody else.
    Loopback,
    /// The unit is in a guarded slice and not admitted.
    Pending,
}
