//! The chains and sets of the limits.

use super::{BitsPerSecond, ClassLimits, Limit, received::arriving};
use crate::{
    Class, ClassName, Mode, Policy,
    filled::Filled,
    phrases as p,
    ruleset::{Chain, Data, DataType, Element, Expr, Rule, Set},
    senders::Known,
    sets, shape,
    table::{self, chain, rule},
    tracking,
    uapi::*,
};

/// A bucket's extra room: what arrives in so long at full rate.
const BURST_S: f64 = 0.25;
const BURST_MIN: u64 = 64 << 10;

fn allowed(name: &ClassName) -> String {
    format!("allowed_{name}")
}

fn allowed_people(name: &ClassName) -> String {
    format!("outside_{name}")
}

fn over(limit: Limit, name: &ClassName) -> String {
    format!("over_{}_{name}", limit.as_str())
}

/// The names of sets of what is sent, what is received, and both, before that of the class.
const SENT: &str = Filled::Sent.as_str();
pub(super) const HAD: &str = Filled::Had.as_str();
const DAY: &str = Filled::Day.as_str();

/// The sets that count what those had today who are known so.
pub fn traffic_sets(policy: &Policy, known: Known) -> impl Iterator<Item = String> {
    let limited = |class: &Class| class.limits.bytes_per_day.is_some() && !class.unrestricted;
    let classes = policy
        .classes
        .iter()
        .filter(move |(_, class)| limited(class));
    classes.map(move |(name, _)| known.set(DAY, name.as_str()))
}

/// What becomes of what a class allows.
pub fn allow(name: &ClassName, class: &Class) -> Vec<Expr> {
    match class.limits.on_sent() {
        true => p::goto(&allowed(name)),
        false => p::accept(),
    }
}

/// The same, of what a user sends from outside the server.
pub fn allow_people(name: &ClassName, class: &Class) -> Vec<Expr> {
    match class.limits.on_sent() {
        true => p::goto(&allowed_people(name)),
        false => p::accept(),
    }
}

/// The chains of one class.
pub fn chains(name: &ClassName, class: &Class, policy: &Policy) -> Vec<Chain> {
    let mut chains = Vec::new();
    let limits = &class.limits;
    for (limit, _) in checks(limits) {
        let mut refuse = vec![rule("", [p::jump("name_sender")])];
        let says = format!("{}{} {name}", table::SAYS_LIMIT, limit.as_str());
        refuse.extend(table::refusal(policy, says));
        chains.push(chain(&over(limit, name), refuse));
    }
    chains.extend(arriving(name, class, policy, Known::Cgroup));
    if limits.on_sent() {
        // A container's packets have their server's mark, and no socket here.
        let servers = (allowed(name), (Known::Cgroup, Some(Known::Mark)));
        let uid_rules = (allowed_people(name), (Known::Uid, None));
        for (called, senders) in [servers, uid_rules] {
            chains.extend(sending(&called, senders, name, class, policy));
        }
    }
    if shape::shapes(policy, class) {
        chains.push(leaving(name, limits, policy));
    }
    chains
}

/// What is allowed to those who are known so: by sockets here, or by packets that are only routed.
fn sending(
    called: &str,
    (here, routed): (Known, Option<Known>),
    name: &ClassName,
    class: &Class,
    policy: &Policy,
) -> Vec<Chain> {
    let limits = &class.limits;
    let all: Vec<Known> = [here].into_iter().chain(routed).collect();
    let mut rules: Vec<Rule> = Vec::new();
    for (limit, check) in checks(limits) {
        let says = (&p::is_new()[..], limit.as_str());
        let then = || p::goto(&over(limit, name));
        for known in &all {
            let set = known.set(limit.as_str(), name.as_str());
            rules.extend(known.each(false, says, (&set, &check), &then));
        }
    }
    let mut chains = Vec::new();
    let shaped = shape::shapes(policy, class);
    if shaped {
        // It ends the packet's way here, so it is counted on the way out.
        let counted = format!("queued_{called}");
        for key in here.keys(false) {
            // Where it really leaves by is not known of a packet that was translated.
            let sure = tracking::is_used(policy).then(p::is_not_translated);
            let to = [
                sure.unwrap_or_default(),
                shape::queue_it(here, key),
                p::goto(&counted),
            ];
            rules.push(rule("waits its turn", to));
        }
        let mut day = count_day(name, limits, here);
        day.push(rule("", [p::accept()]));
        chains.push(chain(&counted, day));
    }
    // Where a shaped container's packet leaves by is known later: see `leaving`.
    let policed = if shaped { &[here][..] } else { &all };
    for known in policed {
        rules.extend(policing(name, limits, policy, (*known, SENT)));
    }
    for known in all {
        rules.extend(count_day(name, limits, known));
    }
    rules.push(rule("", [p::accept()]));
    chains.push(chain(called, rules));
    chains
}

/// What holds those who are known so to a bandwidth, by a set of what is sent or received.
pub(super) fn policing(
    name: &ClassName,
    limits: &ClassLimits,
    policy: &Policy,
    (known, set): (Known, &str),
) -> Vec<Rule> {
    let Some(bandwidth) = limits.bandwidth else {
        return Vec::new();
    };
    let (set, check) = (known.set(set, name.as_str()), police(bandwidth));
    let then = || too_fast(policy);
    known.each(false, (&[], "bandwidth"), (&set, &check), &then)
}

/// What a container of a shaped class sends, where it is known by which interface it leaves.
fn leaving(name: &ClassName, limits: &ClassLimits, policy: &Policy) -> Chain {
    let known = Known::Mark;
    let done = || [p::mark(0), p::accept()].concat();
    let queue_it = |key| rule("waits its turn", [shape::queue_it(known, key), done()]);
    let mut rules: Vec<Rule> = known.keys(false).into_iter().map(queue_it).collect();
    rules.extend(policing(name, limits, policy, (known, SENT)));
    rules.push(rule("judged already", [done()]));
    chain(&leaves(name), rules)
}

fn leaves(name: &ClassName) -> String {
    format!("leaving_{name}")
}

/// From the mark of a container of a shaped class to what becomes of what it sends.
pub const LEAVING: &str = "leaving";

/// That map, where any class is shaped.
pub fn leaving_set(policy: &Policy) -> Option<Set> {
    let verdicts = DataType::Verdict;
    shape::is_used(policy).then(|| sets::map(LEAVING, TYPE_MARK, 4, verdicts, 0, false))
}

/// The element of a container in that map.
pub fn element_of_leaving(
    policy: &Policy,
    class: &ClassName,
    mark: u32,
) -> Option<(String, Element)> {
    let shaped = shape::shapes(policy, policy.classes.get(class)?);
    let to = Data::Goto(leaves(class));
    let element = Element::map(mark.to_ne_bytes().to_vec(), to);
    shaped.then(|| (LEAVING.to_owned(), element))
}

/// The sets of one class, which its packets fill, in the table of the family `inet`.
pub fn sets(name: &ClassName, class: &Class) -> Vec<Set> {
    let limits = &class.limits;
    let mut sets = Vec::new();
    for known in Known::JUDGED {
        for (limit, _) in checks(limits) {
            sets.push(known.counting(limit.filled(), name.as_str()));
        }
        if limits.bandwidth.is_some() {
            sets.push(known.counting(Filled::Sent, name.as_str()));
        }
        if limits.bytes_per_day.is_some() {
            sets.push(known.counting(Filled::Day, name.as_str()));
        }
    }
    if limits.bandwidth.is_some() {
        sets.push(Known::Cgroup.counting(Filled::Had, name.as_str()));
    }
    sets
}

/// The sets of a class that what is received fills, in the table of the bridge.
pub(super) fn received_by_ports(name: &ClassName, limits: &ClassLimits) -> Vec<Set> {
    let had = limits.bandwidth.map(|_| Filled::Had);
    let day = limits.bytes_per_day.map(|_| Filled::Day);
    let names = had.into_iter().chain(day);
    names
        .map(|set| Known::Port.counting(set, name.as_str()))
        .collect()
}

fn checks(limits: &ClassLimits) -> impl Iterator<Item = (Limit, Expr)> {
    let rate = limits.new_connections.map(|rate| {
        let check = Expr::Limit {
            rate: u64::from(rate.count.get()),
            unit_s: u64::from(rate.seconds),
            burst: rate.count.get(),
            bytes: false,
            over: true,
        };
        (Limit::NewConnections, check)
    });
    let count = limits.connections.map(|most| {
        let check = Expr::Connections {
            count: most.get(),
            over: true,
        };
        (Limit::Connections, check)
    });
    rate.into_iter().chain(count)
}

fn police(bandwidth: BitsPerSecond) -> Expr {
    let rate = (bandwidth.0.min(BitsPerSecond::MAX.0) / 8).max(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a quarter of a rate, bounded below"
    )]
    let burst = ((rate as f64 * BURST_S) as u64).max(BURST_MIN);
    Expr::Limit {
        rate,
        unit_s: 1,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
        bytes: true,
        over: true,
    }
}

pub(super) fn count_day(name: &ClassName, limits: &ClassLimits, known: Known) -> Vec<Rule> {
    if limits.bytes_per_day.is_none() {
        return Vec::new();
    }
    let set = known.set(DAY, name.as_str());
    let counted = (set.as_str(), &Expr::Counter);
    known.each(false, (&[], "bytes a day"), counted, &Vec::new)
}

/// What becomes of what is over a bandwidth.
fn too_fast(policy: &Policy) -> Vec<Expr> {
    match policy.mode {
        Mode::Enforce => p::discard(),
        Mode::Observe => p::count(),
    }
}
