//! Our table, built from a policy. See `docs/egress-table.md` for the table in the nft
//! program's words, and why each rule is where it is.
//!
//! Names that begin with a word and `_` belong to the class they end with, `list_` to a deny list.
//! What is shared by all has no class's name at its end, since a class's has no `_` in it.
//!
//! Its rules depend on the policy alone: a server is three elements, in `servers`, `marks` and
//! `own_loopback` of its cgroup level.

use nft::monitor::Watch;

use super::{
    Class, ClassName, Mode, Policy,
    abuse::{self, Sender},
    datagrams, incoming, limits, listed, names,
    phrases::{self as p, Family},
    private,
    reach::{self, Judged},
    ruleset::{Chain, Expr, Hook, Rule, Ruleset},
    sets::{
        self, GUARDED, LEVELS, PENDING, REFUSED, TOLD, class_chain, marks, own, refuse_chain,
        servers,
    },
    shape, tracking,
    uapi::*,
    uid_rules,
};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "hubwarden";
/// The families in which there may be a table of that name.
const FAMILIES: [u8; 3] = [NFPROTO_INET, NFPROTO_BRIDGE, NFPROTO_NETDEV];

/// These tables, for a monitor; what the socket with the port `own` does to them is not told.
pub fn watch(own: u32) -> Watch {
    Watch {
        table: TABLE,
        families: &FAMILIES,
        own,
    }
}

/// Prefix of what is logged of a class's refusals; the class's name follows.
pub const SAYS_CLASS: &str = "class ";
/// Prefix of what is logged of a class's refusals of private networks; its name follows.
pub const SAYS_PRIVATE: &str = "private ";
/// Prefix of what is logged of refusals by a deny list; its name follows.
pub const SAYS_LIST: &str = "list ";
/// Prefix of what is logged of refusals by a limit; the limit's and the class's names follow.
pub const SAYS_LIMIT: &str = "limit ";
/// Prefix of what is logged of refusals on loopback.
pub const SAYS_LOOPBACK: &str = "loopback";
/// Prefix of what is logged of units not admitted.
pub const SAYS_PENDING: &str = "pending";

/// The chain of what comes to a port of the hub.
pub const HUB_PORT: &str = "hub_port";

/// Before the filter tables of others, after address translation: what is judged is where the
/// packet really goes.
pub const PRIORITY: i32 = -10;
/// After an answer has the address again that was asked (`NF_IP_PRI_NAT_SRC`, 100): only then is the
/// socket found that asked.
pub const ANSWERS_PRIORITY: i32 = 110;

/// The table for a policy, with no slice guarded and no server admitted yet.
pub fn build(policy: &Policy) -> Ruleset {
    let mut chains = vec![
        output(policy),
        input(policy),
        pending(policy),
        arriving(policy),
        not_its_own(policy),
        uid_rules::subordinate(policy),
    ];
    chains.extend([name_sender(), to_listener(), hub_port()]);
    chains.extend(incoming::chains(policy));
    chains.extend(datagrams::noting(policy));
    let mut sets = sets::of_servers();
    sets.extend(uid_rules::sets());
    sets.extend(datagrams::sets(policy));
    sets.extend(sets::of_policy(policy));
    chains.extend(abuse::chains(policy));
    sets.extend(abuse::sets(policy));
    chains.extend(names::chains(policy));
    sets.extend(names::sets(policy));
    let received = limits::input(policy);
    chains.extend(received.0);
    sets.extend(received.1);
    if shape::is_used(policy) {
        sets.extend(shape::sets());
    }
    for list in listed::with_addresses(&policy.lists) {
        let prefix = format!("{SAYS_LIST}{}", list.name);
        chains.push(named_refusal(&listed::chain(&list.name), policy, prefix));
    }
    let listed = listed::sets(&policy.lists);
    let exempt = (
        ClassName::exempt(),
        Class {
            unrestricted: true,
            ..Class::default()
        },
    );
    for (name, class) in policy.classes.iter().chain([(&exempt.0, &exempt.1)]) {
        if class.unrestricted {
            chains.push(chain(&class_chain(name), [rule("", [p::accept()])]));
            chains.extend(uid_rules::chains(name, class, Vec::new()));
            continue;
        }
        let judged = Judged {
            name,
            class,
            policy,
            listed: &listed,
        };
        chains.extend(judged.chains());
        chains.extend(uid_rules::chains(
            name,
            class,
            judged.by_where_it_goes(Sender::UidRule),
        ));
        chains.extend(judged.chains_of(Sender::UidRule));
        chains.push(class_refuse(name, policy));
        if private::concerns(policy, class) {
            let prefix = format!("{SAYS_PRIVATE}{name}");
            chains.push(named_refusal(&private::chain(name), policy, prefix));
        }
        chains.extend(limits::chains(name, class, policy));
        sets.extend(sets::of_class(name, class, policy));
    }
    sets.extend(listed);
    let mut ruleset = Ruleset {
        family: NFPROTO_INET,
        table: TABLE.to_owned(),
        flags: 0,
        comment: comment(policy),
        chains,
        sets,
    };
    if !tracking::is_used(policy) {
        // What is not tracked has no entry that they could be on.
        names::without_labels(&mut ruleset);
    }
    ruleset
}

/// A line for who lists the table.
pub fn comment(policy: &Policy) -> String {
    let mode = match policy.mode {
        Mode::Observe => "observing: nothing is refused",
        Mode::Enforce => "enforcing",
    };
    format!("hubwarden, {mode}")
}

/// A rule of these phrases.
pub fn rule<const N: usize>(comment: &str, phrases: [Vec<Expr>; N]) -> Rule {
    Rule {
        exprs: phrases.concat(),
        comment: comment.to_owned(),
    }
}

/// A chain that only rules lead to.
pub fn chain(name: &str, rules: impl Into<Vec<Rule>>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: None,
        device: None,
        rules: rules.into(),
    }
}

/// Packets that processes of this node send.
fn output(policy: &Policy) -> Chain {
    let hook = Some(Hook {
        number: NF_INET_LOCAL_OUT,
        priority: PRIORITY,
    });
    let mut rules: Vec<_> = LEVELS
        .map(|level| {
            rule(
                "servers go to their class",
                [p::by_cgroup(level, &servers(level))],
            )
        })
        .into();
    rules.push(rule(
        "not known yet",
        [p::cgroup_in(1, GUARDED), p::goto(PENDING)],
    ));
    rules.push(rule(
        "users outside their servers",
        [p::by_uid(uid_rules::UIDS)],
    ));
    rules.push(uid_rules::subordinate_rule());
    rules.extend(names::relayed(policy));
    rules.push(incoming::routed_answer(policy));
    Chain {
        hook,
        ..chain("output", rules)
    }
}

/// Packets that arrive: only those a server sent to a listener on this node are looked at.
fn input(policy: &Policy) -> Chain {
    let hook = Some(Hook {
        number: NF_INET_LOCAL_IN,
        priority: PRIORITY,
    });
    let ours = rule(
        "from a server",
        [p::from_loopback(), p::marked(), p::goto("arriving")],
    );
    let mut rules = datagrams::from_others(policy);
    rules.push(ours);
    Chain {
        hook,
        ..chain("input", rules)
    }
}

/// Marks a packet with its sender's number, or with none.
fn name_sender() -> Chain {
    let mut rules = vec![
        rule("a container's port named it", [p::came_in(), p::back()]),
        rule("", [p::mark(p::MARK)]),
        // A cgroup says more than a uid, so it comes after and has the last word.
        rule("", [p::mark_by_uid(uid_rules::MARKS)]),
    ];
    rules.extend(LEVELS.map(|level| rule("", [p::mark_by_cgroup(level, &marks(level))])));
    chain("name_sender", rules)
}

/// A packet to a listener on this node: whose listener it is shows on arrival.
fn to_listener() -> Chain {
    chain(
        "to_listener",
        [rule("", [p::jump("name_sender")]), rule("", [p::accept()])],
    )
}

fn arriving(policy: &Policy) -> Chain {
    let mut rules = datagrams::from_its_user(policy);
    rules.extend(LEVELS.map(|level| {
        rule(
            "its own",
            [p::mark_and_cgroup_in(level, &own(level)), p::accept()],
        )
    }));
    // Whose a listener there is, the kernel does not say on arrival.
    rules.push(rule(
        "users' jobs",
        [
            p::marked_by_uid(),
            p::cgroup_in(2, uid_rules::JOBS),
            p::accept(),
        ],
    ));
    rules.extend(to_hub(policy));
    rules.push(rule("another's", [p::has_socket(), p::goto("not_its_own")]));
    chain("arriving", rules)
}

/// What comes to a port of the hub, or asked for one and was led here.
fn to_hub(policy: &Policy) -> Vec<Rule> {
    let asked = [p::is_translated(), p::asked_tcp_port_in("hub_ports")].concat();
    let asked = tracking::is_used(policy).then_some(asked);
    [p::tcp_port_in("hub_ports")]
        .into_iter()
        .chain(asked)
        .map(|condition| rule("the hub", [condition, p::goto(HUB_PORT)]))
        .collect()
}

/// Checks the listener at a port of the hub. The hub's own cgroup changes at each start, so the chain does
/// not look for it. It refuses listeners that are known to be others: users' servers and sessions, unknown
/// units in a guarded slice, and users' jobs. The hub is therefore never refused, also right after a start.
fn hub_port() -> Chain {
    let mut rules: Vec<_> = LEVELS
        .map(|level| {
            let exempt = p::cgroup_in(level, &sets::exempt(level));
            rule("belongs in a guarded slice", [exempt, p::back()])
        })
        .into();
    let another = |comment: &str, condition| rule(comment, [condition, p::goto("not_its_own")]);
    rules.push(another("not known yet", p::cgroup_in(1, GUARDED)));
    rules.extend(LEVELS.map(|level| {
        let known = p::cgroup_known_to(level, &marks(level));
        another("a user's", known)
    }));
    rules.push(another("a user's job", p::cgroup_in(2, uid_rules::JOBS)));
    chain(HUB_PORT, rules)
}

fn not_its_own(policy: &Policy) -> Chain {
    chain("not_its_own", refusal(policy, SAYS_LOOPBACK.to_owned()))
}

/// What is not known yet. Whether it is a server, and whose, is the hub's to say, and the hub says it only
/// once the server has registered: so the hub is reached, and is answered, from the first packet on.
fn pending(policy: &Policy) -> Chain {
    let mut rules = tracking::of_pending(policy);
    rules.extend(reach::hub(policy));
    rules.extend([
        rule(
            "answers on this node",
            [p::to_loopback(), tracking::is_answer(policy), p::accept()],
        ),
        rule("", [p::mark(p::MARK)]),
    ]);
    rules.extend(refusal(policy, SAYS_PENDING.to_owned()));
    chain(PENDING, rules)
}

fn class_refuse(name: &ClassName, policy: &Policy) -> Chain {
    let prefix = format!("{SAYS_CLASS}{name}");
    named_refusal(&refuse_chain(name), policy, prefix)
}

/// Find out whose a packet is, and refuse it.
fn named_refusal(name: &str, policy: &Policy, prefix: String) -> Chain {
    let mut rules = vec![rule("", [p::jump("name_sender")])];
    rules.extend(refusal(policy, prefix));
    chain(name, rules)
}

/// Count it under its mark, all that there are; tell of it, unless much was told lately.
pub fn counted_and_told(policy: &Policy, prefix: String) -> [Rule; 2] {
    [
        rule("counted", [p::count_by_mark(REFUSED)]),
        rule("", [p::tell(TOLD, policy.log_group, prefix)]),
    ]
}

/// Count and tell; then refuse, or when only observing take the mark off and let go.
pub fn refusal(policy: &Policy, prefix: String) -> Vec<Rule> {
    let mut rules = counted_and_told(policy, prefix).to_vec();
    match policy.mode {
        Mode::Enforce => rules.extend([rule("", [p::reset()]), rule("", [p::reject()])]),
        Mode::Observe => {
            let count = vec![Expr::Counter];
            rules.push(rule("would be refused", [count, p::mark(0), p::accept()]));
        }
    }
    rules
}

/// A rule for each family, on the destination being in the set of that family.
pub fn each_family(
    comment: &str,
    set: &str,
    condition: impl Fn() -> Vec<Expr>,
    then: impl Fn() -> Vec<Expr>,
) -> Vec<Rule> {
    [(Family::V4, 4), (Family::V6, 6)]
        .map(|(family, digit)| {
            let destination = p::destination_in(family, &format!("{set}{digit}"));
            rule(comment, [condition(), destination, then()])
        })
        .into()
}
