//! What names add to the table. The chains and sets are in `docs/egress-table.md`.

use std::collections::BTreeSet;

use crate::{
    Admitted, CgroupId, Class, ClassName, Mode, Policy, abuse,
    filled::Filled,
    intervals,
    lists::{Entries, parse},
    phrases::{self as p, Family},
    private, reach,
    ruleset::{Chain, Data, Element, Expr, Hook, Rule, Set},
    sets::{self, LEVELS},
    table::{self, chain, each_family, rule},
    tracking,
    uapi::*,
};

use super::began::{began, begin};

/// Cgroups of services that ask for others.
const RELAYS: &str = "relays";
/// Ports that names are asked for on: plain, and over TLS or QUIC.
const NAME_PORTS: &str = "name_ports";
pub const DNS: u16 = 53;
const DOT: u16 = 853;
/// The chain of questions that wait to be remembered, as far as their sender does not ask too many.
const QUESTIONS: &str = "questions";
/// The chain of all that goes to a resolver on this node by TCP.
pub const TO_RESOLVERS: &str = "to_resolvers";

/// How answers to a class's servers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Unread ones are dropped: the class reaches what they tell of, and nothing else.
    Strictly,
    /// Unread ones pass: reading them only serves to deny names.
    Loosely,
}

impl Reading {
    fn of(policy: &Policy, class: &Class) -> Option<Self> {
        if class.unrestricted || !class.dns {
            return None;
        }
        match (class.names.is_empty(), policy.mode) {
            (false, Mode::Enforce) => Some(Self::Strictly),
            (false, Mode::Observe) => Some(Self::Loosely),
            (true, _) => {
                let denied = !class.deny_names.is_empty();
                (denied || lists_names(policy)).then_some(Self::Loosely)
            }
        }
    }

    fn chain(self) -> &'static str {
        match self {
            Self::Strictly => "asked_strictly",
            Self::Loosely => "asked",
        }
    }
}

fn lists_names(policy: &Policy) -> bool {
    policy
        .lists
        .iter()
        .any(|list| !list.entries.names.is_empty())
}

/// The classes that have names.
pub fn with_names(policy: &Policy) -> impl Iterator<Item = (&ClassName, &Class)> {
    let has = |class: &Class| !class.names.is_empty() && !class.unrestricted;
    policy.classes.iter().filter(move |(_, class)| has(class))
}

/// Whether any answers are read under a policy.
pub fn uses(policy: &Policy) -> bool {
    let mut classes = policy.classes.values();
    classes.any(|class| reads(policy, class)) || with_names(policy).next().is_some()
}

/// Known public resolvers that can be asked over HTTPS: names and addresses.
pub fn over_https() -> Entries {
    parse(include_bytes!("doh.txt")).0
}

/// The map from an asking server's cgroup at this level to the chain that has its answers read.
fn asking(level: u8) -> String {
    format!("asking{level}")
}

/// Those maps.
pub fn asking_sets() -> [String; 2] {
    LEVELS.map(asking)
}

/// The set of a class's addresses, by name.
pub fn names_set(class: &ClassName, family: Family) -> String {
    format!("{}{}_{class}", Filled::Names.as_str(), family.digit())
}

/// The classes and families that addresses are learned for.
pub fn places(policy: &Policy) -> Vec<(ClassName, Family)> {
    let both =
        |(name, _): (&ClassName, _)| [Family::V4, Family::V6].map(|family| (name.clone(), family));
    with_names(policy).flat_map(both).collect()
}

fn networks_set(class: &ClassName, family: Family) -> String {
    format!("networks{}_{class}", family.digit())
}

/// The element by which a server's answers are read.
pub fn elements_of(policy: &Policy, server: &Admitted) -> Option<(String, Element)> {
    let class = policy.classes.get(&server.class)?;
    let chain = Reading::of(policy, class)?.chain();
    let key = server.cgroup.0.to_ne_bytes().to_vec();
    let to = Data::Goto(chain.to_owned());
    Some((asking(server.level), Element::map(key, to)))
}

/// The queue for answers that go on unread where nobody reads them: the next, or of the last the
/// one before.
pub fn loose(strict: u16) -> u16 {
    strict.checked_add(1).unwrap_or(u16::MAX - 1)
}

/// The queue in which questions wait to be remembered: the next but one, or one before the others.
pub fn asked(strict: u16) -> u16 {
    strict.checked_add(2).unwrap_or(u16::MAX - 2)
}

/// Whether answers to a class's servers are read.
pub fn reads(policy: &Policy, class: &Class) -> bool {
    Reading::of(policy, class).is_some()
}

/// Accepts the questions that a class may ask. Where their answers are read, each question is held in a
/// queue until it is remembered. If no reader runs, questions pass and their answers teach nothing.
pub fn ask(policy: &Policy, class: &Class) -> Vec<Expr> {
    match reads(policy, class) {
        true => p::goto(QUESTIONS),
        false => abuse::ask(policy),
    }
}

/// The same where the class is not looked at.
pub fn ask_of_any_class(policy: &Policy) -> Vec<Expr> {
    match uses(policy) {
        true => p::goto(QUESTIONS),
        false => abuse::ask(policy),
    }
}

/// Has what those ask remembered who ask for others.
pub fn relayed(policy: &Policy) -> Option<Rule> {
    with_names(policy).next()?;
    let asks = [p::service_in("dns"), p::cgroup_in(2, RELAYS)].concat();
    Some(rule(
        "who asks for others",
        [asks, held_to_remember(policy)],
    ))
}

fn held_to_remember(policy: &Policy) -> Vec<Expr> {
    vec![Expr::Queue {
        number: asked(policy.dns_queue),
        bypass: true,
    }]
}

/// The chains by which answers are read.
pub fn chains(policy: &Policy) -> Vec<Chain> {
    if !uses(policy) {
        return Vec::new();
    }
    let queue = |number, bypass| vec![Expr::Queue { number, bypass }];
    let mut answers: Vec<Rule> = LEVELS
        .map(|level| {
            rule(
                "to servers",
                [answer(policy), p::by_cgroup(level, &asking(level))],
            )
        })
        .into();
    let strict = with_names(policy).next().is_some();
    if strict {
        let relay = [
            answer(policy),
            p::cgroup_in(2, RELAYS),
            p::goto("overheard"),
        ];
        answers.push(rule("to who asks for others", relay));
    }
    let hook = Hook {
        number: NF_INET_LOCAL_IN,
        priority: table::ANSWERS_PRIORITY,
    };
    let loose = loose(policy.dns_queue);
    let name_asker: Vec<Rule> = LEVELS
        .map(|level| {
            rule(
                "",
                [p::mark_is(0), p::mark_by_cgroup(level, &sets::marks(level))],
            )
        })
        .into();
    let mut chains = vec![
        Chain {
            hook: Some(hook),
            ..chain("answers", answers)
        },
        chain("asked_strictly", from_resolvers("read_strictly")),
        chain("asked", from_resolvers("read")),
        chain("name_asker", name_asker),
        chain(QUESTIONS, {
            let mut rules = abuse::questions(policy);
            rules.push(rule("", [held_to_remember(policy)]));
            rules
        }),
        chain(TO_RESOLVERS, reach::dns(|| p::goto(QUESTIONS))),
        chain(
            "read_strictly",
            [
                rule("", [p::jump("name_asker")]),
                rule("", [queue(policy.dns_queue, policy.mode == Mode::Observe)]),
            ],
        ),
        chain(
            "read",
            [
                rule("", [p::jump("name_asker")]),
                rule("", [queue(loose, true)]),
            ],
        ),
    ];
    if strict {
        chains.extend([read_from_resolvers(policy), read_loosely(policy)]);
    }
    chains
}

/// It answers a question for a name. Without connection tracking nothing has the address of a resolver that
/// was not asked by it, and the reader knows the questions.
pub fn answer(policy: &Policy) -> Vec<Expr> {
    let tracked = tracking::is_used(policy).then(p::is_answer);
    [p::service_from("dns"), tracked.unwrap_or_default()].concat()
}

fn from_resolvers(to: &str) -> Vec<Rule> {
    [Family::V4, Family::V6]
        .map(|family| {
            let set = format!("resolvers{}", family.digit());
            rule("", [p::source_in(family, &set), p::goto(to)])
        })
        .into()
}

/// Has what resolvers told somebody else than a server's socket read.
pub fn read_from_resolvers(policy: &Policy) -> Chain {
    let mut rules = from_resolvers("read_overheard");
    if !tracking::is_used(policy) {
        return chain("overheard", rules);
    }
    // What is routed gets the address that was asked later, where the question was translated.
    rules.extend([Family::V4, Family::V6].map(|family| {
        let set = format!("resolvers{}", family.digit());
        let asked = p::asked_in(family, &set);
        rule("", [asked, p::goto("read_overheard")])
    }));
    chain("overheard", rules)
}

/// Has an answer read whose asker is known by its mark, or not known.
pub fn read_loosely(policy: &Policy) -> Chain {
    let number = loose(policy.dns_queue);
    let queue = vec![Expr::Queue {
        number,
        bypass: true,
    }];
    chain("read_overheard", [rule("", [queue])])
}

/// The sets by which answers are read, and what was learned from them.
pub fn sets(policy: &Policy) -> Vec<Set> {
    if !uses(policy) {
        return Vec::new();
    }
    let mut sets: Vec<Set> = LEVELS
        .map(|level| sets::verdicts_by_cgroup(&asking(level)))
        .into();
    if with_names(policy).next().is_none() {
        return sets;
    }
    // Each once: the kernel keeps one, and what is read back would differ for ever.
    let relays: BTreeSet<CgroupId> = policy.relays.iter().copied().collect();
    sets.push(Set {
        elements: relays.into_iter().map(sets::guard).collect(),
        ..sets::plain(RELAYS, TYPE_CGROUPV2, 8)
    });
    let ports = [
        intervals::both_transports(DNS),
        intervals::both_transports(DOT),
    ];
    sets.push(Set {
        elements: ports.concat(),
        ..sets::plain(NAME_PORTS, sets::SERVICE, 8)
    });
    let elements = intervals::networks(&private::with_forms(&over_https().networks));
    sets.extend(sets::of_networks(elements, |family| {
        format!("over_https{}", family.digit())
    }));
    for (name, _) in with_names(policy) {
        for family in [Family::V4, Family::V6] {
            let (set, len) = (names_set(name, family), sets::address_len(family));
            sets.push(Filled::Names.set(&set, family.address_type(), len));
        }
    }
    sets
}

/// The sets of a selective class that its policy fills.
pub fn networks(name: &ClassName, class: &Class) -> Vec<Set> {
    if class.networks.is_empty() || !class.is_selective() {
        return Vec::new();
    }
    let elements = intervals::networks(&private::with_forms(&class.networks));
    sets::of_networks(elements, |family| networks_set(name, family))
}

/// The rules of a class from where its services are looked at; `allow` is what becomes of what is
/// allowed.
pub fn reached(name: &ClassName, class: &Class, allow: &dyn Fn() -> Vec<Expr>) -> Vec<Rule> {
    let services = || p::service_in(&format!("services_{name}"));
    if class.services.is_empty() {
        return Vec::new();
    }
    if !class.is_selective() {
        return vec![rule("services", [services(), allow()])];
    }
    let refuse = || p::goto(&sets::refuse_chain(name));
    let to = |family, set: &str| [services(), p::destination_in(family, set)].concat();
    let mut rules = Vec::new();
    if !class.names.is_empty() {
        let other = [p::service_in(NAME_PORTS), refuse()];
        rules.push(rule("other resolvers", other));
        rules.extend(each_family(
            "other resolvers",
            "over_https",
            Vec::new,
            refuse,
        ));
    }
    if !class.networks.is_empty() {
        for family in [Family::V4, Family::V6] {
            let set = networks_set(name, family);
            rules.push(rule("networks", [to(family, &set), allow()]));
        }
    }
    if class.names.is_empty() {
        return rules;
    }
    let goes_on = [services(), began(name), allow()];
    rules.push(rule("began while its name was good", goes_on));
    for family in [Family::V4, Family::V6] {
        let known = to(family, &names_set(name, family));
        rules.push(rule("names", [known, begin(name), allow()]));
    }
    rules
}

#[cfg(test)]
mod tests;
