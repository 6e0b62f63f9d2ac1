//! Devices, their queues (HTB, fq_codel) and the routes that lead to them.

use nix::libc;

use crate::{
    Error,
    links::Links,
    message::Message,
    nla::Writer,
    rtnl,
    uapi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL},
};

/// What a class of HTB may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtbClass {
    /// Bytes per second; no more is borrowed.
    pub bytes_per_second: u64,
    /// Bytes at once after a rest.
    pub burst: u32,
    /// Bytes in its turn.
    pub quantum: u32,
}

/// The settings of a queue of kind `fq_codel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FqCodel {
    /// How long a packet may wait, µs.
    pub target_us: u32,
    /// For how long packets may wait longer before some are dropped, µs.
    pub interval_us: u32,
    /// How many flows take turns; each takes 64 bytes of the kernel.
    pub flows: u32,
}

/// Devices. A kernel that refuses is [`Error::Refused`].
impl Links {
    /// Makes a pair of devices, of which one sends what the other receives (`veth(4)`). Each has this
    /// MTU, and room for this many packets that wait.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken.
    pub fn add_veth(&mut self, name: &str, peer: &str, mtu: u32, queue: u32) -> Result<(), Error> {
        let body = rtnl::pair(name, peer, mtu, queue);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.order_rtnl("make a pair of devices", rtnl::RTM_NEWLINK, flags, &body)
    }

    /// Gives a device a line of text for readers of its listing.
    ///
    /// # Errors
    /// `ENODEV` for a device that is not there, as for the next three.
    pub fn set_alias(&mut self, index: u32, text: &str) -> Result<(), Error> {
        let body = rtnl::alias(index, text);
        self.order_rtnl("describe a device", rtnl::RTM_NEWLINK, 0, &body)
    }

    /// Keeps IPv6 from giving a device an address, so that it sends nothing by itself.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where IPv6 is switched off.
    pub fn set_without_addresses(&mut self, index: u32) -> Result<(), Error> {
        let body = rtnl::no_addresses(index);
        self.order_rtnl("keep a device silent", rtnl::RTM_NEWLINK, 0, &body)
    }

    /// Switches a device on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let body = rtnl::up(index);
        self.order_rtnl("switch a device on", rtnl::RTM_NEWLINK, 0, &body)
    }

    /// Takes a device away, with its queues.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&mut self, index: u32) -> Result<(), Error> {
        let body = rtnl::device(index);
        self.order_rtnl("take a device away", rtnl::RTM_DELLINK, 0, &body)
    }

    /// The interfaces that default routes of either family lead to; some may be named twice.
    ///
    /// # Errors
    /// [`Error::Unsettled`] if they kept changing.
    pub fn default_routes(&mut self) -> Result<Vec<u32>, Error> {
        let mut indexes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).unwrap_or_default();
            let body = rtnl::routes(family);
            let attempt = "list the routes";
            let request = message(attempt, rtnl::RTM_GETROUTE, NLM_F_DUMP, &body)?;
            indexes.extend(self.netlink().dump(attempt, &request, |found, reply| {
                if reply.kind == rtnl::RTM_NEWROUTE {
                    found.extend(rtnl::default_route(reply.payload));
                }
            })?);
        }
        Ok(indexes)
    }
}

/// Queues. A handle is a major number in the upper 16 bits; a class of a queue has its major number,
/// and a minor number in the lower.
impl Links {
    /// Makes HTB the queue of a device; what belongs to no class is not held back.
    ///
    /// # Errors
    /// `EEXIST` where it is already.
    pub fn add_htb(&mut self, index: u32, handle: u32) -> Result<(), Error> {
        let body = rtnl::htb(index, handle);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.order_rtnl("make a queue (HTB)", rtnl::RTM_NEWQDISC, flags, &body)
    }

    /// Adds a class to that queue, or changes it: what waits in it stays.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_class(
        &mut self,
        index: u32,
        queue: u32,
        class: u32,
        settings: HtbClass,
    ) -> Result<(), Error> {
        let body = rtnl::class(index, queue, class, settings);
        let attempt = "make a class of a queue (HTB)";
        self.order_rtnl(attempt, rtnl::RTM_NEWTCLASS, NLM_F_CREATE, &body)
    }

    /// Has the flows of a class take turns.
    ///
    /// # Errors
    /// The kernel refuses: it may have no `fq_codel`.
    pub fn add_fq_codel(&mut self, index: u32, class: u32, settings: FqCodel) -> Result<(), Error> {
        let body = rtnl::fq_codel(index, class, settings);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.order_rtnl("have flows take turns", rtnl::RTM_NEWQDISC, flags, &body)
    }

    /// Ends a class; what waits in it is lost.
    ///
    /// # Errors
    /// `ENOENT` for a class that is not there.
    pub fn delete_class(&mut self, index: u32, class: u32) -> Result<(), Error> {
        let body = rtnl::classes(index, class);
        self.order_rtnl("end a class of a queue", rtnl::RTM_DELTCLASS, 0, &body)
    }

    /// The classes of all queues of a device.
    ///
    /// # Errors
    /// [`Error::Unsettled`] if they kept changing.
    pub fn classes(&mut self, index: u32) -> Result<Vec<u32>, Error> {
        let attempt = "list the classes of a queue";
        let body = rtnl::classes(index, 0);
        let request = message(attempt, rtnl::RTM_GETTCLASS, NLM_F_DUMP, &body)?;
        self.netlink().dump(attempt, &request, |found, reply| {
            if reply.kind == rtnl::RTM_NEWTCLASS {
                found.extend(rtnl::class_of(reply.payload));
            }
        })
    }

    fn order_rtnl(
        &mut self,
        attempt: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(), Error> {
        let message = message(attempt, kind, flags | NLM_F_ACK, body)?;
        self.netlink().order(attempt, &message)
    }
}

fn message(says: &str, kind: u16, flags: u16, body: &[u8]) -> Result<Message, Error> {
    Message::new(kind, flags, says.to_owned(), body, Writer::default())
}
