//! Any rule: conditions, statements, and what becomes of the packet.

use arbitrary::{Result, Unstructured};
use nft::{ruleset::*, uapi::*};

use super::{LEAF, bytes, comment};

pub fn rule(u: &mut Unstructured<'_>, family: u8, hook: u32, sets: &[Set]) -> Result<Rule> {
    let mut exprs = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        exprs.extend(step(u, family, hook, sets)?);
    }
    exprs.extend(end(u, family)?);
    // It sends by the interface whose index is in its register.
    if let Some(Expr::Forward { from }) = exprs.last() {
        let (to, value) = (*from, 1u32.to_ne_bytes().into());
        exprs.insert(exprs.len() - 1, Expr::Immediate { to, value });
    }
    Ok(Rule {
        exprs,
        comment: comment(u, 60)?,
    })
}

fn register(u: &mut Unstructured<'_>) -> Result<Reg> {
    // The first that eight bytes go into, and all of them on.
    Ok(Reg(u.int_in_range(0..=12)?))
}

/// A condition or a statement, with all that it loads.
fn step(u: &mut Unstructured<'_>, family: u8, hook: u32, sets: &[Set]) -> Result<Vec<Expr>> {
    let to = register(u)?;
    let inet = family == NFPROTO_INET;
    let mark = Expr::Meta {
        key: NFT_META_MARK,
        to,
    };
    let cmp = |u: &mut Unstructured<'_>, len| {
        let (op, value) = (*u.choose(&Cmp::ALL)?, bytes(u, len)?);
        let from = to;
        Ok::<_, arbitrary::Error>(Expr::Cmp { op, from, value })
    };
    Ok(match u.int_in_range(0..=20)? {
        0 => vec![mark, cmp(u, 4)?],
        1 => vec![
            mark,
            Expr::MetaSet {
                key: NFT_META_MARK,
                from: to,
            },
        ],
        2 if inet => vec![
            match u.arbitrary()? {
                true => Expr::Ct {
                    key: NFT_CT_STATUS,
                    to,
                },
                false => Expr::CtOriginal {
                    key: NFT_CT_DST_IP,
                    to,
                },
            },
            bits(u, to, 4)?,
            cmp(u, 4)?,
        ],
        3 if inet => vec![
            Expr::Socket {
                key: NFT_SOCKET_CGROUPV2,
                level: u.int_in_range(1..=4)?,
                to,
            },
            look_up(u, "cgroups", to, LookupTo::Nothing)?,
        ],
        4 => vec![payload(u, to, 4)?, range(u, to, 4)?],
        5 => vec![
            payload(u, to, 2)?,
            look_up(u, "ports", to, LookupTo::Nothing)?,
        ],
        6 => vec![
            payload(u, to, 4)?,
            look_up(u, "networks", to, LookupTo::Nothing)?,
        ],
        7 => vec![
            payload(u, to, 8)?,
            look_up(u, "pairs", to, LookupTo::Nothing)?,
        ],
        8 => vec![
            mark,
            Expr::Lookup {
                set: "marks".to_owned(),
                from: to,
                to: LookupTo::Reg(register(u)?),
                invert: false,
            },
        ],
        9 => vec![
            mark,
            Expr::Lookup {
                set: "verdicts".to_owned(),
                from: to,
                to: LookupTo::Verdict,
                invert: false,
            },
        ],
        10 => vec![limit(u)?],
        11 if inet => vec![Expr::Connections {
            count: u.int_in_range(1..=u32::MAX)?,
            over: u.arbitrary()?,
        }],
        12 => vec![Expr::Counter],
        13 => vec![Expr::Log {
            group: u.arbitrary()?,
            prefix: format!("p{}", comment(u, 60)?.replace(char::is_whitespace, "_")),
            snaplen: u.int_in_range(1..=200)?,
        }],
        14 if inet => vec![
            Expr::Fib {
                to,
                incoming: hook == NF_INET_LOCAL_IN && u.arbitrary()?,
            },
            cmp(u, 4)?,
        ],
        15 if inet && hook == NF_INET_PRE_ROUTING => vec![Expr::FibName { to }, cmp(u, 16)?],
        16 => vec![mark, fill(u, to, sets)?],
        // Labels are as long as four registers.
        17 if inet && to.0 % 4 == 0 => vec![
            Expr::Immediate {
                to,
                value: bytes(u, 8)?.repeat(2),
            },
            Expr::CtSet {
                key: NFT_CT_LABELS,
                from: to,
            },
        ],
        19 => vec![mark, Expr::ToNetwork { from: to, to }, cmp(u, 4)?],
        17 | 18 => vec![Expr::Immediate {
            to,
            value: bytes(u, 8)?,
        }],
        _ => vec![payload(u, to, 16)?, bits(u, to, 16)?, cmp(u, 16)?],
    })
}

fn look_up(u: &mut Unstructured<'_>, set: &str, from: Reg, to: LookupTo) -> Result<Expr> {
    Ok(Expr::Lookup {
        set: set.to_owned(),
        from,
        to,
        invert: u.arbitrary()?,
    })
}

fn payload(u: &mut Unstructured<'_>, to: Reg, len: u32) -> Result<Expr> {
    Ok(Expr::Payload {
        base: *u.choose(&[NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER])?,
        offset: u.int_in_range(0..=40)?,
        len,
        to,
    })
}

fn range(u: &mut Unstructured<'_>, from: Reg, len: usize) -> Result<Expr> {
    let (one, other) = (bytes(u, len)?, bytes(u, len)?);
    let (low, high) = (one.clone().min(other.clone()), one.max(other));
    Ok(Expr::Range { from, low, high })
}

fn bits(u: &mut Unstructured<'_>, reg: Reg, len: usize) -> Result<Expr> {
    Ok(Expr::Bitwise {
        from: reg,
        to: reg,
        mask: bytes(u, len)?,
        xor: bytes(u, len)?,
    })
}

fn limit(u: &mut Unstructured<'_>) -> Result<Expr> {
    Ok(Expr::Limit {
        rate: u.int_in_range(1..=1_000_000)?,
        unit_s: *u.choose(&[1, 60, 3_600])?,
        burst: u.int_in_range(1..=1_000)?,
        bytes: u.arbitrary()?,
        over: u.arbitrary()?,
    })
}

fn fill(u: &mut Unstructured<'_>, key: Reg, sets: &[Set]) -> Result<Expr> {
    let dynamic = |set: &&Set| set.is_dynamic();
    let set = sets
        .iter()
        .find(dynamic)
        .map_or_else(String::new, |set| set.name.clone());
    Ok(match u.int_in_range(0..=4)? {
        0 => Expr::Add { set, key },
        1 => Expr::Remove { set, key },
        kind => Expr::Update {
            set,
            key,
            timeout_ms: 1_000 * u.int_in_range(0..=1 << 20)?,
            expr: match kind {
                2 => None,
                3 => Some(Box::new(Expr::Counter)),
                _ => Some(Box::new(limit(u)?)),
            },
        },
    })
}

/// What becomes of the packet; nothing, in some rules.
fn end(u: &mut Unstructured<'_>, family: u8) -> Result<Option<Expr>> {
    let inet = family == NFPROTO_INET;
    Ok(Some(match u.int_in_range(0..=11)? {
        0 => Expr::Verdict(Verdict::Accept),
        1 => Expr::Verdict(Verdict::Drop),
        2 => Expr::Verdict(Verdict::Continue),
        3 => Expr::Verdict(Verdict::Break),
        4 => Expr::Verdict(Verdict::Return),
        5 => Expr::Verdict(Verdict::Jump(LEAF.to_owned())),
        6 => Expr::Verdict(Verdict::Goto(LEAF.to_owned())),
        7 if family != NFPROTO_NETDEV => Expr::Queue {
            number: u.arbitrary()?,
            bypass: u.arbitrary()?,
        },
        8 if inet => Expr::Reject {
            code: u.int_in_range(0..=3)?,
        },
        9 if inet => Expr::Reset,
        10 if family == NFPROTO_NETDEV => Expr::Forward { from: Reg(0) },
        _ => return Ok(None),
    }))
}
