//! Network interfaces of this node: which are ports of bridges, and into whose network namespace
//! each leads (`rtnetlink(7)`, `linux/if_link.h`, `linux/net_namespace.h`).
//!
//! A container's network is one end of a pair of interfaces whose other end is a port of a bridge
//! here. The kernel tells for each such port the number of the namespace that its other end is
//! in, and for each process the number of its namespace: what both agree on is the container's
//! port. Nothing that runs in the container can change either, and no namespace has to be entered.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            send, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};
use tokio::io::unix::AsyncFd;

use super::{
    Error,
    message::Replies,
    nla::{Attributes, align},
    socket as netlink,
    uapi::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_HDRLEN},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const RTNLGRP_LINK: libc::c_int = 1;
/// `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// `struct rtgenmsg`, padded.
const RTGENMSG: usize = 4;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
/// A part of a dump is at most this long.
const RECEIVE: usize = 64 << 10;
const EVENTS: usize = 1 << 20;
const TRIES: u32 = 5;

/// The number by which this network namespace knows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetnsId(i32);

/// An interface of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number; it is not given to another interface later.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link-layer address, if that is one of Ethernet.
    pub address: Option<[u8; 6]>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// The namespace that its other end is in, if that is not this one.
    pub peer: Option<NetnsId>,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// Whether it carries Ethernet.
    pub ethernet: bool,
    /// Whether it is switched on.
    pub up: bool,
}

/// Asks about interfaces, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Links {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl Links {
    /// Open a socket to ask on.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let fd = open(SockFlag::empty())?;
        // The kernel answers at once; this is for a machine in deep trouble.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))
            .map_err(failed("bound the wait for interfaces"))?;
        Ok(Self {
            fd,
            seq: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// All interfaces of this namespace.
    ///
    /// # Errors
    /// [`Error::Unsettled`] if they kept changing, [`Error::Socket`].
    pub fn all(&mut self) -> Result<Vec<Link>, Error> {
        const ATTEMPT: &str = "list the network interfaces";
        let mut body = vec![0; IFINFOMSG];
        attribute(
            &mut body,
            IFLA_EXT_MASK,
            &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
        );
        for _ in 0..TRIES {
            let mut links = Vec::new();
            let whole = self.ask(ATTEMPT, RTM_GETLINK, NLM_F_DUMP, &body, |kind, payload| {
                if kind == RTM_NEWLINK {
                    links.extend(link(payload));
                }
            })?;
            if whole {
                return Ok(links);
            }
        }
        Err(Error::Unsettled {
            attempt: ATTEMPT,
            tries: TRIES,
        })
    }

    /// The namespace that a process is in; `None` if it is this one, or no interface here leads
    /// there, or the process is gone.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn netns_of(&mut self, pid: u32) -> Result<Option<NetnsId>, Error> {
        const ATTEMPT: &str = "ask for a process's network namespace";
        let mut body = vec![0; RTGENMSG];
        attribute(&mut body, NETNSA_PID, &pid.to_ne_bytes());
        let mut found = None;
        let asked = self.ask(ATTEMPT, RTM_GETNSID, 0, &body, |kind, payload| {
            if kind == RTM_NEWNSID {
                let attributes = Attributes(payload.get(RTGENMSG..).unwrap_or_default());
                found = number(attributes, NETNSA_NSID).map(u32::cast_signed);
            }
        });
        match asked {
            // -1 is "has no number here".
            Ok(_) => Ok(found.filter(|id| *id >= 0).map(NetnsId)),
            Err(Error::Socket {
                errno: Errno::ESRCH,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks, and hands each answer's type and payload to `each`; false if a dump was interrupted
    /// by a change.
    ///
    /// # Errors
    /// [`Error::Socket`], also with what the kernel refused.
    pub(super) fn ask(
        &mut self,
        attempt: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<bool, Error> {
        const NLM_F_DUMP_INTR: u16 = 0x10;
        self.seq = self.seq.wrapping_add(1).max(1);
        let seq = self.seq;
        let length = u32::try_from(NLMSG_HDRLEN + body.len()).unwrap_or(u32::MAX);
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        request.extend(seq.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        send(self.fd.as_raw_fd(), &request, MsgFlags::empty()).map_err(failed(attempt))?;
        let mut whole = true;
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length.min(self.buffer.len()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            };
            for reply in Replies(&self.buffer[..length]).filter(|reply| reply.seq == seq) {
                whole &= reply.flags & NLM_F_DUMP_INTR == 0;
                match reply.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => match reply.outcome() {
                        Some((0, _)) => return Ok(whole),
                        Some((code, _)) => {
                            let errno = Errno::from_raw(code);
                            return Err(Error::Socket { attempt, errno });
                        }
                        None => {
                            return Err(Error::Malformed {
                                attempt,
                                what: "short error",
                            });
                        }
                    },
                    other => {
                        each(other, reply.payload);
                        if flags & NLM_F_DUMP == 0 {
                            return Ok(true);
                        }
                    }
                }
            }
        }
    }
}

/// Tells when interfaces come, go or change, in the network namespace it was opened in.
#[derive(Debug)]
pub struct LinkEvents {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl LinkEvents {
    /// Listen.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn listen() -> Result<Self, Error> {
        let fd = open(SockFlag::SOCK_NONBLOCK)?;
        // Whatever is lost is made good by the next look at all of them.
        setsockopt(&fd, sockopt::RcvBuf, &EVENTS)
            .map_err(failed("enlarge the buffer for changes of interfaces"))?;
        netlink::join(&fd, RTNLGRP_LINK)?;
        // SAFETY: an `OwnedFd` is an open descriptor, and stays the same one until it is dropped
        // with the `AsyncFd` that now owns it.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| Error::Socket {
            attempt: "wait for changes of interfaces",
            errno: netlink::errno_of(&error.into()),
        })?;
        let buffer = vec![0; RECEIVE];
        Ok(Self { fd, buffer })
    }

    /// Waits until something changed, and takes in all that has until now.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn next(&mut self) -> Result<(), Error> {
        const ATTEMPT: &str = "read changes of interfaces";
        let mut changed = false;
        loop {
            let mut ready = self.fd.readable().await.map_err(|error| Error::Socket {
                attempt: ATTEMPT,
                errno: netlink::errno_of(&error),
            })?;
            let fd = ready.get_inner().as_raw_fd();
            match recv(fd, &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let length = length.min(self.buffer.len());
                    changed |= Replies(&self.buffer[..length])
                        .any(|reply| [RTM_NEWLINK, RTM_DELLINK].contains(&reply.kind));
                }
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    if changed {
                        return Ok(());
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => changed = true,
                Err(errno) => {
                    return Err(Error::Socket {
                        attempt: ATTEMPT,
                        errno,
                    });
                }
            }
        }
    }
}

fn open(flags: SockFlag) -> Result<OwnedFd, Error> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(failed("open a routing socket"))?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind a routing socket"))?;
    Ok(fd)
}

/// Appends an attribute; rtnetlink's numbers are in host order.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(align(body.len()), 0);
}

fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    let value = attributes.get(kind)?.value;
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// Reads `struct ifinfomsg` and its attributes.
fn link(payload: &[u8]) -> Option<Link> {
    const ARPHRD_ETHER: u16 = 1;
    const IFF_UP: u32 = 1;
    let kind = u16::from_ne_bytes(payload.get(2..4)?.try_into().ok()?);
    let index = i32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let attributes = Attributes(payload.get(IFINFOMSG..)?);
    let info = Attributes(attributes.bytes(IFLA_LINKINFO));
    Some(Link {
        index: u32::try_from(index).ok().filter(|index| *index > 0)?,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        address: attributes.bytes(IFLA_ADDRESS).try_into().ok(),
        master: number(attributes, IFLA_MASTER).filter(|master| *master > 0),
        peer: number(attributes, IFLA_LINK_NETNSID)
            .map(u32::cast_signed)
            .filter(|id| *id >= 0)
            .map(NetnsId),
        bridge: info.text(IFLA_INFO_KIND) == Some("bridge"),
        ethernet: kind == ARPHRD_ETHER,
        up: flags & IFF_UP != 0,
    })
}

fn failed(attempt: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Socket { attempt, errno }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_port_of_a_bridge_is_read_with_where_it_leads() {
        let mut payload = vec![0; IFINFOMSG];
        payload[4..8].copy_from_slice(&7i32.to_ne_bytes());
        attribute(&mut payload, IFLA_IFNAME, b"veth1\0");
        attribute(&mut payload, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        attribute(&mut payload, IFLA_MASTER, &3u32.to_ne_bytes());
        attribute(&mut payload, IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
        let found = link(&payload).unwrap();
        assert_eq!((found.index, found.name.as_str()), (7, "veth1"));
        assert_eq!(found.master, Some(3));
        assert_eq!(found.peer, Some(NetnsId(0)));
        assert_eq!(found.address, Some([2, 0, 0, 0, 0, 1]));
        assert!(!found.bridge);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = link(&bytes);
        }
    }
}
