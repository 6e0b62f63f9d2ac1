//! Network interfaces of this node: which are ports of bridges, and into whose network namespace
//! each leads (`rtnetlink(7)`, `linux/if_link.h`, `linux/net_namespace.h`).
//!
//! A container's network is one end of a pair of interfaces whose other end is a port of a bridge
//! here. The kernel tells for each such port the number of the namespace that its other end is
//! in, and for each process the number of its namespace: what both agree on is the container's
//! port. Nothing that runs in the container can change either, and no namespace has to be entered.

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockFlag, SockProtocol},
};

use crate::{
    Error,
    listener::{Listener, Received},
    message::Message,
    nla::{Attributes, Writer},
    socket::Netlink,
    uapi::NLM_F_DUMP,
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
const EVENTS: usize = 1 << 20;

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
pub struct Links(Netlink);

impl Links {
    /// Open a socket to ask on.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let route = SockProtocol::NetlinkRoute;
        Netlink::of(route, SockFlag::empty()).map(Self)
    }

    /// The socket, for what else there is to ask and to order.
    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.0
    }

    /// All interfaces of this namespace.
    ///
    /// # Errors
    /// [`Error::Unsettled`] if they kept changing, [`Error::Refused`], [`Error::Socket`].
    pub fn all(&mut self) -> Result<Vec<Link>, Error> {
        let mut w = Writer::default();
        w.bytes(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        let says = "list the network interfaces".to_owned();
        let request = Message::new(RTM_GETLINK, NLM_F_DUMP, says, &[0; IFINFOMSG], w)?;
        self.0
            .dump("list the network interfaces", &request, |links, reply| {
                if reply.kind == RTM_NEWLINK {
                    links.extend(read(reply.payload));
                }
            })
    }

    /// The namespace that a process is in; `None` if it is this one, or no interface here leads
    /// there, or the process is gone.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Socket`].
    pub fn netns_of(&mut self, pid: u32) -> Result<Option<NetnsId>, Error> {
        let attempt = "ask for a process's network namespace";
        let mut w = Writer::default();
        w.bytes(NETNSA_PID, &pid.to_ne_bytes());
        let request = Message::new(RTM_GETNSID, 0, attempt.to_owned(), &[0; RTGENMSG], w)?;
        let found = self.0.get(attempt, &request, |reply| {
            let attributes = Attributes(reply.payload.get(RTGENMSG..)?);
            (reply.kind == RTM_NEWNSID).then(|| number(attributes, NETNSA_NSID))?
        });
        match found.map(u32::cast_signed) {
            // -1 is "has no number here".
            Ok(id) => Ok((id >= 0).then_some(NetnsId(id))),
            Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Tells when interfaces come, go or change, in the network namespace it was opened in.
#[derive(Debug)]
pub struct LinkEvents {
    listener: Listener,
    changed: bool,
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
        let netlink = Netlink::of(SockProtocol::NetlinkRoute, SockFlag::SOCK_NONBLOCK)?;
        let netlink = netlink.with_queue(EVENTS)?;
        netlink.join(RTNLGRP_LINK)?;
        Ok(Self {
            listener: Listener::on(netlink, "read changes of interfaces")?,
            changed: false,
        })
    }

    /// Waits until something changed, and takes in all that has until now. Cancelling loses
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn next(&mut self) -> Result<(), Error> {
        loop {
            match self.listener.next().await? {
                Received::Messages(mut replies) => {
                    self.changed |=
                        replies.any(|reply| [RTM_NEWLINK, RTM_DELLINK].contains(&reply.kind));
                }
                // Made good by the next look at all of them.
                Received::Lost => self.changed = true,
                Received::Nothing if std::mem::take(&mut self.changed) => return Ok(()),
                Received::Nothing => {}
            }
        }
    }
}

fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    let value = attributes.get(kind)?.value;
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// Reads `struct ifinfomsg` and its attributes.
pub fn read(payload: &[u8]) -> Option<Link> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_port_of_a_bridge_is_read_with_where_it_leads() {
        let mut w = Writer::default();
        w.text(IFLA_IFNAME, "veth1")
            .bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        w.bytes(IFLA_MASTER, &3u32.to_ne_bytes())
            .bytes(IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
        let mut payload = vec![0; IFINFOMSG];
        payload[4..8].copy_from_slice(&7i32.to_ne_bytes());
        payload.extend(w.finish().unwrap());
        let found = read(&payload).unwrap();
        assert_eq!((found.index, found.name.as_str()), (7, "veth1"));
        assert_eq!(found.master, Some(3));
        assert_eq!(found.peer, Some(NetnsId(0)));
        assert_eq!(found.address, Some([2, 0, 0, 0, 0, 1]));
        assert!(!found.bridge);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
