//! What connection tracking knows of a packet's flow. A rule with any of these has the kernel track all
//! connections of the network namespace, those on loopback too (`nf_ct_netns_get` in `nft_ct_get_init`).

use super::{
    Cmp, Family, LookupTo, R0, R1, compare, equals, has, load,
    loads::{asked_address, asked_port, behind_address},
    look_up, number_bits, protocol,
};
use crate::{Transport, ruleset::Expr, uapi::*};

const IP_CT_DIR_REPLY: u8 = 1;

/// It answers a flow that the other side began.
pub fn is_answer() -> Vec<Expr> {
    let key = NFT_CT_DIRECTION;
    vec![Expr::Ct { key, to: R0 }, equals(&[IP_CT_DIR_REPLY])]
}

/// Its flow's destination was translated: its first packet asked for another address or port, and an
/// admin's rule says where it goes. The route that a packet was given before, and with it the interface
/// that it leaves by, is that of what was asked for.
pub fn is_translated() -> Vec<Expr> {
    status(IPS_DST_NAT, Cmp::Neq)
}

/// The same is tracked and not so.
pub fn is_not_translated() -> Vec<Expr> {
    status(IPS_DST_NAT, Cmp::Eq)
}

/// Its flow's source was translated: an answer goes to another address than who asked seemed to have.
pub fn source_is_translated() -> Vec<Expr> {
    status(IPS_SRC_NAT, Cmp::Neq)
}

/// This bit of its flow's status, `IPS_*`, compares so with none.
fn status(bit: u32, op: Cmp) -> Vec<Expr> {
    let key = NFT_CT_STATUS;
    vec![
        Expr::Ct { key, to: R0 },
        number_bits(bit, 0),
        compare(op, &[0; 4]),
    ]
}

/// It begins a flow.
pub fn is_new() -> Vec<Expr> {
    // `NF_CT_STATE_BIT(IP_CT_NEW)` of `linux/netfilter/nf_conntrack_common.h`.
    const NEW: u32 = 1 << 3;
    let key = NFT_CT_STATE;
    vec![
        Expr::Ct { key, to: R0 },
        number_bits(NEW, 0),
        compare(Cmp::Neq, &[0; 4]),
    ]
}

/// What was asked for is in a set of this family's addresses.
pub fn asked_in(family: Family, set: &str) -> Vec<Expr> {
    vec![asked_address(family), has(set)]
}

/// The same decides by what it maps to; with `port`, that and the port asked for.
pub fn by_asked(family: Family, port: bool, map: &str) -> Vec<Expr> {
    let mut exprs = vec![asked_address(family)];
    if port {
        exprs.push(asked_port(behind_address(family)));
    }
    exprs.push(look_up(map, LookupTo::Verdict, false));
    exprs
}

/// Its protocol and the port asked for are in a set of both.
pub fn asked_service_in(set: &str) -> Vec<Expr> {
    vec![load(NFT_META_L4PROTO, R0), asked_port(R1), has(set)]
}

/// It is TCP and the port asked for is in a set of ports.
pub fn asked_tcp_port_in(set: &str) -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([asked_port(R0), has(set)]);
    exprs
}

/// Once it leaves this node or arrives, the kernel's table has an entry more: it is the first packet of a
/// flow. One that is refused leaves none.
pub fn makes_entry() -> Vec<Expr> {
    status(IPS_CONFIRMED, Cmp::Eq)
}

/// It is the first packet of a flow, or its flow's destination was translated: one look for both.
pub fn is_first_or_translated() -> Vec<Expr> {
    vec![
        Expr::Ct {
            key: NFT_CT_STATUS,
            to: R0,
        },
        number_bits(IPS_CONFIRMED | IPS_DST_NAT, 0),
        compare(Cmp::Neq, &IPS_CONFIRMED.to_ne_bytes()),
    ]
}
