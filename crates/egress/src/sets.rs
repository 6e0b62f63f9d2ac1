//! The sets and maps of our table, and the elements that admit a server.

use std::collections::BTreeSet;

use super::{
    Admitted, CgroupId, Class, ClassName, Policy,
    filled::Filled,
    intervals, limits, names,
    phrases::{self, Family},
    private,
    ruleset::{Data, DataType, Element, Set},
    uapi::*,
};

/// The chain of what is not known yet.
pub const PENDING: &str = "pending";
/// Headers of IPv6 before a transport's, by which a packet may go on from where it is sent to.
pub const ROUTED: &str = "routed_headers";
/// The set of guarded slices.
pub const GUARDED: &str = "guarded";
/// The cgroup levels a server can be at.
pub const LEVELS: [u8; 2] = [2, 3];
/// The set of marks that were told of lately, each with its own limit.
pub const TOLD: &str = Filled::Told.as_str();
/// The set of marks whose packets were refused, each with a counter of them.
pub const REFUSED: &str = Filled::Refused.as_str();

/// The elements that admit a server, each with its set's name. What cannot be judged is closed, and
/// has no number. What is exempt is no user's: it has no
/// mark, and its listeners may be the hub's.
pub fn elements_of(policy: &Policy, server: &Admitted) -> Vec<(String, Element)> {
    let cgroup = server.cgroup.0.to_ne_bytes().to_vec();
    if server.class == ClassName::pending() {
        let to = Data::Goto(PENDING.to_owned());
        return vec![(servers(server.level), Element::map(cgroup, to))];
    }
    let unrestricted = policy
        .classes
        .get(&server.class)
        .is_some_and(|class| class.unrestricted);
    if server.class == ClassName::exempt() || unrestricted {
        let to = Data::Goto(class_chain(&server.class));
        return vec![
            (servers(server.level), Element::map(cgroup.clone(), to)),
            (exempt(server.level), Element::key(cgroup)),
        ];
    }
    let mark = (phrases::MARK | server.number).to_ne_bytes().to_vec();
    let both = [mark.clone(), cgroup.clone()].concat();
    let level = server.level;
    let mut elements = vec![
        (
            servers(level),
            Element::map(cgroup.clone(), Data::Goto(class_chain(&server.class))),
        ),
        (marks(level), Element::map(cgroup, Data::Value(mark))),
        (own(level), Element::key(both)),
    ];
    elements.extend(names::elements_of(policy, server));
    elements.extend(limits::element_of(policy, server));
    elements
}

/// The element that guards a slice.
pub fn guard(slice: CgroupId) -> Element {
    Element::key(slice.0.to_ne_bytes().to_vec())
}

/// The map from a server's cgroup at this level to its class's chain.
pub fn servers(level: u8) -> String {
    format!("servers{level}")
}

/// The map from a server's cgroup at this level to its mark.
pub fn marks(level: u8) -> String {
    format!("marks{level}")
}

/// The set of marks with the cgroups at this level whose listeners they may reach.
pub fn own(level: u8) -> String {
    format!("own_loopback{level}")
}

/// Leaves one element of each key, the first: two would have the kernel refuse the whole table.
pub fn one_owner(elements: &mut Vec<Element>) {
    let mut keys = BTreeSet::new();
    elements.retain(|element| keys.insert((element.key.clone(), element.interval_end)));
}

/// The set of cgroups at this level that belong in a guarded slice and are no servers.
pub fn exempt(level: u8) -> String {
    format!("exempt{level}")
}

/// Whether a set holds an element for each server, or for each of those that are none.
pub fn is_of_servers(set: &str) -> bool {
    LEVELS.iter().any(|level| {
        [servers(*level), marks(*level), own(*level), exempt(*level)]
            .iter()
            .any(|name| name == set)
    })
}

/// The chain of a class.
pub fn class_chain(class: &ClassName) -> String {
    format!("class_{class}")
}

/// The chain that refuses in a class's name.
pub fn refuse_chain(class: &ClassName) -> String {
    format!("refuse_{class}")
}

/// The sets that servers and slices are elements of, and what was told of them lately.
pub fn of_servers() -> Vec<Set> {
    let mut sets = vec![plain(GUARDED, TYPE_CGROUPV2, 8)];
    for level in LEVELS {
        let map =
            |name: &str, data, order, counted| map(name, TYPE_CGROUPV2, 8, data, order, counted);
        sets.push(map(&servers(level), DataType::Verdict, 0, true));
        let mark = DataType::Value {
            kind: TYPE_MARK,
            len: 4,
        };
        sets.push(map(&marks(level), mark, BYTEORDER_HOST, false));
        sets.push(plain(
            &own(level),
            TYPE_MARK << TYPE_BITS | TYPE_CGROUPV2,
            12,
        ));
        sets.push(plain(&exempt(level), TYPE_CGROUPV2, 8));
    }
    sets.extend(of_refused());
    sets
}

/// What was refused lately, and what was told of it.
pub fn of_refused() -> [Set; 2] {
    [Filled::Refused, Filled::Told].map(by_mark)
}

/// A set that packets fill with their marks, each with a check of its own.
pub fn by_mark(filled: Filled) -> Set {
    filled.set(filled.as_str(), TYPE_MARK, 4)
}

/// The sets that a policy fills.
pub fn of_policy(policy: &Policy) -> Vec<Set> {
    let mut sets = Vec::new();
    let interval = NFT_SET_INTERVAL;
    let denied = private::with_forms(&policy.denied);
    for (name, flags, (v4, v6)) in [
        ("denied", interval, intervals::networks(&denied)),
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
    // Hop by hop, routing, destination, and what is no transport either (RFC 8200, 4.1; RFC 7045).
    let headers = [0u8, 43, 60, 135, 139, 140];
    sets.push(Set {
        elements: headers.map(|header| Element::key(vec![header])).to_vec(),
        ..plain(ROUTED, TYPE_INET_PROTO, 1)
    });
    sets.push(Set {
        elements: intervals::both_transports(53),
        ..plain("dns", SERVICE, 8)
    });
    sets.extend(private::of_policy(policy));
    sets
}

/// Sets of networks, a family each.
pub fn of_networks(
    (v4, v6): (Vec<Element>, Vec<Element>),
    name: impl Fn(Family) -> String,
) -> Vec<Set> {
    [(Family::V4, v4), (Family::V6, v6)]
        .map(|(family, elements)| Set {
            flags: NFT_SET_INTERVAL,
            elements,
            ..of_addresses(&name(family), family)
        })
        .into()
}

/// Bytes of an address.
pub fn address_len(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// A map from listed networks, or addresses and ports, to the chains that refuse them.
pub fn listed(name: &str, family: Family, ports: bool) -> Set {
    let address = match family {
        Family::V4 => TYPE_IPV4,
        Family::V6 => TYPE_IPV6,
    };
    let (kind, len, flags) = if ports {
        let kind = address << TYPE_BITS | TYPE_INET_SERVICE;
        (kind, address_len(family) + 4, NFT_SET_MAP)
    } else {
        (address, address_len(family), NFT_SET_MAP | NFT_SET_INTERVAL)
    };
    let order = if ports { 0 } else { BYTEORDER_BIG };
    Set {
        flags,
        data: Some(DataType::Verdict),
        userdata: byte_orders(order, Some(0)),
        ..plain(name, kind, len)
    }
}

/// A map from addresses to marks.
pub fn marks_by_address(name: &str, family: Family) -> Set {
    let kind = DataType::Value {
        kind: TYPE_MARK,
        len: 4,
    };
    Set {
        flags: NFT_SET_MAP,
        data: Some(kind),
        userdata: byte_orders(BYTEORDER_BIG, Some(BYTEORDER_HOST)),
        ..of_addresses(name, family)
    }
}

/// A map from ranges of uids to marks. Ranges compare in the network's byte order.
pub fn marks_by_uid_range(name: &str) -> Set {
    let kind = DataType::Value {
        kind: TYPE_MARK,
        len: 4,
    };
    Set {
        flags: NFT_SET_MAP | NFT_SET_INTERVAL,
        data: Some(kind),
        userdata: byte_orders(BYTEORDER_BIG, Some(BYTEORDER_HOST)),
        ..plain(name, TYPE_UID, 4)
    }
}

/// A map from cgroups to chains.
pub fn verdicts_by_cgroup(name: &str) -> Set {
    Set {
        flags: NFT_SET_MAP,
        data: Some(DataType::Verdict),
        userdata: byte_orders(BYTEORDER_HOST, Some(0)),
        ..plain(name, TYPE_CGROUPV2, 8)
    }
}

/// A set of addresses.
pub fn of_addresses(name: &str, family: Family) -> Set {
    plain(name, family.address_type(), address_len(family))
}

/// A set of flows: source address and port, destination address and port.
pub fn of_flows(name: &str, family: Family) -> Set {
    let address = family.address_type();
    let kind = [address, TYPE_INET_SERVICE, address, TYPE_INET_SERVICE]
        .into_iter()
        .fold(0, |kinds, kind| kinds << TYPE_BITS | kind);
    plain(name, kind, 2 * address_len(family) + 8)
}

/// The sets of one class.
pub fn of_class(name: &ClassName, class: &Class, policy: &Policy) -> Vec<Set> {
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
    if !class.deny_networks.is_empty() {
        let elements = intervals::networks(&private::with_forms(&class.deny_networks));
        sets.extend(of_networks(elements, |family| {
            format!("denied{}_{name}", family.digit())
        }));
    }
    sets.extend(private::of_class(name, class, policy));
    sets.extend(names::networks(name, class));
    sets.extend(limits::sets(name, class));
    sets
}

/// Protocol and port, concatenated.
pub const SERVICE: u32 = TYPE_INET_PROTO << TYPE_BITS | TYPE_INET_SERVICE;

/// A map whose keys are in this node's byte order.
pub fn map(
    name: &str,
    key_type: u32,
    key_len: u32,
    data: DataType,
    data_order: u32,
    counted: bool,
) -> Set {
    Set {
        flags: NFT_SET_MAP,
        data: Some(data),
        userdata: byte_orders(BYTEORDER_HOST, Some(data_order)),
        counted,
        ..plain(name, key_type, key_len)
    }
}

/// A set without elements; the nft program's number for its keys' type says their order.
pub fn plain(name: &str, key_type: u32, key_len: u32) -> Set {
    // Concatenations have no one order; the nft program takes that of each field's type.
    let order = match key_type {
        TYPE_ARPHRD | TYPE_CGROUPV2 | TYPE_MARK | TYPE_IFINDEX | TYPE_IFNAME | TYPE_UID => {
            BYTEORDER_HOST
        }
        TYPE_ETHER | TYPE_IPV4 | TYPE_IPV6 | TYPE_INET_SERVICE => BYTEORDER_BIG,
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
