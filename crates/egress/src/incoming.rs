//! Connections that others ask for at the listeners of servers.
//!
//! What answers the first packet leaves from a request socket, which `socket cgroupv2` does not find,
//! and what a listener asked for goes with it: a routing header with up to 994 bytes of its choice over
//! IPv6, time to live and segment size over IPv4. So whether there is an answer is decided where the
//! first packet comes in, by the listener's cgroup.

use super::{
    Mode, Policy,
    phrases::{self as p, Family},
    ruleset::{Chain, Rule},
    sets::{self, GUARDED, LEVELS, REFUSED, marks},
    table::{chain, rule},
};

/// The chain of the first packet of a connection from elsewhere.
pub const CHAIN: &str = "incoming";
/// The chain of those that come to a user's listener.
const REFUSED_CHAIN: &str = "not_incoming";

/// On this node a server may connect to itself, and its listener's answer may be routed on to elsewhere.
/// Its cgroup is not found, but its owner is. Nothing that root runs is looked at.
pub fn routed_answer(policy: &Policy) -> Rule {
    let answer = [p::next_header_in(sets::ROUTED), p::answers_tcp()].concat();
    let then = match policy.mode {
        Mode::Enforce => p::discard(),
        Mode::Observe => p::count(),
    };
    rule(
        "an answer that goes on to elsewhere",
        [answer, p::is_not_root_s(), then],
    )
}

/// Those chains. A proxy that the configuration names is answered (`answers to the proxy`); the data of
/// any other connection from elsewhere is refused on its way out, so that it may not begin either.
pub fn chains(policy: &Policy) -> [Chain; 2] {
    let mut rules: Vec<Rule> = [Family::V4, Family::V6]
        .map(|family| {
            let from = p::source_in(family, &format!("proxies{}", family.digit()));
            rule("the proxy", [from, p::accept()])
        })
        .into();
    rules.extend(LEVELS.map(|level| {
        let exempt = p::cgroup_in(level, &sets::exempt(level));
        rule("belongs in a guarded slice", [exempt, p::accept()])
    }));
    let refuse = || p::goto(REFUSED_CHAIN);
    rules.push(rule("not known yet", [p::cgroup_in(1, GUARDED), refuse()]));
    rules.extend(LEVELS.map(|level| {
        let known = p::cgroup_known_to(level, &marks(level));
        rule("a user's", [known, refuse()])
    }));
    let mut refusing = vec![rule("", [p::mark(p::MARK)])];
    refusing.extend(LEVELS.map(|level| rule("", [p::mark_by_cgroup(level, &marks(level))])));
    refusing.push(rule("counted", [p::count_by_mark(REFUSED)]));
    refusing.push(match policy.mode {
        Mode::Enforce => rule("", [p::reset()]),
        Mode::Observe => rule("would be refused", [p::count(), p::mark(0), p::accept()]),
    });
    [chain(CHAIN, rules), chain(REFUSED_CHAIN, refusing)]
}
