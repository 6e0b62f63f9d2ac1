//! The rules of shaping: which packets get a priority, and where those make their detour.

use super::{Detour, MAJOR, MAJOR_MASK, Sender, Shaping};
use crate::{
    Policy,
    phrases::{self as p, R0, equals, load, look_up, number_bits, store},
    ruleset::{Chain, Data, DataType, Element, Expr, Hook, LookupTo, Rule, Ruleset, Set},
    senders::Known,
    sets,
    table::{self, chain, rule},
    uapi::*,
};

/// Interfaces with a detour.
pub const SHAPED: &str = "shaped";
/// From a sender to its class in the queue.
const QUEUES: &str = "queues";
/// Before the rules of others: they see a packet once, when it comes back.
const PRIORITY: i32 = -300;

/// The sets of our table of the family `inet`, without elements.
pub fn sets() -> Vec<Set> {
    let class = DataType::Value {
        kind: TYPE_CLASSID,
        len: 4,
    };
    let queues = |known: Known| {
        let (name, len) = (known.set(QUEUES, ""), known.len().into());
        sets::map(&name, known.key_type(), len, class, BYTEORDER_HOST, false)
    };
    let shaped = sets::plain(SHAPED, TYPE_IFINDEX, 4);
    [shaped]
        .into_iter()
        .chain(Known::JUDGED.map(queues))
        .collect()
}

/// The elements of queues, by set.
pub fn elements(shaping: &Shaping) -> Vec<(String, Element)> {
    let queue = |((known, key), queue): (&Sender, &super::Queue)| {
        let class = queue.class().to_ne_bytes().to_vec();
        let element = Element::map(key.clone(), Data::Value(class));
        (known.set(QUEUES, ""), element)
    };
    shaping.queues.iter().map(queue).collect()
}

/// Puts the elements into the sets, where the policy has them.
pub fn fill(ruleset: &mut Ruleset, shaping: &Shaping) {
    let interface = |detour: &Detour| {
        let index = detour.uplink.index.to_ne_bytes().to_vec();
        (SHAPED.to_owned(), Element::key(index))
    };
    let interfaces = shaping.detours.iter().map(interface);
    for (name, element) in interfaces.chain(elements(shaping)) {
        if let Some(set) = ruleset.sets.iter_mut().find(|set| set.name == name) {
            set.elements.push(element);
        }
    }
}

/// It leaves by an interface with a detour, and the sender whose key is loaded in between has a queue:
/// it goes there.
pub fn queue_it(known: Known, key: Vec<Expr>) -> Vec<Expr> {
    let mut exprs = p::outgoing_in(SHAPED);
    exprs.extend(key);
    exprs.extend([
        look_up(&known.set(QUEUES, ""), LookupTo::Reg(R0), false),
        store(NFT_META_PRIORITY),
    ]);
    exprs
}

/// Our table of the family `netdev`; none without a detour.
pub fn ruleset(policy: &Policy, shaping: &Shaping) -> Option<Ruleset> {
    if shaping.detours.is_empty() {
        return None;
    }
    let chains = shaping.detours.iter().flat_map(|detour| {
        let index = detour.uplink.index;
        let priority = vec![
            load(NFT_META_PRIORITY, R0),
            number_bits(MAJOR_MASK, 0),
            equals(&MAJOR.to_ne_bytes()),
        ];
        [
            on_device(
                &format!("out{index}"),
                NF_NETDEV_EGRESS,
                &detour.uplink.name,
                rule("has a queue", [priority, move_to(detour.queue.index)]),
            ),
            on_device(
                &format!("back{index}"),
                NF_NETDEV_INGRESS,
                &detour.back.name,
                rule("its turn", [move_to(index)]),
            ),
        ]
    });
    Some(Ruleset {
        family: NFPROTO_NETDEV,
        table: table::TABLE.to_owned(),
        flags: 0,
        comment: table::comment(policy),
        chains: chains.collect(),
        sets: Vec::new(),
    })
}

/// A table to try whether the kernel has what [`ruleset`] needs, on loopback.
pub fn probe() -> Ruleset {
    const LOOPBACK: u32 = 1;
    let rule = rule("", [move_to(LOOPBACK)]);
    Ruleset {
        family: NFPROTO_NETDEV,
        table: format!("{}-probe", table::TABLE),
        chains: vec![Chain {
            rules: vec![Rule {
                // Matches nothing for the moment that it is there.
                exprs: [p::mark_is(u32::MAX), rule.exprs].concat(),
                ..Rule::default()
            }],
            ..on_device("out", NF_NETDEV_EGRESS, "lo", Rule::default())
        }],
        ..Ruleset::default()
    }
}

fn on_device(name: &str, number: u32, device: &str, rule: Rule) -> Chain {
    Chain {
        hook: Some(Hook {
            number,
            priority: PRIORITY,
        }),
        device: Some(device.to_owned()),
        ..chain(name, [rule])
    }
}

fn move_to(index: u32) -> Vec<Expr> {
    let value = index.to_ne_bytes().to_vec();
    vec![
        Expr::Immediate { to: R0, value },
        Expr::Forward { from: R0 },
    ]
}
