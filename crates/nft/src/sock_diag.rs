//! Sockets of this network namespace, who owns them, and what they sent and received
//! (`sock_diag(7)`, `linux/inet_diag.h`).
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

use crate::{
    Error,
    message::Message,
    nla::{Attributes, Writer},
    socket::Netlink,
    uapi::NLM_F_DUMP,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const REQUEST: usize = 56;
const ANSWER: usize = 72;
const INET_DIAG_INFO: u16 = 2;
/// Since Linux 5.9.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `tcpi_bytes_acked` and `tcpi_bytes_received` in `struct tcp_info`.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
/// The states `TCP_ESTABLISHED` and `TCP_LISTEN` in `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// All of TCP's states but those of no peer: closed, listening, and waiting for stray packets.
const WITH_A_PEER: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// TCP's number in the IP header.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;

/// A cgroup's number, which is the inode of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

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
pub struct Listening {
    /// Where it listens.
    pub at: SocketAddr,
    /// Who owns it.
    pub owner: SocketOwner,
}

/// A socket as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its state, in TCP's numbers.
    pub state: u8,
    /// Its own end.
    pub local: SocketAddr,
    /// The other end; port 0 where there is none.
    pub remote: SocketAddr,
    /// 0 before a process has accepted it.
    pub inode: u32,
    /// Who owns it.
    pub owner: SocketOwner,
    /// Bytes that TCP sent and had confirmed.
    pub sent: Option<u64>,
    /// Bytes that TCP received.
    pub received: Option<u64>,
}

/// Questions about sockets of this network namespace. Each blocks until the kernel answers: some
/// microseconds, or some milliseconds for all sockets.
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

    /// The other end of a TCP connection from `ours` to `theirs`.
    ///
    /// # Errors
    /// The kernel refuses, or answers what its headers do not describe.
    pub fn other_end(&mut self, ours: SocketAddr, theirs: SocketAddr) -> Result<OtherEnd, Error> {
        let attempt = "look up the other end of a connection";
        let header = request(TCP, 0, theirs, Some(ours));
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
    pub fn listeners(&mut self, port: u16) -> Result<Vec<Listening>, Error> {
        let mut found = self.listening(port, format!("list listening sockets of port {port}"))?;
        found.retain(|listening| listening.at.port() == port);
        Ok(found)
    }

    /// Everything that listens on any TCP port.
    ///
    /// # Errors
    /// As for [`Sockets::other_end`].
    pub fn all_listeners(&mut self) -> Result<Vec<Listening>, Error> {
        self.listening(0, "list listening sockets".to_owned())
    }

    fn listening(&mut self, port: u16, says: String) -> Result<Vec<Listening>, Error> {
        let mut found = Vec::new();
        for any in ANY {
            let header = request(TCP, 1 << LISTEN, SocketAddr::new(any, port), None);
            let sockets = self.dump("list listening sockets", says.clone(), &header)?;
            let listening = sockets
                .into_iter()
                .filter(|socket| socket.state == LISTEN)
                .map(|socket| Listening {
                    at: socket.local,
                    owner: socket.owner,
                });
            found.extend(listening);
        }
        Ok(found)
    }

    /// All sockets of a protocol ([`TCP`], [`UDP`]) that have another end. A kernel that cannot list a
    /// protocol (`CONFIG_INET_UDP_DIAG`) has none.
    ///
    /// # Errors
    /// As for [`Sockets::other_end`].
    pub fn with_another_end(&mut self, protocol: u8) -> Result<Vec<Socket>, Error> {
        let attempt = "list the sockets of this node";
        let mut found = Vec::new();
        for any in ANY {
            let header = request(protocol, WITH_A_PEER, SocketAddr::new(any, 0), None);
            match self.dump(attempt, attempt.to_owned(), &header) {
                Ok(sockets) => found.extend(sockets),
                Err(Error::Refused {
                    errno: Errno::ENOENT | Errno::EOPNOTSUPP,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        found.retain(|socket| socket.remote.port() != 0);
        Ok(found)
    }

    fn dump(
        &mut self,
        attempt: &'static str,
        says: String,
        header: &[u8],
    ) -> Result<Vec<Socket>, Error> {
        let (kind, flags) = (SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
        let request = Message::new(kind, flags, says, header, Writer::default())?;
        self.0.dump(attempt, &request, |found, reply| {
            if reply.kind == kind {
                found.extend(read(reply.payload));
            }
        })
    }
}

const ANY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

impl Socket {
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

/// `struct inet_diag_req_v2`: of one socket by both its ends, or of all by their family and, where
/// that is not 0, their own port.
fn request(
    protocol: u8,
    states: u32,
    local: SocketAddr,
    remote: Option<SocketAddr>,
) -> [u8; REQUEST] {
    let mut bytes = Vec::with_capacity(REQUEST);
    let info = 1 << (INET_DIAG_INFO - 1);
    bytes.extend([family(local), protocol, info, 0]);
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

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family(end: SocketAddr) -> u8 {
    let family = match end {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).unwrap_or(0)
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

/// Reads `struct inet_diag_msg` and its attributes.
pub fn read(payload: &[u8]) -> Option<Socket> {
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
    let info = attributes.bytes(INET_DIAG_INFO);
    let count = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    let cgroup = attributes.get(INET_DIAG_CGROUP_ID);
    let cgroup = cgroup.and_then(|cgroup| cgroup.value.first_chunk().copied());
    Some(Socket {
        state: *payload.get(1)?,
        local: end(4, 8)?,
        remote: end(6, 24)?,
        inode: number(68)?,
        owner: SocketOwner {
            cgroup: cgroup.map(|id| CgroupId(u64::from_ne_bytes(id))),
            uid: number(64)?,
        },
        sent: count(BYTES_ACKED),
        received: count(BYTES_RECEIVED),
    })
}

#[cfg(test)]
mod tests;
