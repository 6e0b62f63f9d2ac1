//! What our table of the family `inet` has for containers: who is routed, and who went astray.

use super::{
    CONTAINED, CONTAINED_HERE, GATEWAYS, GUARDED_BRIDGES, IFNAMSIZ, SAYS_CONTAINER, WITHIN,
    frames::{
        is_bridged, is_exempt, is_unwatched, neighbour, not_to_gateway, to_its_bridge, unbridge,
    },
    neighbour_types, watched,
};
use crate::{
    Policy, limits, names, phrases as p,
    reach::{self, Judged, MAY_ASK},
    ruleset::{Chain, DataType, Expr, Hook, Rule, Ruleset},
    sets, shape,
    table::{self, chain, rule},
    tracking,
    uapi::*,
};

/// After destinations are translated (`NF_IP_PRI_NAT_DST`, -100), before the filters of others.
const PREROUTING_PRIORITY: i32 = -90;
/// Before the filters of others.
const FORWARD_PRIORITY: i32 = -10;

/// Adds to our table of the family `inet` what judges containers.
pub fn extend(ruleset: &mut Ruleset, policy: &Policy) {
    let base = |name: &str, number, priority, rules: Vec<Rule>| Chain {
        hook: Some(Hook { number, priority }),
        ..chain(name, rules)
    };
    let neighbours = || rule("finding neighbours", [neighbour(), p::accept()]);
    ruleset.chains.extend([
        base(
            "prerouting",
            NF_INET_PRE_ROUTING,
            PREROUTING_PRIORITY,
            vec![
                rule(
                    "from a server's container",
                    [p::not_from_loopback(), p::marked(), p::goto("contained")],
                ),
                rule("from one that is no server", [is_exempt(), p::accept()]),
                // With br_netfilter, what is bridged comes by here too, before it is forwarded.
                rule("judged on the bridge", [is_bridged(), p::accept()]),
                rule(
                    "",
                    [p::incoming_named(GUARDED_BRIDGES), neighbour(), p::accept()],
                ),
                rule(
                    "judged on the bridge",
                    [p::way_in(WITHIN), not_to_gateway(), p::accept()],
                ),
                rule(
                    "no daemon watches",
                    [
                        p::incoming_named(GUARDED_BRIDGES),
                        is_unwatched(),
                        p::goto("unwatched"),
                    ],
                ),
                rule(
                    "from one not known yet",
                    [
                        p::incoming_named(GUARDED_BRIDGES),
                        p::goto("container_unknown"),
                    ],
                ),
            ],
        ),
        base(
            "forward",
            NF_INET_FORWARD,
            FORWARD_PRIORITY,
            forwarding(policy),
        ),
        chain(
            "contained",
            vec![
                neighbours(),
                rule(
                    "to this node",
                    [p::to_this_node(), p::goto("contained_here")],
                ),
                rule("", [p::by_mark(CONTAINED)]),
                rule("", [p::goto("container_unknown")]),
            ],
        ),
        chain(
            "contained_here",
            vec![
                rule("answers", [tracking::is_answer(policy), p::accept()]),
                rule("the hub", [p::tcp_port_in("hub_ports"), p::accept()]),
                rule("by its class", [p::by_mark(CONTAINED_HERE)]),
                rule("", [p::goto("not_its_own")]),
            ],
        ),
        chain(MAY_ASK, {
            let ask = || names::ask_of_any_class(policy);
            let mut rules = reach::dns(ask);
            // Podman's networks have a resolver there, and the containers know no other.
            let names = [p::service_in("dns"), to_its_bridge(), ask()];
            rules.push(rule("its network's resolver", names));
            rules.push(rule("", [p::goto("not_its_own")]));
            rules
        }),
        chain("unwatched", {
            let within = [p::way_in(WITHIN), p::accept()];
            vec![
                rule("stays among containers", within),
                rule("as a new user's", [p::mark(p::MARK), p::goto("contained")]),
            ]
        }),
        chain("container_unknown", {
            // A server registers with the hub before hubwarden can know its user.
            let here = |condition: Vec<Expr>| [p::to_this_node(), condition, p::accept()];
            let hub = [p::tcp_port_in("hub_ports"), p::mark(p::MARK)].concat();
            let mut rules = vec![
                rule("answers", here(tracking::is_answer(policy))),
                rule("the hub", here(hub)),
                rule("", [p::mark(p::MARK)]),
            ];
            rules.extend(table::refusal(policy, SAYS_CONTAINER.to_owned()));
            rules
        }),
        chain("container_astray", {
            let mut rules = vec![neighbours(), rule("", [unbridge()])];
            rules.extend(table::refusal(policy, SAYS_CONTAINER.to_owned()));
            rules
        }),
    ]);
    let of_classes: Vec<Chain> = policy
        .classes
        .iter()
        .filter(|(_, class)| !class.unrestricted)
        .map(|(name, class)| {
            let listed = &ruleset.sets;
            let judged = Judged {
                name,
                class,
                policy,
                listed,
            };
            judged.contained()
        })
        .collect();
    ruleset.chains.extend(of_classes);
    if let Some(input) = ruleset
        .chains
        .iter_mut()
        .find(|chain| chain.name == "input")
    {
        let hub = [p::tcp_port_in("hub_ports"), p::jump(table::HUB_PORT)].concat();
        input.rules.extend([
            rule("the hub", [p::not_from_loopback(), p::marked(), hub]),
            rule(
                "judged already",
                [p::not_from_loopback(), p::marked(), p::mark(0), p::accept()],
            ),
            rule("judged already", [is_exempt(), p::mark(0), p::accept()]),
            rule("astray", [is_bridged(), p::goto("container_astray")]),
        ]);
    }
    ruleset.sets.extend(limits::leaving_set(policy));
    ruleset.sets.extend([
        sets::map(CONTAINED, TYPE_MARK, 4, DataType::Verdict, 0, true),
        sets::map(CONTAINED_HERE, TYPE_MARK, 4, DataType::Verdict, 0, false),
        sets::plain(GUARDED_BRIDGES, TYPE_IFNAME, IFNAMSIZ),
        sets::plain(WITHIN, TYPE_IFNAME << TYPE_BITS | TYPE_IFNAME, 2 * IFNAMSIZ),
        sets::plain(GATEWAYS, TYPE_ETHER, 6),
        watched(),
        neighbour_types(),
    ]);
    names::extend_for_containers(ruleset, policy);
}

/// What is routed through this node and was judged where it came in.
fn forwarding(policy: &Policy) -> Vec<Rule> {
    let mut rules = vec![
        rule("judged already", [p::marked(), p::mark(0), p::accept()]),
        rule("judged already", [is_exempt(), p::mark(0), p::accept()]),
        rule("astray", [is_bridged(), p::goto("container_astray")]),
    ];
    if shape::is_used(policy) {
        let shaped = [p::marked(), p::by_mark(limits::LEAVING)];
        rules.insert(0, rule("waits its turn or is policed", shaped));
    }
    rules
}
