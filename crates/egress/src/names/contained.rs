//! Answers on their way to containers.
//!
//! A container's socket is not seen from this node, so what it is answered is found by the address
//! that it goes to. It comes through `forward`, or through `output` where a resolver of this node
//! serves the container's network (Podman's aardvark-dns, a dnsmasq).

use crate::{
    Policy,
    phrases::{self as p, Family},
    ruleset::{Chain, Hook, Ruleset, Set},
    sets,
    table::{self, chain, rule},
    uapi::*,
};

use super::rules::{answer, read_from_resolvers, read_loosely, uses, with_names};

/// Before the marks of what is forwarded are taken off.
const THROUGH_PRIORITY: i32 = table::PRIORITY - 1;
/// After servers' own packets were judged: who serves names here is no server.
const OUT_PRIORITY: i32 = table::PRIORITY + 1;

/// The map from containers' addresses to their servers' marks.
pub fn by_address(family: Family) -> String {
    format!("containers{}", family.digit())
}

/// Adds to the table of the family `inet` what reads the answers to containers. The maps are there
/// whether or not answers are read, so that containers come and go in the same way.
pub fn extend(ruleset: &mut Ruleset, policy: &Policy) {
    let families = [Family::V4, Family::V6];
    ruleset.sets.extend(families.map(maps));
    if !uses(policy) {
        return;
    }
    let base = |name: &str, number, priority, rules| Chain {
        hook: Some(Hook { number, priority }),
        ..chain(name, rules)
    };
    let name_it = || rule("to containers", [answer(policy), p::jump("name_container")]);
    let whose = families.map(|family| {
        let marked = p::mark_by_destination(family, &by_address(family));
        rule("", [p::mark_is(0), marked])
    });
    // An address is a class's: what others on this node are told counts too.
    let others = with_names(policy).next().is_some();
    let condition = if others { vec![] } else { p::marked() };
    ruleset.chains.extend([
        chain("name_container", whose),
        base(
            "answers_through",
            NF_INET_FORWARD,
            THROUGH_PRIORITY,
            vec![
                name_it(),
                rule("", [answer(policy), condition, p::goto("overheard")]),
            ],
        ),
        base(
            "answers_out",
            NF_INET_LOCAL_OUT,
            OUT_PRIORITY,
            vec![
                name_it(),
                rule("", [answer(policy), p::marked(), p::goto("read_overheard")]),
            ],
        ),
    ]);
    if !others {
        ruleset.chains.push(read_from_resolvers(policy));
        ruleset.chains.push(read_loosely(policy));
    }
}

fn maps(family: Family) -> Set {
    sets::marks_by_address(&by_address(family), family)
}
