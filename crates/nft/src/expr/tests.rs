use proptest::prelude::*;

use super::*;
use crate::{nla::Attributes, ruleset::Cmp};

fn back(expr: &Expr) -> Expr {
    let mut w = Writer::default();
    write(&mut w, NFTA_LIST_ELEM, expr);
    let bytes = w.finish().unwrap();
    read(Attributes(&bytes).next().unwrap().nested())
}

pub fn any_expr() -> impl Strategy<Value = Expr> {
    let reg = || (0u8..16).prop_map(Reg);
    let bytes = || prop::collection::vec(any::<u8>(), 1..16);
    let text = || "[a-z]{1,20}";
    prop_oneof![
        (any::<u32>(), reg()).prop_map(|(key, to)| Expr::Meta { key, to }),
        (any::<u32>(), reg()).prop_map(|(key, from)| Expr::MetaSet { key, from }),
        (any::<u32>(), reg()).prop_map(|(key, to)| Expr::Ct { key, to }),
        (any::<u32>(), reg()).prop_map(|(key, from)| Expr::CtSet { key, from }),
        (reg(), reg()).prop_map(|(from, to)| Expr::ToNetwork { from, to }),
        (any::<u32>(), reg()).prop_map(|(key, to)| Expr::CtOriginal { key, to }),
        (1u32..9, reg()).prop_map(|(level, to)| Expr::Socket {
            key: NFT_SOCKET_CGROUPV2,
            level,
            to
        }),
        (any::<u32>(), any::<u32>(), any::<u32>(), reg()).prop_map(|(base, offset, len, to)| {
            Expr::Payload {
                base,
                offset,
                len,
                to,
            }
        }),
        (0usize..6, reg(), bytes()).prop_map(|(op, from, value)| Expr::Cmp {
            op: Cmp::ALL[op],
            from,
            value
        }),
        (reg(), bytes(), bytes()).prop_map(|(from, low, high)| Expr::Range { from, low, high }),
        (reg(), reg(), bytes(), bytes()).prop_map(|(from, to, mask, xor)| Expr::Bitwise {
            from,
            to,
            mask,
            xor
        }),
        (text(), reg(), reg(), any::<bool>(), 0..3).prop_map(|(set, from, to, invert, k)| {
            let to = [LookupTo::Nothing, LookupTo::Verdict, LookupTo::Reg(to)][k as usize];
            Expr::Lookup {
                set,
                from,
                to,
                invert,
            }
        }),
        (reg(), bytes()).prop_map(|(to, value)| Expr::Immediate { to, value }),
        reg().prop_map(|from| Expr::Forward { from }),
        text().prop_map(|chain| Expr::Verdict(Verdict::Goto(chain))),
        text().prop_map(|chain| Expr::Verdict(Verdict::Jump(chain))),
        Just(Expr::Verdict(Verdict::Return)),
        (text(), reg(), any::<u64>()).prop_map(|(set, key, timeout_ms)| Expr::Update {
            set,
            key,
            timeout_ms,
            expr: Some(Box::new(Expr::Limit {
                rate: 1,
                unit_s: 60,
                burst: 5,
                bytes: false,
                over: false,
            })),
        }),
        (text(), reg()).prop_map(|(set, key)| Expr::Add { set, key }),
        (text(), reg()).prop_map(|(set, key)| Expr::Remove { set, key }),
        (any::<u64>(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
            |(rate, burst, bytes, over)| Expr::Limit {
                rate,
                unit_s: 1,
                burst,
                bytes,
                over
            }
        ),
        (any::<u32>(), any::<bool>()).prop_map(|(count, over)| Expr::Connections { count, over }),
        (any::<u16>(), any::<bool>()).prop_map(|(number, bypass)| Expr::Queue { number, bypass }),
        (any::<u16>(), any::<bool>())
            .prop_map(|(number, bypass)| Expr::QueueTarget { number, bypass }),
        (any::<u16>(), text(), 1u32..).prop_map(|(group, prefix, snaplen)| Expr::Log {
            group,
            prefix,
            snaplen
        }),
        any::<u8>().prop_map(|code| Expr::Reject { code }),
        Just(Expr::Counter),
        Just(Expr::Reset),
    ]
}

proptest! {
    #[test]
    fn every_expression_survives_the_wire(expr in any_expr()) {
        prop_assert_eq!(back(&expr), expr);
    }

    #[test]
    fn any_bytes_read_as_some_expression(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = read(Attributes(&bytes));
    }

    #[test]
    fn an_expression_with_one_byte_changed_is_read_without_a_panic(
        expr in any_expr(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut w = Writer::default();
        write(&mut w, NFTA_LIST_ELEM, &expr);
        let mut bytes = w.finish().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        for attribute in Attributes(&bytes) {
            let _ = read(attribute.nested());
        }
    }
}
