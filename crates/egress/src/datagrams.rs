//! Answers by UDP on this node where nothing is tracked: what came to a server's listener from one who is
//! no server, or from what its user runs under the user's uid, may be answered for two minutes.
//!
//! TCP says by its flags who began. Datagrams do not, so each that arrives so is noted.

use super::{
    Policy, Transport,
    filled::{self, Filled},
    phrases::{self as p, Family},
    ruleset::{Chain, Expr, Rule, Set},
    senders::Known,
    sets::{self, LEVELS, marks, own},
    table::{chain, rule},
    tracking,
};

const NOTING: &str = "datagram";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn set(family: Family) -> String {
    format!("{}{}", Filled::Datagrams.as_str(), family.digit())
}

fn by_udp() -> Vec<Expr> {
    p::protocol(Transport::Udp.number())
}

/// Notes what arrives at a server from a sender that is not judged.
pub fn from_others(policy: &Policy) -> Vec<Rule> {
    let to = |level| {
        let from_others = [p::from_loopback(), by_udp(), p::not_marked()].concat();
        let known = p::cgroup_known_to(level, &marks(level));
        rule("may be answered", [from_others, known, p::jump(NOTING)])
    };
    match tracking::is_used(policy) {
        true => Vec::new(),
        false => LEVELS.map(to).into(),
    }
}

/// Notes what arrives from what its user runs elsewhere.
pub fn from_its_user(policy: &Policy) -> Vec<Rule> {
    let to = |level| {
        let own = p::mark_and_cgroup_in(level, &own(level));
        let by_uid = [p::marked_by_uid(), by_udp()].concat();
        rule("may be answered", [by_uid, own, p::jump(NOTING)])
    };
    match tracking::is_used(policy) {
        true => Vec::new(),
        false => LEVELS.map(to).into(),
    }
}

/// Lets answers to those go.
pub fn answers() -> [Rule; 2] {
    FAMILIES.map(|family| {
        let noted = [p::flow_back(family), p::is_in(&set(family))].concat();
        rule("answers", [by_udp(), noted, p::accept()])
    })
}

/// The chain that notes them. What a resolver says is an answer itself.
pub fn noting(policy: &Policy) -> Option<Chain> {
    let mut rules = vec![rule(
        "an answer itself",
        [p::service_from("dns"), p::back()],
    )];
    // Whoever sends them, they are the server's who is to answer.
    let enough = filled::enough();
    let noted = Known::Cgroup.set(Filled::Arrived.as_str(), "");
    let says = (&[][..], "enough is noted");
    rules.extend(Known::Cgroup.each(true, says, (&noted, &enough), &p::back));
    rules.extend(FAMILIES.map(|family| rule("", [p::flow(family), p::keep(&set(family))])));
    (!tracking::is_used(policy)).then(|| chain(NOTING, rules))
}

/// The sets of them.
pub fn sets(policy: &Policy) -> Vec<Set> {
    if tracking::is_used(policy) {
        return Vec::new();
    }
    let one = |family| {
        let name = set(family);
        let of = sets::of_flows(&name, family);
        Filled::Datagrams.set(&name, of.key_type, of.key_len)
    };
    let noted = Known::Cgroup.counting(Filled::Arrived, "");
    FAMILIES.map(one).into_iter().chain([noted]).collect()
}
