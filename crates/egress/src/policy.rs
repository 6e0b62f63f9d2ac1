//! A policy: all that the table is built from, bar the servers of the moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    CgroupId, Class, ClassName, Error, Mode, Rate, Service, Tracking, UidRules,
    installed::Installed, lists::List, private,
};

/// What the table is built from. Change it and `load` again: the swap is atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Refuse, or only count and log what would be refused.
    pub mode: Mode,
    /// The classes by name. [`ClassName::exempt`] is built in and may not be among them.
    pub classes: BTreeMap<ClassName, Class>,
    /// TCP ports of the hub's own API on loopback: every server may reach them.
    pub hub_ports: Vec<u16>,
    /// Networks, besides loopback, from which the proxy or hub reaches servers: answers to
    /// them pass.
    pub proxies: Vec<IpNet>,
    /// The resolvers that classes with `dns` may ask.
    pub resolvers: Vec<IpAddr>,
    /// Networks no class reaches, whatever the port.
    pub denied: Vec<IpNet>,
    /// Networks that a class reaches only where its own `networks` name them.
    pub private: Vec<IpNet>,
    /// What is refused whatever the class and port allow, and told in the list's name.
    pub lists: Arc<Vec<List>>,
    /// NFLOG group that refusals are told to.
    pub log_group: u16,
    /// Cgroups at level 2 of services of this node that ask resolvers for others: what they are
    /// answered counts for classes with names.
    pub relays: Vec<CgroupId>,
    /// The netfilter queue that answers to classes with names wait in; others wait in the next, and
    /// questions in the one behind it.
    pub dns_queue: u16,
    /// How long an address counts for a name at most, whatever its record says; at least a minute.
    pub names_ttl_max: Duration,
    /// Limits of everybody whose class is not unrestricted.
    pub abuse: AbuseLimits,
    /// What is known of the kernel's table of connections.
    pub tracking: Tracking,
}

/// What nobody may do to the network, whatever the class; none of them is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbuseLimits {
    /// Connections begun to elsewhere; ten seconds' worth may come at once.
    pub connections: Option<Rate>,
    /// Packets to elsewhere that are no TCP; a second's worth may come at once.
    pub packets: Option<Rate>,
    /// Packets with questions to resolvers; ten seconds' worth may come at once, and no more than 1,000. A
    /// question over TCP is about eight packets.
    pub questions: Option<Rate>,
}

impl Default for AbuseLimits {
    /// 500 connections, 50,000 packets and 100 questions a second. A browser begins some tens of connections a
    /// second and a dask cluster of hundreds of workers as many once; an upload over QUIC at
    /// 500 Mbit/s sends 45,000 packets. A hundred names a second carry 25 kB out at most.
    fn default() -> Self {
        let a_second = |count| {
            Some(Rate {
                count: NonZeroU32::new(count)?,
                seconds: 1,
            })
        };
        Self {
            connections: a_second(500),
            packets: a_second(50_000),
            questions: a_second(100),
        }
    }
}

impl Policy {
    /// The NFLOG group used when nothing else is asked for ("HW" in ASCII).
    pub const LOG_GROUP: u16 = 0x4857;

    /// The netfilter queue used when nothing else is asked for.
    pub const DNS_QUEUE: u16 = 0x4857;

    /// How long an address counts for a name when nothing else is asked for.
    pub const NAMES_TTL_MAX: Duration = Duration::from_secs(3_600);

    /// Where clouds serve credentials to whoever asks: EC2, GCP, Azure, OpenStack, … over IPv4,
    /// EC2 and GCP over IPv6, Azure's host agent, Alibaba.
    pub fn metadata() -> Vec<IpNet> {
        [
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
            "fd20:ce::254",
        ]
        .iter()
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(IpNet::from)
        .collect()
    }

    /// The networks that are private when nothing else is asked for.
    pub fn usual_private() -> Vec<IpNet> {
        private::usual()
    }

    /// One class `standard`, metadata denied, private networks closed, nobody to answer beyond loopback.
    pub fn standard(mode: Mode) -> Self {
        let mut classes = BTreeMap::new();
        if let Ok(name) = "standard".parse() {
            classes.insert(name, Class::standard());
        }
        Self {
            mode,
            classes,
            hub_ports: vec![8081, 15001],
            proxies: Vec::new(),
            resolvers: Vec::new(),
            denied: Self::metadata(),
            private: Self::usual_private(),
            lists: Arc::default(),
            log_group: Self::LOG_GROUP,
            relays: Vec::new(),
            dns_queue: Self::DNS_QUEUE,
            names_ttl_max: Self::NAMES_TTL_MAX,
            abuse: AbuseLimits::default(),
            tracking: Tracking::default(),
        }
    }

    /// Changes what of these servers, and of users outside them, cannot be judged by this policy so
    /// that all others can be, and says what is wrong with each: such a server is closed, and such a
    /// user is left alone.
    ///
    /// # Errors
    /// [`Error::Policy`]: nothing can be judged by it.
    pub fn sort_out(
        &self,
        servers: &mut Vec<Admitted>,
        uid_rules: &mut UidRules,
    ) -> Result<Vec<Error>, Error> {
        let installed = Installed::new(self)?;
        let mut wrong = installed.sort_out(servers);
        let cgroups = servers.iter().map(|server| (server.cgroup, server.clone()));
        wrong.extend(uid_rules.sort_out(self, &cgroups.collect()));
        Ok(wrong)
    }

    /// Refuse what no table can be built from, naming the class or service at fault.
    ///
    /// # Errors
    /// [`Error::Policy`] for a class called `exempt`, or a service with no ports in it.
    pub fn check(&self) -> Result<(), Error> {
        if self.classes.contains_key(&ClassName::exempt()) {
            return Err(Error::Policy {
                what: "class exempt".to_owned(),
                why: "the name is built in: call the class something else",
            });
        }
        for (name, class) in &self.classes {
            for Service { ports, .. } in &class.services {
                if ports.is_empty() {
                    return Err(Error::Policy {
                        what: format!("class {name}, ports {}-{}", ports.start(), ports.end()),
                        why: "the first port must not be above the last",
                    });
                }
            }
        }
        let mut names = BTreeSet::new();
        for list in self.lists.iter() {
            if !names.insert(&list.name) {
                return Err(Error::Policy {
                    what: format!("list {}", list.name),
                    why: "two lists have this name: call one of them something else",
                });
            }
        }
        Ok(())
    }
}

/// A server whose packets are judged by a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The server's cgroup.
    pub cgroup: CgroupId,
    /// The cgroup's level, the root's being 0: 2 for `system.slice/x.service`, 3 for an
    /// instance unit in its own slice. Others are refused.
    pub level: u8,
    /// The class that judges it.
    pub class: ClassName,
    /// What refusals name it by: 1 to 2²³−1, held by no other admitted cgroup. Two servers
    /// under one number would reach each other's loopback listeners.
    pub number: u32,
}

impl Admitted {
    /// The largest number: 24 bits of a packet's mark name its sender, and half of those numbers
    /// are for users outside their servers.
    pub const NUMBER_MAX: u32 = super::UidRule::NUMBER_MIN - 1;
    /// The levels that the table looks at.
    pub const LEVELS: [u8; 2] = super::sets::LEVELS;
}
