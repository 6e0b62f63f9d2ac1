//! Policies and containers of any kind, made of any bytes.

use crate::{
    AbuseLimits, BitsPerSecond, Bridges, CgroupId, Class, ClassLimits, ClassName, Mode, Place,
    Policy, Rate, ServerPort, Service, Tracking, Transport, UidRule, UidRules,
    lists::{Entries, List},
    names::NamePattern,
};
use arbitrary::{Arbitrary, Unstructured};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// Choices made of bytes; beyond their end all are the first.
pub trait Choices: Sized {
    /// Any value.
    fn any<T: Default + for<'a> Arbitrary<'a>>(&mut self) -> T;

    fn flag(&mut self) -> bool {
        self.any()
    }

    /// From zero up to, but not, `end`, which is 256 at most; zero if that is.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.any::<u8>()).checked_rem(end).unwrap_or(0)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let place = self.below(choices.len());
        *choices.get(place).expect("something to choose")
    }

    fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| one(self))
    }

    fn address(&mut self) -> IpAddr {
        match self.flag() {
            true => IpAddr::from(self.any::<[u8; 4]>()),
            false => IpAddr::from(self.any::<[u8; 16]>()),
        }
    }

    /// 1 to `most` of these signs, the first of the first 26.
    fn text(&mut self, most: usize, signs: &[u8]) -> String {
        let length = 1 + self.below(most);
        let sign = |place: usize| {
            let among = if place == 0 { 26 } else { signs.len() };
            char::from(self.one_of(signs.get(..among).unwrap_or(signs)))
        };
        (0..length).map(sign).collect()
    }

    fn network(&mut self) -> IpNet {
        let address = self.address();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = u8::try_from(self.below(longest + 1)).unwrap_or(0);
        IpNet::new(address, length).expect("a length that its address has")
    }

    fn name(&mut self) -> NamePattern {
        let labels: Vec<String> = (0..=self.below(4)).map(|_| self.text(63, LABEL)).collect();
        let before = self.one_of(&["", "*."]);
        let name = format!("{before}{}", labels.join("."));
        let all = || "*".parse().expect("a pattern");
        name.parse().unwrap_or_else(|_| all())
    }
}

impl Choices for Unstructured<'_> {
    fn any<T: Default + for<'a> Arbitrary<'a>>(&mut self) -> T {
        self.arbitrary().unwrap_or_default()
    }
}

const LABEL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-";

pub fn policy(u: &mut Unstructured<'_>) -> Policy {
    let mode = u.one_of(&[Mode::Enforce, Mode::Observe]);
    let lists = u.some(3, |u| List {
        name: u.text(32, LABEL).parse().expect("a list's name"),
        source: String::new(),
        imported: 0,
        entries: Entries {
            networks: u.some(9, Choices::network),
            endpoints: u.some(9, |u| SocketAddr::new(u.address(), u.any())),
            names: u.some(2, |u| (u.text(20, LABEL), None)),
        },
    });
    let name = |u: &mut Unstructured<'_>| u.text(32, LABEL).parse().expect("a class's name");
    Policy {
        mode,
        classes: u.some(5, |u| (name(u), class(u))).into_iter().collect(),
        hub_ports: u.some(4, Choices::any),
        proxies: u.some(4, Choices::network),
        resolvers: u.some(4, Choices::address),
        denied: u.some(9, Choices::network),
        private: u.some(6, Choices::network),
        lists: lists.into(),
        log_group: u.any(),
        relays: u.some(3, |u| CgroupId(u.any())),
        dns_queue: u.any(),
        names_ttl_max: std::time::Duration::from_secs(u.any::<u32>().into()),
        abuse: AbuseLimits {
            connections: u.maybe(rate),
            packets: u.maybe(rate),
            questions: u.maybe(rate),
        },
        tracking: Tracking {
            by_others: u.flag(),
            most: u.maybe(count),
        },
    }
}

fn count(u: &mut Unstructured<'_>) -> NonZeroU32 {
    NonZeroU32::new(u.any()).unwrap_or(NonZeroU32::MIN)
}

fn rate(u: &mut Unstructured<'_>) -> Rate {
    Rate {
        count: count(u),
        seconds: u.one_of(&[1, 60, 3600]),
    }
}

fn class(u: &mut Unstructured<'_>) -> Class {
    Class {
        dns: u.flag(),
        services: u.some(6, |u| {
            let first: u16 = u.any();
            let more: u16 = u.any::<u8>().into();
            Service {
                transport: u.one_of(&[Transport::Tcp, Transport::Udp]),
                ports: first..=first.saturating_add(more),
            }
        }),
        loopback_ports: u.some(4, Choices::any),
        names: u.some(3, Choices::name),
        deny_names: u.some(3, Choices::name),
        networks: u.some(6, Choices::network),
        nowhere_else: u.flag(),
        deny_networks: u.some(6, Choices::network),
        limits: ClassLimits {
            new_connections: u.maybe(rate),
            connections: u.maybe(count),
            bandwidth: u.maybe(|u| {
                let bits: u64 = u.any();
                BitsPerSecond(bits % (BitsPerSecond::MAX.0 + 1))
            }),
            shape: u.flag(),
            bytes_per_day: u.maybe(Choices::any),
        },
        unrestricted: u.below(8) == 7,
    }
}

pub fn bridges(u: &mut Unstructured<'_>, policy: &Policy) -> Bridges {
    let classes: Vec<&ClassName> = policy.classes.keys().collect();
    let port = |u: &mut Unstructured<'_>| u.below(20) as u32;
    let server = |u: &mut Unstructured<'_>| {
        let class = classes.get(u.below(classes.len())).copied();
        let port = port(u);
        let server = ServerPort {
            cgroup: CgroupId(u.any()),
            number: 1000 + u.below(20) as u32,
            class: class.cloned().unwrap_or_else(ClassName::exempt),
            addresses: u.some(3, Choices::address).into_iter().collect(),
        };
        (port, server)
    };
    // One that is too long for an interface, too.
    let name = |u: &mut Unstructured<'_>| "x".repeat(u.below(18));
    let mut bridges = Bridges {
        exempt: u.some(3, port).into_iter().collect(),
        guarded: u.some(3, name).into_iter().collect(),
        gateways: u.some(3, Choices::any).into_iter().collect(),
        on_guarded: u.some(3, port).into_iter().collect(),
        ..Bridges::default()
    };
    // A port may be anyone's, be it two servers' or that of a container that is none.
    for (port, server) in u.some(6, server) {
        bridges.put(port, server, &policy.classes);
    }
    bridges
}

/// Users outside their servers. Nobody's slice or number is another's, nor a server's.
pub fn uid_rules(u: &mut Unstructured<'_>, policy: &Policy) -> UidRules {
    let classes: Vec<&ClassName> = policy.classes.keys().collect();
    let services = |u: &mut Unstructured<'_>| u.some(3, |u| CgroupId(u.any()));
    let mut uid_rules = UidRules {
        jobs: services(u).into_iter().collect(),
        identity_services: services(u).into_iter().collect(),
        ..UidRules::default()
    };
    let Some(last) = classes.len().checked_sub(1) else {
        return uid_rules;
    };
    for _ in 0..u.below(4) {
        let uid = 1 + u.below(6) as u32;
        let place = |u: &mut Unstructured<'_>, number: u32| Place {
            cgroup: CgroupId(number.into()),
            level: 2 + u8::from(u.flag()),
            number,
        };
        let Some(class) = classes.get(u.below(last + 1)) else {
            continue;
        };
        let uid_rule = UidRule {
            uid,
            class: (*class).clone(),
            number: UidRule::NUMBER_MIN + uid,
            slice: u.maybe(|u| place(u, 100 + uid)),
            servers: (0..u.below(3) as u32)
                .map(|n| place(u, 200 + 10 * uid + n))
                .collect(),
        };
        let first: u32 = u.any();
        let last = first.saturating_add(u.below(1 << 17) as u32);
        uid_rules.add_subordinate(first, last, uid_rule.number);
        uid_rules.by_uid.insert(uid, uid_rule);
    }
    uid_rules
}
