//! Expressions to attributes and back.
//!
//! An expression is a name and a nest of attributes. What is not understood is
//! read as [`Expr::Foreign`], with the attributes as they came.

mod read;

pub use read::{read, read_code, value};

use crate::{
    nla::Writer,
    ruleset::{Expr, LookupTo, Reg, Verdict},
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
        Expr::Ct { .. } | Expr::CtSet { .. } | Expr::CtOriginal { .. } => "ct",
        Expr::Socket { .. } => "socket",
        Expr::Payload { .. } => "payload",
        Expr::Cmp { .. } => "cmp",
        Expr::Range { .. } => "range",
        Expr::Bitwise { .. } => "bitwise",
        Expr::ToNetwork { .. } => "byteorder",
        Expr::Lookup { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Update { .. } | Expr::Add { .. } | Expr::Remove { .. } => "dynset",
        Expr::Fib { .. } | Expr::FibName { .. } => "fib",
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
        Expr::CtSet { key, from } => {
            w.be32(NFTA_CT_KEY, *key).be32(NFTA_CT_SREG, from.number());
        }
        Expr::CtOriginal { key, to } => {
            w.be32(NFTA_CT_KEY, *key)
                .be32(NFTA_CT_DREG, to.number())
                .u8(NFTA_CT_DIRECTION, IP_CT_DIR_ORIGINAL);
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
        Expr::ToNetwork { from, to } => {
            w.be32(NFTA_BYTEORDER_SREG, from.number())
                .be32(NFTA_BYTEORDER_DREG, to.number())
                .be32(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON)
                .be32(NFTA_BYTEORDER_LEN, 4)
                .be32(NFTA_BYTEORDER_SIZE, 4);
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
        Expr::FibName { to } => {
            w.be32(NFTA_FIB_DREG, to.number())
                .be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_OIFNAME)
                .be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
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
