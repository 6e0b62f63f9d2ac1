//! What a packet can be.

use super::{
    Cmp, Family, LookupTo, MARK, MARK_MASK, R0, R1, R4, bits, compare, equals, has, header,
    kind_of_mark, load,
    loads::{behind_address, cgroup, destination_port, uid},
    look_up, number_bits,
};
use crate::{Transport, UidRule, ruleset::Expr, uapi::*};

/// Loopback has this index in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// What was loaded last is in a set.
pub fn is_in(set: &str) -> Vec<Expr> {
    vec![has(set)]
}

/// The interface that it leaves or came in by compares so.
fn interface(key: u32, op: Cmp, index: u32) -> Vec<Expr> {
    vec![load(key, R0), compare(op, &index.to_ne_bytes())]
}

/// It leaves through loopback; where its destination was translated, it would have.
pub fn to_loopback() -> Vec<Expr> {
    interface(NFT_META_OIF, Cmp::Eq, LOOPBACK)
}

/// It leaves by another interface; where its destination was translated, it would have.
pub fn not_to_loopback() -> Vec<Expr> {
    interface(NFT_META_OIF, Cmp::Neq, LOOPBACK)
}

/// It came through loopback.
pub fn from_loopback() -> Vec<Expr> {
    interface(NFT_META_IIF, Cmp::Eq, LOOPBACK)
}

/// It came from elsewhere than this node's loopback.
pub fn not_from_loopback() -> Vec<Expr> {
    interface(NFT_META_IIF, Cmp::Neq, LOOPBACK)
}

/// It came in from anywhere: no process of this node sends it now.
pub fn came_in() -> Vec<Expr> {
    interface(NFT_META_IIF, Cmp::Neq, 0)
}

/// It came in by one of these interfaces.
pub fn incoming_in(set: &str) -> Vec<Expr> {
    vec![load(NFT_META_IIF, R0), has(set)]
}

/// It came in by an interface of one of these names.
pub fn incoming_named(set: &str) -> Vec<Expr> {
    vec![load(NFT_META_IIFNAME, R0), has(set)]
}

/// The name of the interface that it came in by, and of the one by which this node's routes lead it out, are
/// such a pair.
pub fn way_in(set: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_IIFNAME, R0),
        Expr::FibName { to: R4 },
        has(set),
    ]
}

/// Its socket's owner is in one of these ranges: its mark is what that maps to.
pub fn mark_by_uid_range(map: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_SKUID, R0),
        Expr::ToNetwork { from: R0, to: R0 },
        look_up(map, LookupTo::Reg(R0), false),
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]
}

/// It goes out by one of these.
pub fn outgoing_in(set: &str) -> Vec<Expr> {
    vec![load(NFT_META_OIF, R0), has(set)]
}

/// What the interface that it goes out by maps to decides.
pub fn by_outgoing(map: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_OIF, R0),
        look_up(map, LookupTo::Verdict, false),
    ]
}

/// A process of this node sent it: only then does it have a socket whose owner can be loaded.
pub fn is_of_a_process() -> Vec<Expr> {
    vec![uid(), compare(Cmp::Gte, &[0; 4])]
}

/// It is for an address of this node, by whatever interface it leaves.
pub fn to_this_node() -> Vec<Expr> {
    destination_is(RTN_LOCAL)
}

/// It is for one other host.
pub fn to_another_node() -> Vec<Expr> {
    destination_is(RTN_UNICAST)
}

/// It is for all hosts of a network of this node's. The last two bits of such an address are set, and
/// others are not looked up: that takes longer than most rules do.
pub fn to_broadcast() -> Vec<Expr> {
    const LAST: [u8; 4] = [0, 0, 0, 3];
    let mut exprs = destination_begins(Family::V4, &LAST, &LAST);
    exprs.extend(destination_is(RTN_BROADCAST));
    exprs
}

/// It is for a group.
pub fn to_group(family: Family) -> Vec<Expr> {
    match family {
        Family::V4 => destination_begins(family, &[0xf0, 0, 0, 0], &[0xe0, 0, 0, 0]),
        Family::V6 => destination_begins(family, &[0xff], &[0xff]),
    }
}

/// These bits of the first bytes of its destination, of this family, are so.
fn destination_begins(family: Family, mask: &[u8], value: &[u8]) -> Vec<Expr> {
    let (.., offset, _) = family.layout();
    let len = u32::try_from(mask.len()).unwrap_or(0);
    let mut exprs = of_family(family);
    exprs.push(header(NFT_PAYLOAD_NETWORK_HEADER, offset, len, R0));
    if mask.iter().any(|byte| *byte != 0xff) {
        exprs.push(bits(mask, &vec![0; mask.len()]));
    }
    exprs.push(equals(value));
    exprs
}

/// Its destination is of this kind, `RTN_*`.
fn destination_is(kind: u32) -> Vec<Expr> {
    let incoming = false;
    vec![Expr::Fib { to: R0, incoming }, equals(&kind.to_ne_bytes())]
}

/// It carries this protocol.
pub fn protocol(number: u8) -> Vec<Expr> {
    vec![load(NFT_META_L4PROTO, R0), equals(&[number])]
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// It is TCP, and not the first packet of a connection: anything but SYN without ACK.
pub fn continues_tcp() -> Vec<Expr> {
    tcp_flags(Cmp::Neq, SYN)
}

/// It is the first packet of a TCP connection: SYN without ACK.
pub fn begins_tcp() -> Vec<Expr> {
    tcp_flags(Cmp::Eq, SYN)
}

/// It answers the first packet of a TCP connection: SYN and ACK.
pub fn answers_tcp() -> Vec<Expr> {
    tcp_flags(Cmp::Eq, SYN | ACK)
}

/// It is either of these.
pub fn opens_tcp() -> Vec<Expr> {
    flags_of_tcp(SYN, Cmp::Eq, SYN)
}

/// It is TCP, and its flags SYN and ACK compare so.
fn tcp_flags(op: Cmp, flags: u8) -> Vec<Expr> {
    flags_of_tcp(SYN | ACK, op, flags)
}

fn flags_of_tcp(mask: u8, op: Cmp, flags: u8) -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([
        header(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, R0),
        bits(&[mask], &[0]),
        compare(op, &[flags]),
    ]);
    exprs
}

/// It is IPv6, and the header behind the first is in a set of them.
pub fn next_header_in(set: &str) -> Vec<Expr> {
    let mut exprs = of_family(Family::V6);
    exprs.extend([header(NFT_PAYLOAD_NETWORK_HEADER, 6, 1, R0), has(set)]);
    exprs
}

/// It is anything but TCP.
pub fn no_tcp() -> Vec<Expr> {
    let tcp = Transport::Tcp.number();
    vec![load(NFT_META_L4PROTO, R0), compare(Cmp::Neq, &[tcp])]
}

/// It is of this family.
pub fn of_family(family: Family) -> Vec<Expr> {
    let (number, ..) = family.layout();
    vec![load(NFT_META_NFPROTO, R0), equals(&[number])]
}

/// Its destination is in a set of this family's addresses.
pub fn destination_in(family: Family, set: &str) -> Vec<Expr> {
    let (number, _, offset, len) = family.layout();
    address_in(number, offset, len, set)
}

/// Its source is in a set of this family's addresses.
pub fn source_in(family: Family, set: &str) -> Vec<Expr> {
    let (number, offset, _, len) = family.layout();
    address_in(number, offset, len, set)
}

fn address_in(number: u8, offset: u32, len: u32, set: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_NFPROTO, R0),
        equals(&[number]),
        header(NFT_PAYLOAD_NETWORK_HEADER, offset, len, R0),
        has(set),
    ]
}

/// What its destination maps to decides; with `port`, its destination and destination port.
pub fn by_destination(family: Family, port: bool, map: &str) -> Vec<Expr> {
    let mut exprs = destination_in(family, map);
    exprs.pop();
    if port {
        exprs.push(destination_port(behind_address(family)));
    }
    exprs.push(look_up(map, LookupTo::Verdict, false));
    exprs
}

/// Its protocol and destination port are in a set of both.
pub fn service_in(set: &str) -> Vec<Expr> {
    service(2, set)
}

/// Its protocol and source port are in a set of both.
pub fn service_from(set: &str) -> Vec<Expr> {
    service(0, set)
}

/// Its protocol and the port at this place in its header are in a set of both.
fn service(offset: u32, set: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_L4PROTO, R0),
        header(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, R1),
        has(set),
    ]
}

/// It is TCP and its destination port is in a set of ports.
pub fn tcp_port_in(set: &str) -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([destination_port(R0), has(set)]);
    exprs
}

/// It is TCP to this port.
pub fn tcp_port_is(port: u16) -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([destination_port(R0), equals(&port.to_be_bytes())]);
    exprs
}

/// What its socket's cgroup at this level maps to decides.
pub fn by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    vec![cgroup(level, R0), look_up(map, LookupTo::Verdict, false)]
}

/// Its socket's cgroup at this level is in a set.
pub fn cgroup_in(level: u8, set: &str) -> Vec<Expr> {
    vec![cgroup(level, R0), has(set)]
}

/// Its mark and its (receiving) socket's cgroup at this level are in a set of both.
pub fn mark_and_cgroup_in(level: u8, set: &str) -> Vec<Expr> {
    vec![load(NFT_META_MARK, R0), cgroup(level, R1), has(set)]
}

/// Its mark is this.
pub fn mark_is(mark: u32) -> Vec<Expr> {
    vec![load(NFT_META_MARK, R0), equals(&mark.to_ne_bytes())]
}

/// Its mark is one of ours.
pub fn marked() -> Vec<Expr> {
    kind_of_mark(MARK, MARK_MASK)
}

/// Its mark is none of ours.
pub fn not_marked() -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        number_bits(MARK_MASK, 0),
        compare(Cmp::Neq, &MARK.to_ne_bytes()),
    ]
}

/// What its mark maps to decides.
pub fn by_mark(map: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        look_up(map, LookupTo::Verdict, false),
    ]
}

/// What its socket's owner maps to decides.
pub fn by_uid(map: &str) -> Vec<Expr> {
    vec![uid(), look_up(map, LookupTo::Verdict, false)]
}

/// Its socket is root's.
pub fn is_root_s() -> Vec<Expr> {
    vec![uid(), equals(&0u32.to_ne_bytes())]
}

/// It has a socket, be it one that only asks for a connection, and that is not root's.
pub fn is_not_root_s() -> Vec<Expr> {
    vec![uid(), compare(Cmp::Neq, &0u32.to_ne_bytes())]
}

/// Its mark is that of a user outside the server.
pub fn marked_by_uid() -> Vec<Expr> {
    let above = UidRule::NUMBER_MIN;
    kind_of_mark(MARK | above, MARK_MASK | above)
}

/// There is a socket for it. `socket wildcard` loads 0 or 1 if there is one and matches nothing
/// if there is not.
pub fn has_socket() -> Vec<Expr> {
    let wildcard = Expr::Socket {
        key: NFT_SOCKET_WILDCARD,
        level: 0,
        to: R0,
    };
    vec![wildcard, compare(Cmp::Lte, &[1])]
}
