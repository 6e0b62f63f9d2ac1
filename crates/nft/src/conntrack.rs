//! Connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`): who began them, and
//! where NAT sent them. Their bytes are counted where `net.netfilter.nf_conntrack_acct` is on.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use crate::{
    Error,
    message::Message,
    nla::{Attributes, Writer},
    sock_diag::{TCP, family},
    socket::Netlink,
    uapi::{NFNL_SUBSYS_CTNETLINK, NLM_F_DUMP},
};

const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_COUNTERS_BYTES: u16 = 2;

/// A tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The protocol's number in the IP header.
    pub protocol: u8,
    /// Who began it.
    pub source: SocketAddr,
    /// Whom it was begun to, before NAT.
    pub destination: SocketAddr,
    /// Bytes from the source, where they are counted.
    pub sent: Option<u64>,
    /// Bytes to the source, likewise.
    pub received: Option<u64>,
}

/// The tracked connections that `wanted` accepts. None where the kernel tracks none.
///
/// # Errors
/// The kernel refuses for another reason than that nothing is tracked.
pub fn connections(wanted: impl Fn(&Connection) -> bool) -> Result<Vec<Connection>, Error> {
    let attempt = "list tracked connections";
    let request = Message::netfilter(
        NFNL_SUBSYS_CTNETLINK,
        IPCTNL_MSG_CT_GET,
        NLM_F_DUMP,
        0,
        attempt.to_owned(),
        Writer::default(),
    )?;
    let found = Netlink::open()?.dump(attempt, &request, |found, reply| {
        if reply.kind & 0xff == IPCTNL_MSG_CT_NEW {
            found.extend(read(reply.attributes()).filter(|connection| wanted(connection)));
        }
    });
    match found {
        // There is no such module.
        Err(error) if is_untracked(&error) => Ok(Vec::new()),
        found => found,
    }
}

fn is_untracked(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused {
            errno: Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL,
            ..
        }
    )
}

/// Where NAT sent a TCP connection from `ours` to `theirs`: our end as the other sees it, and the other
/// end. None where no connection is tracked, or it was sent where it should go.
///
/// # Errors
/// The kernel refuses for another reason than that nothing is tracked.
pub fn translated(
    ours: SocketAddr,
    theirs: SocketAddr,
) -> Result<Option<(SocketAddr, SocketAddr)>, Error> {
    let attempt = "look up a tracked connection";
    let request = about(attempt, TCP, ours, theirs)?;
    let read = |a: Attributes<'_>| read_tuple(Attributes(a.bytes(CTA_TUPLE_REPLY)));
    let found = Netlink::open()?.get(attempt, &request, |reply| read(reply.attributes()));
    match found {
        Ok((_, there, back)) => Ok(((back, there) != (ours, theirs)).then_some((back, there))),
        // Nothing is tracked here, or not this.
        Err(error) if is_untracked(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the kernel tracks what `ours` sent `theirs` by this protocol, TCP or UDP.
///
/// # Errors
/// The kernel refuses for another reason than that nothing is tracked.
pub fn is_tracked(protocol: u8, ours: SocketAddr, theirs: SocketAddr) -> Result<bool, Error> {
    let attempt = "look whether a flow is tracked";
    let request = about(attempt, protocol, ours, theirs)?;
    match Netlink::open()?.get(attempt, &request, |_| Some(())) {
        Ok(()) => Ok(true),
        Err(error) if is_untracked(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A question about the connection that began from one of these to the other.
fn about(
    attempt: &str,
    protocol: u8,
    ours: SocketAddr,
    theirs: SocketAddr,
) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.nest(CTA_TUPLE_ORIG, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            match (ours.ip(), theirs.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    w.bytes(1, &from.octets()).bytes(2, &to.octets())
                }
                (from, to) => w.bytes(3, &octets(from)).bytes(4, &octets(to)),
            };
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.u8(1, protocol)
                .be16(2, ours.port())
                .be16(3, theirs.port());
        });
    });
    let says = format!("{attempt} to {theirs}");
    let (subsystem, kind) = (NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
    Ok(Message::netfilter(subsystem, kind, 0, 0, says, w)?.of_family(family(theirs)))
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads one connection.
pub fn read(a: Attributes<'_>) -> Option<Connection> {
    let (protocol, source, destination) = read_tuple(Attributes(a.bytes(CTA_TUPLE_ORIG)))?;
    let bytes = |kind: u16| Attributes(a.bytes(kind)).be64(CTA_COUNTERS_BYTES);
    Some(Connection {
        protocol,
        source,
        destination,
        sent: bytes(CTA_COUNTERS_ORIG),
        received: bytes(CTA_COUNTERS_REPLY),
    })
}

/// Protocol, source and destination of one direction of a tracked connection.
pub(crate) fn read_tuple(tuple: Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
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
        let connection = read(Attributes(&bytes)).unwrap();
        assert_eq!(connection.source, "10.0.0.9:40000".parse().unwrap());
        assert_eq!(connection.destination, "192.0.2.1:443".parse().unwrap());
        assert_eq!((connection.sent, connection.received), (Some(1_000), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(Attributes(&bytes));
        }
    }
}
