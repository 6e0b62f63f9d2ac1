//! Deny lists as sets of the table: two maps a family, however many lists and entries there are,
//! from what is listed to the chain that refuses in the list's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    lists::{List, ListName},
    phrases::Family,
    ruleset::{Data, Element, Set},
    sets,
};

/// The chain that refuses in a list's name.
pub fn chain(list: &ListName) -> String {
    format!("list_{list}")
}

/// The map from listed networks, or with `ports` from addresses and ports, to chains.
pub fn map(family: Family, ports: bool) -> String {
    let digit = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    if ports {
        format!("listed_ports{digit}")
    } else {
        format!("listed{digit}")
    }
}

/// The lists that name addresses: the others concern no packet.
pub fn with_addresses(lists: &[List]) -> impl Iterator<Item = &List> {
    lists
        .iter()
        .filter(|list| !list.entries.networks.is_empty() || !list.entries.endpoints.is_empty())
}

/// The maps that have anything in them. What two lists name is the first one's.
pub fn sets(lists: &[List]) -> Vec<Set> {
    let mut sets = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (ports, elements) in [
            (false, networks(family, lists)),
            (true, endpoints(family, lists)),
        ] {
            if !elements.is_empty() {
                let set = sets::listed(&map(family, ports), family, ports);
                sets.push(Set { elements, ..set });
            }
        }
    }
    sets
}

fn networks(family: Family, lists: &[List]) -> Vec<Element> {
    let bytes = sets::address_len(family) as usize;
    let most = u128::MAX >> (128 - 8 * bytes);
    // At each boundary, which lists begin and which end.
    let mut bounds: Vec<(u128, bool, usize)> = Vec::new();
    for (place, list) in lists.iter().enumerate() {
        for net in &IpNet::aggregate(&list.entries.networks) {
            let (low, high) = match (family, net) {
                (Family::V4, IpNet::V4(net)) => (
                    u128::from(net.network().to_bits()),
                    u128::from(net.broadcast().to_bits()),
                ),
                (Family::V6, IpNet::V6(net)) => {
                    (net.network().to_bits(), net.broadcast().to_bits())
                }
                _ => continue,
            };
            bounds.push((low, true, place));
            if high < most {
                bounds.push((high + 1, false, place));
            }
        }
    }
    bounds.sort_unstable();
    let key = |value| super::intervals::key(value, bytes);
    let mut elements = Vec::new();
    // Networks of one list are disjoint by now.
    let mut active = BTreeSet::new();
    let mut owner: Option<usize> = None;
    for at in bounds.chunk_by(|a, b| a.0 == b.0) {
        for (_, begins, place) in at {
            // Sorted so that ends come before beginnings.
            if *begins {
                active.insert(*place);
            } else {
                active.remove(place);
            }
        }
        let next = active.first().copied();
        if next == owner {
            continue;
        }
        let Some((value, ..)) = at.first() else {
            continue;
        };
        if owner.is_some() {
            elements.push(Element {
                interval_end: true,
                ..Element::key(key(*value))
            });
        }
        if let Some(list) = next.and_then(|place| lists.get(place)) {
            let to = Data::Goto(chain(&list.name));
            elements.push(Element::map(key(*value), to));
        }
        owner = next;
    }
    elements
}

fn endpoints(family: Family, lists: &[List]) -> Vec<Element> {
    let mut found: BTreeMap<Vec<u8>, &ListName> = BTreeMap::new();
    for list in lists {
        for endpoint in &list.entries.endpoints {
            let mut key = match (family, endpoint.ip()) {
                (Family::V4, IpAddr::V4(address)) => address.octets().to_vec(),
                (Family::V6, IpAddr::V6(address)) => address.octets().to_vec(),
                _ => continue,
            };
            key.extend(endpoint.port().to_be_bytes());
            key.extend([0, 0]);
            found.entry(key).or_insert(&list.name);
        }
    }
    let element = |(key, list): (Vec<u8>, &ListName)| Element::map(key, Data::Goto(chain(list)));
    found.into_iter().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::parse;

    fn lists(texts: &[(&str, &str)]) -> Vec<List> {
        let list = |(name, text): &(&str, &str)| List {
            name: name.parse().unwrap(),
            source: String::new(),
            imported: 0,
            entries: parse(text.as_bytes()).0,
        };
        texts.iter().map(list).collect()
    }

    #[test]
    fn where_lists_overlap_the_first_one_is_named_and_ranges_stay_disjoint() {
        let lists = lists(&[("one", "10.0.1.0/24"), ("two", "10.0.0.0/16\n10.1.0.0/16")]);
        let words: Vec<_> = networks(Family::V4, &lists)
            .iter()
            .map(|e| {
                let [a, b, c, d] = e.key[..] else { panic!() };
                match &e.data {
                    Some(Data::Goto(chain)) => format!("{a}.{b}.{c}.{d} {chain}"),
                    _ => format!("{a}.{b}.{c}.{d} end"),
                }
            })
            .collect();
        assert_eq!(
            words,
            [
                "10.0.0.0 list_two",
                "10.0.1.0 end",
                "10.0.1.0 list_one",
                "10.0.2.0 end",
                "10.0.2.0 list_two",
                "10.2.0.0 end",
            ]
        );
    }

    #[test]
    fn lists_of_names_alone_make_no_set() {
        let lists = lists(&[("one", "pool.example.com\nother.example:3333")]);
        assert_eq!(sets(&lists), []);
        assert_eq!(with_addresses(&lists).count(), 0);
    }
}
