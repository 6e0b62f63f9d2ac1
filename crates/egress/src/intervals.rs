//! Ranges for the kernel's interval sets, which refuse overlaps.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Service, Transport, ruleset::Element};

/// First and last, both included.
type Range = (u128, u128);

/// Ranges sorted, merged where they touch.
fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// The elements of interval sets for these networks: IPv4, IPv6.
///
/// A range is two elements, its first address and, marked so, the first beyond it; one that
/// reaches the last address has no second.
pub fn networks(nets: &[IpNet]) -> (Vec<Element>, Vec<Element>) {
    networks_without(nets, &[])
}

/// The same for what of these networks is not in those.
pub fn networks_without(nets: &[IpNet], holes: &[IpNet]) -> (Vec<Element>, Vec<Element>) {
    let ((v4, v6), (holes4, holes6)) = (ranges(nets), ranges(holes));
    (
        elements(without(v4, holes4), 4),
        elements(without(v6, holes6), 16),
    )
}

/// What of these ranges is not in those.
fn without(ranges: Vec<Range>, holes: Vec<Range>) -> Vec<Range> {
    let holes = merge(holes);
    let mut left = Vec::new();
    for (first, last) in merge(ranges) {
        // Where what is left begins; nowhere, once a hole reaches the end.
        let mut next = Some(first);
        for hole in holes.iter().filter(|hole| hole.1 >= first) {
            let Some(low) = next.filter(|_| hole.0 <= last) else {
                break;
            };
            if hole.0 > low {
                left.push((low, hole.0 - 1));
            }
            next = (hole.1 < last).then(|| hole.1 + 1);
        }
        left.extend(next.map(|low| (low, last)));
    }
    left
}

/// The first and last addresses of networks: IPv4, IPv6.
fn ranges(nets: &[IpNet]) -> (Vec<Range>, Vec<Range>) {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for net in nets {
        match net {
            IpNet::V4(net) => {
                v4.push((
                    net.network().to_bits().into(),
                    net.broadcast().to_bits().into(),
                ));
            }
            IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
        }
    }
    (v4, v6)
}

/// The last so many bytes of a number, the highest first.
pub fn key(value: u128, bytes: usize) -> Vec<u8> {
    let all = value.to_be_bytes();
    all.into_iter()
        .skip(all.len().saturating_sub(bytes))
        .collect()
}

fn elements(ranges: Vec<Range>, bytes: usize) -> Vec<Element> {
    let most = u128::MAX >> (128 - 8 * bytes);
    let key = |value| key(value, bytes);
    let mut elements = Vec::new();
    for (low, high) in merge(ranges) {
        elements.push(Element::key(key(low)));
        if high < most {
            elements.push(Element {
                interval_end: true,
                ..Element::key(key(high + 1))
            });
        }
    }
    elements
}

/// The elements of plain sets for these addresses: IPv4, IPv6.
pub fn addresses(addresses: &[IpAddr]) -> (Vec<Element>, Vec<Element>) {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(Element::key(address.octets().to_vec())),
            IpAddr::V6(address) => v6.push(Element::key(address.octets().to_vec())),
        }
    }
    for list in [&mut v4, &mut v6] {
        list.sort_unstable();
        list.dedup();
    }
    (v4, v6)
}

/// The elements of a concatenated interval set (protocol, destination port) for these services.
pub fn services(services: &[Service]) -> Vec<Element> {
    let mut elements = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        let ports = services
            .iter()
            .filter(|service| service.transport == transport);
        let ranges = ports.map(|s| (u128::from(*s.ports.start()), u128::from(*s.ports.end())));
        for (low, high) in merge(ranges.collect()) {
            elements.push(Element {
                key_end: Some(service_key(transport, high)),
                ..Element::key(service_key(transport, low))
            });
        }
    }
    elements
}

/// Each field of a concatenation is padded to a register's four bytes.
fn service_key(transport: Transport, port: u128) -> Vec<u8> {
    let [high, low] = u16::try_from(port).unwrap_or(u16::MAX).to_be_bytes();
    vec![transport.number(), 0, 0, 0, high, low, 0, 0]
}

/// The elements of a plain set (protocol, destination port) for one port over TCP and UDP.
pub fn both_transports(port: u16) -> Vec<Element> {
    let key = |transport| Element::key(service_key(transport, port.into()));
    vec![key(Transport::Tcp), key(Transport::Udp)]
}

/// The elements of a plain set of ports.
pub fn ports(ports: &[u16]) -> Vec<Element> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
        .iter()
        .map(|port| Element::key(port.to_be_bytes().to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(
            merge(vec![(5, 9), (1, 4), (20, 30), (22, 23)]),
            [(1, 9), (20, 30)]
        );
        assert_eq!(merge(vec![(0, u128::MAX), (3, 4)]), [(0, u128::MAX)]);
    }

    #[test]
    fn a_network_up_to_the_last_address_has_no_end() {
        let nets = ["240.0.0.0/4", "10.0.0.0/8", "::/0"].map(|net| net.parse().unwrap());
        let (v4, v6) = networks(&nets);
        assert_eq!(
            v4,
            [
                Element::key(vec![10, 0, 0, 0]),
                Element {
                    interval_end: true,
                    ..Element::key(vec![11, 0, 0, 0])
                },
                Element::key(vec![240, 0, 0, 0]),
            ]
        );
        assert_eq!(v6, [Element::key(vec![0; 16])]);
    }

    proptest! {
        #[test]
        fn merging_keeps_every_member_and_adds_none(
            ranges in prop::collection::vec((0u128..60, 0u128..6), 0..8), probe in 0u128..70,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(low, n)| (low, low + n)).collect();
            let within = |ranges: &[(u128, u128)]| ranges.iter().any(|r| (r.0..=r.1).contains(&probe));
            let merged = merge(ranges.clone());
            prop_assert_eq!(within(&ranges), within(&merged));
            prop_assert!(merged.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }

        #[test]
        fn what_is_left_without_others_is_in_the_first_and_not_in_the_second(
            ranges in prop::collection::vec((0u128..60, 0u128..20), 0..6),
            holes in prop::collection::vec((0u128..60, 0u128..20), 0..6),
            beyond in any::<bool>(), probe in 0u128..90,
        ) {
            // At the end of all addresses too.
            let base = if beyond { u128::MAX - 89 } else { 0 };
            let of = |ranges: Vec<(u128, u128)>| -> Vec<Range> {
                let range = |(low, n): (u128, u128)| (base + low, (base + low).saturating_add(n + 10));
                ranges.into_iter().map(range).collect()
            };
            let (ranges, holes) = (of(ranges), of(holes));
            let within = |ranges: &[Range]| ranges.iter().any(|r| (r.0..=r.1).contains(&(base + probe)));
            let left = without(ranges.clone(), holes.clone());
            prop_assert_eq!(within(&left), within(&ranges) && !within(&holes));
            prop_assert!(left.iter().all(|range| range.0 <= range.1));
        }
    }
}
