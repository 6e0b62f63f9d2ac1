//! Any ruleset that the kernel takes, made of any bytes: for the property tests, the oracle and the
//! fuzzer alike.

mod rules;

use arbitrary::{Result, Unstructured};
use nft::{ruleset::*, uapi::*};

/// The name of the table.
pub const TABLE: &str = "any";
/// A chain that others lead to.
const LEAF: &str = "leaf";

/// A table of one of the three families.
pub fn ruleset(u: &mut Unstructured<'_>) -> Result<Ruleset> {
    let family = *u.choose(&[NFPROTO_INET, NFPROTO_INET, NFPROTO_BRIDGE, NFPROTO_NETDEV])?;
    let sets = sets(u)?;
    let mut chains = vec![Chain {
        name: LEAF.to_owned(),
        hook: None,
        device: None,
        rules: Vec::new(),
    }];
    for hook in hooks(family) {
        let mut rules = Vec::new();
        for _ in 0..u.int_in_range(0..=8)? {
            rules.push(rules::rule(u, family, *hook, &sets)?);
        }
        chains.push(Chain {
            name: format!("base{hook}"),
            hook: Some(Hook {
                number: *hook,
                priority: u.int_in_range(-300..=300)?,
            }),
            device: (family == NFPROTO_NETDEV).then(|| "lo".to_owned()),
            rules,
        });
    }
    Ok(Ruleset {
        family,
        table: TABLE.to_owned(),
        flags: 0,
        comment: comment(u, 60)?,
        chains,
        sets,
    })
}

fn hooks(family: u8) -> &'static [u32] {
    match family {
        NFPROTO_BRIDGE => &[NF_BR_FORWARD],
        NFPROTO_NETDEV => &[NF_NETDEV_INGRESS],
        _ => &[NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT],
    }
}

/// Printable text; none is no comment.
fn comment(u: &mut Unstructured<'_>, most: usize) -> Result<String> {
    let length = u.int_in_range(0..=most)?;
    let mut text = String::new();
    for _ in 0..length {
        text.push(char::from(u.int_in_range(b' '..=b'~')?));
    }
    Ok(text)
}

/// One set of each kind that rules look in or fill.
fn sets(u: &mut Unstructured<'_>) -> Result<Vec<Set>> {
    let named = |name: &str, flags, key_type, key_len| Set {
        name: name.to_owned(),
        flags,
        key_type,
        key_len,
        ..Set::default()
    };
    let mut sets = vec![
        Set {
            counted: u.arbitrary()?,
            elements: elements(u, 2, |_| Ok(None))?,
            ..named("ports", 0, TYPE_INET_SERVICE, 2)
        },
        Set {
            size: u.int_in_range(64..=1 << 20)?,
            elements: elements(u, 8, |_| Ok(None))?,
            ..named("cgroups", 0, TYPE_CGROUPV2, 8)
        },
        Set {
            data: Some(DataType::Verdict),
            elements: elements(u, 4, |u| verdict(u).map(Some))?,
            ..named("verdicts", NFT_SET_MAP, TYPE_MARK, 4)
        },
        Set {
            data: Some(DataType::Value {
                kind: TYPE_MARK,
                len: 4,
            }),
            elements: elements(u, 4, |u| Ok(Some(Data::Value(bytes(u, 4)?))))?,
            ..named("marks", NFT_SET_MAP, TYPE_MARK, 4)
        },
        Set {
            elements: ranges(u)?,
            ..named("networks", NFT_SET_INTERVAL, TYPE_IPV4, 4)
        },
        Set {
            fields: vec![4, 4],
            elements: pairs(u)?,
            ..named(
                "pairs",
                NFT_SET_INTERVAL | NFT_SET_CONCAT,
                TYPE_IPV4 << TYPE_BITS | TYPE_INET_SERVICE,
                8,
            )
        },
        Set {
            timeout_ms: 3_600_000,
            elements: timed(u)?,
            ..named("timed", NFT_SET_TIMEOUT, TYPE_IPV4, 4)
        },
        Set {
            size: 1_000,
            timeout_ms: 1_000 * u.int_in_range(1..=1 << 30)?,
            ..named("seen", NFT_SET_TIMEOUT | NFT_SET_EVAL, TYPE_MARK, 4)
        },
    ];
    for set in &mut sets {
        if u.arbitrary()? {
            // KEYBYTEORDER of the nft program's, and a number.
            set.userdata = [&[0, 4][..], &bytes(u, 4)?].concat();
        }
    }
    Ok(sets)
}

fn bytes(u: &mut Unstructured<'_>, count: usize) -> Result<Vec<u8>> {
    (0..count).map(|_| u.arbitrary()).collect()
}

fn verdict(u: &mut Unstructured<'_>) -> Result<Data> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Data::Code(NF_DROP),
        1 => Data::Code(NF_ACCEPT),
        _ => Data::Goto(LEAF.to_owned()),
    })
}

/// Elements with different keys.
fn elements(
    u: &mut Unstructured<'_>,
    key_len: usize,
    mut data: impl FnMut(&mut Unstructured<'_>) -> Result<Option<Data>>,
) -> Result<Vec<Element>> {
    let mut found: Vec<Element> = Vec::new();
    for _ in 0..u.int_in_range(0..=12)? {
        let key = bytes(u, key_len)?;
        if found.iter().all(|known| known.key != key) {
            found.push(Element {
                data: data(u)?,
                comment: comment(u, 20)?,
                ..Element::key(key)
            });
        }
    }
    Ok(found)
}

/// Ranges of addresses that neither meet nor touch.
fn ranges(u: &mut Unstructured<'_>) -> Result<Vec<Element>> {
    let mut next = u32::from(u.arbitrary::<u8>()?);
    let mut found = Vec::new();
    for _ in 0..u.int_in_range(0..=6)? {
        let end = next + 1 + u32::from(u.arbitrary::<u16>()?);
        found.push(Element::key(next.to_be_bytes().into()));
        found.push(Element {
            interval_end: true,
            ..Element::key(end.to_be_bytes().into())
        });
        next = end + 1 + u32::from(u.arbitrary::<u16>()?);
    }
    Ok(found)
}

/// Ranges of addresses with a range of ports each; the addresses do not meet.
fn pairs(u: &mut Unstructured<'_>) -> Result<Vec<Element>> {
    let mut found = Vec::new();
    for place in 0..u.int_in_range(0..=6u8)? {
        let (low, high): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
        let ports: (u16, u16) = (u.arbitrary()?, u.arbitrary()?);
        let key = |last: u8, port: u16| {
            let port = port.to_be_bytes();
            [&[10, place, 0, last][..], &port, &[0, 0]].concat()
        };
        found.push(Element {
            key_end: Some(key(low.max(high), ports.0.max(ports.1))),
            ..Element::key(key(low.min(high), ports.0.min(ports.1)))
        });
    }
    Ok(found)
}

fn timed(u: &mut Unstructured<'_>) -> Result<Vec<Element>> {
    let mut found = elements(u, 4, |_| Ok(None))?;
    for element in &mut found {
        element.timeout_ms = 1_000 * u.int_in_range(1_000..=1 << 20)?;
    }
    Ok(found)
}
