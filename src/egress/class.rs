//! A class: what its servers may reach, as an admin says it.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;

use super::{ClassLimits, Error, names::NamePattern};

/// A class's name: 1 to 32 of `a-z`, `0-9` and `-`, the first a letter.
///
/// It becomes part of chain and set names and of the log prefix, so nothing else may be in it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ClassName(String);

impl ClassName {
    /// Longest name, bytes.
    pub const MAX: usize = 32;

    /// The built-in class that accepts everything: for units in a guarded slice that are not
    /// servers. A policy cannot define it.
    pub fn exempt() -> Self {
        Self("exempt".to_owned())
    }

    /// What stands for "not known yet": nothing is reached. A policy cannot define it.
    pub fn pending() -> Self {
        Self("pending".to_owned())
    }

    /// The built-in class of a server that has had its bytes for the day: this node only.
    pub fn spent() -> Self {
        Self("spent".to_owned())
    }

    /// The class that the configuration has from the start for miners; an admin may define it anew.
    pub fn quarantine() -> Self {
        Self("quarantine".to_owned())
    }

    /// Whether an admin may not define it.
    pub fn is_built_in(&self) -> bool {
        [Self::exempt(), Self::pending(), Self::spent()].contains(self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClassName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let bytes = name.as_bytes();
        let ok = (1..=Self::MAX).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if ok {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::ClassName {
                name: name.to_owned(),
            })
        }
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transport protocol a service can be reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP, `IPPROTO_TCP`.
    Tcp,
    /// UDP, `IPPROTO_UDP`.
    Udp,
}

impl Transport {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A protocol and the ports of it that may be reached anywhere but in denied networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The transport protocol.
    pub transport: Transport,
    /// Destination ports, first and last included.
    pub ports: RangeInclusive<u16>,
}

impl Service {
    /// One TCP port.
    pub const fn tcp(port: u16) -> Self {
        Self {
            transport: Transport::Tcp,
            ports: port..=port,
        }
    }

    /// One UDP port.
    pub const fn udp(port: u16) -> Self {
        Self {
            transport: Transport::Udp,
            ports: port..=port,
        }
    }
}

/// What the servers of one class may reach. Everything else is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Whether the policy's resolvers may be asked (UDP and TCP port 53).
    pub dns: bool,
    /// Services reachable outside the node.
    pub services: Vec<Service>,
    /// TCP ports on loopback that the class may reach, whoever listens there. A server's own
    /// listeners and the hub's ports need no entry.
    pub loopback_ports: Vec<u16>,
    /// Where this or `networks` is not empty, services are reached at these names' addresses and
    /// in those networks only. A name has the addresses that a resolver of the policy told of it
    /// to someone on this node, for as long as it said.
    pub names: Vec<NamePattern>,
    /// Names that the resolvers' answers deny to the class's servers.
    pub deny_names: Vec<NamePattern>,
    /// Networks where services are reached by address, whatever the names.
    pub networks: Vec<IpNet>,
    /// Networks that the class does not reach, besides the policy's.
    pub deny_networks: Vec<IpNet>,
    /// How much of what is allowed.
    pub limits: ClassLimits,
    /// Nothing is looked at: every packet passes, on loopback too.
    pub unrestricted: bool,
}

impl Class {
    /// Whether services are reached at some destinations only.
    pub fn is_selective(&self) -> bool {
        !self.names.is_empty() || !self.networks.is_empty()
    }

    /// DNS, HTTP, HTTPS, git and rsync: what the practice of public hubs allows.
    pub fn standard() -> Self {
        Self {
            dns: true,
            services: [80, 443, 873, 9418].map(Service::tcp).to_vec(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_hold_nothing_that_a_rule_could_misread() {
        for good in ["standard", "a", "gpu-2", &"x".repeat(32)] {
            assert_eq!(good.parse::<ClassName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "9",
            "A",
            "a b",
            "a_b",
            "a\"",
            "ä",
            "a\n",
            &"x".repeat(33),
        ] {
            assert!(bad.parse::<ClassName>().is_err(), "{bad:?}");
        }
    }
}
