//! What the property tests and the fuzzer do with any bytes.

use arbitrary::Unstructured;
use nft::{
    conntrack, decode, encode, expr, links,
    message::{self, Message, Replies, Reply},
    monitor, nflog, nfqueue,
    nla::Attributes,
    ruleset::{Element, Ruleset, Set},
    sock_diag,
    uapi::*,
};

use crate::any::{TABLE, ruleset};

/// A ruleset survives the wire whole, and its elements one by one.
pub fn rulesets(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let Ok(wanted) = ruleset(&mut u) else { return };
    let messages = encode::create(&wanted).expect("a ruleset fits its messages");
    let mut found = Ruleset::default();
    replay(&messages, &mut found);
    assert_eq!(found, wanted);
    for set in &wanted.sets {
        let Set { name, elements, .. } = set;
        let gone = encode::elements(wanted.family, TABLE, name, encode::Change::Delete, elements);
        replay(&gone.expect("elements fit their messages"), &mut found);
    }
    assert!(found.sets.iter().all(|set| set.elements.is_empty()));
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

/// What the kernel may say: any bytes, or a table of ours with some of it overwritten, which goes
/// further than chance does. It is read to an end and in bounds.
pub fn messages(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        return datagram(rest);
    }
    let mut u = Unstructured::new(rest);
    let Ok(ruleset) = ruleset(&mut u) else { return };
    let Ok(messages) = encode::create(&ruleset) else {
        return;
    };
    let mut batch = message::batch(&messages, 1);
    for _ in 0..8 {
        let (Ok(place), Ok(byte)) = (u.choose_index(batch.len()), u.arbitrary()) else {
            break;
        };
        batch[place] = byte;
    }
    datagram(&batch);
}

fn datagram(bytes: &[u8]) {
    let mut monitor = monitor::Reader::new(monitor::Watch {
        table: TABLE,
        families: &[NFPROTO_INET, NFPROTO_BRIDGE, NFPROTO_NETDEV],
        own: 1,
    });
    let mut log = nflog::Reader::default();
    let mut seen = 0;
    for reply in Replies(bytes) {
        seen += 1;
        let _ = (reply.outcome(), monitor.take(reply), log.take(reply));
        let _ = (nfqueue::read(reply), links::read(reply.payload));
        let _ = sock_diag::read(reply.payload);
        object(reply);
    }
    assert!(seen <= bytes.len() / NLMSG_HDRLEN);
    let _ = expr::read(Attributes(bytes));
}

fn object(reply: Reply<'_>) {
    let a = reply.attributes();
    let _ = (decode::table(a), decode::set(a, TABLE));
    let _ = (decode::chain(a, TABLE), decode::rule(a, TABLE));
    let _ = (nflog::Packet::read(a), conntrack::read(a));
    let most = reply.payload.len() / 4;
    assert!(decode::elements(a).count() <= most);
    assert!(decode::counts(a).count() <= most);
}
