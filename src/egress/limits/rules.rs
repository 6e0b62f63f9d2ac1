//! The chains and sets of the limits, and the elements by which what a server receives is found.

use super::{BitsPerSecond, ClassLimits, Limit};
use crate::egress::{
    Admitted, Class, ClassName, Mode, Policy, phrases as p,
    ruleset::{Chain, Data, Element, Expr, Hook, Rule, Set},
    sets::{self, LEVELS},
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

fn over(limit: Limit, name: &ClassName) -> String {
    format!("over_{}_{name}", limit.as_str())
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

fn received(level: u8) -> String {
    format!("received{level}")
}

/// What becomes of what a class allows.
pub fn allow(name: &ClassName, class: &Class) -> Vec<Expr> {
    match class.limits.on_sent() {
        true => p::goto(&allowed(name)),
        false => p::accept(),
    }
}

/// The element by which what a server receives is counted.
pub fn element_of(policy: &Policy, server: &Admitted) -> Option<(String, Element)> {
    let class = policy.classes.get(&server.class)?;
    if class.unrestricted || !class.limits.on_received() {
        return None;
    }
    let key = server.cgroup.0.to_ne_bytes().to_vec();
    let to = Data::Goto(format!("received_{}", server.class));
    Some((received(server.level), Element::map(key, to)))
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
            priority: table::PRIORITY,
        }),
        ..chain("received", rules)
    };
    let sets = LEVELS.map(|level| sets::verdicts_by_cgroup(&received(level)));
    (vec![base], sets.into())
}

/// The chains of one class.
pub fn chains(name: &ClassName, class: &Class, policy: &Policy) -> Vec<Chain> {
    let mut chains = Vec::new();
    let limits = &class.limits;
    let mut rules: Vec<Rule> = Vec::new();
    for (limit, check) in checks(limits) {
        let set = format!("{}_{name}", limit.as_str());
        let then = || p::goto(&over(limit, name));
        rules.extend(by_server(limit.as_str(), p::is_new, &set, &check, then));
        let mut refuse = vec![rule("", [p::jump("name_sender")])];
        let says = format!("{}{} {name}", table::SAYS_LIMIT, limit.as_str());
        refuse.extend(table::refusal(policy, says));
        chains.push(chain(&over(limit, name), refuse));
    }
    let mut arriving: Vec<Rule> = Vec::new();
    if let Some(bandwidth) = limits.bandwidth {
        let drop = || match policy.mode {
            Mode::Enforce => p::discard(),
            Mode::Observe => p::count(),
        };
        let check = police(bandwidth);
        let sent = format!("sent_{name}");
        rules.extend(by_server("bandwidth", Vec::new, &sent, &check, drop));
        let set = format!("had_{name}");
        arriving = by_server("bandwidth", Vec::new, &set, &check, drop);
    }
    if limits.bytes_per_day.is_some() {
        for rules in [&mut rules, &mut arriving] {
            let set = day(name);
            rules.extend(by_server(
                "bytes a day",
                Vec::new,
                &set,
                &Expr::Counter,
                Vec::new,
            ));
        }
    }
    if limits.on_received() {
        arriving.push(rule("", [p::accept()]));
        chains.push(chain(&format!("received_{name}"), arriving));
    }
    if limits.on_sent() {
        rules.push(rule("", [p::accept()]));
        chains.push(chain(&allowed(name), rules));
    }
    chains
}

/// The sets of one class, which its packets fill.
pub fn sets(name: &ClassName, class: &Class) -> Vec<Set> {
    // Elements with a limit end when their server is quiet; those that count connections, when
    // there are none. The kernel takes no time for the latter (`nft_dynset_init`: `ops->gc`).
    let counting = Limit::Connections.as_str();
    let mut names: Vec<String> = checks(&class.limits)
        .map(|(limit, _)| format!("{}_{name}", limit.as_str()))
        .collect();
    if class.limits.bandwidth.is_some() {
        names.extend([format!("sent_{name}"), format!("had_{name}")]);
    }
    if class.limits.bytes_per_day.is_some() {
        names.push(day(name));
    }
    let set = |set: &String| {
        let counts = *set == format!("{counting}_{name}");
        Set {
            flags: NFT_SET_EVAL | if counts { 0 } else { NFT_SET_TIMEOUT },
            size: SERVERS_MAX,
            timeout_ms: if counts { 0 } else { IDLE_MS },
            ..sets::plain(set, TYPE_MARK, 4)
        }
    };
    names.iter().map(set).collect()
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

/// A rule for each way in which a packet's server can be known: what its element in `set` matches
/// goes on with `then`.
fn by_server(
    comment: &str,
    condition: impl Fn() -> Vec<Expr>,
    set: &str,
    check: &Expr,
    then: impl Fn() -> Vec<Expr>,
) -> Vec<Rule> {
    let one = |number: Vec<Expr>| {
        let counted = p::update(set, check.clone());
        rule(comment, [condition(), number, counted, then()])
    };
    let mut rules: Vec<Rule> = LEVELS
        .map(|level| one(p::number_by_cgroup(level, &sets::marks(level))))
        .into();
    // A container's packets have their server's mark, and no socket here.
    rules.push(one(p::number_by_mark()));
    rules
}
