//! Containers: their packets do not pass this node's output, they come in by a port of a bridge.
//!
//! Whose port it is says who sent a packet, whatever its source address claims and whatever kind
//! of socket it left by. So a table of the family `bridge` marks packets by the port that they
//! came in by, and the table of the family `inet` judges them by that mark: what is routed in
//! `prerouting`, after address translation, by the same chains as everybody's; what is bridged to
//! another container where the bridge forwards it.
//!
//! `docs/egress-table.md` shows both tables and says why each rule is where it is.

mod frames;
mod judge;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

pub use frames::{is_arp, of_family};
pub use judge::extend;
pub use table::{PRIORITY, build};

use super::{
    CgroupId, Class, ClassName, Policy,
    filled::Filled,
    limits, names,
    phrases::{self as p, Family},
    reach::{self, MAY_ASK},
    ruleset::{Data, Element, Ruleset, Set},
    sets,
    uapi::*,
};

/// Prefix of what is logged of refusals of a container that is nobody's, or goes astray.
pub const SAYS_CONTAINER: &str = "container";
/// Prefix of what is logged of packets with a source address that is not the sender's.
pub const SAYS_SPOOFED: &str = "spoofed";

/// Marks of who sent from false addresses lately, each with a counter of these packets.
pub const SPOOFERS: &str = Filled::Spoofers.as_str();

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
/// From a server's mark to what its class reaches on this node.
const CONTAINED_HERE: &str = "contained_here";
/// Kinds of ICMPv6 without which IPv6 does not work.
const NEIGHBOUR: &str = "neighbour_types";
/// What comes from an Ethernet device (`ARPHRD_ETHER`, as ports and bridges are), for as long as a daemon is
/// there to find out what is behind a new port: an element that ends by itself, in both tables, which the
/// daemon makes anew before it does. Where it has ended, what is not known is not closed.
pub const WATCHED: &str = "watched";
/// Pairs of a guarded bridge's name and the same name: the way of what stays on its bridge.
const WITHIN: &str = "within_bridges";
/// Addresses of containers that are no servers.
const OTHERS: &str = "other_containers";
/// Guarded bridges.
const GUARDED_BRIDGES: &str = "guarded_bridges";

/// How long whoever loads the tables may take until it says how long it watches.
const WATCHED_FIRST: Duration = Duration::from_secs(60);

/// Bytes of an interface's name, the NUL at its end included (include/uapi/linux/if.h).
const IFNAMSIZ: u32 = 16;

/// The bit by which the mark of a frame that stays on the bridge differs.
const BRIDGED: u32 = 0x0100_0000;
/// The mark of what comes from a container that is no server.
const EXEMPT: u32 = 0x4a00_0000;

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

/// The containers of the moment. Ports are known by their interface's index, which the kernel gives to no
/// other interface that is made here later on. One that is made elsewhere and moved here keeps the index it
/// had there, if that is free (`__dev_change_net_namespace`), as Podman's ports do: so an index says little
/// once no daemon follows which interfaces come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// Ports of servers' containers.
    pub servers: BTreeMap<u32, ServerPort>,
    /// Ports of containers on guarded bridges that are known to be no server.
    pub exempt: BTreeSet<u32>,
    /// Names of bridges on which any other port reaches nothing, whether they are there or not: an engine
    /// takes a bridge away with its last container, and its name is what the next one has too. One that is
    /// too long for an interface's is none.
    pub guarded: BTreeSet<String>,
    /// Link-layer addresses of all these bridges.
    pub gateways: BTreeSet<[u8; 6]>,
    /// Ports on guarded bridges, of those named above.
    pub on_guarded: BTreeSet<u32>,
    /// Addresses of containers that are known to be no server: by these they are known again where they are
    /// started anew while no daemon runs.
    pub others: BTreeSet<IpAddr>,
    /// The class that judges what is not known then and comes from a guarded bridge, or from a port that was
    /// another's; none reaches nothing.
    pub newcomers: Option<ClassName>,
}

/// An interface's name as the kernel compares it: with NULs up to its length.
fn interface(name: &str) -> Option<Vec<u8>> {
    let mut bytes = name.as_bytes().to_vec();
    let fits = !bytes.is_empty() && bytes.len() < IFNAMSIZ as usize && !bytes.contains(&0);
    bytes.resize(IFNAMSIZ as usize, 0);
    fits.then_some(bytes)
}

impl Bridges {
    /// Whether no rule is needed.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.guarded.is_empty()
    }

    /// Has a server be behind a port. Where another is behind it too, since two containers share a
    /// network namespace, the one with the stricter class has it; returned is the other.
    pub fn put(
        &mut self,
        port: u32,
        server: ServerPort,
        classes: &BTreeMap<ClassName, Class>,
    ) -> Option<ServerPort> {
        let Some(before) = self.servers.remove(&port) else {
            self.servers.insert(port, server);
            return None;
        };
        let rank = |one: &ServerPort| (classes.get(&one.class).map(Class::rank), one.number);
        let (keeps, loses) = match rank(&server) < rank(&before) {
            true => (server, before),
            false => (before, server),
        };
        let another = loses.cgroup != keeps.cgroup;
        self.servers.insert(port, keeps);
        another.then_some(loses)
    }

    /// The elements of both tables, by the classes of a policy: family, set, element. A key has one
    /// owner: two elements with one would have the kernel refuse all (EEXIST). Servers come before
    /// containers that are none, and stricter classes before others.
    pub fn elements(&self, policy: &Policy) -> BTreeSet<(u8, String, Element)> {
        let mut all: BTreeMap<(u8, String, Vec<u8>), Element> = BTreeMap::new();
        let mut add = |family, set: &str, element: Element| {
            let key = (family, set.to_owned(), element.key.clone());
            all.entry(key).or_insert(element);
        };
        let index = |port: &u32| port.to_ne_bytes().to_vec();
        let value = |mark: u32| Data::Value(mark.to_ne_bytes().to_vec());
        // While its address is being made sure of, IPv6 sends from none (RFC 4862, 5.4.2).
        let unspecified = IpAddr::from([0u16; 8]);
        let mut servers: Vec<(&u32, &ServerPort)> = self.servers.iter().collect();
        servers
            .sort_by_key(|(_, one)| (policy.classes.get(&one.class).map(Class::rank), one.number));
        for (port, server) in servers {
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
            let here = Data::Goto(here(policy, &server.class));
            add(
                NFPROTO_INET,
                CONTAINED_HERE,
                Element::map(mark.to_ne_bytes().to_vec(), here),
            );
            if let Some((set, element)) = limits::element_of_port(policy, &server.class, *port) {
                add(NFPROTO_BRIDGE, &set, element);
            }
            if let Some((set, element)) = limits::element_of_leaving(policy, &server.class, mark) {
                add(NFPROTO_INET, &set, element);
            }
            if server.addresses.is_empty() {
                continue;
            }
            add(NFPROTO_BRIDGE, CHECKED, Element::key(index(port)));
            for address in server.addresses.iter().chain([&unspecified]) {
                let (family, bytes) = bytes_of(address);
                let key = [index(port), bytes.clone()].concat();
                add(NFPROTO_BRIDGE, &sources(family), Element::key(key));
                // Two engines may give one address to two.
                if address != &unspecified {
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
            for family in [NFPROTO_BRIDGE, NFPROTO_INET] {
                add(family, GATEWAYS, Element::key(address.to_vec()));
            }
        }
        for address in &self.others {
            let (family, bytes) = bytes_of(address);
            add(NFPROTO_BRIDGE, &others(family), Element::key(bytes));
        }
        if let (Some(class), false) = (&self.newcomers, self.is_empty()) {
            let (key, here) = (p::MARK.to_ne_bytes().to_vec(), here(policy, class));
            let to = Data::Goto(sets::class_chain(class));
            add(NFPROTO_INET, CONTAINED, Element::map(key.clone(), to));
            let to = Data::Goto(here);
            add(NFPROTO_INET, CONTAINED_HERE, Element::map(key, to));
        }
        for name in self.guarded.iter().filter_map(|name| interface(name)) {
            let pair = [name.clone(), name.clone()].concat();
            add(NFPROTO_INET, WITHIN, Element::key(pair));
            add(NFPROTO_INET, GUARDED_BRIDGES, Element::key(name));
        }
        let named = |((family, set, _), element)| (family, set, element);
        all.into_iter().map(named).collect()
    }

    /// Puts the elements of a table into its sets.
    pub fn fill(&self, ruleset: &mut Ruleset, policy: &Policy) {
        for (family, name, element) in self.elements(policy) {
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

/// The chain that judges what a class's containers send to this node.
fn here(policy: &Policy, class: &ClassName) -> String {
    match policy.classes.get(class) {
        Some(of) if !of.unrestricted => reach::contained(class),
        // It asks for names, and the hub; other ports of the node are nobody's class's.
        _ => MAY_ASK.to_owned(),
    }
}

fn bytes_of(address: &IpAddr) -> (Family, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (Family::V4, address.octets().to_vec()),
        IpAddr::V6(address) => (Family::V6, address.octets().to_vec()),
    }
}

fn sources(family: Family) -> String {
    format!("{SOURCES}{}", family.digit())
}

fn others(family: Family) -> String {
    format!("{OTHERS}{}", family.digit())
}

/// The set of [`WATCHED`], with its element for as long as a table that is just loaded may count on it.
fn watched() -> Set {
    Set {
        flags: NFT_SET_TIMEOUT,
        elements: vec![watched_for(WATCHED_FIRST)],
        ..sets::plain(WATCHED, TYPE_ARPHRD, 2)
    }
}

/// Its element, which ends after that time.
pub fn watched_for(time: Duration) -> Element {
    const ARPHRD_ETHER: u16 = 1;
    Element {
        timeout_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        ..Element::key(ARPHRD_ETHER.to_ne_bytes().to_vec())
    }
}

/// Router solicitation, neighbour solicitation and advertisement, group report.
fn neighbour_types() -> Set {
    let key = |kind| Element::key(vec![kind]);
    Set {
        elements: [133, 135, 136, 143].map(key).to_vec(),
        ..sets::plain(NEIGHBOUR, TYPE_ICMPV6, 1)
    }
}
