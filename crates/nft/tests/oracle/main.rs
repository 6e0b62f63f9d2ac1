//! The codec held against libnftnl: each reads what the other wrote, through the kernel, in network
//! namespaces of the test's own.
//!
//! libnftnl is here alone: its reader ends the process on some bytes that the kernel does not send,
//! and it takes unsafe calls, an object at a time (`docs/decisions/001-own-codec-or-nftnl-mnl.md`).

// A test may unwrap; the helpers of these are tests too.
#![allow(clippy::unwrap_used)]

#[path = "../any/mod.rs"]
mod any;
mod figures;
mod messages;
mod mutation;
mod objects;
mod queueing;
mod read;
mod read_expr;
mod socket;
mod write;
mod write_expr;

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use nft::{OwnWrites, encode, readback, ruleset::*};
use nix::sched::{CloneFlags, unshare};

use any::TABLE;
use queueing::Queueing;
use socket::Netlink;
use write::Transaction;

/// What `Expr` knows and these rulesets are made of, but the two ways to queue: a kernel may have one of
/// them, or none.
const KINDS: [&str; 24] = [
    "Add",
    "Bitwise",
    "Cmp",
    "Connections",
    "Counter",
    "Ct",
    "CtSet",
    "Fib",
    "FibName",
    "Forward",
    "Immediate",
    "Limit",
    "Log",
    "Lookup",
    "Meta",
    "MetaSet",
    "Payload",
    "Range",
    "Reject",
    "Remove",
    "Reset",
    "Socket",
    "ToNetwork",
    "Update",
];

/// Calls a function on a thread of its own in a network namespace of its own.
fn apart<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root: it makes a network namespace");
            call()
        });
        thread.join().unwrap()
    })
}

/// The ruleset of a number.
fn ruleset(seed: u64, queueing: Queueing) -> Ruleset {
    // SplitMix64.
    let word = |n: u64| {
        let mut z = (seed << 32 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    };
    let bytes: Vec<u8> = (1..=1_000).flat_map(word).collect();
    let mut ruleset = any::ruleset(&mut Unstructured::new(&bytes)).unwrap();
    queueing.apply(&mut ruleset);
    ruleset
}

/// With elements in order, as hashes have none, and without what passes while it is read.
fn ordered(mut ruleset: Ruleset) -> Ruleset {
    for set in &mut ruleset.sets {
        set.elements.sort();
        for element in &mut set.elements {
            element.timeout_ms = element.timeout_ms.min(1);
        }
    }
    ruleset
}

fn by_ours(netlink: &mut nft::Netlink, family: u8) -> Ruleset {
    let since = OwnWrites::default().since_now();
    let read = readback::read(netlink, "read it back", family, TABLE, &since);
    ordered(read.unwrap().1.unwrap())
}

fn by_libnftnl(netlink: &mut Netlink, family: u8) -> Ruleset {
    ordered(read::ruleset(netlink, family, TABLE).unwrap().unwrap())
}

/// Says what differs first.
fn assert_same(found: &Ruleset, wanted: &Ruleset, what: &str) {
    for (found, wanted) in found.chains.iter().zip(&wanted.chains) {
        for (found, wanted) in found.rules.iter().zip(&wanted.rules) {
            assert_eq!(found, wanted, "{what}");
        }
    }
    for (found, wanted) in found.sets.iter().zip(&wanted.sets) {
        assert_eq!(found, wanted, "{what}");
    }
    assert_eq!(found, wanted, "{what}");
}

/// Adds up the kinds of expressions.
fn count(kinds: &mut BTreeMap<String, usize>, expr: &Expr) {
    let words = format!("{expr:?}");
    let kind = words.split([' ', '(']).next().unwrap_or_default();
    let kind = match expr {
        Expr::Verdict(verdict) => format!("{verdict:?}"),
        _ => kind.to_owned(),
    };
    *kinds.entry(kind).or_default() += 1;
    if let Expr::Update {
        expr: Some(inner), ..
    } = expr
    {
        count(kinds, inner);
    }
}

#[test]
fn each_reads_what_the_other_wrote() {
    const RULESETS: u64 = 120;
    let kinds = apart(|| {
        let mut ours = nft::Netlink::open().unwrap();
        let mut theirs = Netlink::open().unwrap();
        let mut kinds = BTreeMap::new();
        let queueing = Queueing::of_this_kernel();
        for seed in 0..RULESETS {
            let ruleset = ruleset(seed, queueing);
            let family = ruleset.family;
            let messages = encode::replace(&ruleset).unwrap();
            ours.transact("write it", &messages)
                .unwrap_or_else(|error| panic!("ruleset {seed}: {error}\n{ruleset:#?}"));
            let wanted = ordered(ruleset.clone());
            let what = format!("ruleset {seed}, written by us, read by ");
            assert_same(&by_ours(&mut ours, family), &wanted, &format!("{what}us"));
            let found = by_libnftnl(&mut theirs, family);
            assert_same(&found, &wanted, &format!("{what}libnftnl"));

            let mut transaction = Transaction::new();
            transaction.replace(&ruleset).unwrap();
            let (batch, says) = transaction.finish();
            theirs.transact(&batch, &says).unwrap();
            let what = format!("ruleset {seed}, written by libnftnl, read by ");
            assert_same(&by_ours(&mut ours, family), &wanted, &format!("{what}us"));
            let found = by_libnftnl(&mut theirs, family);
            assert_same(&found, &wanted, &format!("{what}libnftnl"));
            let rules = ruleset.chains.iter().flat_map(|chain| &chain.rules);
            rules
                .flat_map(|rule| &rule.exprs)
                .for_each(|expr| count(&mut kinds, expr));
            let removed = encode::remove(family, TABLE).unwrap();
            ours.transact("remove it", &removed).unwrap();
        }
        kinds
    });
    for kind in KINDS {
        assert!(
            kinds.contains_key(kind),
            "no {kind} was compared: {kinds:?}"
        );
    }
}

#[test]
fn a_wrong_byte_is_refused_or_read_as_something_else() {
    let noticed = mutation::all_noticed();
    let few = noticed.refused < 100 || noticed.read_otherwise < 100;
    assert!(!few, "{noticed:?}");
    println!("{noticed:?}");
}
