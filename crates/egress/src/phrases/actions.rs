//! What becomes of a packet.

use super::{
    Family, LookupTo, R0, destination_in, load,
    loads::{cgroup, uid},
    look_up, number_bits, protocol, store,
};
use crate::{
    Transport,
    ruleset::{Expr, Verdict},
    uapi::*,
};

/// What was loaded last is in a set from now on, for as long as the set says.
pub fn keep(set: &str) -> Vec<Expr> {
    vec![touch(set, None)]
}

/// What was loaded last is an element of a set that has a check of its own, which matches.
pub fn update(set: &str, check: Expr) -> Vec<Expr> {
    vec![touch(set, Some(Box::new(check)))]
}

/// What was loaded last is in a set from now on; if it is there already, it keeps its time.
pub fn add(set: &str) -> Vec<Expr> {
    vec![Expr::Add {
        set: set.to_owned(),
        key: R0,
    }]
}

/// What was loaded last is in a set no more.
pub fn remove(set: &str) -> Vec<Expr> {
    vec![Expr::Remove {
        set: set.to_owned(),
        key: R0,
    }]
}

fn touch(set: &str, expr: Option<Box<Expr>>) -> Expr {
    Expr::Update {
        set: set.to_owned(),
        key: R0,
        timeout_ms: 0,
        expr,
    }
}

/// Mark it with this.
pub fn mark(value: u32) -> Vec<Expr> {
    let value = value.to_ne_bytes().to_vec();
    vec![Expr::Immediate { to: R0, value }, store(NFT_META_MARK)]
}

/// Keep these bits of its mark and turn these round.
pub fn change_mark(mask: u32, xor: u32) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        number_bits(mask, xor),
        store(NFT_META_MARK),
    ]
}

/// Mark it with what its socket's cgroup at this level maps to, if it does.
pub fn mark_by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    mark_with(cgroup(level, R0), map)
}

/// Mark it with what its destination maps to, if it does.
pub fn mark_by_destination(family: Family, map: &str) -> Vec<Expr> {
    let mut exprs = destination_in(family, map);
    exprs.pop();
    exprs.extend([look_up(map, LookupTo::Reg(R0), false), store(NFT_META_MARK)]);
    exprs
}

/// Mark it with what its socket's owner maps to, if it does.
pub fn mark_by_uid(map: &str) -> Vec<Expr> {
    mark_with(uid(), map)
}

fn mark_with(loaded: Expr, map: &str) -> Vec<Expr> {
    let mark = look_up(map, LookupTo::Reg(R0), false);
    vec![loaded, mark, store(NFT_META_MARK)]
}

/// Tell of it, unless much was told of its mark lately.
pub fn tell(told: &str, group: u16, prefix: String) -> Vec<Expr> {
    /// An IPv6 header and the ports behind it, with room for a TCP header.
    const HEADERS: u32 = 64;
    let seldom = Expr::Limit {
        rate: 10,
        unit_s: 60,
        burst: 5,
        bytes: false,
        over: false,
    };
    vec![
        load(NFT_META_MARK, R0),
        touch(told, Some(Box::new(seldom))),
        Expr::Log {
            group,
            prefix,
            snaplen: HEADERS,
        },
    ]
}

/// Refuse it, being TCP, so that its sender's call fails at once. An ICMP error would reach the
/// sender's socket while `connect` holds it and be kept until the retransmission, a second later
/// (`sock_owned_by_user` in `tcp_v4_err`; 1.02 s measured on 6.18); a reset waits for the call
/// to let go.
pub fn reset() -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([Expr::Counter, Expr::Reset]);
    exprs
}

/// Refuse it, telling its sender at once.
pub fn reject() -> Vec<Expr> {
    let code = NFT_REJECT_ICMPX_ADMIN_PROHIBITED;
    vec![Expr::Counter, Expr::Reject { code }]
}

/// Count it.
pub fn count() -> Vec<Expr> {
    vec![Expr::Counter]
}

/// Count it under its mark.
pub fn count_by_mark(set: &str) -> Vec<Expr> {
    let mut exprs = vec![load(NFT_META_MARK, R0)];
    exprs.extend(update(set, Expr::Counter));
    exprs
}

/// Count it and drop it, without a word.
pub fn discard() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]
}

/// Let it pass our table.
pub fn accept() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Accept)]
}

/// Drop it without a word.
pub fn drop() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Drop)]
}

/// Go back to where this chain was jumped to from.
pub fn back() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Return)]
}

/// Let another chain decide.
pub fn goto(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Goto(chain.to_owned()))]
}

/// Go through another chain and come back.
pub fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.to_owned()))]
}
