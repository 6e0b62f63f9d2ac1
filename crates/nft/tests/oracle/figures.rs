//! How long both take for the same: `cargo test --release -p hubwarden-nft --test oracle figures --
//! --ignored --nocapture`. The figures are in `docs/decisions/001-own-codec-or-nftnl-mnl.md`.

use std::{slice, time::Instant};

use nft::{
    encode::{self, Change},
    ruleset::*,
    uapi::*,
};

use crate::{
    any::TABLE, apart, assert_same, by_libnftnl, by_ours, ordered, socket::Netlink,
    write::Transaction,
};

const RULES: usize = 200;
const ELEMENTS: u32 = 5_000;
const SET: &str = "cgroups";
/// Where the elements lead: the kernel follows such a map at each change of it.
const CLASS: &str = "class";

/// A table of many rules, and a map of many elements.
fn table() -> Ruleset {
    let (set, from) = (SET.to_owned(), Reg(0));
    let rule = |place: usize| Rule {
        exprs: vec![
            Expr::Meta {
                key: NFT_META_MARK,
                to: from,
            },
            Expr::Cmp {
                op: Cmp::Eq,
                from,
                value: (place as u32).to_ne_bytes().into(),
            },
            Expr::Counter,
            Expr::Verdict(Verdict::Accept),
        ],
        comment: format!("rule {place}"),
    };
    let look_up = Rule {
        exprs: vec![
            Expr::Socket {
                key: NFT_SOCKET_CGROUPV2,
                level: 2,
                to: from,
            },
            Expr::Lookup {
                set,
                from,
                to: LookupTo::Verdict,
                invert: false,
            },
        ],
        comment: String::new(),
    };
    Ruleset {
        family: NFPROTO_INET,
        table: TABLE.to_owned(),
        chains: vec![
            Chain {
                name: CLASS.to_owned(),
                hook: None,
                device: None,
                rules: Vec::new(),
            },
            Chain {
                name: "output".to_owned(),
                hook: Some(Hook {
                    number: NF_INET_LOCAL_OUT,
                    priority: 0,
                }),
                device: None,
                rules: (1..RULES).map(rule).chain([look_up]).collect(),
            },
        ],
        sets: vec![Set {
            name: SET.to_owned(),
            flags: NFT_SET_MAP,
            key_type: TYPE_CGROUPV2,
            key_len: 8,
            data: Some(DataType::Verdict),
            size: 2 * ELEMENTS,
            elements: (0..ELEMENTS).map(element).collect(),
            ..Set::default()
        }],
        ..Ruleset::default()
    }
}

fn element(number: u32) -> Element {
    let key = u64::from(number).to_ne_bytes();
    Element::map(key.into(), Data::Goto(CLASS.to_owned()))
}

fn say(name: &str, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    println!(
        "{name:34} {:8.3} ms, least {:8.3} ms",
        ms[ms.len() / 2],
        ms[0]
    );
}

fn timed(times: usize, mut call: impl FnMut()) -> Vec<f64> {
    let time = |_| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_secs_f64() * 1_000.0
    };
    (0..times).map(time).collect()
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    apart(|| {
        let mut ours = nft::Netlink::open().unwrap();
        let mut theirs = Netlink::open().unwrap();
        let table = table();
        let wanted = ordered(table.clone());
        let replace = |theirs: &mut Netlink| {
            let mut transaction = Transaction::new();
            transaction.replace(&table).unwrap();
            let (batch, says) = transaction.finish();
            theirs.transact(&batch, &says).unwrap();
        };
        for _ in 0..2 {
            let load = timed(15, || {
                ours.transact("load", &encode::replace(&table).unwrap())
                    .unwrap();
            });
            say("ours: load", load);
            say("libnftnl: load", timed(15, || replace(&mut theirs)));
            let read = timed(15, || {
                assert_same(&by_ours(&mut ours, NFPROTO_INET), &wanted, "")
            });
            say("ours: read and compare", read);
            let read = timed(15, || {
                assert_same(&by_libnftnl(&mut theirs, NFPROTO_INET), &wanted, "");
            });
            say("libnftnl: read and compare", read);
            let one = element(ELEMENTS + 1);
            let list = slice::from_ref(&one);
            let both = [Change::Add, Change::Delete];
            let change = timed(401, || {
                for change in both {
                    let messages = encode::elements(NFPROTO_INET, TABLE, SET, change, list);
                    ours.transact("one", &messages.unwrap()).unwrap();
                }
            });
            say("ours: add one and delete it", change);
            let change = timed(401, || {
                for change in both {
                    let mut transaction = Transaction::new();
                    let added = transaction.elements(NFPROTO_INET, TABLE, SET, change, list);
                    added.unwrap();
                    let (batch, says) = transaction.finish();
                    theirs.transact(&batch, &says).unwrap();
                }
            });
            say("libnftnl: add one and delete it", change);
        }
    });
}
