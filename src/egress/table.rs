//! Our table, built from a policy. See `docs/egress-table.md` for the table in the nft
//! program's words, and why each rule is where it is.
//!
//! Its rules depend on the policy alone: a server is three elements, in `servers`, `marks` and
//! `own_loopback` of its cgroup level.

use super::{
    Admitted, CgroupId, Class, ClassName, Mode, Policy, intervals,
    phrases::{self as p, Family},
    ruleset::{Chain, Data, DataType, Element, Expr, Hook, Rule, Ruleset, Set},
    uapi::*,
};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "hubwarden";
/// The set of guarded slices.
pub const GUARDED: &str = "guarded";
/// Prefix of what is logged of a class's refusals; the class's name follows.
pub const SAYS_CLASS: &str = "class ";
/// Prefix of what is logged of refusals on loopback.
pub const SAYS_LOOPBACK: &str = "loopback";
/// Prefix of what is logged of units not admitted.
pub const SAYS_PENDING: &str = "pending";

/// The cgroup levels a server can be at.
pub const LEVELS: [u8; 2] = [2, 3];
/// Before the filter tables of others, after address translation: what is judged is where the
/// packet really goes.
const PRIORITY: i32 = -10;
const TOLD: &str = "told";
const TOLD_MAX: u32 = 65_535;
const TOLD_MS: u64 = 3_600_000;

/// The elements that admit a server, each with its set's name.
pub fn elements_of(server: &Admitted) -> [(String, Element); 3] {
    let cgroup = server.cgroup.0.to_ne_bytes().to_vec();
    let mark = (p::MARK | server.number).to_ne_bytes().to_vec();
    let both = [mark.clone(), cgroup.clone()].concat();
    let level = server.level;
    [
        (
            servers(level),
            Element::map(cgroup.clone(), Data::Goto(class_chain(&server.class))),
        ),
        (marks(level), Element::map(cgroup, Data::Value(mark))),
        (own(level), Element::key(both)),
    ]
}

/// The element that guards a slice.
pub fn guard(slice: CgroupId) -> Element {
    Element::key(slice.0.to_ne_bytes().to_vec())
}

fn servers(level: u8) -> String {
    format!("servers{level}")
}

fn marks(level: u8) -> String {
    format!("marks{level}")
}

fn own(level: u8) -> String {
    format!("own_loopback{level}")
}

fn class_chain(class: &ClassName) -> String {
    format!("class_{class}")
}

/// The table for a policy, with no slice guarded and no server admitted yet.
pub fn build(policy: &Policy) -> Ruleset {
    let mut chains = vec![
        output(),
        input(),
        pending(policy),
        loopback_in(),
        refuse_loopback(policy),
    ];
    chains.extend([name_sender(), to_listener()]);
    let mut sets = server_sets();
    sets.extend(policy_sets(policy));
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
            continue;
        }
        chains.extend([class_rules(name, class), class_loopback(name, class)]);
        chains.push(class_refuse(name, policy));
        sets.extend(class_sets(name, class));
    }
    let mode = match policy.mode {
        Mode::Observe => "observing: nothing is refused",
        Mode::Enforce => "enforcing",
    };
    Ruleset {
        table: TABLE.to_owned(),
        comment: format!("hubwarden, {mode}"),
        chains,
        sets,
    }
}

fn rule<const N: usize>(comment: &str, phrases: [Vec<Expr>; N]) -> Rule {
    Rule {
        exprs: phrases.concat(),
        comment: comment.to_owned(),
    }
}

fn chain(name: &str, rules: impl Into<Vec<Rule>>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: None,
        rules: rules.into(),
    }
}

/// Packets that processes of this node send.
fn output() -> Chain {
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
        [p::cgroup_in(1, GUARDED), p::goto("pending")],
    ));
    Chain {
        hook,
        ..chain("output", rules)
    }
}

/// Packets that arrive: only those a server sent to a listener on this node are looked at.
fn input() -> Chain {
    let hook = Some(Hook {
        number: NF_INET_LOCAL_IN,
        priority: PRIORITY,
    });
    let ours = rule(
        "from a server",
        [p::from_loopback(), p::marked(), p::goto("loopback_in")],
    );
    Chain {
        hook,
        ..chain("input", [ours])
    }
}

/// Marks a packet with its sender's number, or with none.
fn name_sender() -> Chain {
    let mut rules = vec![rule("", [p::mark(p::MARK)])];
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

fn loopback_in() -> Chain {
    let mut rules: Vec<_> = LEVELS
        .map(|level| {
            rule(
                "its own",
                [p::mark_and_cgroup_in(level, &own(level)), p::accept()],
            )
        })
        .into();
    rules.push(rule(
        "another's",
        [p::has_socket(), p::goto("refuse_loopback")],
    ));
    chain("loopback_in", rules)
}

fn refuse_loopback(policy: &Policy) -> Chain {
    chain("refuse_loopback", refusal(policy, SAYS_LOOPBACK.to_owned()))
}

fn pending(policy: &Policy) -> Chain {
    let mut rules = vec![rule("", [p::mark(p::MARK)])];
    rules.extend(refusal(policy, SAYS_PENDING.to_owned()));
    chain("pending", rules)
}

fn class_refuse(name: &ClassName, policy: &Policy) -> Chain {
    let mut rules = vec![rule("", [p::jump("name_sender")])];
    rules.extend(refusal(policy, format!("{SAYS_CLASS}{name}")));
    chain(&format!("refuse_{name}"), rules)
}

/// Tell and count; then refuse, or when only observing take the mark off and let go.
fn refusal(policy: &Policy, prefix: String) -> Vec<Rule> {
    let told = rule("", [p::tell(TOLD, policy.log_group, prefix)]);
    let count = vec![Expr::Counter];
    match policy.mode {
        Mode::Enforce => vec![
            told,
            rule("", [count, p::reset_tcp6()]),
            rule("", [p::reject()]),
        ],
        Mode::Observe => vec![
            told,
            rule("would be refused", [count, p::mark(0), p::accept()]),
        ],
    }
}

/// What a server of a class sends. The first rule that matches decides.
fn class_rules(name: &ClassName, class: &Class) -> Chain {
    let refuse = format!("refuse_{name}");
    let mut rules = vec![rule(
        "this node",
        [p::to_loopback(), p::goto(&format!("loopback_{name}"))],
    )];
    rules.extend(each_family(
        "answers to the proxy",
        "proxies",
        p::is_answer,
        p::accept,
    ));
    if class.dns {
        rules.extend(dns());
    }
    rules.extend(each_family("denied", "denied", Vec::new, || {
        p::goto(&refuse)
    }));
    if !class.services.is_empty() {
        let services = p::service_in(&format!("services_{name}"));
        rules.push(rule("services", [services, p::accept()]));
    }
    rules.push(rule("", [p::goto(&refuse)]));
    chain(&class_chain(name), rules)
}

/// What a server of a class sends to this node itself.
fn class_loopback(name: &ClassName, class: &Class) -> Chain {
    let mut rules = vec![
        rule("answers", [p::is_answer(), p::accept()]),
        rule(
            "judged at its first packet",
            [p::continues_tcp(), p::accept()],
        ),
        rule("the hub", [p::tcp_port_in("hub_ports"), p::accept()]),
    ];
    if !class.loopback_ports.is_empty() {
        let ports = p::tcp_port_in(&format!("ports_{name}"));
        rules.push(rule("allowed on this node", [ports, p::accept()]));
    }
    if class.dns {
        rules.extend(dns());
    }
    for transport in [super::Transport::Tcp, super::Transport::Udp] {
        let phrases = [p::protocol(transport.number()), p::goto("to_listener")];
        rules.push(rule("its own listeners", phrases));
    }
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    for number in [ICMP, ICMPV6] {
        rules.push(rule("ping", [p::protocol(number), p::accept()]));
    }
    rules.push(rule("", [p::goto(&format!("refuse_{name}"))]));
    chain(&format!("loopback_{name}"), rules)
}

fn dns() -> Vec<Rule> {
    each_family("resolvers", "resolvers", || p::service_in("dns"), p::accept)
}

/// A rule for each family, on the destination being in the set of that family.
fn each_family(
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

fn server_sets() -> Vec<Set> {
    let mut sets = vec![plain(GUARDED, TYPE_CGROUPV2, 8)];
    for level in LEVELS {
        let map = |name: String, data, data_order| Set {
            flags: NFT_SET_MAP,
            data: Some(data),
            userdata: byte_orders(BYTEORDER_HOST, Some(data_order)),
            ..plain(&name, TYPE_CGROUPV2, 8)
        };
        sets.push(map(servers(level), DataType::Verdict, 0));
        let mark = DataType::Value {
            kind: TYPE_MARK,
            len: 4,
        };
        sets.push(map(marks(level), mark, BYTEORDER_HOST));
        sets.push(plain(
            &own(level),
            TYPE_MARK << TYPE_BITS | TYPE_CGROUPV2,
            12,
        ));
    }
    sets.push(Set {
        flags: NFT_SET_EVAL | NFT_SET_TIMEOUT,
        size: TOLD_MAX,
        timeout_ms: TOLD_MS,
        ..plain(TOLD, TYPE_MARK, 4)
    });
    sets
}

fn policy_sets(policy: &Policy) -> Vec<Set> {
    let mut sets = Vec::new();
    let interval = NFT_SET_INTERVAL;
    for (name, flags, (v4, v6)) in [
        ("denied", interval, intervals::networks(&policy.denied)),
        ("proxies", interval, intervals::networks(&policy.proxies)),
        ("resolvers", 0, intervals::addresses(&policy.resolvers)),
    ] {
        let v4 = Set {
            flags,
            elements: v4,
            ..plain(&format!("{name}4"), TYPE_IPV4, 4)
        };
        let v6 = Set {
            flags,
            elements: v6,
            ..plain(&format!("{name}6"), TYPE_IPV6, 16)
        };
        sets.extend([v4, v6]);
    }
    let hub = intervals::ports(&policy.hub_ports);
    sets.push(Set {
        elements: hub,
        ..plain("hub_ports", TYPE_INET_SERVICE, 2)
    });
    sets.push(Set {
        elements: intervals::both_transports(53),
        ..plain("dns", SERVICE, 8)
    });
    sets
}

fn class_sets(name: &ClassName, class: &Class) -> Vec<Set> {
    let mut sets = Vec::new();
    if !class.services.is_empty() {
        sets.push(Set {
            flags: NFT_SET_INTERVAL | NFT_SET_CONCAT,
            fields: vec![1, 2],
            elements: intervals::services(&class.services),
            ..plain(&format!("services_{name}"), SERVICE, 8)
        });
    }
    if !class.loopback_ports.is_empty() {
        let elements = intervals::ports(&class.loopback_ports);
        sets.push(Set {
            elements,
            ..plain(&format!("ports_{name}"), TYPE_INET_SERVICE, 2)
        });
    }
    sets
}

/// Protocol and port, concatenated.
const SERVICE: u32 = TYPE_INET_PROTO << TYPE_BITS | TYPE_INET_SERVICE;

fn plain(name: &str, key_type: u32, key_len: u32) -> Set {
    // Concatenations have no one order; the nft program takes that of each field's type.
    let order = match key_type {
        TYPE_CGROUPV2 | TYPE_MARK => BYTEORDER_HOST,
        TYPE_IPV4 | TYPE_IPV6 | TYPE_INET_SERVICE => BYTEORDER_BIG,
        _ => 0,
    };
    let name = name.to_owned();
    Set {
        name,
        key_type,
        key_len,
        userdata: byte_orders(order, None),
        ..Set::default()
    }
}

/// The byte orders of a set's keys and data, without which the nft program prints them
/// turned round.
fn byte_orders(key: u32, data: Option<u32>) -> Vec<u8> {
    let mut userdata = vec![UDATA_SET_KEYBYTEORDER, 4];
    userdata.extend_from_slice(&key.to_ne_bytes());
    if let Some(data) = data {
        userdata.extend_from_slice(&[UDATA_SET_DATABYTEORDER, 4]);
        userdata.extend_from_slice(&data.to_ne_bytes());
    }
    userdata
}
