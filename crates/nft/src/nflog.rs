//! Packets that rules log, as they happen, from the kernel's NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::collections::VecDeque;

use nix::{
    errno::Errno,
    sys::socket::{SockFlag, SockProtocol},
};

use crate::{
    Error,
    listener::{Listener, Received},
    message::{Message, Reply},
    nla::{Attributes, Writer},
    socket::Netlink,
    uapi::*,
};

/// Some thousands of packets: each message is a few hundred bytes.
const RECEIVE_QUEUE: usize = 1 << 20;
/// Headers are all that is asked for.
const COPY: u32 = 64;

/// A packet that a rule logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The rule's prefix.
    pub prefix: String,
    /// Its mark, where it has one.
    pub mark: Option<u32>,
    /// The sending socket's owner, where the kernel still knew it.
    pub uid: Option<u32>,
    /// It from its IP header on, 64 bytes at most.
    pub bytes: Vec<u8>,
}

impl Packet {
    /// Reads a message's attributes; `None` where no rule gave a prefix.
    pub fn read(a: Attributes<'_>) -> Option<Self> {
        Some(Self {
            prefix: a.text(NFULA_PREFIX)?.to_owned(),
            mark: a.be32(NFULA_MARK),
            uid: a.be32(NFULA_UID),
            bytes: a.bytes(NFULA_PAYLOAD).to_vec(),
        })
    }
}

/// The packets of one NFLOG group, of the network namespace it was opened in.
#[derive(Debug)]
pub struct Log {
    listener: Listener,
    reader: Reader,
    waiting: VecDeque<Packet>,
}

impl Log {
    /// Listen to a group.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::GroupTaken`] if another socket listens to the group; [`Error::Refused`],
    /// [`Error::Socket`].
    pub fn listen(group: u16) -> Result<Self, Error> {
        let netlink = Netlink::of(SockProtocol::NetlinkNetFilter, SockFlag::SOCK_NONBLOCK)?;
        let mut netlink = netlink.with_queue(RECEIVE_QUEUE)?;
        for message in configure(group)? {
            match netlink.order("listen to NFLOG", &message) {
                // Not for lack of rights: enlarging the queue needs the same ones.
                Err(Error::Refused {
                    errno: Errno::EPERM | Errno::EBUSY,
                    ..
                }) => return Err(Error::GroupTaken { group }),
                done => done?,
            }
        }
        Ok(Self {
            listener: Listener::on(netlink, "read logged packets")?,
            reader: Reader::default(),
            waiting: VecDeque::new(),
        })
    }

    /// The next packet. Cancelling loses none.
    ///
    /// # Errors
    /// [`Error::Socket`]; packets lost to a full queue are no error, they are counted.
    pub async fn next(&mut self) -> Result<Packet, Error> {
        loop {
            if let Some(packet) = self.waiting.pop_front() {
                return Ok(packet);
            }
            match self.listener.next().await? {
                Received::Messages(replies) => self
                    .waiting
                    .extend(replies.filter_map(|reply| self.reader.take(reply))),
                // The sequence numbers say how many are missing.
                Received::Nothing | Received::Lost => {}
            }
        }
    }

    /// How many of the kernel's messages were lost since the start because they came faster
    /// than they were read.
    pub fn lost(&self) -> u64 {
        self.reader.lost
    }
}

/// Reads packets and counts those that are missing: a [`Log`] without its socket.
#[derive(Debug, Default)]
pub struct Reader {
    /// The sequence number of the kernel's next message.
    expected: Option<u32>,
    lost: u64,
}

impl Reader {
    /// The packet in a message, if that is one of NFLOG.
    pub fn take(&mut self, reply: Reply<'_>) -> Option<Packet> {
        if reply.kind != NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
            return None;
        }
        let attributes = reply.attributes();
        if let Some(seq) = attributes.be32(NFULA_SEQ) {
            if let Some(expected) = self.expected {
                self.lost += u64::from(seq.wrapping_sub(expected));
            }
            self.expected = Some(seq.wrapping_add(1));
        }
        Packet::read(attributes)
    }
}

/// Bind the group; take headers only, each as it comes, numbered.
fn configure(group: u16) -> Result<[Message; 3], Error> {
    let message = |fill: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        fill(&mut w);
        let says = format!("listen to NFLOG group {group}");
        Message::netfilter(
            NFNL_SUBSYS_ULOG,
            NFULNL_MSG_CONFIG,
            NLM_F_ACK,
            group,
            says,
            w,
        )
    };
    let [a, b, c, d] = COPY.to_be_bytes();
    Ok([
        message(&|w| {
            w.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND);
        })?,
        message(&|w| {
            w.bytes(NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0]);
        })?,
        // Without a threshold of one, messages wait up to a second for company.
        message(&|w| {
            w.be32(NFULA_CFG_QTHRESH, 1)
                .be16(NFULA_CFG_FLAGS, NFULNL_CFG_F_SEQ);
        })?,
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Replies;

    #[test]
    fn messages_that_are_missing_are_counted_by_their_numbers_also_around_the_last() {
        let mut reader = Reader::default();
        for (seq, lost) in [(u32::MAX - 1, 0), (u32::MAX, 0), (2, 2), (3, 2)] {
            let mut w = Writer::default();
            w.be32(NFULA_SEQ, seq);
            let payload = [&[0; 4][..], &w.finish().unwrap()].concat();
            reader.take(Reply {
                kind: NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET,
                flags: 0,
                seq: 0,
                port: 0,
                payload: &payload,
            });
            assert_eq!(reader.lost, lost, "at {seq}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::default();
            let _ = Replies(&bytes).filter_map(|reply| reader.take(reply)).count();
        }
    }
}
