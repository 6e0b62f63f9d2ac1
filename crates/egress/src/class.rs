//! A class: what its servers may reach, as an admin says it.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{ClassLimits, names::NamePattern};

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
    /// TCP ports of this node that the class may reach, whoever listens there, or wherever an admin's
    /// rules have them answered. A server's own
    /// listeners and the hub's ports need no entry.
    pub loopback_ports: Vec<u16>,
    /// Where this is not empty, services are reached at these names' addresses and in `networks`
    /// only. A name has the addresses that a resolver of the policy told of it to someone on this
    /// node, for as long as it said.
    pub names: Vec<NamePattern>,
    /// Names that the resolvers' answers deny to the class's servers.
    pub deny_names: Vec<NamePattern>,
    /// Networks where services are reached by address, whatever the names. Those of the policy's
    /// private ones are reached here only.
    pub networks: Vec<IpNet>,
    /// Whether services are reached in `networks` only, even without names.
    pub nowhere_else: bool,
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
        !self.names.is_empty() || self.nowhere_else
    }

    /// Where it stands among classes, the strictest first: by whether it looks at anything, whether it
    /// reaches anything elsewhere, whether everywhere, how many ports, whether names, and how many
    /// ports of this node.
    pub fn rank(&self) -> (bool, bool, bool, u32, bool, usize) {
        let ports = |service: &Service| {
            u32::from(*service.ports.end()) + 1 - u32::from(*service.ports.start())
        };
        (
            self.unrestricted,
            !self.services.is_empty(),
            !self.is_selective(),
            self.services.iter().map(ports).sum(),
            self.dns,
            self.loopback_ports.len(),
        )
    }

    /// Whether any of its services is reached by UDP, DNS apart.
    pub fn has_datagrams(&self) -> bool {
        let mut transports = self.services.iter().map(|service| service.transport);
        transports.any(|transport| transport == Transport::Udp)
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
