//! Private networks: what a node reaches and the internet does not. Their hosts trust who is near, so
//! a class reaches them only where its own `networks` say so.
//!
//! What is closed is a set of intervals, the policy's for classes that open nothing and else one of
//! the class's own, in which what it opens is left out. A packet costs one look-up in either case.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Class, ClassName, Policy, intervals,
    phrases::{self as p, Family},
    ruleset::{Element, Expr, Rule, Set},
    sets,
    table::rule,
};

/// Networks that are no part of the internet.
const USUAL: [&str; 12] = [
    // RFC 1918.
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    // Shared between a provider and its customers (RFC 6598); clouds and overlays use it too.
    "100.64.0.0/10",
    // Of a provider's own gear (RFC 6890), and of benchmarks (RFC 2544).
    "192.0.0.0/24",
    "198.18.0.0/15",
    // Groups, and what is reserved: some clouds number their pods from it.
    "224.0.0.0/3",
    // Unique local, and what was site-local before (RFC 4193, RFC 3879).
    "fc00::/7",
    "fec0::/10",
    // Groups.
    "ff00::/8",
    // Translation within a site (RFC 8215), and IPv4 in IPv6 clothes (RFC 4291).
    "64:ff9b:1::/48",
    "::ffff:0:0/96",
];

/// The networks that are private when nothing else is asked for.
pub fn usual() -> Vec<IpNet> {
    USUAL.iter().filter_map(|net| net.parse().ok()).collect()
}

/// These networks with the IPv6 forms of the IPv4 ones: what a translator (NAT64, RFC 6052) or a
/// relay (6to4, RFC 3056) on the way turns into them.
pub fn with_forms(nets: &[IpNet]) -> Vec<IpNet> {
    let mut all = nets.to_vec();
    for net in nets {
        if let IpNet::V4(net) = net {
            all.extend(forms(*net).map(IpNet::from));
        }
    }
    all
}

fn forms(net: Ipv4Net) -> impl Iterator<Item = Ipv6Net> {
    /// `64:ff9b::/96`, the address in the last 32 bits.
    const NAT64: (u128, u8) = (0x0064_ff9b << 96, 96);
    /// `2002::/16`, the address in the 32 bits behind.
    const SIX_TO_FOUR: (u128, u8) = (0x2002 << 112, 16);
    let address = u128::from(net.network().to_bits());
    [NAT64, SIX_TO_FOUR]
        .into_iter()
        .filter_map(move |(prefix, length)| {
            let bits = prefix | address << (96 - length);
            Ipv6Net::new(bits.into(), length + net.prefix_len()).ok()
        })
}

/// Whether all of a network is in these.
pub fn lies_in(net: &IpNet, nets: &[IpNet]) -> bool {
    joined(nets).iter().any(|whole| whole.contains(net))
}

/// Joined, neighbours hold what neither of them holds alone.
fn joined(nets: &[IpNet]) -> Vec<IpNet> {
    IpNet::aggregate(&with_forms(nets))
}

/// What of the private networks is closed to a class.
#[derive(Debug)]
pub struct Closed {
    private: Vec<IpNet>,
    opened: Vec<IpNet>,
}

impl Closed {
    /// To a class of this policy. A network of the class opens what it names, not what it happens to
    /// have within: `0.0.0.0/0` opens nothing.
    pub fn to(class: &Class, policy: &Policy) -> Self {
        let private = joined(&policy.private);
        let opened = class.networks.iter();
        let opened = opened.filter(|net| private.iter().any(|whole| whole.contains(*net)));
        let opened: Vec<IpNet> = opened.copied().collect();
        Self {
            opened: with_forms(&opened),
            private,
        }
    }

    /// Whether an address is closed.
    pub fn has(&self, address: IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        within(&self.private) && !within(&self.opened)
    }

    fn elements(&self) -> (Vec<Element>, Vec<Element>) {
        intervals::networks_without(&self.private, &self.opened)
    }

    /// The set that a class's packets are looked up in.
    fn set(&self, class: &ClassName, family: Family) -> String {
        match self.opened.is_empty() {
            true => format!("private{}", family.digit()),
            false => format!("private{}_{class}", family.digit()),
        }
    }
}

/// The chain that refuses a class what is private.
pub fn chain(class: &ClassName) -> String {
    format!("private_{class}")
}

/// Whether a class is refused anything for being private: where it has no services, and no port of this
/// node that a rule could redirect to, it is refused all for that.
pub fn concerns(policy: &Policy, class: &Class) -> bool {
    let reaches = !class.services.is_empty() || !class.loopback_ports.is_empty();
    !policy.private.is_empty() && reaches && !class.unrestricted
}

/// The rules that refuse a class's services in what is closed to it. What is no service of the class
/// is refused as everywhere: to open the network would not help.
pub fn rules(name: &ClassName, class: &Class, policy: &Policy) -> Vec<Rule> {
    if !concerns(policy, class) || class.services.is_empty() {
        return Vec::new();
    }
    let closed = Closed::to(class, policy);
    [Family::V4, Family::V6]
        .map(|family| {
            let to = p::destination_in(family, &closed.set(name, family));
            let services = p::service_in(&format!("services_{name}"));
            rule("private", [to, services, p::goto(&chain(name))])
        })
        .into()
}

/// The rules that refuse a class what asked for an address closed to it and meets a condition.
pub fn asked(
    (name, class): (&ClassName, &Class),
    policy: &Policy,
    condition: impl Fn() -> Vec<Expr>,
) -> Vec<Rule> {
    if !concerns(policy, class) {
        return Vec::new();
    }
    let closed = Closed::to(class, policy);
    [Family::V4, Family::V6]
        .map(|family| {
            let asked = p::asked_in(family, &closed.set(name, family));
            rule("private", [condition(), asked, p::goto(&chain(name))])
        })
        .into()
}

/// The sets of what is closed to all that open nothing.
pub fn of_policy(policy: &Policy) -> Vec<Set> {
    if policy.private.is_empty() {
        return Vec::new();
    }
    let elements = intervals::networks(&with_forms(&policy.private));
    sets::of_networks(elements, |family| format!("private{}", family.digit()))
}

/// The sets of what is closed to a class that opens something.
pub fn of_class(name: &ClassName, class: &Class, policy: &Policy) -> Vec<Set> {
    let closed = Closed::to(class, policy);
    if closed.opened.is_empty() || !concerns(policy, class) {
        return Vec::new();
    }
    sets::of_networks(closed.elements(), |family| closed.set(name, family))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Mode;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn closed(networks: &[&str]) -> Closed {
        let class = Class {
            networks: nets(networks),
            ..Class::standard()
        };
        Closed::to(&class, &Policy::standard(Mode::Enforce))
    }

    #[test]
    fn the_usual_networks_are_all_read_and_none_is_of_the_internet() {
        assert_eq!(usual().len(), USUAL.len());
        let closed = closed(&[]);
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.192",
            "198.19.255.255",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "fd12::1",
            "fc00::1",
            "fec0::1",
            "ff02::fb",
            "64:ff9b:1::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(closed.has(address.parse().unwrap()), "{address}");
        }
        for address in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.0.1.0",
            "100.63.255.255",
            "100.128.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "8.8.8.8",
            "2606:4700::1111",
            "2001:db8::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(!closed.has(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_private_address_is_private_behind_a_translator_and_a_relay_too() {
        let all = closed(&[]);
        let lab = closed(&["10.2.0.0/16"]);
        for (address, of_the_lab) in [
            ("64:ff9b::10.2.3.4", true),
            ("2002:0a02:0304::1", true),
            ("64:ff9b::192.168.1.1", false),
            ("2002:c0a8:0101:7::1", false),
        ] {
            let address = address.parse().unwrap();
            assert!(all.has(address), "{address}");
            assert_eq!(lab.has(address), !of_the_lab, "{address}");
        }
        let metadata = with_forms(&nets(&["169.254.169.254/32"]));
        assert!(metadata.contains(&"64:ff9b::a9fe:a9fe/128".parse().unwrap()));
        assert!(metadata.contains(&"2002:a9fe:a9fe::/48".parse().unwrap()));
    }

    #[test]
    fn a_class_opens_what_its_networks_name_and_nothing_beside_it() {
        let lab = closed(&[
            "10.2.0.0/16",
            "192.168.7.7/32",
            "fd12:3456::/32",
            "203.0.113.0/24",
        ]);
        for (address, is_closed) in [
            ("10.2.255.255", false),
            ("10.1.255.255", true),
            ("10.3.0.0", true),
            ("192.168.7.7", false),
            ("192.168.7.8", true),
            ("192.168.7.6", true),
            ("fd12:3456:ffff::1", false),
            ("fd12:3457::1", true),
            ("203.0.113.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(lab.has(address), is_closed, "{address}");
        }
    }

    #[test]
    fn a_network_that_has_private_ones_within_opens_none_of_them() {
        let wide = closed(&["0.0.0.0/0", "10.0.0.0/7", "::/0"]);
        assert!(wide.has([10, 0, 0, 1].into()) && wide.has("fd00::1".parse().unwrap()));
    }

    #[test]
    fn neighbours_hold_what_is_in_both_of_them() {
        let halves = nets(&["10.0.0.0/9", "10.128.0.0/9"]);
        assert!(lies_in(&"10.0.0.0/8".parse().unwrap(), &halves));
        assert!(!lies_in(&"10.0.0.0/8".parse().unwrap(), &halves[..1]));
        assert!(lies_in(&"64:ff9b::a00:0/104".parse().unwrap(), &halves));
    }

    proptest! {
        /// What the kernel is told and what is asked here are the same.
        #[test]
        fn the_intervals_have_just_what_is_closed(
            opened in prop::collection::vec((0u32..1 << 16, 8u8..=32), 0..6), probe in any::<u32>(),
        ) {
            let networks: Vec<IpNet> = opened
                .iter()
                .map(|(low, length)| {
                    let address = 0x0a00_0000 | low << 8;
                    IpNet::new(IpAddr::from(address.to_be_bytes()), *length).unwrap().trunc()
                })
                .collect();
            let class = Class { networks, ..Class::standard() };
            let closed = Closed::to(&class, &Policy::standard(Mode::Enforce));
            let (v4, _) = closed.elements();
            // Most of the addresses tried are in 10.0.0.0/8.
            for probe in [probe, 0x0a00_0000 | probe >> 8] {
                let before = |element: &&Element| element.key <= probe.to_be_bytes().to_vec();
                let last = v4.iter().filter(before).max_by_key(|element| (&element.key, !element.interval_end));
                let within = last.is_some_and(|last| !last.interval_end);
                prop_assert_eq!(within, closed.has(IpAddr::from(probe.to_be_bytes())));
            }
        }
    }
}
