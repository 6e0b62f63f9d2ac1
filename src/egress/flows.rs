//! Live flows of servers: whom each speaks with, and how much was said.
//!
//! Sockets of this node are listed with their cgroup (`sock_diag(7)`, `linux/inet_diag.h`); TCP
//! itself counts their bytes. Containers have a network of their own, whose sockets are not seen
//! from here: of them connection tracking tells by their addresses, with bytes where
//! `net.netfilter.nf_conntrack_acct` is on. Nothing of any content is read.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockFlag, SockProtocol},
};

use super::{
    CgroupId, Error,
    message::Message,
    nla::{Attributes, Writer},
    socket::Netlink,
    uapi::{NFNL_SUBSYS_CTNETLINK, NLM_F_DUMP},
};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2` and `struct inet_diag_msg`.
pub(super) const REQUEST: usize = 56;
pub(super) const ANSWER: usize = 72;
const INET_DIAG_INFO: u16 = 2;
/// Since Linux 5.9.
pub(super) const INET_DIAG_CGROUP_ID: u16 = 21;
/// `tcpi_bytes_acked` and `tcpi_bytes_received` in `struct tcp_info`.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
/// All of TCP's states but those of no peer: closed, listening, and waiting for stray packets.
const WITH_A_PEER: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
pub(super) const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

// linux/netfilter/nfnetlink_conntrack.h
pub(super) const IPCTNL_MSG_CT_NEW: u16 = 0;
pub(super) const IPCTNL_MSG_CT_GET: u16 = 1;
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
const CTA_COUNTERS_BYTES: u16 = 2;

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

/// Lists the sockets of both families that belong to these cgroups and speak with another node.
fn sockets(cgroups: &BTreeSet<CgroupId>, found: &mut BTreeSet<Flow>) -> Result<(), Error> {
    let attempt = "list the sockets of this node";
    let mut netlink = Netlink::of(SockProtocol::NetlinkSockDiag, SockFlag::empty())?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            let header = request(family, protocol);
            let says = attempt.to_owned();
            let w = Writer::default();
            let request = Message::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, says, &header, w)?;
            let flows = netlink.dump(attempt, &request, |flows, reply| {
                if reply.kind == SOCK_DIAG_BY_FAMILY
                    && let Some((cgroup, flow)) = read_socket(protocol, reply.payload)
                    && cgroups.contains(&cgroup)
                    && leaves(&flow)
                {
                    flows.push(flow);
                }
            });
            match flows {
                Ok(flows) => found.extend(flows),
                // A kernel that cannot list UDP still lists TCP (CONFIG_INET_UDP_DIAG).
                Err(Error::Refused {
                    errno: Errno::ENOENT | Errno::EOPNOTSUPP,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Whether it is with another node, as far as loopback's addresses tell.
fn leaves(flow: &Flow) -> bool {
    !flow.remote.ip().is_loopback()
}

/// `struct inet_diag_req_v2`: for whole families, so that the socket it could name is left zero.
fn request(family: i32, protocol: u8) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let family = u8::try_from(family).unwrap_or(0);
    let info = 1 << (INET_DIAG_INFO - 1);
    bytes[..4].copy_from_slice(&[family, protocol, info, 0]);
    bytes[4..8].copy_from_slice(&WITH_A_PEER.to_ne_bytes());
    bytes
}

/// Reads `struct inet_diag_msg` and its attributes.
pub(super) fn read_socket(protocol: u8, payload: &[u8]) -> Option<(CgroupId, Flow)> {
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(*payload.get(port..)?.first_chunk()?);
        let bytes = payload.get(address..)?;
        let address = match i32::from(*payload.first()?) {
            libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk()?)).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    };
    let (local, remote) = (end(4, 8)?, end(6, 24)?);
    if remote.port() == 0 {
        return None;
    }
    let attributes = Attributes(payload.get(ANSWER..)?);
    let info = attributes.bytes(INET_DIAG_INFO);
    let count = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    let cgroup = *attributes.get(INET_DIAG_CGROUP_ID)?.value.first_chunk()?;
    let flow = Flow {
        protocol,
        local,
        remote,
        sent: count(BYTES_ACKED),
        received: count(BYTES_RECEIVED),
    };
    Some((CgroupId(u64::from_ne_bytes(cgroup)), flow))
}

fn connections(sources: &BTreeSet<IpAddr>, found: &mut BTreeSet<Flow>) -> Result<(), Error> {
    let says = "list tracked connections".to_owned();
    let request = Message::netfilter(
        NFNL_SUBSYS_CTNETLINK,
        IPCTNL_MSG_CT_GET,
        NLM_F_DUMP,
        0,
        says,
        Writer::default(),
    )?;
    let mut netlink = Netlink::open()?;
    let flows = netlink.dump("list tracked connections", &request, |flows, reply| {
        if reply.kind & 0xff == IPCTNL_MSG_CT_NEW
            && let Some(flow) = read_connection(reply.attributes())
            && sources.contains(&flow.local.ip())
        {
            flows.push(flow);
        }
    });
    match flows {
        Ok(flows) => found.extend(flows),
        // Nothing is tracked here: there is no such module.
        Err(Error::Refused {
            errno: Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

pub(super) fn read_connection(a: Attributes<'_>) -> Option<Flow> {
    let (protocol, local, remote) = read_tuple(Attributes(a.bytes(CTA_TUPLE_ORIG)))?;
    let bytes = |kind: u16| Attributes(a.bytes(kind)).be64(CTA_COUNTERS_BYTES);
    Some(Flow {
        protocol,
        local,
        remote,
        sent: bytes(CTA_COUNTERS_ORIG),
        received: bytes(CTA_COUNTERS_REPLY),
    })
}

/// Protocol, source and destination of one direction of a tracked connection.
pub(super) fn read_tuple(tuple: Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (ip, proto) = (
        Attributes(tuple.bytes(CTA_TUPLE_IP)),
        Attributes(tuple.bytes(CTA_TUPLE_PROTO)),
    );
    // Source and destination: 1 and 2 for IPv4, 3 and 4 for IPv6; ports are 2 and 3.
    let end = |v4: u16, v6: u16, port: u16| {
        let address = match (ip.get(v4), ip.get(v6)) {
            (Some(v4), _) => IpAddr::from(<[u8; 4]>::try_from(v4.value).ok()?),
            (None, Some(v6)) => IpAddr::from(<[u8; 16]>::try_from(v6.value).ok()?),
            (None, None) => return None,
        };
        Some(SocketAddr::new(address, proto.get(port)?.be16()?))
    };
    Some((proto.get(1)?.u8()?, end(1, 3, 2)?, end(2, 4, 3)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tracked_connection_is_read_with_its_bytes() {
        let mut w = Writer::default();
        w.nest(CTA_TUPLE_ORIG, |w| {
            w.nest(CTA_TUPLE_IP, |w| {
                w.bytes(1, &[10, 0, 0, 9]).bytes(2, &[192, 0, 2, 1]);
            });
            w.nest(CTA_TUPLE_PROTO, |w| {
                w.u8(1, 6).be16(2, 40_000).be16(3, 443);
            });
        });
        w.nest(CTA_COUNTERS_ORIG, |w| {
            w.be64(CTA_COUNTERS_BYTES, 1_000);
        });
        let bytes = w.finish().unwrap();
        let flow = read_connection(Attributes(&bytes)).unwrap();
        assert_eq!(flow.local, "10.0.0.9:40000".parse().unwrap());
        assert_eq!(flow.remote, "192.0.2.1:443".parse().unwrap());
        assert_eq!((flow.sent, flow.received), (Some(1_000), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_socket(IPPROTO_TCP, &bytes);
            let _ = read_connection(Attributes(&bytes));
        }
    }
}
