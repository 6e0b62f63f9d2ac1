//! Facts that are loaded for a phrase behind them.

use super::{Family, LookupTo, MARK, MARK_MASK, R0, equals, header, load, look_up, number_bits};
use crate::egress::{
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

/// Load what its socket's owner maps to, if it does.
pub fn number_by_uid(map: &str) -> Vec<Expr> {
    vec![uid(), look_up(map, LookupTo::Reg(R0), false)]
}

/// Load its destination port.
pub(super) fn destination_port(to: Reg) -> Expr {
    header(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, to)
}

/// Load its flow: source address and port, destination address and port.
pub fn flow(family: Family) -> Vec<Expr> {
    let (number, source, destination, len) = family.layout();
    // Registers of an address.
    let wide = if len == 4 { 1 } else { 4 };
    vec![
        load(NFT_META_NFPROTO, R0),
        equals(&[number]),
        header(NFT_PAYLOAD_NETWORK_HEADER, source, len, R0),
        header(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, Reg(wide)),
        header(NFT_PAYLOAD_NETWORK_HEADER, destination, len, Reg(wide + 1)),
        destination_port(Reg(2 * wide + 1)),
    ]
}

/// Load what its socket's cgroup at this level maps to, if it does.
pub fn number_by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    vec![cgroup(level, R0), look_up(map, LookupTo::Reg(R0), false)]
}

/// Load its mark, if it is one of ours.
pub fn number_by_mark() -> Vec<Expr> {
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
