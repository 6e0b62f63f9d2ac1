//! libnftnl's expressions as ours.

use nft::{
    ruleset::{Cmp, Expr, LookupTo, Reg, Verdict},
    uapi::*,
};
use nftnl_sys::*;

use crate::{
    objects::{Attributes, View},
    write_expr::target_info,
};

fn register(number: u32) -> Option<Reg> {
    match number {
        1..=4 => u8::try_from((number - 1) * 4).ok().map(Reg),
        8..=23 => u8::try_from(number - 8).ok().map(Reg),
        _ => None,
    }
}

/// What is not understood is foreign.
pub fn read(e: View<'_>) -> Expr {
    known(e).unwrap_or_else(|| Expr::Foreign {
        name: e.name().to_owned(),
        data: Vec::new(),
    })
}

fn known(e: View<'_>) -> Option<Expr> {
    let reg = |attribute: u32| register(e.u32(attribute as u16)?);
    let value = |attribute: u32| Some(e.bytes(attribute as u16)?.to_vec());
    let text = |attribute: u32| Some(e.text(attribute as u16)?.to_owned());
    let u16 = |attribute: u32| e.u16(attribute as u16);
    let u32 = |attribute: u32| e.u32(attribute as u16);
    let u64 = |attribute: u32| e.u64(attribute as u16);
    Some(match e.name() {
        "meta" => {
            let key = u32(NFTNL_EXPR_META_KEY)?;
            match u32(NFTNL_EXPR_META_SREG) {
                Some(from) => Expr::MetaSet {
                    key,
                    from: register(from)?,
                },
                None => Expr::Meta {
                    key,
                    to: reg(NFTNL_EXPR_META_DREG)?,
                },
            }
        }
        "ct" => {
            let key = u32(NFTNL_EXPR_CT_KEY)?;
            if let Some(from) = u32(NFTNL_EXPR_CT_SREG) {
                let from = register(from)?;
                return Some(Expr::CtSet { key, from });
            }
            let to = reg(NFTNL_EXPR_CT_DREG)?;
            match e.u8(NFTNL_EXPR_CT_DIR as u16) {
                None => Expr::Ct { key, to },
                Some(IP_CT_DIR_ORIGINAL) => Expr::CtOriginal { key, to },
                Some(_) => return None,
            }
        }
        "socket" => Expr::Socket {
            key: u32(NFTNL_EXPR_SOCKET_KEY)?,
            level: u32(NFTNL_EXPR_SOCKET_LEVEL).unwrap_or(0),
            to: reg(NFTNL_EXPR_SOCKET_DREG)?,
        },
        "payload" => Expr::Payload {
            base: u32(NFTNL_EXPR_PAYLOAD_BASE)?,
            offset: u32(NFTNL_EXPR_PAYLOAD_OFFSET)?,
            len: u32(NFTNL_EXPR_PAYLOAD_LEN)?,
            to: reg(NFTNL_EXPR_PAYLOAD_DREG)?,
        },
        "cmp" => Expr::Cmp {
            op: *Cmp::ALL.get(u32(NFTNL_EXPR_CMP_OP)? as usize)?,
            from: reg(NFTNL_EXPR_CMP_SREG)?,
            value: value(NFTNL_EXPR_CMP_DATA)?,
        },
        "range" if u32(NFTNL_EXPR_RANGE_OP)? == 0 => Expr::Range {
            from: reg(NFTNL_EXPR_RANGE_SREG)?,
            low: value(NFTNL_EXPR_RANGE_FROM_DATA)?,
            high: value(NFTNL_EXPR_RANGE_TO_DATA)?,
        },
        "byteorder"
            if u32(NFTNL_EXPR_BYTEORDER_OP)? == NFT_BYTEORDER_HTON
                && u32(NFTNL_EXPR_BYTEORDER_LEN)? == 4
                && u32(NFTNL_EXPR_BYTEORDER_SIZE)? == 4 =>
        {
            Expr::ToNetwork {
                from: reg(NFTNL_EXPR_BYTEORDER_SREG)?,
                to: reg(NFTNL_EXPR_BYTEORDER_DREG)?,
            }
        }
        "bitwise" if u32(NFTNL_EXPR_BITWISE_OP).unwrap_or(0) == 0 => Expr::Bitwise {
            from: reg(NFTNL_EXPR_BITWISE_SREG)?,
            to: reg(NFTNL_EXPR_BITWISE_DREG)?,
            mask: value(NFTNL_EXPR_BITWISE_MASK)?,
            xor: value(NFTNL_EXPR_BITWISE_XOR)?,
        },
        "lookup" => Expr::Lookup {
            set: text(NFTNL_EXPR_LOOKUP_SET)?,
            from: reg(NFTNL_EXPR_LOOKUP_SREG)?,
            to: match u32(NFTNL_EXPR_LOOKUP_DREG) {
                None => LookupTo::Nothing,
                Some(0) => LookupTo::Verdict,
                Some(number) => LookupTo::Reg(register(number)?),
            },
            invert: u32(NFTNL_EXPR_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0,
        },
        "immediate" if u32(NFTNL_EXPR_IMM_DREG)? == 0 => {
            let chain = || text(NFTNL_EXPR_IMM_CHAIN);
            Expr::Verdict(match u32(NFTNL_EXPR_IMM_VERDICT)?.cast_signed() {
                NF_ACCEPT => Verdict::Accept,
                NF_DROP => Verdict::Drop,
                NFT_CONTINUE => Verdict::Continue,
                NFT_BREAK => Verdict::Break,
                NFT_RETURN => Verdict::Return,
                NFT_JUMP => Verdict::Jump(chain()?),
                NFT_GOTO => Verdict::Goto(chain()?),
                _ => return None,
            })
        }
        "immediate" => Expr::Immediate {
            to: reg(NFTNL_EXPR_IMM_DREG)?,
            value: value(NFTNL_EXPR_IMM_DATA)?,
        },
        // Several expressions, or a match turned round, are none of ours.
        "dynset"
            if e.has(NFTNL_EXPR_DYNSET_EXPRESSIONS)
                || u32(NFTNL_EXPR_DYNSET_FLAGS).unwrap_or(0) & 1 != 0 =>
        {
            return None;
        }
        "dynset" => {
            let (set, key) = (
                text(NFTNL_EXPR_DYNSET_SET_NAME)?,
                reg(NFTNL_EXPR_DYNSET_SREG_KEY)?,
            );
            let timeout_ms = u64(NFTNL_EXPR_DYNSET_TIMEOUT).unwrap_or(0);
            match (u32(NFTNL_EXPR_DYNSET_OP)?, e.inner()) {
                (NFT_DYNSET_OP_UPDATE, inner) => Expr::Update {
                    set,
                    key,
                    timeout_ms,
                    expr: inner.map(|inner| Box::new(read(inner))),
                },
                (NFT_DYNSET_OP_ADD, None) if timeout_ms == 0 => Expr::Add { set, key },
                (NFT_DYNSET_OP_DELETE, None) if timeout_ms == 0 => Expr::Remove { set, key },
                _ => return None,
            }
        }
        "limit" => Expr::Limit {
            rate: u64(NFTNL_EXPR_LIMIT_RATE)?,
            unit_s: u64(NFTNL_EXPR_LIMIT_UNIT)?,
            burst: u32(NFTNL_EXPR_LIMIT_BURST).unwrap_or(0),
            bytes: match u32(NFTNL_EXPR_LIMIT_TYPE).unwrap_or(NFT_LIMIT_PKTS) {
                NFT_LIMIT_PKTS => false,
                NFT_LIMIT_PKT_BYTES => true,
                _ => return None,
            },
            over: flag(u32(NFTNL_EXPR_LIMIT_FLAGS), NFT_LIMIT_F_INV)?,
        },
        "connlimit" => Expr::Connections {
            count: u32(NFTNL_EXPR_CONNLIMIT_COUNT)?,
            over: flag(u32(NFTNL_EXPR_CONNLIMIT_FLAGS), NFT_CONNLIMIT_F_INV)?,
        },
        "queue" if u16(NFTNL_EXPR_QUEUE_TOTAL)? == 1 => Expr::Queue {
            number: u16(NFTNL_EXPR_QUEUE_NUM)?,
            bypass: flag(
                u16(NFTNL_EXPR_QUEUE_FLAGS).map(u32::from),
                NFT_QUEUE_FLAG_BYPASS.into(),
            )?,
        },
        "target" => {
            let info = value(NFTNL_EXPR_TG_INFO)?;
            let number = u16::from_ne_bytes(*info.first_chunk()?);
            let bypass = target_info(number, true)[..] == info[..];
            let ours = text(NFTNL_EXPR_TG_NAME)? == XT_NFQUEUE
                && u32(NFTNL_EXPR_TG_REV)? == XT_NFQUEUE_REVISION
                && (bypass || target_info(number, false)[..] == info[..]);
            return ours.then_some(Expr::QueueTarget { number, bypass });
        }
        "fib"
            if u32(NFTNL_EXPR_FIB_RESULT)? == NFT_FIB_RESULT_ADDRTYPE
                && u32(NFTNL_EXPR_FIB_FLAGS)? & !NFTA_FIB_F_IIF == NFTA_FIB_F_DADDR =>
        {
            Expr::Fib {
                to: reg(NFTNL_EXPR_FIB_DREG)?,
                incoming: u32(NFTNL_EXPR_FIB_FLAGS)? & NFTA_FIB_F_IIF != 0,
            }
        }
        "fib"
            if u32(NFTNL_EXPR_FIB_RESULT)? == NFT_FIB_RESULT_OIFNAME
                && u32(NFTNL_EXPR_FIB_FLAGS)? == NFTA_FIB_F_DADDR =>
        {
            Expr::FibName {
                to: reg(NFTNL_EXPR_FIB_DREG)?,
            }
        }
        "fwd" => Expr::Forward {
            from: reg(NFTNL_EXPR_FWD_SREG_DEV)?,
        },
        "counter" => Expr::Counter,
        "log" => Expr::Log {
            group: u16(NFTNL_EXPR_LOG_GROUP)?,
            prefix: text(NFTNL_EXPR_LOG_PREFIX).unwrap_or_default(),
            snaplen: u32(NFTNL_EXPR_LOG_SNAPLEN).unwrap_or(0),
        },
        "reject" => match u32(NFTNL_EXPR_REJECT_TYPE)? {
            NFT_REJECT_TCP_RST => Expr::Reset,
            NFT_REJECT_ICMPX_UNREACH => Expr::Reject {
                code: e.u8(NFTNL_EXPR_REJECT_CODE as u16)?,
            },
            _ => return None,
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
