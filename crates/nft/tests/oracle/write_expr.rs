//! Our expressions as libnftnl's.

use nft::{
    ruleset::{Expr, LookupTo, Reg, Verdict},
    uapi::*,
};
use nftnl_sys::*;

use crate::objects::{self as ffi, Refused, Settable};

fn number(reg: Reg) -> u32 {
    let register = u32::from(reg.0);
    if register % 4 == 0 {
        1 + register / 4
    } else {
        8 + register
    }
}

/// `struct xt_NFQ_info_v3`.
pub fn target_info(number: u16, bypass: bool) -> [u8; 8] {
    let mut info = [0; 8];
    info[..2].copy_from_slice(&number.to_ne_bytes());
    info[2..4].copy_from_slice(&1u16.to_ne_bytes());
    info[4..6].copy_from_slice(&(if bypass { NFQ_FLAG_BYPASS } else { 0 }).to_ne_bytes());
    info
}

pub fn write(expr: &Expr) -> Result<ffi::Expr, Refused> {
    let name = match expr {
        Expr::Meta { .. } | Expr::MetaSet { .. } => c"meta",
        Expr::Ct { .. } | Expr::CtSet { .. } | Expr::CtOriginal { .. } => c"ct",
        Expr::Socket { .. } => c"socket",
        Expr::Payload { .. } => c"payload",
        Expr::Cmp { .. } => c"cmp",
        Expr::Range { .. } => c"range",
        Expr::Bitwise { .. } => c"bitwise",
        Expr::ToNetwork { .. } => c"byteorder",
        Expr::Lookup { .. } => c"lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => c"immediate",
        Expr::Update { .. } | Expr::Add { .. } | Expr::Remove { .. } => c"dynset",
        Expr::Fib { .. } | Expr::FibName { .. } => c"fib",
        Expr::Limit { .. } => c"limit",
        Expr::Counter => c"counter",
        Expr::Forward { .. } => c"fwd",
        Expr::Connections { .. } => c"connlimit",
        Expr::Queue { .. } => c"queue",
        Expr::QueueTarget { .. } => c"target",
        Expr::Log { .. } => c"log",
        Expr::Reject { .. } | Expr::Reset => c"reject",
        Expr::Foreign { .. } => c"foreign",
    };
    let mut e = ffi::Expr::new(name)?;
    match expr {
        Expr::Meta { key, to } => {
            e.set_u32(NFTNL_EXPR_META_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_META_DREG as u16, number(*to))?;
        }
        Expr::MetaSet { key, from } => {
            e.set_u32(NFTNL_EXPR_META_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_META_SREG as u16, number(*from))?;
        }
        Expr::Ct { key, to } => {
            e.set_u32(NFTNL_EXPR_CT_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_CT_DREG as u16, number(*to))?;
        }
        Expr::CtSet { key, from } => {
            e.set_u32(NFTNL_EXPR_CT_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_CT_SREG as u16, number(*from))?;
        }
        Expr::CtOriginal { key, to } => {
            e.set_u32(NFTNL_EXPR_CT_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_CT_DREG as u16, number(*to))?
                .set_u8(NFTNL_EXPR_CT_DIR as u16, IP_CT_DIR_ORIGINAL)?;
        }
        Expr::Socket { key, level, to } => {
            e.set_u32(NFTNL_EXPR_SOCKET_KEY as u16, *key)?
                .set_u32(NFTNL_EXPR_SOCKET_DREG as u16, number(*to))?;
            if *key == NFT_SOCKET_CGROUPV2 {
                e.set_u32(NFTNL_EXPR_SOCKET_LEVEL as u16, *level)?;
            }
        }
        Expr::Payload {
            base,
            offset,
            len,
            to,
        } => {
            e.set_u32(NFTNL_EXPR_PAYLOAD_DREG as u16, number(*to))?
                .set_u32(NFTNL_EXPR_PAYLOAD_BASE as u16, *base)?
                .set_u32(NFTNL_EXPR_PAYLOAD_OFFSET as u16, *offset)?
                .set_u32(NFTNL_EXPR_PAYLOAD_LEN as u16, *len)?;
        }
        Expr::Cmp { op, from, value } => {
            e.set_u32(NFTNL_EXPR_CMP_SREG as u16, number(*from))?
                .set_u32(NFTNL_EXPR_CMP_OP as u16, *op as u32)?
                .set_value(NFTNL_EXPR_CMP_DATA as u16, value)?;
        }
        Expr::Range { from, low, high } => {
            e.set_u32(NFTNL_EXPR_RANGE_SREG as u16, number(*from))?
                .set_u32(NFTNL_EXPR_RANGE_OP as u16, 0)?
                .set_value(NFTNL_EXPR_RANGE_FROM_DATA as u16, low)?
                .set_value(NFTNL_EXPR_RANGE_TO_DATA as u16, high)?;
        }
        Expr::ToNetwork { from, to } => {
            e.set_u32(NFTNL_EXPR_BYTEORDER_SREG as u16, number(*from))?
                .set_u32(NFTNL_EXPR_BYTEORDER_DREG as u16, number(*to))?
                .set_u32(NFTNL_EXPR_BYTEORDER_OP as u16, NFT_BYTEORDER_HTON)?
                .set_u32(NFTNL_EXPR_BYTEORDER_LEN as u16, 4)?
                .set_u32(NFTNL_EXPR_BYTEORDER_SIZE as u16, 4)?;
        }
        Expr::Bitwise {
            from,
            to,
            mask,
            xor,
        } => {
            e.set_u32(NFTNL_EXPR_BITWISE_SREG as u16, number(*from))?
                .set_u32(NFTNL_EXPR_BITWISE_DREG as u16, number(*to))?
                .set_u32(NFTNL_EXPR_BITWISE_LEN as u16, mask.len() as u32)?
                .set_u32(NFTNL_EXPR_BITWISE_OP as u16, 0)?
                .set_value(NFTNL_EXPR_BITWISE_MASK as u16, mask)?
                .set_value(NFTNL_EXPR_BITWISE_XOR as u16, xor)?;
        }
        Expr::Lookup {
            set,
            from,
            to,
            invert,
        } => {
            e.set_text(NFTNL_EXPR_LOOKUP_SET as u16, set)?
                .set_u32(NFTNL_EXPR_LOOKUP_SREG as u16, number(*from))?;
            match to {
                LookupTo::Nothing => {}
                LookupTo::Verdict => drop(e.set_u32(NFTNL_EXPR_LOOKUP_DREG as u16, 0)?),
                LookupTo::Reg(reg) => drop(e.set_u32(NFTNL_EXPR_LOOKUP_DREG as u16, number(*reg))?),
            }
            if *invert {
                e.set_u32(NFTNL_EXPR_LOOKUP_FLAGS as u16, NFT_LOOKUP_F_INV)?;
            }
        }
        Expr::Immediate { to, value } => {
            e.set_u32(NFTNL_EXPR_IMM_DREG as u16, number(*to))?
                .set_value(NFTNL_EXPR_IMM_DATA as u16, value)?;
        }
        Expr::Verdict(verdict) => {
            let (code, chain) = code_of(verdict);
            e.set_u32(NFTNL_EXPR_IMM_DREG as u16, 0)?
                .set_u32(NFTNL_EXPR_IMM_VERDICT as u16, code.cast_unsigned())?;
            if let Some(chain) = chain {
                e.set_text(NFTNL_EXPR_IMM_CHAIN as u16, chain)?;
            }
        }
        Expr::Update {
            set,
            key,
            timeout_ms,
            expr,
        } => {
            keyed(&mut e, set, NFT_DYNSET_OP_UPDATE, *key)?;
            if *timeout_ms > 0 {
                e.set_u64(NFTNL_EXPR_DYNSET_TIMEOUT as u16, *timeout_ms)?;
            }
            if let Some(expr) = expr {
                e.dynset_expr(write(expr)?)?;
            }
        }
        Expr::Add { set, key } => keyed(&mut e, set, NFT_DYNSET_OP_ADD, *key)?,
        Expr::Remove { set, key } => keyed(&mut e, set, NFT_DYNSET_OP_DELETE, *key)?,
        Expr::Fib { to, incoming } => {
            let interface = if *incoming { NFTA_FIB_F_IIF } else { 0 };
            e.set_u32(NFTNL_EXPR_FIB_DREG as u16, number(*to))?
                .set_u32(NFTNL_EXPR_FIB_RESULT as u16, NFT_FIB_RESULT_ADDRTYPE)?
                .set_u32(NFTNL_EXPR_FIB_FLAGS as u16, NFTA_FIB_F_DADDR | interface)?;
        }
        Expr::FibName { to } => {
            e.set_u32(NFTNL_EXPR_FIB_DREG as u16, number(*to))?
                .set_u32(NFTNL_EXPR_FIB_RESULT as u16, NFT_FIB_RESULT_OIFNAME)?
                .set_u32(NFTNL_EXPR_FIB_FLAGS as u16, NFTA_FIB_F_DADDR)?;
        }
        Expr::Limit {
            rate,
            unit_s,
            burst,
            bytes,
            over,
        } => {
            let kind = if *bytes {
                NFT_LIMIT_PKT_BYTES
            } else {
                NFT_LIMIT_PKTS
            };
            e.set_u64(NFTNL_EXPR_LIMIT_RATE as u16, *rate)?
                .set_u64(NFTNL_EXPR_LIMIT_UNIT as u16, *unit_s)?
                .set_u32(NFTNL_EXPR_LIMIT_BURST as u16, *burst)?
                .set_u32(NFTNL_EXPR_LIMIT_TYPE as u16, kind)?
                .set_u32(
                    NFTNL_EXPR_LIMIT_FLAGS as u16,
                    if *over { NFT_LIMIT_F_INV } else { 0 },
                )?;
        }
        Expr::Connections { count, over } => {
            let flags = if *over { NFT_CONNLIMIT_F_INV } else { 0 };
            e.set_u32(NFTNL_EXPR_CONNLIMIT_COUNT as u16, *count)?
                .set_u32(NFTNL_EXPR_CONNLIMIT_FLAGS as u16, flags)?;
        }
        Expr::Queue { number, bypass } => {
            let flags = if *bypass { NFT_QUEUE_FLAG_BYPASS } else { 0 };
            e.set_u16(NFTNL_EXPR_QUEUE_NUM as u16, *number)?
                .set_u16(NFTNL_EXPR_QUEUE_TOTAL as u16, 1)?
                .set_u16(NFTNL_EXPR_QUEUE_FLAGS as u16, flags)?;
        }
        Expr::QueueTarget { number, bypass } => {
            e.set_text(NFTNL_EXPR_TG_NAME as u16, XT_NFQUEUE)?
                .set_u32(NFTNL_EXPR_TG_REV as u16, XT_NFQUEUE_REVISION)?;
            e.target_info(&target_info(*number, *bypass))?;
        }
        Expr::Forward { from } => drop(e.set_u32(NFTNL_EXPR_FWD_SREG_DEV as u16, number(*from))?),
        Expr::Counter => {
            e.set_u64(NFTNL_EXPR_CTR_BYTES as u16, 0)?
                .set_u64(NFTNL_EXPR_CTR_PACKETS as u16, 0)?;
        }
        Expr::Log {
            group,
            prefix,
            snaplen,
        } => {
            e.set_u16(NFTNL_EXPR_LOG_GROUP as u16, *group)?
                .set_text(NFTNL_EXPR_LOG_PREFIX as u16, prefix)?
                .set_u32(NFTNL_EXPR_LOG_SNAPLEN as u16, *snaplen)?;
        }
        Expr::Reject { code } => {
            e.set_u32(NFTNL_EXPR_REJECT_TYPE as u16, NFT_REJECT_ICMPX_UNREACH)?
                .set_u8(NFTNL_EXPR_REJECT_CODE as u16, *code)?;
        }
        Expr::Reset => drop(e.set_u32(NFTNL_EXPR_REJECT_TYPE as u16, NFT_REJECT_TCP_RST)?),
        Expr::Foreign { .. } => {}
    }
    Ok(e)
}

fn keyed(e: &mut ffi::Expr, set: &str, op: u32, key: Reg) -> Result<(), Refused> {
    e.set_text(NFTNL_EXPR_DYNSET_SET_NAME as u16, set)?
        .set_u32(NFTNL_EXPR_DYNSET_OP as u16, op)?
        .set_u32(NFTNL_EXPR_DYNSET_SREG_KEY as u16, number(key))?;
    Ok(())
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
