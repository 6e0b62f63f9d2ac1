//! The kernel's table of connections: whether the rules have it filled, and how much of it one sender may
//! fill.
//!
//! Any rule that asks connection tracking anything has the kernel track every connection of the network
//! namespace, those on loopback too. So where nothing else on the node does, the rules ask nothing of it:
//! without it nothing is translated, and an answer is told by TCP's own flags. Where others do, entries
//! are there anyway, and one table is for all: then each sender may make so many of them and no more.

use std::num::NonZeroU32;

use super::{
    Policy,
    abuse::{Abuse, Sender},
    filled::Filled,
    phrases as p,
    ruleset::{Chain, Expr, Rule, Set},
    senders::Known,
    table::{chain, rule},
};

/// What is known of the kernel's table of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Others on this node have connections tracked: a firewall, an engine's address translation.
    pub by_others: bool,
    /// Entries of the table that one sender may fill; `None` is no bound. It holds where connections are
    /// tracked.
    pub most: Option<NonZeroU32>,
}

impl Default for Tracking {
    /// Tracked, without a bound.
    fn default() -> Self {
        Self {
            by_others: true,
            most: None,
        }
    }
}

/// Whether the rules of a policy ask connection tracking anything.
pub fn is_used(policy: &Policy) -> bool {
    let counts = |class: &super::Class| {
        let limits = &class.limits;
        !class.unrestricted && (limits.connections.is_some() || limits.new_connections.is_some())
    };
    policy.tracking.by_others || policy.classes.values().any(counts)
}

/// It answers a flow that the other side began; without connection tracking, it is TCP and begins none.
pub fn is_answer(policy: &Policy) -> Vec<Expr> {
    match is_used(policy) {
        true => p::is_answer(),
        false => p::continues_tcp(),
    }
}

/// The entries that one sender may fill, where any are made.
pub fn most(policy: &Policy) -> Option<NonZeroU32> {
    policy.tracking.most.filter(|_| is_used(policy))
}

/// The chain that counts what makes an entry.
fn entries(sender: Sender) -> String {
    sender.chain("entries")
}

/// Which packets a check looks at, its set and the check.
type Check = (Vec<Expr>, Filled, Expr);

/// How one sender's share is divided, in eighths. A quarter is for flows that are alive, whatever the
/// protocol, as `ct count` counts them: those may be kept for ever. It does not count a TCP connection that
/// ended, whose entry stays two minutes (`nf_conntrack_tcp_timeout_time_wait`). At most a quarter was alive two
/// minutes ago and has ended since, a quarter may begin at once and another in two minutes. What is no TCP has
/// a rate besides, since to count what is alive takes long where new flows come fast.
fn checks(most: NonZeroU32) -> [Check; 3] {
    let share = |eighths: u64| (u64::from(most.get()) * eighths / 8).max(1);
    let faster_than = |two_minutes: u64, at_once: u64| Expr::Limit {
        rate: (two_minutes / 2).max(1),
        unit_s: 60,
        burst: u32::try_from(at_once).unwrap_or(u32::MAX),
        bytes: false,
        over: true,
    };
    let held = Expr::Connections {
        count: u32::try_from(share(2)).unwrap_or(u32::MAX),
        over: true,
    };
    [
        (
            p::begins_tcp(),
            Filled::TcpEntries,
            faster_than(share(2), share(2)),
        ),
        (
            p::no_tcp(),
            Filled::OtherEntries,
            faster_than(share(3), share(1)),
        ),
        (Vec::new(), Filled::HeldEntries, held),
    ]
}

/// The first rules of a class: what makes an entry is counted, what is translated has rules of its own.
/// A packet of a flow that is neither, as nearly all are, costs one look.
pub fn judged_first(policy: &Policy, sender: Sender, first: &str, translated: &str) -> Vec<Rule> {
    if !is_used(policy) {
        return Vec::new();
    }
    match most(policy) {
        Some(_) => vec![rule(
            "first of a flow, or translated",
            [p::is_first_or_translated(), p::jump(first)],
        )],
        None => of_first(policy, sender, translated),
    }
}

fn of_first(policy: &Policy, sender: Sender, translated: &str) -> Vec<Rule> {
    let counted = rule(
        "first of a flow",
        [p::makes_entry(), p::jump(&entries(sender))],
    );
    let translated = rule("", [p::is_translated(), p::goto(translated)]);
    let counted = most(policy).map(|_| counted);
    counted.into_iter().chain([translated]).collect()
}

/// The chain that [`judged_first`] leads to, where it does.
pub fn first(policy: &Policy, sender: Sender, first: &str, translated: &str) -> Option<Chain> {
    most(policy)?;
    Some(chain(first, of_first(policy, sender, translated)))
}

/// What a unit that is not known yet sends counts under its cgroup, or its slice's.
pub fn of_pending(policy: &Policy) -> Vec<Rule> {
    let Some(most) = most(policy) else {
        return Vec::new();
    };
    let one = |(condition, set, check): Check| {
        let update = p::update(&Known::Cgroup.set(set.as_str(), ""), check);
        let over = p::goto(Abuse::Entries.over());
        let key = p::its_cgroup(2);
        rule("entries", [p::makes_entry(), condition, key, update, over])
    };
    checks(most).map(one).into()
}

/// The chains by which what makes an entry is counted.
pub fn chains(policy: &Policy) -> Vec<Chain> {
    let Some(most) = most(policy) else {
        return Vec::new();
    };
    let of = |sender: Sender| {
        let (here, routed) = sender.known();
        let mut rules = Vec::new();
        for (condition, set, check) in checks(most) {
            for known in [here].into_iter().chain(routed) {
                let says = (&condition[..], "entries");
                let counted = (&*known.set(set.as_str(), ""), &check);
                let over = || p::goto(Abuse::Entries.over());
                rules.extend(known.each(true, says, counted, &over));
            }
        }
        chain(&entries(sender), rules)
    };
    Sender::ALL.map(of).into()
}

/// The sets that those fill.
pub fn sets(policy: &Policy) -> Vec<Set> {
    if most(policy).is_none() {
        return Vec::new();
    }
    let kinds = [
        Filled::TcpEntries,
        Filled::OtherEntries,
        Filled::HeldEntries,
    ];
    let sets = kinds.map(|kind| Known::JUDGED.map(|known| known.counting(kind, "")));
    sets.into_iter().flatten().collect()
}
