//! Policies and containers of any kind, made of any bytes.

use crate::{
    AbuseLimits, BitsPerSecond, Bridges, CgroupId, Class, ClassLimits, ClassName, Mode, People,
    Person, Place, Policy, Rate, ServerPort, Service, Transport,
    lists::{Entries, List},
    names::NamePattern,
};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// Bytes as a source of choices; beyond their end all are zero.
pub struct Dice<'a>(pub &'a [u8]);

/// A number of so many bytes.
pub trait Number<const N: usize> {
    fn of(bytes: [u8; N]) -> Self;
}

macro_rules! numbers {
    ($($bytes:literal $kind:ty),*) => {$(
        impl Number<$bytes> for $kind {
            fn of(bytes: [u8; $bytes]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
numbers!(2 u16, 4 u32, 8 u64, 16 u128);

impl Dice<'_> {
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(self.0) {
            *to = *from;
        }
        self.0 = self.0.get(N..).unwrap_or_default();
        bytes
    }

    pub fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    pub fn number<const N: usize, T: Number<N>>(&mut self) -> T {
        T::of(self.bytes())
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// From zero up to, but not, `end`, which is 256 at most; zero if that is.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let place = self.below(choices.len());
        *choices.get(place).expect("something to choose")
    }

    pub fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    pub fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| one(self))
    }

    pub fn address(&mut self) -> IpAddr {
        match self.flag() {
            true => IpAddr::from(self.bytes::<4>()),
            false => IpAddr::from(self.bytes::<16>()),
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

const LABEL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-";

pub fn policy(dice: &mut Dice<'_>) -> Policy {
    let mode = dice.one_of(&[Mode::Enforce, Mode::Observe]);
    let lists = dice.some(3, |dice| List {
        name: dice.text(32, LABEL).parse().expect("a list's name"),
        source: String::new(),
        imported: 0,
        entries: Entries {
            networks: dice.some(9, Dice::network),
            endpoints: dice.some(9, |dice| SocketAddr::new(dice.address(), dice.number())),
            names: dice.some(2, |dice| (dice.text(20, LABEL), None)),
        },
    });
    let name = |dice: &mut Dice<'_>| dice.text(32, LABEL).parse().expect("a class's name");
    Policy {
        mode,
        classes: dice
            .some(5, |dice| (name(dice), class(dice)))
            .into_iter()
            .collect(),
        hub_ports: dice.some(4, Dice::number),
        proxies: dice.some(4, Dice::network),
        resolvers: dice.some(4, Dice::address),
        denied: dice.some(9, Dice::network),
        private: dice.some(6, Dice::network),
        lists: lists.into(),
        log_group: dice.number(),
        relays: dice.some(3, |dice| CgroupId(dice.number())),
        dns_queue: dice.number(),
        abuse: AbuseLimits {
            connections: dice.maybe(rate),
            packets: dice.maybe(rate),
        },
    }
}

fn count(dice: &mut Dice<'_>) -> NonZeroU32 {
    NonZeroU32::new(dice.number()).unwrap_or(NonZeroU32::MIN)
}

fn rate(dice: &mut Dice<'_>) -> Rate {
    Rate {
        count: count(dice),
        seconds: dice.one_of(&[1, 60, 3600]),
    }
}

fn class(dice: &mut Dice<'_>) -> Class {
    Class {
        dns: dice.flag(),
        services: dice.some(6, |dice| {
            let first: u16 = dice.number();
            let more: u16 = dice.byte().into();
            Service {
                transport: dice.one_of(&[Transport::Tcp, Transport::Udp]),
                ports: first..=first.saturating_add(more),
            }
        }),
        loopback_ports: dice.some(4, Dice::number),
        names: dice.some(3, Dice::name),
        deny_names: dice.some(3, Dice::name),
        networks: dice.some(6, Dice::network),
        nowhere_else: dice.flag(),
        deny_networks: dice.some(6, Dice::network),
        limits: ClassLimits {
            new_connections: dice.maybe(rate),
            connections: dice.maybe(count),
            bandwidth: dice.maybe(|dice| {
                let bits: u64 = dice.number();
                BitsPerSecond(bits % (BitsPerSecond::MAX.0 + 1))
            }),
            shape: dice.flag(),
            bytes_per_day: dice.maybe(Dice::number),
        },
        unrestricted: dice.below(8) == 7,
    }
}

pub fn bridges(dice: &mut Dice<'_>, policy: &Policy) -> Bridges {
    let classes: Vec<&ClassName> = policy.classes.keys().collect();
    let port = |dice: &mut Dice<'_>| dice.below(20) as u32;
    let server = |dice: &mut Dice<'_>| {
        let class = classes.get(dice.below(classes.len())).copied();
        let port = port(dice);
        let server = ServerPort {
            cgroup: CgroupId(dice.number()),
            // No two servers have one number.
            number: 1000 + port,
            class: class.cloned().unwrap_or_else(ClassName::exempt),
            addresses: dice.some(3, Dice::address).into_iter().collect(),
        };
        (port, server)
    };
    let mut bridges = Bridges {
        servers: dice.some(4, server).into_iter().collect(),
        exempt: dice.some(3, port).into_iter().collect(),
        guarded: dice.some(3, port).into_iter().collect(),
        gateways: dice.some(3, Dice::bytes).into_iter().collect(),
        on_guarded: dice.some(3, port).into_iter().collect(),
    };
    // Nor is a container both a server and none.
    bridges
        .exempt
        .retain(|port| !bridges.servers.contains_key(port));
    bridges
}

/// Users outside their servers. Nobody's slice or number is another's, nor a server's.
pub fn people(dice: &mut Dice<'_>, policy: &Policy) -> People {
    let classes: Vec<&ClassName> = policy.classes.keys().collect();
    let services = |dice: &mut Dice<'_>| dice.some(3, |dice| CgroupId(dice.number()));
    let mut people = People {
        jobs: services(dice).into_iter().collect(),
        deputies: services(dice).into_iter().collect(),
        by_uid: BTreeMap::new(),
    };
    let Some(last) = classes.len().checked_sub(1) else {
        return people;
    };
    for _ in 0..dice.below(4) {
        let uid = 1 + dice.below(6) as u32;
        let place = |dice: &mut Dice<'_>, number: u32| Place {
            cgroup: CgroupId(number.into()),
            level: 2 + u8::from(dice.flag()),
            number,
        };
        let Some(class) = classes.get(dice.below(last + 1)) else {
            continue;
        };
        let person = Person {
            uid,
            class: (*class).clone(),
            number: Person::NUMBER_MIN + uid,
            slice: dice.maybe(|dice| place(dice, 100 + uid)),
            servers: (0..dice.below(3) as u32)
                .map(|n| place(dice, 200 + 10 * uid + n))
                .collect(),
        };
        people.by_uid.insert(uid, person);
    }
    people
}
