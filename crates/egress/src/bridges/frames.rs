//! What can be said of a frame on a bridge, and of the mark that its port gave it.

use super::{BRIDGED, CHECKED, EXEMPT, GATEWAYS, NEIGHBOUR, PORTS, WATCHED, sources};
use crate::{
    phrases::{
        self as p, Family, R0, R1, bits, equals, has, header, kind_of_mark, load, look_up, store,
    },
    ruleset::{Expr, LookupTo},
    uapi::*,
};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// It came in by a port whose sender's addresses are known.
pub fn checked() -> Vec<Expr> {
    p::incoming_in(CHECKED)
}

/// Mark it with what its port maps to, if it does.
pub fn mark_by_port() -> Vec<Expr> {
    vec![
        load(NFT_META_IIF, R0),
        look_up(PORTS, LookupTo::Reg(R0), false),
        store(NFT_META_MARK),
    ]
}

/// No daemon is there to find out what a new container is: see [`WATCHED`].
pub fn is_unwatched() -> Vec<Expr> {
    vec![
        load(NFT_META_IIFTYPE, R0),
        look_up(WATCHED, LookupTo::Nothing, true),
    ]
}

/// It is from a container that is no server.
pub fn is_exempt() -> Vec<Expr> {
    kind_of_mark(EXEMPT, p::MARK_MASK)
}

/// Mark it as from such a one.
pub fn mark_exempt() -> Vec<Expr> {
    p::mark(EXEMPT)
}

/// It is a server's, and stays on the bridge.
pub fn is_bridged() -> Vec<Expr> {
    kind_of_mark(p::MARK | BRIDGED, p::MARK_MASK)
}

/// A server's, whether it stays on the bridge or not.
pub fn ours() -> Vec<Expr> {
    kind_of_mark(p::MARK, p::MARK_MASK & !BRIDGED)
}

/// It stays on the bridge, and came in by a port that may be another container's now.
pub fn is_nobodys() -> Vec<Expr> {
    kind_of_mark(p::MARK | BRIDGED, u32::MAX)
}

/// Note in its mark that it stays on the bridge.
pub fn bridge_mark() -> Vec<Expr> {
    p::change_mark(!BRIDGED, BRIDGED)
}

/// Take that out of its mark.
pub fn unbridge() -> Vec<Expr> {
    p::change_mark(!BRIDGED, 0)
}

/// Its link-layer destination is none of a bridge.
pub fn not_to_gateway() -> Vec<Expr> {
    vec![
        header(NFT_PAYLOAD_LL_HEADER, 0, 6, R0),
        look_up(GATEWAYS, LookupTo::Nothing, true),
    ]
}

/// It is of this protocol, `ETH_P_*`.
fn of_ethertype(number: u16) -> Vec<Expr> {
    vec![load(NFT_META_PROTOCOL, R0), equals(&number.to_be_bytes())]
}

/// It is IP of this family.
pub fn of_family(family: Family) -> Vec<Expr> {
    of_ethertype(match family {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    })
}

/// It is ARP.
pub fn is_arp() -> Vec<Expr> {
    of_ethertype(ETHERTYPE_ARP)
}

/// Where a header has the source's address, and how long that is, bytes.
fn source(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    }
}

/// Port and sender's address are not in the set of such pairs.
fn not_a_source(offset: u32, len: u32, family: Family) -> Vec<Expr> {
    vec![
        load(NFT_META_IIF, R0),
        header(NFT_PAYLOAD_NETWORK_HEADER, offset, len, R1),
        look_up(&sources(family), LookupTo::Nothing, true),
    ]
}

/// It is ARP that speaks for an address of another (`ar_sip` over Ethernet).
pub fn arp_from_another() -> Vec<Expr> {
    [is_arp(), not_a_source(14, 4, Family::V4)].concat()
}

/// It is ARP that speaks for an address of a set.
pub fn arp_from(set: &str) -> Vec<Expr> {
    let mut exprs = is_arp();
    exprs.extend([header(NFT_PAYLOAD_NETWORK_HEADER, 14, 4, R0), has(set)]);
    exprs
}

/// It is of this family, with an address of a set.
pub fn from_one_of(family: Family, set: &str) -> Vec<Expr> {
    let (offset, len) = source(family);
    let mut exprs = of_family(family);
    exprs.extend([
        header(NFT_PAYLOAD_NETWORK_HEADER, offset, len, R0),
        has(set),
    ]);
    exprs
}

/// It is of this family, with an address of another.
pub fn from_another(family: Family) -> Vec<Expr> {
    let (offset, len) = source(family);
    [of_family(family), not_a_source(offset, len, family)].concat()
}

/// It is IPv6 from a link-local address, which is never routed.
pub fn link_local() -> Vec<Expr> {
    let mut exprs = of_ethertype(ETHERTYPE_IPV6);
    exprs.extend([
        header(NFT_PAYLOAD_NETWORK_HEADER, 8, 2, R0),
        bits(&[0xff, 0xc0], &[0, 0]),
        equals(&[0xfe, 0x80]),
    ]);
    exprs
}

/// It is what IPv6 finds neighbours and routers by, or joins their groups. Advertising a router is
/// not among it.
pub fn neighbour() -> Vec<Expr> {
    const ICMPV6: u8 = 58;
    let mut exprs = p::protocol(ICMPV6);
    exprs.extend([
        header(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, R0),
        has(NEIGHBOUR),
    ]);
    exprs
}

/// It is for an address of the bridge that it came in by.
pub fn to_its_bridge() -> Vec<Expr> {
    let incoming = true;
    vec![
        Expr::Fib { to: R0, incoming },
        equals(&RTN_LOCAL.to_ne_bytes()),
    ]
}
