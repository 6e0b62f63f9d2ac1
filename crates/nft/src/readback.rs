//! A table as the kernel holds it, and how that differs from what was installed.

use std::fmt;

use nix::errno::Errno;

use crate::{
    Error, Since,
    decode::{self, Count},
    message::Message,
    nla::Writer,
    ruleset::{Element, Ruleset, Set},
    socket::Netlink,
    uapi::*,
};

const TRIES: u32 = 5;

/// How what the kernel holds differs from what was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The object: a table, chain, set, rule or element, in words.
    pub object: String,
    /// What is wrong with it.
    pub kind: DifferenceKind,
}

/// In what way an object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Installed, and not there any more.
    Missing,
    /// There, and never installed.
    Foreign,
    /// There, but not as installed.
    Altered,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            DifferenceKind::Missing => "is gone",
            DifferenceKind::Foreign => "was added by another",
            DifferenceKind::Altered => "was changed by another",
        };
        write!(f, "{} {how}", self.object)
    }
}

/// Read a table whole, and the generation it was of; `None` if it is not there. An error names
/// `attempt`.
///
/// # Errors
/// [`Error::Unsettled`] if others kept changing rules meanwhile, [`Error::Overtaken`] if this
/// writer changed the table since that moment, [`Error::Socket`].
pub fn read(
    netlink: &mut Netlink,
    attempt: &'static str,
    family: u8,
    table: &str,
    since: &Since,
) -> Result<(u32, Option<Ruleset>), Error> {
    for _ in 0..TRIES {
        let before = since.generation(netlink)?;
        let found = match read_once(netlink, attempt, family, table, since) {
            Err(Error::Refused {
                errno: Errno::ENOENT,
                ..
            }) => None,
            other => Some(other?),
        };
        if since.generation(netlink)? == before {
            return Ok((before, found));
        }
    }
    Err(Error::Unsettled {
        attempt,
        tries: TRIES,
    })
}

/// Whether a table is there. A family that the kernel does not know has none.
pub fn stands(netlink: &mut Netlink, family: u8, table: &str) -> bool {
    let attempt = "look for a table";
    let request = request(NFT_MSG_GETTABLE, 0, "table", |w| {
        w.text(NFTA_TABLE_NAME, table);
    });
    let found = request.and_then(|request| {
        let request = request.of_family(family);
        netlink.get(attempt, &request, |reply| {
            reply.is_nft(NFT_MSG_NEWTABLE).then_some(())
        })
    });
    found.is_ok()
}

/// Whether any table but those of this name translates addresses, in any family.
///
/// # Errors
/// [`Error::Socket`], or the kernel's refusal.
pub fn others_translate(netlink: &mut Netlink, ours: &str) -> Result<bool, Error> {
    let attempt = "look for rules that translate addresses";
    let request = dump(NFT_MSG_GETCHAIN, "chains", |_| ())?.of_family(NFPROTO_UNSPEC);
    let found = netlink.dump(attempt, &request, |found: &mut Vec<()>, reply| {
        let chain = reply.attributes();
        let translates = chain.text(NFTA_CHAIN_TYPE) == Some("nat");
        if reply.is_nft(NFT_MSG_NEWCHAIN)
            && translates
            && chain.text(NFTA_CHAIN_TABLE) != Some(ours)
        {
            found.push(());
        }
    })?;
    Ok(!found.is_empty())
}

fn read_once(
    netlink: &mut Netlink,
    attempt: &'static str,
    family: u8,
    table: &str,
    since: &Since,
) -> Result<Ruleset, Error> {
    let request = request(NFT_MSG_GETTABLE, 0, "table", |w| {
        w.text(NFTA_TABLE_NAME, table);
    })?
    .of_family(family);
    let dump = |kind, what: &str, fill: &dyn Fn(&mut Writer)| {
        Ok::<_, Error>(dump(kind, what, |w| fill(w))?.of_family(family))
    };
    let (flags, comment) = netlink.get(attempt, &request, |reply| {
        reply
            .is_nft(NFT_MSG_NEWTABLE)
            .then(|| decode::table(reply.attributes()))
    })?;

    let request = dump(NFT_MSG_GETCHAIN, "chains", &|w| {
        w.text(NFTA_CHAIN_TABLE, table);
    })?;
    let mut chains = netlink.dump(attempt, &request, |found, reply| {
        if reply.is_nft(NFT_MSG_NEWCHAIN) {
            found.extend(decode::chain(reply.attributes(), table));
        }
    })?;

    let request = dump(NFT_MSG_GETRULE, "rules", &|w| {
        w.text(NFTA_RULE_TABLE, table);
    })?;
    let rules = netlink.dump(attempt, &request, |found, reply| {
        if reply.is_nft(NFT_MSG_NEWRULE) {
            let rule = decode::rule(reply.attributes(), table);
            found.extend(rule.map(|(chain, rule)| (chain.to_owned(), rule)));
        }
    })?;
    for (name, rule) in rules {
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
            chain.rules.push(rule);
        }
    }

    let request = dump(NFT_MSG_GETSET, "sets", &|w| {
        w.text(NFTA_SET_TABLE, table);
    })?;
    let mut sets: Vec<Set> = netlink.dump(attempt, &request, |found, reply| {
        if reply.is_nft(NFT_MSG_NEWSET) {
            found.extend(decode::set(reply.attributes(), table));
        }
    })?;
    // What packets fill is not compared, so it need not be read.
    for set in sets.iter_mut().filter(|set| !set.is_dynamic()) {
        if since.is_overtaken() {
            return Err(Error::Overtaken { attempt });
        }
        set.elements = elements(netlink, family, table, &set.name)?;
    }
    Ok(Ruleset {
        family,
        table: table.to_owned(),
        flags,
        comment,
        chains,
        sets,
    })
}

/// The elements of a set.
///
/// # Errors
/// [`Error::Refused`] with `ENOENT` if the set is not there, [`Error::Socket`].
pub fn elements(
    netlink: &mut Netlink,
    family: u8,
    table: &str,
    set: &str,
) -> Result<Vec<Element>, Error> {
    let request = dump(NFT_MSG_GETSETELEM, &format!("elements of set {set}"), |w| {
        w.text(NFTA_SET_ELEM_LIST_TABLE, table)
            .text(NFTA_SET_ELEM_LIST_SET, set);
    })?
    .of_family(family);
    netlink.dump("read a set", &request, |found, reply| {
        if reply.is_nft(NFT_MSG_NEWSETELEM) {
            found.extend(decode::elements(reply.attributes()));
        }
    })
}

/// What the elements of a set counted.
///
/// # Errors
/// [`Error::Refused`] with `ENOENT` if the set is not there, [`Error::Socket`].
pub fn counts(
    netlink: &mut Netlink,
    family: u8,
    table: &str,
    set: &str,
) -> Result<Vec<Count>, Error> {
    let request = dump(NFT_MSG_GETSETELEM, &format!("counters of set {set}"), |w| {
        w.text(NFTA_SET_ELEM_LIST_TABLE, table)
            .text(NFTA_SET_ELEM_LIST_SET, set);
    })?
    .of_family(family);
    netlink.dump("read the counters of a set", &request, |found, reply| {
        if reply.is_nft(NFT_MSG_NEWSETELEM) {
            found.extend(decode::counts(reply.attributes()));
        }
    })
}

fn dump(kind: u16, what: &str, fill: impl FnOnce(&mut Writer)) -> Result<Message, Error> {
    request(kind, NLM_F_DUMP, what, fill)
}

fn request(
    kind: u16,
    flags: u16,
    what: &str,
    fill: impl FnOnce(&mut Writer),
) -> Result<Message, Error> {
    let mut w = Writer::default();
    fill(&mut w);
    Message::nft(kind, flags, format!("read {what}"), w)
}

/// How `found` differs from `expected`; in what is timed only if that is known as well.
pub fn compare(expected: &Ruleset, found: Option<&Ruleset>, timed: bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |object: String, kind| differences.push(Difference { object, kind });
    let Some(found) = found else {
        differ(format!("table {}", expected.table), DifferenceKind::Missing);
        return differences;
    };
    if (expected.flags, &expected.comment) != (found.flags, &found.comment) {
        differ(format!("table {}", expected.table), DifferenceKind::Altered);
    }
    for (wanted, there) in pairs(&expected.chains, &found.chains, |chain| chain.name.as_str()) {
        match (wanted, there) {
            (Some(w), None) => differ(format!("chain {}", w.name), DifferenceKind::Missing),
            (None, Some(t)) => differ(format!("chain {}", t.name), DifferenceKind::Foreign),
            (Some(w), Some(t)) if (w.hook, &w.device) != (t.hook, &t.device) => {
                differ(
                    format!("the hook of chain {}", w.name),
                    DifferenceKind::Altered,
                );
            }
            (Some(w), Some(t)) if w.rules != t.rules => {
                differ(
                    format!("the rules of chain {}", w.name),
                    DifferenceKind::Altered,
                );
            }
            _ => {}
        }
    }
    for (wanted, there) in pairs(&expected.sets, &found.sets, |set| set.name.as_str()) {
        match (wanted, there) {
            (Some(w), None) => differ(format!("set {}", w.name), DifferenceKind::Missing),
            (None, Some(t)) => differ(format!("set {}", t.name), DifferenceKind::Foreign),
            (Some(w), Some(t)) => {
                let bare = |set: &Set| Set {
                    elements: Vec::new(),
                    ..set.clone()
                };
                if bare(w) != bare(t) {
                    differ(format!("set {}", w.name), DifferenceKind::Altered);
                }
                if w.is_timed() && timed {
                    compare_timed(w, t, &mut differ);
                } else if !w.is_timed() && !w.is_dynamic() {
                    compare_elements(w, t, &mut differ);
                }
            }
            (None, None) => {}
        }
    }
    differences
}

fn compare_elements(wanted: &Set, there: &Set, differ: &mut impl FnMut(String, DifferenceKind)) {
    let key = |element: &Element| (element.key.clone(), element.interval_end);
    for pair in pairs(&wanted.elements, &there.elements, key) {
        match pair {
            (Some(w), None) => differ(describe(wanted, w), DifferenceKind::Missing),
            (None, Some(t)) => differ(describe(wanted, t), DifferenceKind::Foreign),
            (Some(w), Some(t)) if w != t => differ(describe(wanted, w), DifferenceKind::Altered),
            _ => {}
        }
    }
}

/// As [`compare_elements`], where elements come to their end between one look and the next.
fn compare_timed(wanted: &Set, there: &Set, differ: &mut impl FnMut(String, DifferenceKind)) {
    /// More than two clocks differ by, and than reading a table takes.
    const SOON_MS: u64 = 10_000;
    for pair in pairs(&wanted.elements, &there.elements, |element| &element.key) {
        match pair {
            (Some(w), None) if w.timeout_ms > SOON_MS => {
                differ(describe(wanted, w), DifferenceKind::Missing);
            }
            (None, Some(t)) if t.timeout_ms == 0 || t.timeout_ms > SOON_MS => {
                differ(describe(wanted, t), DifferenceKind::Foreign);
            }
            (Some(w), Some(t)) if w.timeout_ms + SOON_MS < t.timeout_ms || t.timeout_ms == 0 => {
                differ(describe(wanted, w), DifferenceKind::Altered);
            }
            _ => {}
        }
    }
}

/// Members of two lists with the same key side by side, in order of their keys.
fn pairs<'a, T, K: Ord>(
    left: &'a [T],
    right: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let sorted = |list: &'a [T]| {
        let mut list: Vec<_> = list.iter().map(|item| (key(item), item)).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list.into_iter().peekable()
    };
    let (mut left, mut right) = (sorted(left), sorted(right));
    let mut pairs = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(l), Some(r)) => l.0.cmp(&r.0),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return pairs,
        };
        let l = if order.is_le() { left.next() } else { None };
        let r = if order.is_ge() { right.next() } else { None };
        pairs.push((l.map(|l| l.1), r.map(|r| r.1)));
    }
}

/// An element in words: by its cgroup where it has one, else by its bytes.
fn describe(set: &Set, element: &Element) -> String {
    let in_set = format!("in set {}", set.name);
    let mask = (1 << TYPE_BITS) - 1;
    if set.key_type & mask == TYPE_CGROUPV2
        && let Some((_, cgroup)) = element.key.split_last_chunk()
    {
        return format!("cgroup {} {in_set}", u64::from_ne_bytes(*cgroup));
    }
    let hex: String = element
        .key
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("element {hex} {in_set}")
}
