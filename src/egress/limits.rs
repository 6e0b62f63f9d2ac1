//! How much of what a class allows: new connections, connections at a time, bandwidth, bytes a
//! day.
//!
//! Each limit is a set that packets fill, keyed by the server's number, each element with a limit
//! of its own. So a server costs an element, made by its first packet, and no rule.

use std::{fmt, num::NonZeroU32};

use super::{
    Class, ClassName, Mode, Policy, people,
    phrases::{self as p},
    ruleset::{Chain, Data, Element, Expr, Hook, Rule, Set},
    sets::{self, LEVELS},
    table::{self, chain, rule},
    uapi::*,
};
use crate::egress::Admitted;

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitsPerSecond(pub u64);

impl BitsPerSecond {
    /// The most that a limit can say: a rate and its burst, in bytes, times a second in nanoseconds
    /// have to fit 64 bits (`nft_limit_init`).
    pub const MAX: Self = Self(100_000_000_000);
}

impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{} Gbit/s", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{} Mbit/s", bits / 1_000_000),
            bits => write!(f, "{} kbit/s", bits / 1_000),
        }
    }
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how many seconds.
    pub seconds: u32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.seconds {
            1 => "second",
            60 => "minute",
            _ => "hour",
        };
        write!(f, "{} a {unit}", self.count)
    }
}

/// The limits of each server of a class; none of them is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassLimits {
    /// New connections to elsewhere; as many again may come at once.
    pub new_connections: Option<Rate>,
    /// Connections to elsewhere at a time, as connection tracking counts them.
    pub connections: Option<NonZeroU32>,
    /// What is sent and, on its own account, what is received.
    pub bandwidth: Option<BitsPerSecond>,
    /// Bytes sent and received in a day. The table only counts them; who uses it changes the class
    /// of a server that has had its share.
    pub bytes_per_day: Option<u64>,
}

/// A limit that refused a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`ClassLimits::new_connections`].
    NewConnections,
    /// [`ClassLimits::connections`].
    Connections,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::NewConnections, Self::Connections];

    /// The word in the log prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewConnections => "new_connections",
            Self::Connections => "connections",
        }
    }
}

/// Elements of a limit's set live so long after their server's last packet.
const IDLE_MS: u64 = 3_600_000;
/// The most servers at a time.
const SERVERS_MAX: u32 = 65_535;
/// A bucket's extra room: what arrives in so long at full rate.
const BURST_S: f64 = 0.25;
const BURST_MIN: u64 = 64 << 10;

impl ClassLimits {
    /// Whether packets to elsewhere are counted against anything.
    fn on_sent(&self) -> bool {
        self.new_connections.is_some() || self.connections.is_some() || self.on_received()
    }

    /// Whether packets from elsewhere are looked at.
    fn on_received(&self) -> bool {
        self.bandwidth.is_some() || self.bytes_per_day.is_some()
    }
}

fn allowed(name: &ClassName) -> String {
    format!("allowed_{name}")
}

fn allowed_people(name: &ClassName) -> String {
    format!("outside_{name}")
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
    for (limit, _) in checks(limits) {
        let mut refuse = vec![rule("", [p::jump("name_sender")])];
        let says = format!("{}{} {name}", table::SAYS_LIMIT, limit.as_str());
        refuse.extend(table::refusal(policy, says));
        chains.push(chain(&over(limit, name), refuse));
    }
    if limits.on_received() {
        let mut arriving = Vec::new();
        count(
            &mut arriving,
            name,
            limits,
            policy,
            "had",
            &servers_numbers(),
        );
        arriving.push(rule("", [p::accept()]));
        chains.push(chain(&format!("received_{name}"), arriving));
    }
    if limits.on_sent() {
        let servers = (allowed(name), servers_numbers());
        let people = (allowed_people(name), vec![p::number_by_uid(people::MARKS)]);
        for (chain_name, numbers) in [servers, people] {
            let mut rules: Vec<Rule> = Vec::new();
            for (limit, check) in checks(limits) {
                let set = format!("{}_{name}", limit.as_str());
                let then = || p::goto(&over(limit, name));
                let each = by_number(limit.as_str(), p::is_new, &set, &check, then, &numbers);
                rules.extend(each);
            }
            count(&mut rules, name, limits, policy, "sent", &numbers);
            rules.push(rule("", [p::accept()]));
            chains.push(chain(&chain_name, rules));
        }
    }
    chains
}

/// Rules that hold bytes against the bandwidth, in the sets named `set`, and the day's share.
fn count(
    rules: &mut Vec<Rule>,
    name: &ClassName,
    limits: &ClassLimits,
    policy: &Policy,
    set: &str,
    numbers: &[Vec<Expr>],
) {
    if let Some(bandwidth) = limits.bandwidth {
        let drop = || match policy.mode {
            Mode::Enforce => p::discard(),
            Mode::Observe => p::count(),
        };
        let (set, check) = (format!("{set}_{name}"), police(bandwidth));
        rules.extend(by_number(
            "bandwidth",
            Vec::new,
            &set,
            &check,
            drop,
            numbers,
        ));
    }
    if limits.bytes_per_day.is_some() {
        let (set, check) = (day(name), Expr::Counter);
        let all = by_number("bytes a day", Vec::new, &set, &check, Vec::new, numbers);
        rules.extend(all);
    }
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

/// The ways in which a packet's server can be known, each loading its number.
fn servers_numbers() -> Vec<Vec<Expr>> {
    let by_cgroup = LEVELS.map(|level| p::number_by_cgroup(level, &sets::marks(level)));
    let mut numbers: Vec<_> = by_cgroup.into();
    // A container's packets have their server's mark, and no socket here.
    numbers.push(p::number_by_mark());
    numbers
}

/// A rule for each way in which a packet's sender can be known: what its element in `set` matches
/// goes on with `then`.
fn by_number(
    comment: &str,
    condition: impl Fn() -> Vec<Expr>,
    set: &str,
    check: &Expr,
    then: impl Fn() -> Vec<Expr>,
    numbers: &[Vec<Expr>],
) -> Vec<Rule> {
    let one = |number: &Vec<Expr>| {
        let counted = p::update(set, check.clone());
        rule(comment, [condition(), number.clone(), counted, then()])
    };
    numbers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_an_admin_would_say_them() {
        for (bits, says) in [
            (20_000_000, "20 Mbit/s"),
            (1_000_000_000, "1 Gbit/s"),
            (1_500_000, "1500 kbit/s"),
        ] {
            assert_eq!(BitsPerSecond(bits).to_string(), says);
        }
        let rate = Rate {
            count: NonZeroU32::new(50).unwrap(),
            seconds: 60,
        };
        assert_eq!(rate.to_string(), "50 a minute");
    }

    #[test]
    fn a_class_without_limits_costs_nothing_more() {
        let name: ClassName = "standard".parse().unwrap();
        let policy = Policy::standard(Mode::Enforce);
        let class = Class::standard();
        assert_eq!(allow(&name, &class), p::accept());
        assert!(chains(&name, &class, &policy).is_empty() && sets(&name, &class).is_empty());
        assert!(input(&policy).0.is_empty());
    }
}
