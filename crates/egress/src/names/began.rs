//! Connections that began while their destination's name was good go on for as long as they last.
//!
//! That one did so is written on its entry in the kernel's table of connections, as labels
//! (`ct label`): so it ends with the connection, takes no room of its own, and nothing that one sender
//! does takes it from another. Labels are 128 bits that any program may set. Of these a class has eight
//! of the upper 64, picked by its name: a connection that began under one class goes on under no other.

use crate::{
    ClassName, Error, Netlink, encode,
    phrases::{self as p, R0},
    ruleset::{Cmp, Expr, Ruleset},
    table::{self, chain, rule},
    uapi::{NFPROTO_INET, NFT_CT_LABELS},
};

/// Bytes of a connection's labels (`NF_CT_LABELS_MAX_SIZE`).
const LABELS: usize = 16;
/// Bits of a class. With so many of 64, connections that began under two classes seem to have begun
/// under a third about once in 65,000 pairs.
const BITS: u32 = 8;

/// The labels of a class: the same for as long as it has its name.
fn labels(class: &ClassName) -> [u8; LABELS] {
    // FNV-1a, then the generator of Knuth's MMIX: neither changes with a compiler or a library.
    let first = class
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let (mut hash, mut bits) = (first, 0u64);
    while bits.count_ones() < BITS {
        hash = hash
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bits |= 1 << (hash >> 58);
    }
    let mut labels = [0; LABELS];
    if let Some(upper) = labels.last_chunk_mut() {
        *upper = bits.to_ne_bytes();
    }
    labels
}

/// Its connection began so, under this class.
pub fn began(class: &ClassName) -> Vec<Expr> {
    let labels = labels(class);
    vec![
        Expr::Ct {
            key: NFT_CT_LABELS,
            to: R0,
        },
        p::bits(&labels, &[0; LABELS]),
        p::compare(Cmp::Eq, &labels),
    ]
}

/// Its connection goes on from now on.
pub fn begin(class: &ClassName) -> Vec<Expr> {
    vec![
        Expr::Immediate {
            to: R0,
            value: labels(class).to_vec(),
        },
        Expr::CtSet {
            key: NFT_CT_LABELS,
            from: R0,
        },
    ]
}

fn reads(expr: &Expr) -> bool {
    matches!(expr, Expr::Ct { key, .. } if *key == NFT_CT_LABELS)
}

fn writes(expr: &Expr) -> bool {
    matches!(expr, Expr::CtSet { key, .. } if *key == NFT_CT_LABELS)
}

/// Takes labels out of a ruleset, for a kernel that has none: there a connection goes on for as long as
/// its destination's name is good.
pub fn without_labels(ruleset: &mut Ruleset) {
    for chain in &mut ruleset.chains {
        chain.rules.retain(|rule| !rule.exprs.iter().any(reads));
        for rule in &mut chain.rules {
            while let Some(at) = rule.exprs.iter().position(writes) {
                // Behind the value that it writes.
                rule.exprs.drain(at.saturating_sub(1)..=at);
            }
        }
    }
}

/// Whether this kernel's connections have labels (`CONFIG_NF_CONNTRACK_LABELS`): a rule is made and
/// taken away within one transaction.
///
/// # Errors
/// [`Error::Socket`].
pub fn try_labels(netlink: &mut Netlink) -> Result<bool, Error> {
    let class = ClassName::pending();
    let trial = Ruleset {
        family: NFPROTO_INET,
        table: format!("{}-probe", table::TABLE),
        chains: vec![chain("trial", [rule("", [began(&class), begin(&class)])])],
        ..Ruleset::default()
    };
    let mut messages = encode::create(&trial)?;
    messages.extend(encode::remove(trial.family, &trial.table)?);
    match netlink.transact("try labels of connections", &messages) {
        Ok(()) => Ok(true),
        Err(nft::Error::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Mode, Policy};

    #[test]
    fn a_class_has_labels_of_its_own_and_keeps_them() {
        let of = |name: &str| labels(&name.parse().unwrap());
        let names = [
            "standard", "research", "exam", "offline", "named", "lab", "a", "b", "c",
        ];
        for (place, name) in names.iter().enumerate() {
            let bits: u32 = of(name).iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(bits, BITS, "{name}");
            assert_eq!(of(name)[..8], [0; 8], "the lower half is others'");
            let others: Vec<_> = names.iter().skip(place + 1).map(|name| of(name)).collect();
            assert!(!others.contains(&of(name)), "{name}");
        }
        // What a daemon wrote, the next one has to read.
        let upper = u64::from_ne_bytes(of("standard")[8..].try_into().unwrap());
        assert_eq!(upper, 0x0040_1201_8200_2001);
    }

    #[test]
    fn a_kernel_without_labels_has_the_same_rules_but_for_those() {
        let mut policy = Policy::standard(Mode::Enforce);
        let named = Class {
            names: vec!["*".parse().unwrap()],
            ..Class::standard()
        };
        policy.classes.insert("named".parse().unwrap(), named);
        let whole = table::build(&policy);
        let mut without = whole.clone();
        without_labels(&mut without);
        let rules = |ruleset: &Ruleset| {
            let rules = ruleset.chains.iter().flat_map(|chain| &chain.rules);
            rules.cloned().collect::<Vec<_>>()
        };
        let left = rules(&without);
        assert!(
            !left
                .iter()
                .flat_map(|rule| &rule.exprs)
                .any(|e| reads(e) || writes(e))
        );
        // One rule for servers, one for users outside.
        assert_eq!(rules(&whole).len(), left.len() + 2);
        let accepts = left.iter().filter(|rule| rule.comment == "names");
        assert!(accepts.clone().count() > 0);
        for rule in accepts {
            assert_eq!(rule.exprs.last(), p::accept().last());
        }
    }
}
