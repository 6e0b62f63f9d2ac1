//! Expressions to attributes and back.
//!
//! An expression is a name and a nest of attributes. What this wing does not write itself is
//! read as [`Expr::Foreign`], with the attributes as they came.

use super::{
    nla::{Attribute, Attributes, Writer},
    ruleset::{Cmp, Expr, LookupTo, Reg, Verdict},
    uapi::*,
};

/// Write an expression as an attribute of this type.
pub fn write(w: &mut Writer, kind: u16, expr: &Expr) {
    w.nest(kind, |w| {
        w.text(NFTA_EXPR_NAME, name(expr));
        w.nest(NFTA_EXPR_DATA, |w| attributes(w, expr));
    });
}

fn name(expr: &Expr) -> &str {
    match expr {
        Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::Socket { .. } => "socket",
        Expr::Payload { .. } => "payload",
        Expr::Cmp { .. } => "cmp",
        Expr::Range { .. } => "range",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Update { .. } | Expr::Add { .. } | Expr::Remove { .. } => "dynset",
        Expr::Fib { .. } => "fib",
        Expr::Limit { .. } => "limit",
        Expr::Counter => "counter",
        Expr::Forward { .. } => "fwd",
        Expr::Connections { .. } => "connlimit",
        Expr::Queue { .. } => "queue",
        Expr::QueueTarget { .. } => "target",
        Expr::Log { .. } => "log",
        Expr::Reject { .. } | Expr::Reset => "reject",
        Expr::Foreign { name, .. } => name,
    }
}

fn attributes(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Meta { key, to } => {
            w.be32(NFTA_META_KEY, *key)
                .be32(NFTA_META_DREG, to.number());
        }
        Expr::MetaSet { key, from } => {
            w.be32(NFTA_META_KEY, *key)
                .be32(NFTA_META_SREG, from.number());
        }
        Expr::Ct { key, to } => {
            w.be32(NFTA_CT_KEY, *key).be32(NFTA_CT_DREG, to.number());
        }
        Expr::Socket { key, level, to } => {
            w.be32(NFTA_SOCKET_KEY, *key)
                .be32(NFTA_SOCKET_DREG, to.number());
            if *key == NFT_SOCKET_CGROUPV2 {
                w.be32(NFTA_SOCKET_LEVEL, *level);
            }
        }
        Expr::Payload {
            base,
            offset,
            len,
            to,
        } => {
            w.be32(NFTA_PAYLOAD_DREG, to.number())
                .be32(NFTA_PAYLOAD_BASE, *base);
            w.be32(NFTA_PAYLOAD_OFFSET, *offset)
                .be32(NFTA_PAYLOAD_LEN, *len);
        }
        Expr::Cmp { op, from, value } => {
            w.be32(NFTA_CMP_SREG, from.number())
                .be32(NFTA_CMP_OP, *op as u32);
            data(w, NFTA_CMP_DATA, value);
        }
        Expr::Range { from, low, high } => {
            w.be32(NFTA_RANGE_SREG, from.number())
                .be32(NFTA_RANGE_OP, 0);
            data(w, NFTA_RANGE_FROM_DATA, low);
            data(w, NFTA_RANGE_TO_DATA, high);
        }
        Expr::Bitwise {
            from,
            to,
            mask,
            xor,
        } => {
            w.be32(NFTA_BITWISE_SREG, from.number())
                .be32(NFTA_BITWISE_DREG, to.number());
            w.be32(
                NFTA_BITWISE_LEN,
                u32::try_from(mask.len()).unwrap_or(u32::MAX),
            );
            w.be32(NFTA_BITWISE_OP, 0);
            data(w, NFTA_BITWISE_MASK, mask);
            data(w, NFTA_BITWISE_XOR, xor);
        }
        Expr::Lookup {
            set,
            from,
            to,
            invert,
        } => {
            w.text(NFTA_LOOKUP_SET, set)
                .be32(NFTA_LOOKUP_SREG, from.number());
            match to {
                LookupTo::Nothing => {}
                LookupTo::Verdict => {
                    w.be32(NFTA_LOOKUP_DREG, 0);
                }
                LookupTo::Reg(reg) => {
                    w.be32(NFTA_LOOKUP_DREG, reg.number());
                }
            }
            if *invert {
                w.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
            }
        }
        Expr::Immediate { to, value } => {
            w.be32(NFTA_IMMEDIATE_DREG, to.number());
            data(w, NFTA_IMMEDIATE_DATA, value);
        }
        Expr::Verdict(to) => {
            w.be32(NFTA_IMMEDIATE_DREG, 0);
            let (code, chain) = code_of(to);
            verdict(w, NFTA_IMMEDIATE_DATA, code, chain);
        }
        Expr::Update {
            set,
            key,
            timeout_ms,
            expr,
        } => {
            keyed(w, set, NFT_DYNSET_OP_UPDATE, *key);
            if *timeout_ms > 0 {
                w.be64(NFTA_DYNSET_TIMEOUT, *timeout_ms);
            }
            if let Some(expr) = expr {
                write(w, NFTA_DYNSET_EXPR, expr);
            }
        }
        Expr::Add { set, key } => keyed(w, set, NFT_DYNSET_OP_ADD, *key),
        Expr::Remove { set, key } => keyed(w, set, NFT_DYNSET_OP_DELETE, *key),
        Expr::Fib { to, incoming } => {
            let interface = if *incoming { NFTA_FIB_F_IIF } else { 0 };
            w.be32(NFTA_FIB_DREG, to.number())
                .be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
                .be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR | interface);
        }
        Expr::Limit {
            rate,
            unit_s,
            burst,
            bytes,
            over,
        } => {
            w.be64(NFTA_LIMIT_RATE, *rate)
                .be64(NFTA_LIMIT_UNIT, *unit_s);
            let kind = if *bytes {
                NFT_LIMIT_PKT_BYTES
            } else {
                NFT_LIMIT_PKTS
            };
            w.be32(NFTA_LIMIT_BURST, *burst)
                .be32(NFTA_LIMIT_TYPE, kind)
                .be32(NFTA_LIMIT_FLAGS, if *over { NFT_LIMIT_F_INV } else { 0 });
        }
        Expr::Connections { count, over } => {
            w.be32(NFTA_CONNLIMIT_COUNT, *count);
            w.be32(
                NFTA_CONNLIMIT_FLAGS,
                if *over { NFT_CONNLIMIT_F_INV } else { 0 },
            );
        }
        Expr::Queue { number, bypass } => {
            w.be16(NFTA_QUEUE_NUM, *number).be16(NFTA_QUEUE_TOTAL, 1);
            w.be16(
                NFTA_QUEUE_FLAGS,
                if *bypass { NFT_QUEUE_FLAG_BYPASS } else { 0 },
            );
        }
        Expr::QueueTarget { number, bypass } => {
            w.text(NFTA_TARGET_NAME, XT_NFQUEUE)
                .be32(NFTA_TARGET_REV, XT_NFQUEUE_REVISION);
            w.bytes(NFTA_TARGET_INFO, &target_info(*number, *bypass));
        }
        Expr::Forward { from } => {
            w.be32(NFTA_FWD_SREG_DEV, from.number());
        }
        Expr::Counter => {
            w.be64(NFTA_COUNTER_BYTES, 0).be64(NFTA_COUNTER_PACKETS, 0);
        }
        Expr::Log {
            group,
            prefix,
            snaplen,
        } => {
            w.be16(NFTA_LOG_GROUP, *group).text(NFTA_LOG_PREFIX, prefix);
            w.be32(NFTA_LOG_SNAPLEN, *snaplen);
        }
        Expr::Reject { code } => {
            w.be32(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH)
                .u8(NFTA_REJECT_ICMP_CODE, *code);
        }
        Expr::Reset => {
            w.be32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST);
        }
        Expr::Foreign { data, .. } => {
            w.raw(data);
        }
    }
}

fn keyed(w: &mut Writer, set: &str, op: u32, key: Reg) {
    w.text(NFTA_DYNSET_SET_NAME, set).be32(NFTA_DYNSET_OP, op);
    w.be32(NFTA_DYNSET_SREG_KEY, key.number());
}

/// What is added and removed without a time or an expression of its own; nothing else is ours.
fn read_keyed(a: Attributes<'_>) -> Option<Expr> {
    let set = a.text(NFTA_DYNSET_SET_NAME)?.to_owned();
    let key = Reg::from_number(a.be32(NFTA_DYNSET_SREG_KEY)?)?;
    if a.be64(NFTA_DYNSET_TIMEOUT).unwrap_or(0) != 0 || a.get(NFTA_DYNSET_EXPR).is_some() {
        return None;
    }
    match a.be32(NFTA_DYNSET_OP)? {
        NFT_DYNSET_OP_ADD => Some(Expr::Add { set, key }),
        NFT_DYNSET_OP_DELETE => Some(Expr::Remove { set, key }),
        _ => None,
    }
}

/// `struct xt_NFQ_info_v3`, in host order, padded as the kernel pads it: number, how many queues,
/// flags.
fn target_info(number: u16, bypass: bool) -> [u8; 8] {
    let mut info = [0; 8];
    info[..2].copy_from_slice(&number.to_ne_bytes());
    info[2..4].copy_from_slice(&1u16.to_ne_bytes());
    let flags = if bypass { NFQ_FLAG_BYPASS } else { 0 };
    info[4..6].copy_from_slice(&flags.to_ne_bytes());
    info
}

/// The number and flag in what [`target_info`] writes; nothing else is ours.
fn read_target(a: Attributes<'_>) -> Option<Expr> {
    let info = a.bytes(NFTA_TARGET_INFO);
    let number = u16::from_ne_bytes(info.get(..2)?.try_into().ok()?);
    let bypass = target_info(number, true) == info;
    let ours = a.text(NFTA_TARGET_NAME) == Some(XT_NFQUEUE)
        && a.be32(NFTA_TARGET_REV) == Some(XT_NFQUEUE_REVISION)
        && (bypass || target_info(number, false) == info);
    ours.then_some(Expr::QueueTarget { number, bypass })
}

/// Write a value.
pub fn data(w: &mut Writer, kind: u16, value: &[u8]) {
    w.nest(kind, |w| {
        w.bytes(NFTA_DATA_VALUE, value);
    });
}

/// Write a verdict and the chain it leads to.
pub fn verdict(w: &mut Writer, kind: u16, code: i32, chain: Option<&str>) {
    w.nest(kind, |w| {
        w.nest(NFTA_DATA_VERDICT, |w| {
            w.bytes(NFTA_VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                w.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}

fn code_of(verdict: &Verdict) -> (i32, Option<&str>) {
    match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Continue => (NFT_CONTINUE, None),
        Verdict::Break => (NFT_BREAK, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    }
}

/// Read an expression from the nest that [`write`] makes. Never fails: what is not understood
/// to the last attribute is foreign.
pub fn read(nest: Attributes<'_>) -> Expr {
    let name = nest.text(NFTA_EXPR_NAME).unwrap_or_default();
    let inside = Attributes(nest.bytes(NFTA_EXPR_DATA));
    known(name, inside).unwrap_or_else(|| Expr::Foreign {
        name: name.to_owned(),
        data: inside.0.to_vec(),
    })
}

fn known(name: &str, a: Attributes<'_>) -> Option<Expr> {
    let reg = |kind| Reg::from_number(a.be32(kind)?);
    Some(match name {
        "meta" => {
            let key = a.be32(NFTA_META_KEY)?;
            match a.get(NFTA_META_SREG) {
                Some(_) => Expr::MetaSet {
                    key,
                    from: reg(NFTA_META_SREG)?,
                },
                None => Expr::Meta {
                    key,
                    to: reg(NFTA_META_DREG)?,
                },
            }
        }
        "ct" => Expr::Ct {
            key: a.be32(NFTA_CT_KEY)?,
            to: reg(NFTA_CT_DREG)?,
        },
        "socket" => Expr::Socket {
            key: a.be32(NFTA_SOCKET_KEY)?,
            level: a.be32(NFTA_SOCKET_LEVEL).unwrap_or(0),
            to: reg(NFTA_SOCKET_DREG)?,
        },
        "payload" => Expr::Payload {
            base: a.be32(NFTA_PAYLOAD_BASE)?,
            offset: a.be32(NFTA_PAYLOAD_OFFSET)?,
            len: a.be32(NFTA_PAYLOAD_LEN)?,
            to: reg(NFTA_PAYLOAD_DREG)?,
        },
        "cmp" => Expr::Cmp {
            op: *Cmp::ALL.get(a.be32(NFTA_CMP_OP)? as usize)?,
            from: reg(NFTA_CMP_SREG)?,
            value: value(a.get(NFTA_CMP_DATA)?)?,
        },
        "range" if a.be32(NFTA_RANGE_OP)? == 0 => Expr::Range {
            from: reg(NFTA_RANGE_SREG)?,
            low: value(a.get(NFTA_RANGE_FROM_DATA)?)?,
            high: value(a.get(NFTA_RANGE_TO_DATA)?)?,
        },
        "bitwise" if a.be32(NFTA_BITWISE_OP).unwrap_or(0) == 0 => Expr::Bitwise {
            from: reg(NFTA_BITWISE_SREG)?,
            to: reg(NFTA_BITWISE_DREG)?,
            mask: value(a.get(NFTA_BITWISE_MASK)?)?,
            xor: value(a.get(NFTA_BITWISE_XOR)?)?,
        },
        "lookup" => Expr::Lookup {
            set: a.text(NFTA_LOOKUP_SET)?.to_owned(),
            from: reg(NFTA_LOOKUP_SREG)?,
            to: match a.be32(NFTA_LOOKUP_DREG) {
                None => LookupTo::Nothing,
                Some(0) => LookupTo::Verdict,
                Some(number) => LookupTo::Reg(Reg::from_number(number)?),
            },
            invert: a.be32(NFTA_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0,
        },
        "immediate" if a.be32(NFTA_IMMEDIATE_DREG)? == 0 => {
            Expr::Verdict(read_verdict(a.get(NFTA_IMMEDIATE_DATA)?)?)
        }
        "immediate" => Expr::Immediate {
            to: reg(NFTA_IMMEDIATE_DREG)?,
            value: value(a.get(NFTA_IMMEDIATE_DATA)?)?,
        },
        "dynset" if a.be32(NFTA_DYNSET_OP)? == NFT_DYNSET_OP_UPDATE => Expr::Update {
            set: a.text(NFTA_DYNSET_SET_NAME)?.to_owned(),
            key: reg(NFTA_DYNSET_SREG_KEY)?,
            timeout_ms: a.be64(NFTA_DYNSET_TIMEOUT).unwrap_or(0),
            // One level deep only: what the kernel allows inside has no expressions of its own.
            expr: match a.get(NFTA_DYNSET_EXPR).map(|e| e.nested()) {
                Some(nest) if nest.text(NFTA_EXPR_NAME)? == "dynset" => return None,
                Some(nest) => Some(Box::new(read(nest))),
                None => None,
            },
        },
        "dynset" => read_keyed(a)?,
        "limit" => Expr::Limit {
            rate: a.be64(NFTA_LIMIT_RATE)?,
            unit_s: a.be64(NFTA_LIMIT_UNIT)?,
            burst: a.be32(NFTA_LIMIT_BURST).unwrap_or(0),
            bytes: match a.be32(NFTA_LIMIT_TYPE).unwrap_or(NFT_LIMIT_PKTS) {
                NFT_LIMIT_PKTS => false,
                NFT_LIMIT_PKT_BYTES => true,
                _ => return None,
            },
            over: flag(a.be32(NFTA_LIMIT_FLAGS), NFT_LIMIT_F_INV)?,
        },
        "connlimit" => Expr::Connections {
            count: a.be32(NFTA_CONNLIMIT_COUNT)?,
            over: flag(a.be32(NFTA_CONNLIMIT_FLAGS), NFT_CONNLIMIT_F_INV)?,
        },
        "queue" if a.get(NFTA_QUEUE_TOTAL)?.be16()? == 1 => Expr::Queue {
            number: a.get(NFTA_QUEUE_NUM)?.be16()?,
            bypass: flag(
                a.get(NFTA_QUEUE_FLAGS)
                    .and_then(|flags| flags.be16())
                    .map(u32::from),
                u32::from(NFT_QUEUE_FLAG_BYPASS),
            )?,
        },
        "target" => read_target(a)?,
        "fib"
            if a.be32(NFTA_FIB_RESULT)? == NFT_FIB_RESULT_ADDRTYPE
                && a.be32(NFTA_FIB_FLAGS)? & !NFTA_FIB_F_IIF == NFTA_FIB_F_DADDR =>
        {
            Expr::Fib {
                to: reg(NFTA_FIB_DREG)?,
                incoming: a.be32(NFTA_FIB_FLAGS)? & NFTA_FIB_F_IIF != 0,
            }
        }
        "fwd" => Expr::Forward {
            from: reg(NFTA_FWD_SREG_DEV)?,
        },
        "counter" => Expr::Counter,
        "log" => Expr::Log {
            group: a.get(NFTA_LOG_GROUP)?.be16()?,
            prefix: a.text(NFTA_LOG_PREFIX).unwrap_or_default().to_owned(),
            snaplen: a.be32(NFTA_LOG_SNAPLEN).unwrap_or(0),
        },
        "reject" if a.be32(NFTA_REJECT_TYPE)? == NFT_REJECT_TCP_RST => Expr::Reset,
        "reject" if a.be32(NFTA_REJECT_TYPE)? == NFT_REJECT_ICMPX_UNREACH => Expr::Reject {
            code: a.get(NFTA_REJECT_ICMP_CODE)?.u8()?,
        },
        _ => return None,
    })
}

/// Whether the one flag there can be is set; none else is ours.
fn flag(flags: Option<u32>, known: u32) -> Option<bool> {
    match flags.unwrap_or(0) {
        0 => Some(false),
        flags => (flags == known).then_some(true),
    }
}

/// Read a value.
pub fn value(nest: Attribute<'_>) -> Option<Vec<u8>> {
    Some(nest.nested().get(NFTA_DATA_VALUE)?.value.to_vec())
}

/// Read a verdict's code and the chain it leads to.
pub fn read_code(nest: Attribute<'_>) -> Option<(i32, Option<&str>)> {
    let verdict = nest.nested().get(NFTA_DATA_VERDICT)?.nested();
    Some((
        verdict.be32(NFTA_VERDICT_CODE)?.cast_signed(),
        verdict.text(NFTA_VERDICT_CHAIN),
    ))
}

fn read_verdict(nest: Attribute<'_>) -> Option<Verdict> {
    Some(match read_code(nest)? {
        (NF_ACCEPT, None) => Verdict::Accept,
        (NF_DROP, None) => Verdict::Drop,
        (NFT_CONTINUE, None) => Verdict::Continue,
        (NFT_BREAK, None) => Verdict::Break,
        (NFT_RETURN, None) => Verdict::Return,
        (NFT_JUMP, Some(chain)) => Verdict::Jump(chain.to_owned()),
        (NFT_GOTO, Some(chain)) => Verdict::Goto(chain.to_owned()),
        _ => return None,
    })
}

impl Reg {
    /// The kernel's number: 1 to 4 for each four registers' first, 8 to 23 for any (`nft_dump_register`
    /// in `net/netfilter/nf_tables_api.c` prefers the former).
    fn number(self) -> u32 {
        let register = u32::from(self.0);
        if register % 4 == 0 {
            1 + register / 4
        } else {
            8 + register
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        match number {
            1..=4 => u8::try_from((number - 1) * 4).ok().map(Self),
            8..=23 => u8::try_from(number - 8).ok().map(Self),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
