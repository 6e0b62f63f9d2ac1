//! Changes that others make to a table, as they happen: the multicast group
//! `NFNLGRP_NFTABLES` (`linux/netfilter/nfnetlink.h`).
//!
//! The kernel sends a transaction's changes, each with its table's name, and then one
//! `NFT_MSG_NEWGEN` with the writer's process (`nf_tables_commit` in
//! `net/netfilter/nf_tables_api.c`). What packets or timeouts do to a set is not sent.

use std::{collections::VecDeque, fmt};

use nix::sys::socket::{SockFlag, SockProtocol};

use crate::{
    Error,
    foreign_change::ForeignChange,
    listener::{Listener, Received},
    message::Reply,
    socket::Netlink,
    uapi::*,
};

/// Some tens of thousands of elements.
const RECEIVE_QUEUE: usize = 8 << 20;
/// `TASK_COMM_LEN`.
const NAME_MAX: usize = 16;

/// A table that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its name.
    pub table: &'static str,
    /// The families in which a table of that name is watched, `NFPROTO_*`.
    pub families: &'static [u8],
    /// The port of the socket that the table is written with ([`Netlink::port`]): what it does is
    /// not told.
    pub own: u32,
}

/// Something happened to a table that its writer did not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignWrite {
    /// Another changed it, and how.
    By(Writer, ForeignChange),
    /// Changes came faster than they were read: whether any was another's is not known.
    Unknown,
}

/// Who committed a transaction, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// The thread's number in the initial pid namespace.
    pub pid: u32,
    /// Its name, 15 bytes at most, everything but printable ASCII escaped: a process chooses it.
    pub name: String,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The changes of others, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Monitor {
    listener: Listener,
    reader: Reader,
    waiting: VecDeque<ForeignWrite>,
    /// Something was dropped, and what is queued is not read yet.
    lost: bool,
}

/// A socket that keeps changes until they are read, and its membership of the group.
///
/// # Errors
/// [`Error::Socket`], with CAP_NET_ADMIN missing most likely.
pub fn join() -> Result<(Netlink, Membership), Error> {
    let netlink = Netlink::of(SockProtocol::NetlinkNetFilter, SockFlag::SOCK_NONBLOCK)?;
    let netlink = netlink.with_queue(RECEIVE_QUEUE)?;
    netlink.join(NFNLGRP_NFTABLES)?;
    let membership = Membership(netlink.try_clone()?);
    Ok((netlink, membership))
}

/// A monitor's membership of the multicast group, for the writer. While somebody listens the kernel
/// writes a message for each element of a transaction: for thousands of elements half of the time
/// that the transaction takes, and the monitor reads them all only to see that they are its own.
#[derive(Debug)]
pub struct Membership(Netlink);

impl Membership {
    /// Be told nothing from now on. What was told before is kept.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn leave(&self) -> Result<(), Error> {
        self.0.leave(NFNLGRP_NFTABLES)
    }

    /// Be told again.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn join(&self) -> Result<(), Error> {
        self.0.join(NFNLGRP_NFTABLES)
    }
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn listen(watch: Watch) -> Result<Self, Error> {
        Self::on(join()?.0, watch)
    }

    /// The same with a socket that has listened since before ([`join`]).
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn on(joined: Netlink, watch: Watch) -> Result<Self, Error> {
        Ok(Self {
            listener: Listener::on(joined, "read changes of the rules")?,
            reader: Reader::new(watch),
            waiting: VecDeque::new(),
            lost: false,
        })
    }

    /// Tell no more of what the socket with this port does, instead of the one before: the writer went
    /// on with another socket.
    pub fn set_own(&mut self, own: u32) {
        self.reader.watch.own = own;
    }

    /// The next changes by others, all that came at one go. Cancelling loses none.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn next_ones(&mut self) -> Result<Vec<ForeignWrite>, Error> {
        let first = self.next().await?;
        Ok([first].into_iter().chain(self.waiting.drain(..)).collect())
    }

    /// The next change by another. Cancelling loses none.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn next(&mut self) -> Result<ForeignWrite, Error> {
        loop {
            if let Some(write) = self.waiting.pop_front() {
                return Ok(write);
            }
            match self.listener.next().await? {
                Received::Messages(replies) => self
                    .waiting
                    .extend(replies.filter_map(|reply| self.reader.take(reply))),
                // Whoever looks at the rules only now has seen all of what was lost.
                Received::Nothing if std::mem::take(&mut self.lost) => {
                    return Ok(ForeignWrite::Unknown);
                }
                Received::Nothing => {}
                Received::Lost => self.lost = true,
            }
        }
    }
}

/// Puts a transaction's messages together: a [`Monitor`] without its socket.
#[derive(Debug)]
pub struct Reader {
    watch: Watch,
    /// What the transaction under way does to the table.
    change: ForeignChange,
}

impl Reader {
    /// Reads what is about this table.
    pub fn new(watch: Watch) -> Self {
        let change = ForeignChange::default();
        Self { watch, change }
    }

    /// What a message completes.
    pub fn take(&mut self, reply: Reply<'_>) -> Option<ForeignWrite> {
        if reply.kind >> 8 != NFNL_SUBSYS_NFTABLES {
            return None;
        }
        let attributes = reply.attributes();
        if !reply.is_nft(NFT_MSG_NEWGEN) {
            let family = reply.payload.first();
            let watched = family.is_some_and(|family| self.watch.families.contains(family));
            // Whatever the object, its table's name is its first attribute.
            let named = || attributes.text(NFTA_TABLE_NAME) == Some(self.watch.table);
            if reply.port != self.watch.own && watched && named() {
                self.change.add(reply);
            }
            return None;
        }
        let change = std::mem::take(&mut self.change);
        if reply.port == self.watch.own || change.is_empty() {
            return None;
        }
        let writer = Writer {
            pid: attributes.be32(NFTA_GEN_PROC_PID).unwrap_or(0),
            name: name_of(attributes.bytes(NFTA_GEN_PROC_NAME)),
        };
        Some(ForeignWrite::By(writer, change))
    }
}

fn name_of(bytes: &[u8]) -> String {
    let name = bytes.iter().take(NAME_MAX).take_while(|byte| **byte != 0);
    let name: String = name.map(|byte| byte.escape_ascii().to_string()).collect();
    if name.is_empty() {
        return "an unknown process".to_owned();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Replies, nla};
    use proptest::prelude::*;

    fn message(kind: u16, port: u32, family: u8, fill: impl Fn(&mut nla::Writer)) -> Vec<u8> {
        let mut w = nla::Writer::default();
        fill(&mut w);
        let body = w.finish().unwrap();
        let mut bytes = Vec::new();
        bytes.extend((20 + body.len() as u32).to_ne_bytes());
        bytes.extend((NFNL_SUBSYS_NFTABLES << 8 | kind).to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(port.to_ne_bytes());
        bytes.extend([family, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    fn rule(table: &str, family: u8) -> Vec<u8> {
        message(NFT_MSG_NEWRULE, 9, family, |w| {
            w.text(NFTA_RULE_TABLE, table);
        })
    }

    fn end(port: u32, name: &[u8]) -> Vec<u8> {
        message(NFT_MSG_NEWGEN, port, 0, |w| {
            w.be32(NFTA_GEN_ID, 1).be32(NFTA_GEN_PROC_PID, 77);
            w.bytes(NFTA_GEN_PROC_NAME, name);
        })
    }

    fn watch(own: u32) -> Watch {
        Watch {
            table: "t",
            families: &[NFPROTO_INET, NFPROTO_BRIDGE],
            own,
        }
    }

    fn told(own: u32, messages: &[Vec<u8>]) -> Vec<ForeignWrite> {
        let mut reader = Reader::new(watch(own));
        let bytes = messages.concat();
        Replies(&bytes).filter_map(|r| reader.take(r)).collect()
    }

    #[test]
    fn a_change_of_the_table_by_another_socket_names_the_writer() {
        let writer = Writer {
            pid: 77,
            name: "nft".into(),
        };
        let messages = [rule("t", NFPROTO_INET), end(9, b"nft\0")];
        let [ForeignWrite::By(by, change)] = &told(5, &messages)[..] else {
            panic!("nothing told");
        };
        assert_eq!(*by, writer);
        assert_eq!(change.to_string(), "a rule of chain ? was added");
        assert_eq!(told(9, &messages), []);
    }

    #[test]
    fn what_happens_to_other_tables_is_passed_over() {
        for (table, family) in [("filter", NFPROTO_INET), ("t", NFPROTO_IPV4)] {
            let messages = [rule(table, family), end(9, b"nft\0")];
            assert_eq!(told(5, &messages), [], "{table} {family}");
        }
    }

    #[test]
    fn a_writers_name_cannot_break_a_line() {
        assert_eq!(name_of(b"a\nb\x1b\0rest"), "a\\nb\\x1b");
        assert_eq!(name_of(b""), "an unknown process");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(watch(1));
            let _ = Replies(&bytes).filter_map(|r| reader.take(r)).count();
        }
    }
}
