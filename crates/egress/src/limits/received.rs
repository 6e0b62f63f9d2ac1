//! What a server receives from elsewhere: how it is found, and what it counts against.

use super::rules::{HAD, count_day, policing, received_by_ports};
use crate::{
    Admitted, Class, ClassName, Policy, bridges, phrases as p,
    ruleset::{Chain, Data, DataType, Element, Hook, Set},
    senders::Known,
    sets::{self, LEVELS},
    table::{self, chain, rule},
    uapi::*,
};

/// From a port of a bridge to what looks at what its container receives.
const RECEIVED_BY_PORT: &str = "received";

fn received(level: u8) -> String {
    format!("received{level}")
}

/// The chain that what a server of a class receives goes through, if its class looks at that.
fn on_arrival(policy: &Policy, class: &ClassName) -> Option<String> {
    let limits = &policy
        .classes
        .get(class)
        .filter(|c| !c.unrestricted)?
        .limits;
    limits.on_received().then(|| arrived(class))
}

fn arrived(name: &ClassName) -> String {
    format!("received_{name}")
}

/// The element by which what a server receives is counted.
pub fn element_of(policy: &Policy, server: &Admitted) -> Option<(String, Element)> {
    let key = server.cgroup.0.to_ne_bytes().to_vec();
    let to = Data::Goto(on_arrival(policy, &server.class)?);
    Some((received(server.level), Element::map(key, to)))
}

/// The same of a container, in our table of the family `bridge`: the interface's index is its key.
pub fn element_of_port(policy: &Policy, class: &ClassName, port: u32) -> Option<(String, Element)> {
    let to = Data::Goto(on_arrival(policy, class)?);
    let element = Element::map(port.to_ne_bytes().to_vec(), to);
    Some((RECEIVED_BY_PORT.to_owned(), element))
}

/// The sets of what servers received, by level.
pub fn received_sets() -> [String; 2] {
    LEVELS.map(received)
}

fn uses_received(policy: &Policy) -> bool {
    let mut classes = policy.classes.values();
    classes.any(|class| !class.unrestricted && class.limits.on_received())
}

/// The chain and map by which received packets are found, where any class needs it.
pub fn input(policy: &Policy) -> (Vec<Chain>, Vec<Set>) {
    if !uses_received(policy) {
        return (Vec::new(), Vec::new());
    }
    let mut rules = vec![rule("this node", [p::from_loopback(), p::accept()])];
    rules.extend(LEVELS.map(|level| rule("to servers", [p::by_cgroup(level, &received(level))])));
    let base = Chain {
        hook: Some(Hook {
            number: NF_INET_LOCAL_IN,
            priority: table::ANSWERS_PRIORITY,
        }),
        ..chain("received", rules)
    };
    let sets = LEVELS.map(|level| sets::verdicts_by_cgroup(&received(level)));
    (vec![base], sets.into())
}

/// The same for containers, in our table of the family `bridge`: where a frame leaves by a port
/// that this node, not another port, sends it to. What this node's own processes send (they have a
/// socket) is not from elsewhere, as loopback is not for units: the hub's proxy is among them.
pub fn output_of_bridges(policy: &Policy) -> (Vec<Chain>, Vec<Set>) {
    if !uses_received(policy) {
        return (Vec::new(), Vec::new());
    }
    let mut chains = vec![Chain {
        hook: Some(Hook {
            number: NF_BR_LOCAL_OUT,
            priority: bridges::PRIORITY,
        }),
        ..chain(
            "output",
            [
                rule("finding neighbours", [bridges::is_arp(), p::accept()]),
                rule("this node", [p::is_of_a_process(), p::accept()]),
                rule("to servers", [p::by_outgoing(RECEIVED_BY_PORT)]),
            ],
        )
    }];
    let verdicts = DataType::Verdict;
    let mut sets = vec![sets::map(
        RECEIVED_BY_PORT,
        TYPE_IFINDEX,
        4,
        verdicts,
        0,
        false,
    )];
    for (name, class) in policy.classes.iter().filter(|(_, c)| !c.unrestricted) {
        chains.extend(arriving(name, class, policy, Known::Port));
        sets.extend(received_by_ports(name, &class.limits));
    }
    (chains, sets)
}

/// What a server of a class receives; nothing where that is not looked at.
pub(super) fn arriving(
    name: &ClassName,
    class: &Class,
    policy: &Policy,
    known: Known,
) -> Option<Chain> {
    let mut rules = policing(name, &class.limits, policy, (known, HAD));
    rules.extend(count_day(name, &class.limits, known));
    rules.push(rule("", [p::accept()]));
    let chain = chain(&arrived(name), rules);
    class.limits.on_received().then_some(chain)
}
