//! What the kernel tells of a refused packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nft::nflog::Packet;

use super::{Abuse, ClassName, Limit, abuse, bridges, lists::ListName, phrases, table, uid_rules};

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
    /// The destination port of TCP, UDP, UDP-Lite, DCCP or SCTP.
    pub port: Option<u16>,
}

/// Which part of the table refused a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedBy {
    /// The server's class does not allow it.
    Class(ClassName),
    /// It is in a private network that the class does not open.
    Private(ClassName),
    /// A deny list names its destination.
    List(ListName),
    /// The class allows it, and a limit of the class is reached.
    Limit(Limit, ClassName),
    /// Any class allows it, and a limit of everybody is reached.
    Abuse(Abuse),
    /// On loopback, it was meant for a listener of somebody else.
    Loopback,
    /// The unit is in a guarded slice and not admitted.
    Pending,
    /// A job sent it under a uid that its user may take in a user namespace.
    Subordinate,
    /// A container on a guarded network that is not known, or one that is and sends to another
    /// container.
    Container,
    /// A container used a source address that is not its own.
    Spoofed,
}

impl Refusal {
    /// What a logged packet says; `None` if none of our rules logged it, or it is not IP.
    pub fn read(packet: &Packet) -> Option<Self> {
        let prefix = packet.prefix.as_str();
        let by = if let Some(class) = prefix.strip_prefix(table::SAYS_CLASS) {
            RefusedBy::Class(class.parse().ok()?)
        } else if let Some(class) = prefix.strip_prefix(table::SAYS_PRIVATE) {
            RefusedBy::Private(class.parse().ok()?)
        } else if let Some(list) = prefix.strip_prefix(table::SAYS_LIST) {
            RefusedBy::List(list.parse().ok()?)
        } else if let Some(rest) = prefix.strip_prefix(table::SAYS_LIMIT) {
            let (limit, class) = rest.split_once(' ')?;
            let limit = Limit::ALL.into_iter().find(|one| one.as_str() == limit)?;
            RefusedBy::Limit(limit, class.parse().ok()?)
        } else if let Some(abuse) = prefix.strip_prefix(abuse::SAYS_ABUSE) {
            RefusedBy::Abuse(Abuse::ALL.into_iter().find(|one| one.as_str() == abuse)?)
        } else {
            match prefix {
                table::SAYS_LOOPBACK => RefusedBy::Loopback,
                table::SAYS_PENDING => RefusedBy::Pending,
                uid_rules::SAYS_SUBORDINATE => RefusedBy::Subordinate,
                bridges::SAYS_CONTAINER => RefusedBy::Container,
                bridges::SAYS_SPOOFED => RefusedBy::Spoofed,
                _ => return None,
            }
        };
        let mark = packet.mark.unwrap_or(0);
        let number = mark & !phrases::MARK_MASK;
        let ours = mark & phrases::MARK_MASK == phrases::MARK && number != 0;
        let (destination, protocol, rest) = addressed(&packet.bytes)?;
        Some(Self {
            number: ours.then_some(number),
            by,
            uid: packet.uid,
            protocol,
            destination,
            port: port(protocol, rest),
        })
    }
}

/// The destination and protocol of an IP packet, and what follows its headers (nothing for
/// fragments but the first).
fn addressed(packet: &[u8]) -> Option<(IpAddr, u8, &[u8])> {
    let first = *packet.first()?;
    match first >> 4 {
        4 => {
            let header = usize::from(first & 0xf) * 4;
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let offset = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x1fff;
            let rest = if offset == 0 {
                packet.get(header..)
            } else {
                None
            };
            let destination = Ipv4Addr::from(address).into();
            Some((destination, *packet.get(9)?, rest.unwrap_or_default()))
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let (protocol, rest) = after_extensions(*packet.get(6)?, packet.get(40..)?);
            Some((Ipv6Addr::from(address).into(), protocol, rest))
        }
        _ => None,
    }
}

fn after_extensions(mut protocol: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    while let [next, length, ..] = *rest {
        let skip = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + usize::from(length) * 8,
            FRAGMENT => 8,
            _ => break,
        };
        let first = protocol != FRAGMENT
            || rest
                .get(2..)
                .and_then(<[u8]>::first_chunk)
                .is_some_and(|offset| u16::from_be_bytes(*offset) & 0xfff8 == 0);
        protocol = next;
        rest = if first {
            rest.get(skip..).unwrap_or_default()
        } else {
            &[]
        };
    }
    (protocol, rest)
}

fn port(protocol: u8, rest: &[u8]) -> Option<u16> {
    const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    if !WITH_PORTS.contains(&protocol) {
        return None;
    }
    Some(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(mark: u32, prefix: &str, packet: &[u8]) -> Packet {
        Packet {
            prefix: prefix.to_owned(),
            mark: Some(mark),
            uid: Some(1001),
            bytes: packet.to_vec(),
        }
    }

    fn tcp4(destination: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1];
        packet.extend(destination);
        packet.extend([0x90, 0]);
        packet.extend(port.to_be_bytes());
        packet
    }

    #[test]
    fn a_refusal_names_server_class_and_destination() {
        let packet = message(0x4800_0007, "class standard", &tcp4([192, 0, 2, 1], 4444));
        let refusal = Refusal::read(&packet).unwrap();
        assert_eq!(refusal.number, Some(7));
        assert_eq!(refusal.by, RefusedBy::Class("standard".parse().unwrap()));
        assert_eq!(refusal.uid, Some(1001));
        assert_eq!((refusal.protocol, refusal.port), (6, Some(4444)));
        assert_eq!(refusal.destination, IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn a_foreign_mark_names_nobody_and_a_foreign_prefix_is_passed_over() {
        let packet = tcp4([192, 0, 2, 1], 1);
        for (mark, prefix) in [(0x4800_0000, "pending"), (7, "pending")] {
            let logged = message(mark, prefix, &packet);
            assert_eq!(Refusal::read(&logged).unwrap().number, None);
        }
        for prefix in ["", "class ", "class A", "firewall"] {
            assert_eq!(Refusal::read(&message(0, prefix, &packet)), None);
        }
    }

    #[test]
    fn ports_are_found_behind_extensions_and_not_in_later_fragments() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfe; 16]);
        let hop_by_hop = [44, 0, 1, 4, 0, 0, 0, 0];
        packet.extend(hop_by_hop);
        let mut later = packet.clone();
        packet.extend([17, 0, 0, 1, 0, 0, 0, 9, 0, 1, 0, 53]);
        later.extend([17, 0, 0, 9, 0, 0, 0, 9, 0, 1, 0, 53]);
        let read = |packet: &[u8]| Refusal::read(&message(0, "pending", packet));
        let first = read(&packet).unwrap();
        assert_eq!((first.protocol, first.port), (17, Some(53)));
        assert_eq!(read(&later).unwrap().port, None);
    }

    proptest! {
        #[test]
        fn any_packet_is_read_without_a_panic(
            packet in prop::collection::vec(any::<u8>(), 0..120), first in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0]),
        ) {
            let mut packet = packet;
            if let Some(byte) = packet.first_mut() {
                *byte = first;
            }
            let _ = Refusal::read(&message(0x4800_0001, "loopback", &packet));
        }
    }
}
