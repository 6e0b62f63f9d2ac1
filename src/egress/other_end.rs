//! The socket at the other end of a TCP connection within this node, and who owns it
//! (`sock_diag(7)`, `linux/inet_diag.h`). Where NAT sent the connection elsewhere, connection
//! tracking says where.
//!
//! An accepted socket keeps the cgroup in which its listener was made (`cgroup_sk_clone` in
//! `net/core/sock.c`), and gets the uid of the process that accepted it (`sock_graft`). Until then
//! it has neither inode nor uid, and the kernel reports uid 0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockFlag, SockProtocol},
};

use super::{
    CgroupId, Error,
    flows::{
        ANSWER, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, INET_DIAG_CGROUP_ID,
        IPCTNL_MSG_CT_GET, IPPROTO_TCP, REQUEST, SOCK_DIAG_BY_FAMILY, read_tuple,
    },
    message::Message,
    nla::{Attributes, Writer},
    socket::Netlink,
    uapi::{NFNL_SUBSYS_CTNETLINK, NLM_F_DUMP},
};

const CTA_TUPLE_REPLY: u16 = 2;
/// `TCP_ESTABLISHED` and `TCP_LISTEN` in `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// Who owns a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// The cgroup in which it, or the listener that it comes from, was made. None where the kernel
    /// does not say (built without `CONFIG_SOCK_CGROUP_DATA`).
    pub cgroup: Option<CgroupId>,
    /// The uid of the process that made or accepted it.
    pub uid: u32,
}

/// What the kernel says of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// A process of this network namespace has accepted it.
    Accepted(SocketOwner),
    /// It is in this network namespace, and no process has accepted it yet.
    Waiting,
    /// It is not in this network namespace.
    Absent,
}

/// A listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub at: SocketAddr,
    /// Who owns it.
    pub owner: SocketOwner,
}

/// Questions about sockets of this network namespace. Each blocks until the kernel answers: some
/// microseconds, or some milliseconds for all listeners.
#[derive(Debug)]
pub struct Sockets(Netlink);

impl Sockets {
    /// Opens a socket to ask with.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Netlink::of(
            SockProtocol::NetlinkSockDiag,
            SockFlag::empty(),
        )?))
    }

    /// The other end of a connection from `ours` to `theirs`.
    ///
    /// # Errors
    /// The kernel refuses, or answers what its headers do not describe.
    pub fn other_end(&mut self, ours: SocketAddr, theirs: SocketAddr) -> Result<OtherEnd, Error> {
        let attempt = "look up the other end of a connection";
        let header = request(0, theirs, Some(ours));
        let says = format!("{attempt} to {theirs}");
        let request = Message::new(SOCK_DIAG_BY_FAMILY, 0, says, &header, Writer::default())?;
        let found = self.0.get(attempt, &request, |reply| read(reply.payload));
        match found {
            Ok(socket) => Ok(socket.as_other_end(ours, theirs)),
            Err(Error::Refused {
                errno: Errno::ENOENT,
                ..
            }) => Ok(OtherEnd::Absent),
            Err(error) => Err(error),
        }
    }

    /// Everything that listens on a TCP port.
    ///
    /// # Errors
    /// As for [`Sockets::other_end`].
    pub fn listeners(&mut self, port: u16) -> Result<Vec<Listener>, Error> {
        let attempt = "list listening sockets";
        let mut found = Vec::new();
        for any in [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            let header = request(1 << LISTEN, SocketAddr::new(any, port), None);
            let kind = SOCK_DIAG_BY_FAMILY;
            let says = format!("{attempt} of port {port}");
            let request = Message::new(kind, NLM_F_DUMP, says, &header, Writer::default())?;
            found.extend(self.0.dump(attempt, &request, |found, reply| {
                if reply.kind == kind
                    && let Some(socket) = read(reply.payload)
                    && (socket.state, socket.local.port()) == (LISTEN, port)
                {
                    found.push(Listener {
                        at: socket.local,
                        owner: socket.owner,
                    });
                }
            })?);
        }
        Ok(found)
    }
}

/// Where NAT sent a connection from `ours` to `theirs`: our end as the other sees it, and the other
/// end. None where no connection is tracked, or it was sent where it should go.
///
/// # Errors
/// The kernel refuses for another reason than that nothing is tracked.
pub(crate) fn translated(
    ours: SocketAddr,
    theirs: SocketAddr,
) -> Result<Option<(SocketAddr, SocketAddr)>, Error> {
    let attempt = "look up a tracked connection";
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
            w.u8(1, IPPROTO_TCP)
                .be16(2, ours.port())
                .be16(3, theirs.port());
        });
    });
    let says = format!("{attempt} to {theirs}");
    let (subsystem, kind) = (NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
    let request = Message::netfilter(subsystem, kind, 0, 0, says, w)?.of_family(family(theirs));
    let read = |a: Attributes<'_>| read_tuple(Attributes(a.bytes(CTA_TUPLE_REPLY)));
    let found = Netlink::open()?.get(attempt, &request, |reply| read(reply.attributes()));
    match found {
        Ok((_, there, back)) => Ok(((back, there) != (ours, theirs)).then_some((back, there))),
        // Nothing is tracked here, or not this.
        Err(Error::Refused {
            errno: Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket as `sock_diag` describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Described {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    inode: u32,
    owner: SocketOwner,
}

impl Described {
    /// Without the connection's own socket the kernel answers with a listener of that port, be it
    /// one of all addresses, which proves nothing about who takes this connection (`inet_lookup`).
    fn as_other_end(&self, ours: SocketAddr, theirs: SocketAddr) -> OtherEnd {
        if (self.local, self.remote) != (theirs, ours) {
            return OtherEnd::Absent;
        }
        match (self.state, self.inode) {
            (ESTABLISHED, 1..) => OtherEnd::Accepted(self.owner),
            _ => OtherEnd::Waiting,
        }
    }
}

/// `struct inet_diag_req_v2`: of one socket by both its ends, or of all by their own port.
fn request(states: u32, local: SocketAddr, remote: Option<SocketAddr>) -> [u8; REQUEST] {
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend([family(local), IPPROTO_TCP, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.map_or(0, |remote| remote.port()).to_be_bytes());
    for end in [Some(local), remote] {
        bytes.extend(end.map_or([0; 16], |end| padded(end.ip())));
    }
    // No interface, and any cookie (INET_DIAG_NOCOOKIE).
    bytes.extend([0; 4]);
    bytes.resize(REQUEST, u8::MAX);
    bytes.try_into().unwrap_or([0; REQUEST])
}

fn family(end: SocketAddr) -> u8 {
    let family = match end {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).unwrap_or(0)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address as `struct inet_diag_sockid` holds it.
fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            for (place, byte) in bytes.iter_mut().zip(v4.octets()) {
                *place = byte;
            }
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads `struct inet_diag_msg` and the cgroup among its attributes.
pub(super) fn read(payload: &[u8]) -> Option<Described> {
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(*payload.get(port..)?.first_chunk()?);
        let bytes = payload.get(address..)?;
        let address = match i32::from(*payload.first()?) {
            libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
            // A socket of IPv6 that takes IPv4 as well shows it so.
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk()?)).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    };
    let number = |at: usize| Some(u32::from_ne_bytes(*payload.get(at..)?.first_chunk()?));
    let attributes = Attributes(payload.get(ANSWER..)?);
    let cgroup = attributes.get(INET_DIAG_CGROUP_ID);
    let cgroup = cgroup.and_then(|cgroup| cgroup.value.first_chunk().copied());
    Some(Described {
        state: *payload.get(1)?,
        local: end(4, 8)?,
        remote: end(6, 24)?,
        inode: number(68)?,
        owner: SocketOwner {
            cgroup: cgroup.map(|id| CgroupId(u64::from_ne_bytes(id))),
            uid: number(64)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt,
    };

    use proptest::prelude::*;

    use super::*;

    /// Asks until the kernel has made the other end's socket.
    fn other_end(stream: &TcpStream) -> OtherEnd {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let mut sockets = Sockets::open().unwrap();
        sockets
            .other_end(canonical(ours), canonical(theirs))
            .unwrap()
    }

    fn owner(end: OtherEnd) -> SocketOwner {
        match end {
            OtherEnd::Accepted(owner) => owner,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_has_an_owner_once_it_is_accepted() {
        for (listens, connects) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind(listens).unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = TcpStream::connect((connects, port)).unwrap();
            assert_eq!(other_end(&stream), OtherEnd::Waiting, "{listens}");
            let accepted = listener.accept().unwrap();
            let owner = owner(other_end(&stream));
            assert_eq!(owner.uid, nix::unistd::getuid().as_raw());
            let mut sockets = Sockets::open().unwrap();
            let [listener] = sockets.listeners(port).unwrap()[..] else {
                panic!("{listens}");
            };
            assert_eq!(listener.owner.cgroup, owner.cgroup);
            drop(accepted);
        }
    }

    #[test]
    fn the_owner_s_cgroup_is_a_directory_of_cgroup_v2() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _accepted = listener.accept().unwrap();
        let owner = owner(other_end(&stream));
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let here = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap();
        let root = cgroup::find_root().unwrap();
        let here = std::fs::metadata(root.join(here)).unwrap();
        assert_eq!(owner.cgroup, Some(CgroupId(here.ino())));
    }

    #[test]
    fn a_connection_to_nowhere_here_is_absent() {
        let mut sockets = Sockets::open().unwrap();
        let (ours, theirs) = ("192.0.2.1:1".parse(), "192.0.2.2:2".parse());
        let found = sockets.other_end(ours.unwrap(), theirs.unwrap());
        assert_eq!(found.unwrap(), OtherEnd::Absent);
    }

    #[test]
    fn a_listener_is_not_the_other_end_whatever_its_address() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "192.0.2.2"] {
            let theirs = SocketAddr::new(address.parse().unwrap(), port);
            let ours = SocketAddr::new(theirs.ip(), 1);
            let found = Sockets::open().unwrap().other_end(ours, theirs);
            assert_eq!(found.unwrap(), OtherEnd::Absent, "{address}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn only_an_established_socket_of_both_ends_is_accepted(
            state in 0..13u8,
            inode in 0..2u32,
            ports in (1..4u16, 1..4u16),
        ) {
            let end = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            let owner = SocketOwner { cgroup: None, uid: 0 };
            let (local, remote) = (end(ports.0), end(ports.1));
            let socket = Described { state, local, remote, inode, owner };
            let accepted = socket.as_other_end(end(1), end(2)) == OtherEnd::Accepted(owner);
            prop_assert_eq!(accepted, state == ESTABLISHED && inode > 0 && ports == (2, 1));
        }
    }
}
