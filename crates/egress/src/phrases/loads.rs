//! Facts that are loaded for a phrase behind them.

use super::{Family, LookupTo, MARK, MARK_MASK, R0, equals, header, load, look_up, number_bits};
use crate::{
    ruleset::{Expr, Reg},
    uapi::*,
};

/// Load its socket's cgroup at this level.
pub(super) fn cgroup(level: u8, to: Reg) -> Expr {
    Expr::Socket {
        key: NFT_SOCKET_CGROUPV2,
        level: level.into(),
        to,
    }
}

/// Load whose the open file of its socket is: who made it, whatever became of that process since.
pub(super) fn uid() -> Expr {
    load(NFT_META_SKUID, R0)
}

/// Load its destination port.
pub(super) fn destination_port(to: Reg) -> Expr {
    header(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, to)
}

/// Load the address that its flow asked for, before any translation.
pub(super) fn asked_address(family: Family) -> Expr {
    let key = match family {
        Family::V4 => NFT_CT_DST_IP,
        Family::V6 => NFT_CT_DST_IP6,
    };
    Expr::CtOriginal { key, to: R0 }
}

/// Load the port that its flow asked for.
pub(super) fn asked_port(to: Reg) -> Expr {
    let key = NFT_CT_PROTO_DST;
    Expr::CtOriginal { key, to }
}

/// The register behind an address.
pub(super) fn behind_address(family: Family) -> Reg {
    match family {
        Family::V4 => Reg(1),
        Family::V6 => Reg(4),
    }
}

/// Load its socket's cgroup at this level, as the first part of a key.
pub fn its_cgroup(level: u8) -> Vec<Expr> {
    vec![cgroup(level, R0)]
}

/// Load its socket's owner, as the first part of a key.
pub fn its_uid() -> Vec<Expr> {
    vec![uid()]
}

/// Load the interface that it came in by, or that it leaves by, as the first part of a key.
pub fn its_port(incoming: bool) -> Vec<Expr> {
    let key = if incoming { NFT_META_IIF } else { NFT_META_OIF };
    vec![load(key, R0)]
}

/// Load its destination's address and port behind so many bytes of a key.
pub fn target(family: Family, behind: u8) -> Vec<Expr> {
    let (_, _, destination, len) = family.layout();
    other_end((destination, 2), len, behind)
}

/// The same of its source.
pub fn answerer(family: Family, behind: u8) -> Vec<Expr> {
    let (_, source, _, len) = family.layout();
    other_end((source, 0), len, behind)
}

fn other_end((address, port): (u32, u32), len: u32, behind: u8) -> Vec<Expr> {
    // A register holds four bytes.
    let (first, wide) = (behind / 4, if len == 4 { 1 } else { 4 });
    vec![
        header(NFT_PAYLOAD_NETWORK_HEADER, address, len, Reg(first)),
        header(NFT_PAYLOAD_TRANSPORT_HEADER, port, 2, Reg(first + wide)),
    ]
}

/// What a map has goes where nothing is looked for.
const ASIDE: Reg = Reg(8);
/// Load its flow: source address and port, destination address and port.
pub fn flow(family: Family) -> Vec<Expr> {
    let (_, source, destination, _) = family.layout();
    ends(family, (source, 0), (destination, 2))
}

/// Load the flow that it would answer: its destination is that one's source.
pub fn flow_back(family: Family) -> Vec<Expr> {
    let (_, source, destination, _) = family.layout();
    ends(family, (destination, 2), (source, 0))
}

/// Load an address and port, and another behind it, by where they are in the headers.
fn ends(family: Family, first: (u32, u32), second: (u32, u32)) -> Vec<Expr> {
    let (number, .., len) = family.layout();
    // Registers of an address.
    let wide = if len == 4 { 1 } else { 4 };
    vec![
        load(NFT_META_NFPROTO, R0),
        equals(&[number]),
        header(NFT_PAYLOAD_NETWORK_HEADER, first.0, len, R0),
        header(NFT_PAYLOAD_TRANSPORT_HEADER, first.1, 2, Reg(wide)),
        header(NFT_PAYLOAD_NETWORK_HEADER, second.0, len, Reg(wide + 1)),
        header(NFT_PAYLOAD_TRANSPORT_HEADER, second.1, 2, Reg(2 * wide + 1)),
    ]
}

/// Load its socket's cgroup at this level, if a map knows it.
pub fn cgroup_known_to(level: u8, map: &str) -> Vec<Expr> {
    vec![cgroup(level, R0), look_up(map, LookupTo::Reg(ASIDE), false)]
}

/// Load its socket's owner, if a map knows it.
pub fn uid_known_to(map: &str) -> Vec<Expr> {
    vec![uid(), look_up(map, LookupTo::Reg(ASIDE), false)]
}

/// Load its mark, if it is one of ours.
pub fn its_mark() -> Vec<Expr> {
    let mut exprs = kind_of_mark(MARK, MARK_MASK);
    exprs.push(load(NFT_META_MARK, R0));
    exprs
}

/// These bits of its mark are so.
pub fn kind_of_mark(value: u32, mask: u32) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        number_bits(mask, 0),
        equals(&value.to_ne_bytes()),
    ]
}
