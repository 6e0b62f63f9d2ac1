//! Attributes to expressions.

use super::target_info;
use crate::{
    nla::{Attribute, Attributes},
    ruleset::{Cmp, Expr, LookupTo, Reg, Verdict},
    uapi::*,
};

/// Read an expression from the nest that [`super::write`] makes. Never fails: what is not understood
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
        "ct" => {
            let key = a.be32(NFTA_CT_KEY)?;
            if a.get(NFTA_CT_SREG).is_some() {
                let from = reg(NFTA_CT_SREG)?;
                let whole = a.get(NFTA_CT_DIRECTION).is_none();
                return whole.then_some(Expr::CtSet { key, from });
            }
            let to = reg(NFTA_CT_DREG)?;
            match a.get(NFTA_CT_DIRECTION) {
                None => Expr::Ct { key, to },
                Some(direction) if direction.u8()? == IP_CT_DIR_ORIGINAL => {
                    Expr::CtOriginal { key, to }
                }
                Some(_) => return None,
            }
        }
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
        "byteorder"
            if a.be32(NFTA_BYTEORDER_OP)? == NFT_BYTEORDER_HTON
                && a.be32(NFTA_BYTEORDER_LEN)? == 4
                && a.be32(NFTA_BYTEORDER_SIZE)? == 4 =>
        {
            Expr::ToNetwork {
                from: reg(NFTA_BYTEORDER_SREG)?,
                to: reg(NFTA_BYTEORDER_DREG)?,
            }
        }
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
        "fib"
            if a.be32(NFTA_FIB_RESULT)? == NFT_FIB_RESULT_OIFNAME
                && a.be32(NFTA_FIB_FLAGS)? == NFTA_FIB_F_DADDR =>
        {
            Expr::FibName {
                to: reg(NFTA_FIB_DREG)?,
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
