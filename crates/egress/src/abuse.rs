//! Limits of everybody, whatever the class, far above what honest programs do: of connections
//! begun, of packets that are no TCP, which holds its own floods, and of entries in the kernel's table of
//! connections (`tracking`).
//!
//! Each is sets that packets fill, as a class's limits are, with a limit of each sender's; what is over
//! one is counted under the sender's mark. The rules of [`attempts`] look at the same first packets,
//! so both are reached by the same jump.

use std::num::NonZeroU32;

use super::{
    Mode, Policy, Rate, attempts,
    filled::Filled,
    names, phrases as p,
    ruleset::{Chain, Expr, Rule, Set},
    senders::Known,
    sets,
    table::{self, chain, rule},
    tracking, uid_rules,
};

/// Prefix of what is logged of refusals by a limit of everybody; the limit's name follows.
pub const SAYS_ABUSE: &str = "abuse ";

/// So many seconds' worth of connections may be begun at once.
const BURST_S: u32 = 10;

/// A limit of everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abuse {
    /// [`AbuseLimits::connections`].
    Connections,
    /// [`AbuseLimits::packets`].
    Packets,
    /// [`AbuseLimits::questions`]; where questions wait in a queue to be remembered, which is everybody's, no
    /// more than that takes.
    Questions,
    /// [`Tracking::most`](super::Tracking::most).
    Entries,
}

/// So many packets with questions of one sender are read a second, and as many at once: 1,000 questions
/// over UDP, a hundred over TCP. 4,096 packets wait in the queue.
const QUESTIONS_READ: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// The chain of questions that are not read.
const UNREAD: &str = "questions_unread";

impl Abuse {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Connections,
        Self::Packets,
        Self::Questions,
        Self::Entries,
    ];

    /// The word in the log prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Packets => "packets",
            Self::Questions => "questions",
            Self::Entries => "entries",
        }
    }

    fn rate(self, policy: &Policy) -> Option<Rate> {
        match self {
            Self::Connections => policy.abuse.connections,
            Self::Packets => policy.abuse.packets,
            Self::Questions => {
                let read = names::uses(policy).then_some(Rate {
                    count: QUESTIONS_READ,
                    seconds: 1,
                });
                let each =
                    |rate: &Rate| u64::from(rate.seconds) * 1_000_000 / u64::from(rate.count.get());
                // The slower of them.
                policy
                    .abuse
                    .questions
                    .into_iter()
                    .chain(read)
                    .max_by_key(each)
            }
            // Those are limited by rules of their own.
            Self::Entries => None,
        }
    }

    /// What each sender has used of it.
    fn filled(self) -> Filled {
        match self {
            Self::Connections => Filled::MostConnections,
            Self::Packets => Filled::MostPackets,
            Self::Questions => Filled::MostQuestions,
            Self::Entries => Filled::HeldEntries,
        }
    }

    /// The set of its limits, for those who are known so.
    fn set(self, known: Known) -> String {
        known.set(self.filled().as_str(), "")
    }

    /// What is over it, by mark.
    fn counters(self) -> Filled {
        match self {
            Self::Connections => Filled::TooManyConnections,
            Self::Packets => Filled::TooManyPackets,
            Self::Questions => Filled::TooManyQuestions,
            Self::Entries => Filled::TooManyEntries,
        }
    }

    /// The chain of what is over it, and the set of counters of that, by mark.
    pub fn over(self) -> &'static str {
        self.counters().as_str()
    }

    fn check(self, rate: Rate) -> Expr {
        let count = rate.count.get();
        let burst = match self {
            Self::Connections => count.saturating_mul(BURST_S),
            Self::Questions => {
                let at_once = count.saturating_mul(BURST_S) / rate.seconds.max(1);
                at_once.clamp(1, QUESTIONS_READ.get())
            }
            Self::Packets | Self::Entries => count,
        };
        Expr::Limit {
            rate: u64::from(count),
            unit_s: u64::from(rate.seconds),
            burst,
            bytes: false,
            over: true,
        }
    }
}

/// Who sends: the chains of both are alike but for how the sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Servers and users' slices, by cgroup, and containers, by the mark of their port.
    Server,
    /// Users outside both, by uid.
    UidRule,
}

impl Sender {
    pub const ALL: [Self; 2] = [Self::Server, Self::UidRule];

    /// The chain of a name for what these send.
    pub fn chain(self, name: &str) -> String {
        match self {
            Self::Server => name.to_owned(),
            Self::UidRule => format!("{name}_outside"),
        }
    }

    /// What one is known by, first where there is a socket here.
    pub fn known(self) -> (Known, Option<Known>) {
        match self {
            Self::Server => (Known::Cgroup, Some(Known::Mark)),
            Self::UidRule => (Known::Uid, None),
        }
    }
}

/// The first rules of a class, for what leaves the node.
pub fn judged_first(policy: &Policy, sender: Sender) -> Vec<Rule> {
    let begins = [p::begins_tcp(), p::jump(&sender.chain("begins"))];
    let mut rules = vec![rule("begins a connection", begins)];
    if policy.abuse.packets.is_some() {
        rules.push(rule("", [p::no_tcp(), p::jump(&sender.chain("no_tcp"))]));
    }
    rules
}

/// The chains of the table of the family `inet`, those of [`attempts`] with them.
pub fn chains(policy: &Policy) -> Vec<Chain> {
    let mut chains = Vec::new();
    for sender in Sender::ALL {
        let (here, routed) = sender.known();
        let limited = |abuse: Abuse| {
            let mut rules = Vec::new();
            if let Some(rate) = abuse.rate(policy) {
                let then = || p::goto(abuse.over());
                for known in [here].into_iter().chain(routed) {
                    let (set, check) = (abuse.set(known), abuse.check(rate));
                    let says = (&[][..], abuse.as_str());
                    rules.extend(known.each(true, says, (&set, &check), &then));
                }
            }
            rules
        };
        let mut begins = limited(Abuse::Connections);
        begins.extend(attempts::noting(here, tracking::is_used(policy)));
        chains.push(chain(&sender.chain("begins"), begins));
        let no_tcp = limited(Abuse::Packets);
        if !no_tcp.is_empty() {
            chains.push(chain(&sender.chain("no_tcp"), no_tcp));
        }
    }
    chains.extend(counted(policy).map(|abuse| chain(abuse.over(), over(abuse, policy))));
    if Abuse::Questions.rate(policy).is_some() {
        let mut rules = questions(policy);
        rules.push(rule("", [p::accept()]));
        chains.push(chain(UNREAD, rules));
    }
    chains.extend(attempts::chains());
    chains.extend(tracking::chains(policy));
    chains
}

/// Refuses what is over a limit. A flood is dropped without a word to its sender.
fn over(abuse: Abuse, policy: &Policy) -> Vec<Rule> {
    let says = format!("{SAYS_ABUSE}{}", abuse.as_str());
    let mut rules = vec![
        rule("", [p::jump("name_sender")]),
        rule("counted", [p::count_by_mark(abuse.over())]),
    ];
    match (abuse, policy.mode) {
        (Abuse::Packets | Abuse::Questions, Mode::Enforce) => {
            rules.extend(table::counted_and_told(policy, says));
            rules.push(rule("", [p::discard()]));
        }
        _ => rules.extend(table::refusal(policy, says)),
    }
    rules
}

/// What becomes of a question for names that is not read.
pub fn ask(policy: &Policy) -> Vec<Expr> {
    match Abuse::Questions.rate(policy) {
        Some(_) => p::goto(UNREAD),
        None => p::accept(),
    }
}

/// Refuses of the questions for names, those of one sender that are too many.
pub fn questions(policy: &Policy) -> Vec<Rule> {
    let abuse = Abuse::Questions;
    let Some(rate) = abuse.rate(policy) else {
        return Vec::new();
    };
    let check = abuse.check(rate);
    let one = |(known, key): (Known, Vec<Expr>)| {
        let counted = p::update(&abuse.set(known), check.clone());
        let over = [key, counted, p::goto(abuse.over())];
        rule(abuse.as_str(), over)
    };
    // Who asks for others has no number, and no limit.
    let uid = (Known::Uid, p::uid_known_to(uid_rules::MARKS));
    let others = [Known::Cgroup, Known::Mark].into_iter().flat_map(|known| {
        let keys = known.keys(true).into_iter();
        keys.map(move |key| (known, key))
    });
    others.chain([uid]).map(one).collect()
}

/// The sets of the table of the family `inet`, those of [`attempts`] with them.
pub fn sets(policy: &Policy) -> Vec<Set> {
    let mut sets = attempts::sets();
    sets.extend(tracking::sets(policy));
    for abuse in counted(policy) {
        if abuse.rate(policy).is_some() {
            let limits = Known::JUDGED.map(|known| known.counting(abuse.filled(), ""));
            sets.extend(limits);
        }
        sets.push(sets::by_mark(abuse.counters()));
    }
    sets
}

/// The sets of that table that count what is over a limit.
pub fn counted(policy: &Policy) -> impl Iterator<Item = Abuse> {
    let is_limited = move |abuse: &Abuse| match abuse {
        Abuse::Entries => tracking::most(policy).is_some(),
        abuse => abuse.rate(policy).is_some(),
    };
    Abuse::ALL.into_iter().filter(is_limited)
}
