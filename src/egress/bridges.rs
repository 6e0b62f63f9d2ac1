//! Containers: their packets do not pass this node's output, they come in by a port of a bridge.
//!
//! Whose port it is says who sent a packet, whatever its source address claims and whatever kind
//! of socket it left by. So a table of the family `bridge` marks packets by the port that they
//! came in by, and the table of the family `inet` judges them by that mark: what is routed in
//! `prerouting`, after address translation, by the same chains as everybody's; what is bridged to
//! another container where the bridge forwards it.
//!
//! `docs/egress-table.md` shows both tables and says why each rule is where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    CgroupId, ClassName, Mode, Policy, names,
    phrases::{self as p, Family},
    ruleset::{Chain, Cmp, Data, DataType, Element, Expr, Hook, LookupTo, Reg, Rule, Ruleset, Set},
    sets,
    table::{self, chain, rule},
    uapi::*,
};

/// Prefix of what is logged of refusals of a container that is nobody's, or goes astray.
pub const SAYS_CONTAINER: &str = "container";
/// Prefix of what is logged of packets with a source address that is not the sender's.
pub const SAYS_SPOOFED: &str = "spoofed";

/// Before others look at a frame, and before the bridge hands IP packets to the `inet` hooks
/// (`NF_BR_PRI_BRNF`, 0).
const BRIDGE_PRIORITY: i32 = -300;
/// After destinations are translated (`NF_IP_PRI_NAT_DST`, -100), before the filters of others.
const PREROUTING_PRIORITY: i32 = -90;
/// Before the filters of others.
const FORWARD_PRIORITY: i32 = -10;

/// From a port to its mark.
pub const PORTS: &str = "ports";
/// Ports whose senders' addresses are known.
const CHECKED: &str = "checked_ports";
/// Those addresses, each with its port.
const SOURCES: &str = "sources";
/// Addresses of bridges: a frame to one of them is for this node, to be routed.
const GATEWAYS: &str = "gateways";
/// Ports of servers.
const SERVER_PORTS: &str = "server_ports";
/// Ports on guarded bridges whose containers are known.
const KNOWN_PORTS: &str = "known_ports";
/// From a server's mark to its class.
pub const CONTAINED: &str = "contained";
/// Kinds of ICMPv6 without which IPv6 does not work.
const NEIGHBOUR: &str = "neighbour_types";
/// Guarded bridges.
const GUARDED_BRIDGES: &str = "guarded_bridges";

/// The bit by which the mark of a frame that stays on the bridge differs.
const BRIDGED: u32 = 0x0100_0000;
/// The mark of what comes from a container that is no server.
const EXEMPT: u32 = 0x4a00_0000;
const RTN_LOCAL: u32 = 2;
const ETHERTYPE_ARP: u16 = 0x0806;

/// A port of a bridge that a server's container is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPort {
    /// The server's cgroup.
    pub cgroup: CgroupId,
    /// What refusals name the server by.
    pub number: u32,
    /// The class that judges it.
    pub class: ClassName,
    /// The addresses it may send from; empty where they are not known.
    pub addresses: BTreeSet<IpAddr>,
}

/// The containers of the moment. Ports and bridges are known by their interface's index, which
/// the kernel does not give to another interface later on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// Ports of servers' containers.
    pub servers: BTreeMap<u32, ServerPort>,
    /// Ports of containers on guarded bridges that are known to be no server.
    pub exempt: BTreeSet<u32>,
    /// Bridges on which any other port reaches nothing.
    pub guarded: BTreeSet<u32>,
    /// Link-layer addresses of all these bridges.
    pub gateways: BTreeSet<[u8; 6]>,
    /// Ports on guarded bridges, of those named above.
    pub on_guarded: BTreeSet<u32>,
}

impl Bridges {
    /// Whether no rule is needed.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.guarded.is_empty()
    }

    /// The elements of both tables: family, set, element.
    pub fn elements(&self) -> BTreeSet<(u8, String, Element)> {
        let mut all = BTreeSet::new();
        let mut add = |family, set: &str, element| {
            all.insert((family, set.to_owned(), element));
        };
        let index = |port: &u32| port.to_ne_bytes().to_vec();
        let value = |mark: u32| Data::Value(mark.to_ne_bytes().to_vec());
        let mut owners = BTreeSet::new();
        // While its address is being made sure of, IPv6 sends from none (RFC 4862, 5.4.2).
        let unspecified = IpAddr::from([0u16; 8]);
        for (port, server) in &self.servers {
            let mark = p::MARK | server.number;
            let to = Data::Goto(sets::class_chain(&server.class));
            add(
                NFPROTO_BRIDGE,
                PORTS,
                Element::map(index(port), value(mark)),
            );
            add(NFPROTO_BRIDGE, SERVER_PORTS, Element::key(index(port)));
            add(
                NFPROTO_INET,
                CONTAINED,
                Element::map(mark.to_ne_bytes().to_vec(), to),
            );
            if server.addresses.is_empty() {
                continue;
            }
            add(NFPROTO_BRIDGE, CHECKED, Element::key(index(port)));
            for address in server.addresses.iter().chain([&unspecified]) {
                let (family, bytes) = match address {
                    IpAddr::V4(address) => (Family::V4, address.octets().to_vec()),
                    IpAddr::V6(address) => (Family::V6, address.octets().to_vec()),
                };
                let key = [index(port), bytes.clone()].concat();
                add(NFPROTO_BRIDGE, &sources(family), Element::key(key));
                // Two engines may give one address to two: then it is the first one's.
                if address != &unspecified && owners.insert(address) {
                    let element = Element::map(bytes, value(mark));
                    add(NFPROTO_INET, &names::by_address(family), element);
                }
            }
        }
        for port in &self.exempt {
            add(
                NFPROTO_BRIDGE,
                PORTS,
                Element::map(index(port), value(EXEMPT)),
            );
        }
        for port in &self.on_guarded {
            add(NFPROTO_BRIDGE, KNOWN_PORTS, Element::key(index(port)));
        }
        for address in &self.gateways {
            add(NFPROTO_BRIDGE, GATEWAYS, Element::key(address.to_vec()));
        }
        for bridge in &self.guarded {
            add(NFPROTO_INET, GUARDED_BRIDGES, Element::key(index(bridge)));
        }
        all
    }

    /// Puts the elements of a table into its sets.
    pub fn fill(&self, ruleset: &mut Ruleset) {
        for (family, name, element) in self.elements() {
            if family != ruleset.family {
                continue;
            }
            // A class that the policy does not have leads nowhere: what has no class is refused.
            let leads = match &element.data {
                Some(Data::Goto(to)) => ruleset.chains.iter().any(|chain| chain.name == *to),
                _ => true,
            };
            let set = ruleset.sets.iter_mut().find(|set| set.name == name);
            if let (Some(set), true) = (set, leads) {
                set.elements.push(element);
            }
        }
    }
}

fn sources(family: Family) -> String {
    match family {
        Family::V4 => format!("{SOURCES}4"),
        Family::V6 => format!("{SOURCES}6"),
    }
}

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
                rule("", [incoming_in(GUARDED_BRIDGES), neighbour(), p::accept()]),
                rule(
                    "from one not known yet",
                    [incoming_in(GUARDED_BRIDGES), p::goto("container_unknown")],
                ),
            ],
        ),
        base(
            "forward",
            NF_INET_FORWARD,
            FORWARD_PRIORITY,
            vec![
                rule("judged already", [p::marked(), p::mark(0), p::accept()]),
                rule("judged already", [is_exempt(), p::mark(0), p::accept()]),
                rule("astray", [is_bridged(), p::goto("container_astray")]),
            ],
        ),
        chain(
            "contained",
            vec![
                neighbours(),
                rule("to this node", [to_this_node(), p::goto("contained_here")]),
                rule("", [by_mark(CONTAINED)]),
                rule("", [p::goto("container_unknown")]),
            ],
        ),
        chain("contained_here", {
            let mut rules = vec![
                rule("answers", [p::is_answer(), p::accept()]),
                rule("the hub", [p::tcp_port_in("hub_ports"), p::accept()]),
            ];
            rules.extend(table::dns());
            // Podman's networks have a resolver there, and the containers know no other.
            let names = [p::service_in("dns"), to_its_bridge(), p::accept()];
            rules.push(rule("its network's resolver", names));
            rules.push(rule("", [p::goto("not_its_own")]));
            rules
        }),
        chain("container_unknown", {
            let mut rules = vec![rule("", [p::mark(p::MARK)])];
            rules.extend(table::refusal(policy, SAYS_CONTAINER.to_owned()));
            rules
        }),
        chain("container_astray", {
            let mut rules = vec![neighbours(), rule("", [unbridge()])];
            rules.extend(table::refusal(policy, SAYS_CONTAINER.to_owned()));
            rules
        }),
    ]);
    if let Some(input) = ruleset
        .chains
        .iter_mut()
        .find(|chain| chain.name == "input")
    {
        input.rules.extend([
            rule(
                "judged already",
                [p::not_from_loopback(), p::marked(), p::mark(0), p::accept()],
            ),
            rule("judged already", [is_exempt(), p::mark(0), p::accept()]),
            rule("astray", [is_bridged(), p::goto("container_astray")]),
        ]);
    }
    ruleset.sets.extend([
        sets::map(CONTAINED, TYPE_MARK, 4, DataType::Verdict, 0, true),
        sets::plain(GUARDED_BRIDGES, TYPE_IFINDEX, 4),
        neighbour_types(),
    ]);
    names::extend_for_containers(ruleset, policy);
}

/// Our table of the family `bridge`, without elements.
pub fn build(policy: &Policy) -> Ruleset {
    let base = |name: &str, number, rules: Vec<Rule>| Chain {
        hook: Some(Hook {
            number,
            priority: BRIDGE_PRIORITY,
        }),
        ..chain(name, rules)
    };
    let mut marking = vec![
        rule("whose port", [mark_by_port()]),
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
        rule("from a server", [is_bridged(), p::goto("bridged")]),
        pass("from one that is no server", is_exempt()),
        rule(
            "from one not known yet",
            [outgoing_in(KNOWN_PORTS), p::goto("refused")],
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
            "not asked of another server",
            [outgoing_in(SERVER_PORTS), neighbour(), unheard],
        ),
        rule(
            "to another server",
            [outgoing_in(SERVER_PORTS), p::goto("refused")],
        ),
        pass("finding neighbours", is_arp()),
        pass("finding neighbours", neighbour()),
        pass("answers", p::continues_tcp()),
        pass("the hub", p::tcp_port_in("hub_ports")),
        rule("", [p::goto("refused")]),
    ];
    let told = |prefix: &str| {
        vec![
            rule("", [ours(), unbridge()]),
            rule(
                "",
                [p::tell(sets::TOLD, policy.log_group, prefix.to_owned())],
            ),
            match policy.mode {
                // There is no reject on many bridges (`CONFIG_NFT_BRIDGE_REJECT`).
                Mode::Enforce => rule("", [vec![Expr::Counter], p::drop()]),
                Mode::Observe => rule(
                    "would be refused",
                    [vec![Expr::Counter], p::mark(0), p::accept()],
                ),
            },
        ]
    };
    let hub = super::intervals::ports(&policy.hub_ports);
    Ruleset {
        family: NFPROTO_BRIDGE,
        table: table::TABLE.to_owned(),
        flags: 0,
        comment: table::comment(policy),
        chains: vec![
            base("prerouting", NF_BR_PRE_ROUTING, marking),
            base("forward", NF_BR_FORWARD, forwarding),
            chain("bridged", bridged),
            chain("refused", told(SAYS_CONTAINER)),
            chain("spoofed", told(SAYS_SPOOFED)),
        ],
        sets: vec![
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
            sets::told(),
        ],
    }
}

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);

fn load(key: u32, to: Reg) -> Expr {
    Expr::Meta { key, to }
}

fn compare(from: Reg, op: Cmp, value: &[u8]) -> Expr {
    let value = value.to_vec();
    Expr::Cmp { op, from, value }
}

fn look_up(set: &str, to: LookupTo, invert: bool) -> Expr {
    Expr::Lookup {
        set: set.to_owned(),
        from: R0,
        to,
        invert,
    }
}

fn interface_in(key: u32, set: &str) -> Vec<Expr> {
    vec![load(key, R0), look_up(set, LookupTo::Nothing, false)]
}

/// It came in by one of these interfaces.
fn incoming_in(set: &str) -> Vec<Expr> {
    interface_in(NFT_META_IIF, set)
}

/// It goes out by one of these.
fn outgoing_in(set: &str) -> Vec<Expr> {
    interface_in(NFT_META_OIF, set)
}

/// It came in by a port whose sender's addresses are known.
fn checked() -> Vec<Expr> {
    incoming_in(CHECKED)
}

fn mark_by_port() -> Vec<Expr> {
    vec![
        load(NFT_META_IIF, R0),
        look_up(PORTS, LookupTo::Reg(R0), false),
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]
}

/// The top byte of its mark is this one's.
fn kind_of_mark(value: u32, mask: u32) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: mask.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        compare(R0, Cmp::Eq, &value.to_ne_bytes()),
    ]
}

fn is_exempt() -> Vec<Expr> {
    kind_of_mark(EXEMPT, p::MARK_MASK)
}

fn is_bridged() -> Vec<Expr> {
    kind_of_mark(p::MARK | BRIDGED, p::MARK_MASK)
}

/// A server's, whether it stays on the bridge or not.
fn ours() -> Vec<Expr> {
    kind_of_mark(p::MARK, p::MARK_MASK & !BRIDGED)
}

fn change_mark(mask: u32, xor: u32) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: mask.to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        },
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]
}

fn bridge_mark() -> Vec<Expr> {
    change_mark(!BRIDGED, BRIDGED)
}

fn unbridge() -> Vec<Expr> {
    change_mark(!BRIDGED, 0)
}

/// Its link-layer destination is none of a bridge.
fn not_to_gateway() -> Vec<Expr> {
    vec![
        Expr::Payload {
            base: NFT_PAYLOAD_LL_HEADER,
            offset: 0,
            len: 6,
            to: R0,
        },
        look_up(GATEWAYS, LookupTo::Nothing, true),
    ]
}

fn is_arp() -> Vec<Expr> {
    vec![
        load(NFT_META_PROTOCOL, R0),
        compare(R0, Cmp::Eq, &ETHERTYPE_ARP.to_be_bytes()),
    ]
}

/// Port and sender's address are not in the set of such pairs.
fn not_a_source(offset: u32, len: u32, family: Family) -> Vec<Expr> {
    vec![
        load(NFT_META_IIF, R0),
        Expr::Payload {
            base: NFT_PAYLOAD_NETWORK_HEADER,
            offset,
            len,
            to: R1,
        },
        look_up(&sources(family), LookupTo::Nothing, true),
    ]
}

/// It is ARP that speaks for an address of another (`ar_sip` over Ethernet).
fn arp_from_another() -> Vec<Expr> {
    [is_arp(), not_a_source(14, 4, Family::V4)].concat()
}

fn of_family(family: Family) -> Vec<Expr> {
    let number: u16 = match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    };
    vec![
        load(NFT_META_PROTOCOL, R0),
        compare(R0, Cmp::Eq, &number.to_be_bytes()),
    ]
}

fn from_another(family: Family) -> Vec<Expr> {
    let (offset, len) = match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    [of_family(family), not_a_source(offset, len, family)].concat()
}

/// It is IPv6 from a link-local address, which is never routed.
fn link_local() -> Vec<Expr> {
    let mut exprs = of_family(Family::V6);
    exprs.extend([
        Expr::Payload {
            base: NFT_PAYLOAD_NETWORK_HEADER,
            offset: 8,
            len: 2,
            to: R0,
        },
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: vec![0xff, 0xc0],
            xor: vec![0, 0],
        },
        compare(R0, Cmp::Eq, &[0xfe, 0x80]),
    ]);
    exprs
}

/// It is what IPv6 finds neighbours and routers by, or joins their groups. Advertising a router is
/// not among it.
fn neighbour() -> Vec<Expr> {
    const ICMPV6: u8 = 58;
    let mut exprs = p::protocol(ICMPV6);
    exprs.extend([
        Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 0,
            len: 1,
            to: R0,
        },
        look_up(NEIGHBOUR, LookupTo::Nothing, false),
    ]);
    exprs
}

/// Router solicitation, neighbour solicitation and advertisement, group report.
fn neighbour_types() -> Set {
    let key = |kind| Element::key(vec![kind]);
    Set {
        elements: [133, 135, 136, 143].map(key).to_vec(),
        ..sets::plain(NEIGHBOUR, TYPE_ICMPV6, 1)
    }
}

fn to_this_node() -> Vec<Expr> {
    local(false)
}

/// It is for an address of the bridge that it came in by.
fn to_its_bridge() -> Vec<Expr> {
    local(true)
}

fn local(incoming: bool) -> Vec<Expr> {
    vec![
        Expr::Fib { to: R0, incoming },
        compare(R0, Cmp::Eq, &RTN_LOCAL.to_ne_bytes()),
    ]
}

/// What its mark maps to decides.
fn by_mark(map: &str) -> Vec<Expr> {
    vec![
        load(NFT_META_MARK, R0),
        look_up(map, LookupTo::Verdict, false),
    ]
}
