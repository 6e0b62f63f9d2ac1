//! What is read from elsewhere, or made of what somebody chose, one function a seam: each takes any
//! bytes at all and panics where something does not hold that should. The fuzzer (`fuzz/`) and the
//! property tests below feed them; in the program they are not there.

mod any;
mod names;

use self::any::{Choices, bridges, policy, uid_rules};
use super::{
    Admitted, CgroupId, Error, Refusal,
    encode::{self, Change},
    installed::{Delta, Installed},
    kernel, lists as feeds,
    message::{self, Message, Replies, Reply},
    names as of_names,
    ruleset::{Element, Expr, Ruleset, Set},
    table, tracking,
    uapi::*,
};
use arbitrary::Unstructured;
use nft::{conntrack, decode, expr, links, monitor, nflog, nfqueue, nla::Attributes, sock_diag};
use std::collections::BTreeMap;
use std::time::Instant;

pub use self::names::names;

/// Whether any rule of a table asks connection tracking anything.
fn asks_tracking(ruleset: &Ruleset) -> bool {
    fn asks(expr: &Expr) -> bool {
        match expr {
            Expr::Ct { .. } | Expr::CtOriginal { .. } | Expr::Connections { .. } => true,
            Expr::Update { expr, .. } => expr.as_deref().is_some_and(asks),
            _ => false,
        }
    }
    let rules = ruleset.chains.iter().flat_map(|chain| &chain.rules);
    rules.flat_map(|rule| &rule.exprs).any(asks)
}

/// Policies, servers, slices and containers: the table of all of it survives the wire whole, and a
/// change sent by itself leads to the table that is built whole.
pub fn rulesets(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let policy = policy(&mut u);
    let Ok(mut installed) = Installed::new(&policy) else {
        return;
    };
    let queueing = u.one_of(&[
        of_names::Queueing::Native,
        of_names::Queueing::Target,
        of_names::Queueing::Missing,
    ]);
    let flags = u.any();
    installed.set_bridges(bridges(&mut u, &policy));
    // One rule that asks it anything has the kernel track all.
    assert_eq!(
        asks_tracking(&installed.ruleset()),
        tracking::is_used(&policy)
    );
    let mut before = survives(&installed, queueing, flags);
    for _ in 0..u.below(6) {
        let sent = if u.below(5) == 4 {
            let uid_rules = uid_rules(&mut u, &policy);
            let [gone, come] = uid_rules.change(installed.uid_rules(), &policy);
            if installed.set_uid_rules(&uid_rules).is_err() {
                continue;
            }
            let by_set = |change, elements| kernel::messages_of_sets(change, elements);
            by_set(Change::Delete, gone).and_then(|mut messages| {
                messages.extend(by_set(Change::Add, come)?);
                Ok(messages)
            })
        } else {
            let Ok(delta) = change(&mut u, &installed) else {
                continue;
            };
            let sent = kernel::messages_of(&delta, &policy);
            installed.apply(delta);
            sent
        };
        let sent = sent.expect("a change fits its messages");
        let after = survives(&installed, queueing, flags);
        replay(&sent, &mut before);
        assert_eq!(in_order(&before), in_order(&after));
        before = after;
    }
    let now = Instant::now();
    let classes: Vec<_> = policy.classes.keys().collect();
    let addresses = u.some(5, |d| (d.address(), d.any()));
    let lesson = of_names::Lesson {
        name: "host.example",
        addresses: &addresses,
        by: of_names::Sender::Number(1),
        now,
    };
    let news = installed.learned.news(&classes, |_, _| false, &lesson);
    let sent = of_names::messages(&news, &lesson).expect("an address fits its message");
    let read = Replies(&message::batch(&sent, 1)).count();
    assert_eq!(read, sent.len() + 2);
    installed.learned.apply(news, &lesson);
    survives(&installed, queueing, flags);
}

/// Admits, forgets, reclasses or guards.
fn change(u: &mut Unstructured<'_>, installed: &Installed) -> Result<Delta, Error> {
    let classes: Vec<_> = installed.policy().classes.keys().cloned().collect();
    let class = |u: &mut Unstructured<'_>| match classes.get(u.below(classes.len() + 1)) {
        Some(class) => class.clone(),
        None => super::ClassName::exempt(),
    };
    // Few, so that servers meet again.
    let cgroup = |u: &mut Unstructured<'_>| CgroupId(u.below(12) as u64);
    match u.below(4) {
        0 | 1 => installed.admit(&u.some(9, |u| Admitted {
            cgroup: cgroup(u),
            level: 2 + u8::from(u.flag()),
            class: class(u),
            number: u.below(14) as u32,
        })),
        2 => Ok(installed.forget(&u.some(5, cgroup))),
        _ => Ok(installed.guard(&u.some(3, cgroup))),
    }
}

/// Writes the tables as messages and reads those as if the kernel had sent them.
fn survives(installed: &Installed, queueing: of_names::Queueing, flags: u32) -> Ruleset {
    let mut inet = installed.ruleset();
    of_names::queued_by(&mut inet, queueing);
    inet.flags = flags;
    for expected in [Some(&inet), installed.bridge_ruleset().as_ref()] {
        let Some(expected) = expected else { continue };
        let messages = encode::create(expected).expect("a table fits its messages");
        let mut found = Ruleset::default();
        replay(&messages, &mut found);
        // One by one, so that what differs can be read.
        for (there, wanted) in found.sets.iter().zip(&expected.sets) {
            assert_eq!(there, wanted);
        }
        for (there, wanted) in found.chains.iter().zip(&expected.chains) {
            assert_eq!(there, wanted);
        }
        assert_eq!(found, *expected);
    }
    inet
}

/// Carries out messages as the kernel does.
fn replay(messages: &[Message], ruleset: &mut Ruleset) {
    let bytes = message::batch(messages, 1);
    for reply in Replies(&bytes) {
        let a = reply.attributes();
        let table = ruleset.table.clone();
        if reply.is_nft(NFT_MSG_NEWTABLE) {
            ruleset.table = a.text(NFTA_TABLE_NAME).unwrap_or_default().to_owned();
            ruleset.family = reply.payload.first().copied().unwrap_or(0);
            (ruleset.flags, ruleset.comment) = decode::table(a);
        } else if reply.is_nft(NFT_MSG_NEWCHAIN) {
            ruleset.chains.extend(decode::chain(a, &table));
        } else if reply.is_nft(NFT_MSG_NEWSET) {
            ruleset.sets.extend(decode::set(a, &table));
        } else if reply.is_nft(NFT_MSG_NEWRULE) {
            let (name, rule) = decode::rule(a, &table).expect("a rule of the table");
            let chain = ruleset.chains.iter_mut().find(|chain| chain.name == name);
            chain.expect("a chain before its rules").rules.push(rule);
        } else if reply.is_nft(NFT_MSG_NEWSETELEM) || reply.is_nft(NFT_MSG_DELSETELEM) {
            let name = a.text(NFTA_SET_ELEM_LIST_SET);
            let set = ruleset.sets.iter_mut().find(|set| Some(&*set.name) == name);
            let set = set.expect("a set before its elements");
            for element in decode::elements(a) {
                put(set, element, reply.is_nft(NFT_MSG_NEWSETELEM));
            }
        }
    }
}

fn put(set: &mut Set, element: Element, add: bool) {
    let same = |one: &Element| (&one.key, one.interval_end) == (&element.key, element.interval_end);
    let there = set.elements.iter().position(same);
    match (add, there) {
        (true, None) => set.elements.push(element),
        (true, Some(_)) => panic!("{element:?} is in {} already", set.name),
        (false, Some(place)) => drop(set.elements.swap_remove(place)),
        (false, None) => panic!("{element:?} is not in {}", set.name),
    }
}

/// What of a table changes while it stands.
fn in_order(ruleset: &Ruleset) -> BTreeMap<&str, Vec<&Element>> {
    let sets = ruleset.sets.iter().map(|set| {
        let mut elements: Vec<_> = set.elements.iter().collect();
        elements.sort();
        (set.name.as_str(), elements)
    });
    sets.collect()
}

/// Datagrams of any netlink socket that is read here.
pub fn messages(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        return datagram(rest);
    }
    // A table of ours with some of it overwritten goes further than chance does.
    let mut u = Unstructured::new(rest);
    let messages = Installed::new(&policy(&mut u)).map(|i| encode::create(&i.ruleset()));
    let Ok(Ok(messages)) = messages else { return };
    let mut batch = message::batch(&messages, 1);
    for _ in 0..=u.below(8) {
        let place = u.any::<u32>() as usize % batch.len();
        if let Some(byte) = batch.get_mut(place) {
            *byte = u.any::<u8>();
        }
    }
    datagram(&batch);
}

fn datagram(bytes: &[u8]) {
    let mut monitor = monitor::Reader::new(table::watch(1));
    let mut log = nflog::Reader::default();
    let mut seen = 0;
    for reply in Replies(bytes) {
        seen += 1;
        let _ = (reply.outcome(), monitor.take(reply));
        let _ = log.take(reply).as_ref().and_then(Refusal::read);
        let _ = (nfqueue::read(reply), links::read(reply.payload));
        let _ = sock_diag::read(reply.payload);
        object(reply);
    }
    assert!(seen <= bytes.len() / NLMSG_HDRLEN);
    let _ = expr::read(Attributes(bytes));
}

fn object(reply: Reply<'_>) {
    let a = reply.attributes();
    let _ = (decode::table(a), decode::set(a, "hubwarden"));
    let _ = (decode::chain(a, "hubwarden"), decode::rule(a, "hubwarden"));
    let _ = nflog::Packet::read(a).as_ref().and_then(Refusal::read);
    let _ = conntrack::read(a);
    let most = reply.payload.len() / 4;
    assert!(decode::elements(a).count() <= most);
    assert!(decode::counts(a).count() <= most);
}

/// A feed: what was read of it is written as a list that reads as the same.
pub fn lists(bytes: &[u8]) {
    let (entries, problems) = feeds::parse(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(problems.len() <= lines);
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line), "{problem}");
        assert!(!problem.text.chars().any(char::is_control), "{problem:?}");
    }
    let list = feeds::List {
        name: "feed".parse().expect("a name"),
        source: "a file".to_owned(),
        imported: 1,
        entries,
    };
    let (again, problems) = feeds::parse(feeds::written(&list).as_bytes());
    assert_eq!(problems, []);
    assert_eq!(again, list.entries);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any bytes, so many at most.
    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn every_ruleset_is_written_and_read_back_equal(bytes in bytes(2000)) {
            rulesets(&bytes);
        }

        #[test]
        fn whatever_the_kernel_says_is_read_to_an_end(bytes in bytes(2000)) {
            messages(&bytes);
        }

        #[test]
        fn whatever_a_resolver_says_is_read_to_an_end(bytes in bytes(1500)) {
            names(&bytes);
        }

        #[test]
        fn a_list_reads_again_as_what_was_read(bytes in bytes(500)) {
            lists(&bytes);
        }

        #[test]
        fn a_list_of_plausible_lines_reads_again_as_what_was_read(
            lines in prop::collection::vec("([a-z0-9*|._-]{1,20}[.:/^]){0,4}[a-z0-9]{1,9}( #.*)?", 0..9),
        ) {
            lists(lines.join("\n").as_bytes());
        }
    }
}
