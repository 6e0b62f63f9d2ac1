//! The chains and sets that note attempts and forget them.

use crate::{
    bridges,
    filled::{self, Filled},
    incoming,
    phrases::{self as p, Family},
    ruleset::{Chain, Expr, Hook, Rule, Set},
    senders::Known,
    sets::{self, LEVELS},
    table::{self, chain, rule},
    uapi::*,
};

pub(super) fn unanswered(known: Known, family: Family) -> String {
    of_family(Filled::Unanswered, known, family)
}

pub(super) fn answered(known: Known, family: Family) -> String {
    of_family(Filled::Answered, known, family)
}

fn of_family(filled: Filled, known: Known, family: Family) -> String {
    known.set(&format!("{}{}", filled.as_str(), family.digit()), "")
}

/// The counters of attempts that were not noted.
pub fn not_noted(known: Known) -> String {
    known.set(Filled::NotNoted.as_str(), "")
}

/// What becomes of the first packet of a connection, of a sender who is known so. Whether it is let
/// through is no matter of these rules. `tracked` is whether it may be translated.
pub fn noting(known: Known, tracked: bool) -> Vec<Rule> {
    let enough = filled::enough();
    let (says, set) = (
        (&[][..], "enough is noted"),
        known.set(Filled::Noted.as_str(), ""),
    );
    // Its sender is still loaded.
    let then = || [p::update(&not_noted(known), Expr::Counter), p::back()].concat();
    let mut rules = Vec::new();
    if tracked && known != Known::Port {
        // Its answer does not come to the socket by the address that it goes to.
        rules.push(rule("translated", [p::is_translated(), p::back()]));
    }
    rules.extend(known.each(true, says, (&set, &enough), &then));
    for family in [Family::V4, Family::V6] {
        for sender in known.keys(true) {
            let target = p::target(family, known.len());
            let add = p::add(&unanswered(known, family));
            rules.push(rule("", [known.of_family(family), sender, target, add]));
        }
    }
    rules
}

/// What loads the first part of a key from an answer: whether it is to a sender of ours the set of
/// attempts says.
fn answered_ones(known: Known) -> Vec<Vec<Expr>> {
    match known {
        Known::Cgroup => LEVELS.map(p::its_cgroup).into(),
        known => known.keys(false),
    }
}

/// What becomes of an answer to such a packet.
fn answering(known: Known) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        let (tried, answered) = (unanswered(known, family), answered(known, family));
        for sender in answered_ones(known) {
            let from = [sender, p::answerer(family, known.len())].concat();
            let key = [known.of_family(family), from.clone()].concat();
            // Only of noted attempts, so that both sets tell of the same.
            let noted = [key.clone(), p::is_in(&tried)].concat();
            rules.push(rule("answers", [noted, from, p::keep(&answered)]));
            rules.push(rule("", [key, p::remove(&tried)]));
        }
    }
    rules
}

/// The chains of the table of the family `inet` that see what opens connections from elsewhere: what
/// answers a server's, and what asks for one.
pub fn chains() -> Vec<Chain> {
    let hook = Hook {
        number: NF_INET_LOCAL_IN,
        priority: table::PRIORITY,
    };
    let opens = [p::not_from_loopback(), p::opens_tcp(), p::goto("opening")];
    vec![
        chain("answered", Known::HERE.map(answering).concat()),
        chain(
            "opening",
            [
                rule(
                    "answers a connection",
                    [p::answers_tcp(), p::goto("answered")],
                ),
                rule("asks for one", [p::goto(incoming::CHAIN)]),
            ],
        ),
        Chain {
            hook: Some(hook),
            ..chain("connecting", [rule("", opens)])
        },
    ]
}

/// What was tried and by whom, and who answered whom, in the table of the family `inet`.
pub fn sets() -> Vec<Set> {
    Known::HERE.into_iter().flat_map(of_attempts).collect()
}

fn of_attempts(known: Known) -> Vec<Set> {
    let mut sets = vec![
        known.counting(Filled::Noted, ""),
        known.counting(Filled::NotNoted, ""),
    ];
    for family in [Family::V4, Family::V6] {
        let host = known.key_type() << TYPE_BITS | family.address_type();
        let len = u32::from(known.len()) + sets::address_len(family);
        let target = host << TYPE_BITS | TYPE_INET_SERVICE;
        for (filled, kind, len) in [
            (Filled::Unanswered, target, len + 4),
            (Filled::Answered, host, len),
        ] {
            sets.push(filled.set(&of_family(filled, known, family), kind, len));
        }
    }
    sets
}

/// Adds to our table of the family `bridge` what sees containers begin connections.
pub fn on_bridges(chains: &mut Vec<Chain>, all: &mut Vec<Set>) {
    if let Some(marking) = chains.iter_mut().find(|chain| chain.name == "prerouting") {
        // Right after its port said whose it is: what stays on the bridge has another mark next.
        let begins = [p::marked(), p::begins_tcp(), p::jump("begins")];
        let at = marking.rules.len().min(1);
        let begins = rule("begins a connection", begins);
        marking.rules.insert(at, begins);
    }
    let hook = Hook {
        number: NF_BR_POST_ROUTING,
        priority: bridges::PRIORITY,
    };
    let answers = [p::answers_tcp(), p::goto("answered")];
    chains.extend([
        chain("begins", noting(Known::Port, false)),
        chain("answered", answering(Known::Port)),
        Chain {
            hook: Some(hook),
            ..chain("postrouting", [rule("answers a connection", answers)])
        },
    ]);
    all.extend(of_attempts(Known::Port));
}
