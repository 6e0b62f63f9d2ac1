//! The chains and sets of the limits.

use super::{BitsPerSecond, ClassLimits, Limit, received::arriving};
use crate::egress::{
    Class, ClassName, Mode, Policy, people, phrases as p,
    ruleset::{Chain, Data, DataType, Element, Expr, Rule, Set},
    sets::{self, LEVELS},
    shape,
    table::{self, chain, rule},
    uapi::*,
};

/// Elements of a limit's set live so long after their server's last packet.
const IDLE_MS: u64 = 3_600_000;
/// The most servers at a time.
const SERVERS_MAX: u32 = 65_535;
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

fn sent(name: &ClassName) -> String {
    format!("sent_{name}")
}

pub(super) fn had(name: &ClassName) -> String {
    format!("had_{name}")
}

fn day(name: &ClassName) -> String {
    format!("day_{name}")
}

/// The sets that count what servers had today.
pub fn traffic_sets(policy: &Policy) -> impl Iterator<Item = String> {
    let limited = |class: &Class| class.limits.bytes_per_day.is_some() && !class.unrestricted;
    let classes = policy
        .classes
        .iter()
        .filter(move |(_, class)| limited(class));
    classes.map(|(name, _)| day(name))
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

/// Whether what is allowed counts against anything.
pub fn counts_sent(class: &Class) -> bool {
    class.limits.on_sent() && !class.unrestricted
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
    chains.extend(arriving(name, class, policy, &by_cgroup()));
    if limits.on_sent() {
        // A container's packets have their server's mark, and no socket here.
        let by_mark = [p::number_by_mark()];
        let servers = (allowed(name), by_cgroup(), &by_mark[..]);
        let by_uid = vec![p::number_by_uid(people::MARKS)];
        let people = (allowed_people(name), by_uid, &[][..]);
        for (called, here, routed) in [servers, people] {
            chains.extend(sending(&called, (&here, routed), name, class, policy));
        }
    }
    if shape::shapes(policy, class) {
        chains.push(leaving(name, limits, policy));
    }
    chains
}

/// What is allowed to who is known by one of these numbers: by those of sockets here, or by those of
/// packets that are only routed.
fn sending(
    called: &str,
    (here, routed): (&[Vec<Expr>], &[Vec<Expr>]),
    name: &ClassName,
    class: &Class,
    policy: &Policy,
) -> Vec<Chain> {
    let limits = &class.limits;
    let all = [here, routed].concat();
    let mut rules: Vec<Rule> = Vec::new();
    for (limit, check) in checks(limits) {
        let set = format!("{}_{name}", limit.as_str());
        let new = all.iter().map(|number| [p::is_new(), number.clone()]);
        let new: Vec<Vec<Expr>> = new.map(|parts| parts.concat()).collect();
        let then = || p::goto(&over(limit, name));
        rules.extend(each_number(&new, limit.as_str(), &set, &check, then));
    }
    let mut chains = Vec::new();
    let shaped = shape::shapes(policy, class);
    if shaped {
        // It ends the packet's way here, so it is counted on the way out.
        let counted = format!("queued_{called}");
        let queue = |number: &Vec<Expr>| {
            let to = [shape::queue_it(number.clone()), p::goto(&counted)];
            rule("waits its turn", to)
        };
        rules.extend(here.iter().map(queue));
        let mut day = count_day(name, limits, here);
        day.push(rule("", [p::accept()]));
        chains.push(chain(&counted, day));
    }
    // Where a shaped container's packet leaves by is known later: see `leaving`.
    let policed = if shaped { here } else { &all };
    if let Some(bandwidth) = limits.bandwidth {
        let (set, check) = (sent(name), police(bandwidth));
        let then = || too_fast(policy);
        rules.extend(each_number(policed, "bandwidth", &set, &check, then));
    }
    rules.extend(count_day(name, limits, &all));
    rules.push(rule("", [p::accept()]));
    chains.push(chain(called, rules));
    chains
}

/// What a container of a shaped class sends, where it is known by which interface it leaves.
fn leaving(name: &ClassName, limits: &ClassLimits, policy: &Policy) -> Chain {
    let number = p::number_by_mark;
    let done = || [p::mark(0), p::accept()].concat();
    let mut rules = vec![rule("waits its turn", [shape::queue_it(number()), done()])];
    if let Some(bandwidth) = limits.bandwidth {
        let (set, check) = (sent(name), police(bandwidth));
        let then = || too_fast(policy);
        rules.extend(each_number(&[number()], "bandwidth", &set, &check, then));
    }
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

/// The sets of one class, which its packets fill.
pub fn sets(name: &ClassName, class: &Class) -> Vec<Set> {
    let mut sets = Vec::new();
    for (limit, _) in checks(&class.limits) {
        let set = format!("{}_{name}", limit.as_str());
        sets.extend(dynamic(vec![set], limit == Limit::Connections));
    }
    let mut names = received_by_class(name, &class.limits);
    if class.limits.bandwidth.is_some() {
        names.push(sent(name));
    }
    sets.extend(dynamic(names, false));
    sets
}

/// The sets of a class that what is received fills.
pub(super) fn received_by_class(name: &ClassName, limits: &ClassLimits) -> Vec<String> {
    let had = limits.bandwidth.map(|_| had(name));
    let day = limits.bytes_per_day.map(|_| day(name));
    had.into_iter().chain(day).collect()
}

/// Sets that packets fill. Elements with a limit end when their server is quiet; those that count
/// connections, when there are none. The kernel takes no time for the latter (`nft_dynset_init`:
/// `ops->gc`).
pub(super) fn dynamic(names: Vec<String>, connections: bool) -> impl Iterator<Item = Set> {
    names.into_iter().map(move |name| Set {
        flags: NFT_SET_EVAL | if connections { 0 } else { NFT_SET_TIMEOUT },
        size: SERVERS_MAX,
        timeout_ms: if connections { 0 } else { IDLE_MS },
        ..sets::plain(&name, TYPE_MARK, 4)
    })
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

pub(super) fn police(bandwidth: BitsPerSecond) -> Expr {
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

pub(super) fn count_day(
    name: &ClassName,
    limits: &ClassLimits,
    numbers: &[Vec<Expr>],
) -> Vec<Rule> {
    if limits.bytes_per_day.is_none() {
        return Vec::new();
    }
    each_number(numbers, "bytes a day", &day(name), &Expr::Counter, Vec::new)
}

/// What becomes of what is over a bandwidth.
pub(super) fn too_fast(policy: &Policy) -> Vec<Expr> {
    match policy.mode {
        Mode::Enforce => p::discard(),
        Mode::Observe => p::count(),
    }
}

/// The ways in which the server of a packet with a socket here can be known.
pub(super) fn by_cgroup() -> Vec<Vec<Expr>> {
    let number = |level| p::number_by_cgroup(level, &sets::marks(level));
    LEVELS.map(number).into()
}

/// A rule for each way in which a packet's server can be known: what its element in `set` matches
/// goes on with `then`.
pub(super) fn each_number(
    numbers: &[Vec<Expr>],
    comment: &str,
    set: &str,
    check: &Expr,
    then: impl Fn() -> Vec<Expr>,
) -> Vec<Rule> {
    let one = |number: &Vec<Expr>| {
        let counted = p::update(set, check.clone());
        rule(comment, [number.clone(), counted, then()])
    };
    numbers.iter().map(one).collect()
}
