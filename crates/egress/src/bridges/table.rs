//! Our table of the family `bridge`: whose port it is, and what stays on the bridge.

use super::{
    CHECKED, GATEWAYS, KNOWN_PORTS, PORTS, SAYS_CONTAINER, SAYS_SPOOFED, SERVER_PORTS, SPOOFERS,
    frames::{
        arp_from, arp_from_another, bridge_mark, checked, from_another, from_one_of, is_arp,
        is_bridged, is_exempt, is_nobodys, is_unwatched, link_local, mark_by_port, mark_exempt,
        neighbour, not_to_gateway, ours, unbridge,
    },
    neighbour_types, others, sources, watched,
};
use crate::{
    Mode, Policy, attempts,
    filled::Filled,
    intervals, limits,
    phrases::{self as p, Family},
    ruleset::{Chain, DataType, Expr, Hook, Rule, Ruleset, Set},
    sets,
    table::{self, chain, rule},
    uapi::*,
};

/// Before others look at a frame, and before the bridge hands IP packets to the `inet` hooks
/// (`NF_BR_PRI_BRNF`, 0).
pub const PRIORITY: i32 = -300;

/// Our table of the family `bridge`, without elements.
pub fn build(policy: &Policy) -> Ruleset {
    let base = |name: &str, number, rules: Vec<Rule>| Chain {
        hook: Some(Hook {
            number,
            priority: PRIORITY,
        }),
        ..chain(name, rules)
    };
    let mut marking = vec![
        rule("whose port", [mark_by_port()]),
        rule(
            "no daemon watches, so it may be another's",
            [is_unwatched(), p::jump("unwatched")],
        ),
        rule(
            "stays on the bridge",
            [p::marked(), not_to_gateway(), bridge_mark()],
        ),
        rule("", [checked(), arp_from_another(), p::goto("spoofed")]),
        rule(
            "",
            [checked(), from_another(Family::V4), p::goto("spoofed")],
        ),
        rule("", [checked(), link_local(), p::accept()]),
    ];
    marking.push(rule(
        "",
        [checked(), from_another(Family::V6), p::goto("spoofed")],
    ));
    let pass =
        |comment: &str, condition: Vec<Expr>| rule(comment, [condition, p::mark(0), p::accept()]);
    let forwarding = vec![
        pass("from a port with another's address", is_nobodys()),
        rule("from a server", [is_bridged(), p::goto("bridged")]),
        pass("from one that is no server", is_exempt()),
        pass("no daemon watches", is_unwatched()),
        rule(
            "from one not known yet",
            [p::outgoing_in(KNOWN_PORTS), p::goto("bridged")],
        ),
    ];
    // Finding neighbours is asked of all on the bridge; that another server does not hear it is
    // nothing to tell of.
    let unheard = match policy.mode {
        Mode::Enforce => p::drop(),
        Mode::Observe => [p::mark(0), p::accept()].concat(),
    };
    let bridged = vec![
        rule(
            "no daemon watches, so ports may be others'",
            [is_unwatched(), p::goto("to_any_port")],
        ),
        rule(
            "not asked of another server",
            [p::outgoing_in(SERVER_PORTS), neighbour(), unheard],
        ),
        rule(
            "to another server",
            [p::outgoing_in(SERVER_PORTS), p::goto("refused")],
        ),
        rule("", [p::goto("to_any_port")]),
    ];
    let to_any_port = vec![
        pass("finding neighbours", is_arp()),
        pass("finding neighbours", neighbour()),
        pass("answers", p::continues_tcp()),
        pass("the hub", p::tcp_port_in("hub_ports")),
        rule("", [p::goto("refused")]),
    ];
    let told = |prefix: &str| {
        let mut rules = vec![rule("", [ours(), unbridge()])];
        rules.extend(table::counted_and_told(policy, prefix.to_owned()));
        rules.push(match policy.mode {
            // There is no reject on many bridges (`CONFIG_NFT_BRIDGE_REJECT`).
            Mode::Enforce => rule("", [p::discard()]),
            Mode::Observe => rule("would be refused", [p::count(), p::mark(0), p::accept()]),
        });
        rules
    };
    let hub = intervals::ports(&policy.hub_ports);
    let received = limits::output_of_bridges(policy);
    let mut chains = vec![
        base("prerouting", NF_BR_PRE_ROUTING, marking),
        base("forward", NF_BR_FORWARD, forwarding),
        chain("unwatched", unwatched()),
        chain("bridged", bridged),
        chain("to_any_port", to_any_port),
        chain("refused", told(SAYS_CONTAINER)),
        chain("spoofed", {
            let mut rules = told(SAYS_SPOOFED);
            // By the mark that is told, which comes first.
            rules.insert(1, rule("counted", [p::count_by_mark(SPOOFERS)]));
            rules
        }),
    ];
    chains.extend(received.0);
    let mut ruleset = Ruleset {
        family: NFPROTO_BRIDGE,
        table: table::TABLE.to_owned(),
        flags: 0,
        comment: table::comment(policy),
        chains,
        sets: [
            vec![
                sets::map(
                    PORTS,
                    TYPE_IFINDEX,
                    4,
                    DataType::Value {
                        kind: TYPE_MARK,
                        len: 4,
                    },
                    BYTEORDER_HOST,
                    false,
                ),
                sets::plain(SERVER_PORTS, TYPE_IFINDEX, 4),
                sets::plain(KNOWN_PORTS, TYPE_IFINDEX, 4),
                sets::plain(CHECKED, TYPE_IFINDEX, 4),
                sets::plain(
                    &sources(Family::V4),
                    TYPE_IFINDEX << TYPE_BITS | TYPE_IPV4,
                    8,
                ),
                sets::plain(
                    &sources(Family::V6),
                    TYPE_IFINDEX << TYPE_BITS | TYPE_IPV6,
                    20,
                ),
                sets::plain(GATEWAYS, TYPE_ETHER, 6),
                Set {
                    elements: hub,
                    ..sets::plain("hub_ports", TYPE_INET_SERVICE, 2)
                },
                neighbour_types(),
                watched(),
                sets::of_addresses(&others(Family::V4), Family::V4),
                sets::of_addresses(&others(Family::V6), Family::V6),
            ],
            sets::of_refused().to_vec(),
            vec![sets::by_mark(Filled::Spoofers)],
            received.1,
        ]
        .concat(),
    };
    attempts::on_bridges(&mut ruleset.chains, &mut ruleset.sets);
    ruleset
}

/// No daemon follows which interfaces come and go, so a port's index may be another container's by now. Whoever
/// has an address of a container that is no server is taken for that; a server's address is not looked at
/// any more where another's is used, so it is judged as a new user's.
fn unwatched() -> Vec<Rule> {
    let exempt = |condition: Vec<Expr>| {
        let then = [mark_exempt(), p::accept()].concat();
        rule("no server's address", [condition, then])
    };
    let is_anothers = |family| [checked(), from_another(family)].concat();
    let routed = |family| {
        let then = [p::mark(p::MARK), p::accept()].concat();
        rule("another's address", [is_anothers(family), then])
    };
    let stays = || [p::mark(p::MARK), bridge_mark(), p::accept()].concat();
    let bridged = |family| {
        let condition = [is_anothers(family), not_to_gateway()].concat();
        rule("the same, and stays on the bridge", [condition, stays()])
    };
    vec![
        exempt(arp_from(&others(Family::V4))),
        exempt(from_one_of(Family::V4, &others(Family::V4))),
        exempt(from_one_of(Family::V6, &others(Family::V6))),
        rule("", [is_exempt(), p::mark(0), p::accept()]),
        rule("", [checked(), link_local(), p::accept()]),
        rule("", [checked(), arp_from_another(), stays()]),
        bridged(Family::V4),
        bridged(Family::V6),
        routed(Family::V4),
        routed(Family::V6),
    ]
}
