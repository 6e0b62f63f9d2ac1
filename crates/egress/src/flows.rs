//! Live flows of servers: whom each speaks with, and how much was said.
//!
//! Sockets of this node are listed with their cgroup; TCP itself counts their bytes. Containers have a
//! network of their own, whose sockets are not seen from here: of them connection tracking tells by
//! their addresses, with bytes where `net.netfilter.nf_conntrack_acct` is on. Nothing of any content
//! is read.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use nft::{
    conntrack,
    sock_diag::{Sockets, TCP, UDP},
};

use super::{CgroupId, Error};

/// Who speaks with whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The protocol's number in the IP header: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The server's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Bytes that the server sent, where they are counted.
    pub sent: Option<u64>,
    /// Bytes that it received, likewise.
    pub received: Option<u64>,
}

/// Flows, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// At most as many as were asked for.
    pub flows: Vec<Flow>,
    /// How many more there are.
    pub more: u64,
}

impl Flows {
    /// The flows of sockets in these cgroups of this node, and those that begin at these
    /// addresses of containers; at most `most`, flows within this node left out. Blocks for as
    /// long as all sockets and connections of the node take to list: some milliseconds for
    /// thousands.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn of(
        cgroups: &BTreeSet<CgroupId>,
        sources: &BTreeSet<IpAddr>,
        most: usize,
    ) -> Result<Self, Error> {
        let mut found = BTreeSet::new();
        if !cgroups.is_empty() {
            sockets(cgroups, &mut found)?;
        }
        if !sources.is_empty() {
            connections(sources, &mut found)?;
        }
        let mut flows: Vec<Flow> = found.into_iter().collect();
        let size = |flow: &Flow| {
            flow.sent
                .unwrap_or(0)
                .saturating_add(flow.received.unwrap_or(0))
        };
        flows.sort_by_key(|flow| std::cmp::Reverse(size(flow)));
        let more = flows.len().saturating_sub(most) as u64;
        flows.truncate(most);
        Ok(Self { flows, more })
    }
}

/// Adds the sockets that belong to these cgroups and speak with another node.
fn sockets(cgroups: &BTreeSet<CgroupId>, found: &mut BTreeSet<Flow>) -> Result<(), Error> {
    let mut sockets = Sockets::open()?;
    for protocol in [TCP, UDP] {
        let all = sockets.with_another_end(protocol)?;
        let of_these = all.iter().filter(|socket| {
            let cgroup = socket.owner.cgroup;
            cgroup.is_some_and(|cgroup| cgroups.contains(&CgroupId(cgroup.0)))
        });
        let flows = of_these.map(|socket| Flow {
            protocol,
            local: socket.local,
            remote: socket.remote,
            sent: socket.sent,
            received: socket.received,
        });
        found.extend(flows.filter(leaves));
    }
    Ok(())
}

/// Whether it is with another node, as far as loopback's addresses tell.
fn leaves(flow: &Flow) -> bool {
    !flow.remote.ip().is_loopback()
}

/// Adds the tracked connections that begin at these addresses.
fn connections(sources: &BTreeSet<IpAddr>, found: &mut BTreeSet<Flow>) -> Result<(), Error> {
    let from_these = |one: &conntrack::Connection| sources.contains(&one.source.ip());
    let connections = conntrack::connections(from_these)?;
    found.extend(connections.into_iter().map(|connection| Flow {
        protocol: connection.protocol,
        local: connection.source,
        remote: connection.destination,
        sent: connection.sent,
        received: connection.received,
    }));
    Ok(())
}
