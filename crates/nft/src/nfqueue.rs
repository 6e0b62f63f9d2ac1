//! Packets that the kernel holds for us, by NFQUEUE (`linux/netfilter/nfnetlink_queue.h`).

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockFlag, SockProtocol},
};

use crate::{
    Error,
    message::{Message, Reply},
    nla::Writer,
    socket::Netlink,
    uapi::*,
};

/// Three queues full of questions and answers of common size.
const RECEIVE_QUEUE: usize = 6 << 20;
/// A packet is copied whole.
const COPY: u32 = 0xffff;
/// Packets that may wait, by queue; beyond that they are dropped, or let go where that is asked.
const WAITING_MAX: u32 = 4_096;

/// A socket that holds queues of the network namespace it was opened in. When it is closed, the
/// kernel drops what waits in them.
#[derive(Debug)]
pub struct Queue {
    netlink: Netlink,
}

/// A packet that waits for its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The queue it waits in.
    pub queue: u16,
    /// The kernel's number for it.
    pub id: u32,
    /// Its mark.
    pub mark: u32,
    /// The owner of the socket that sends it, or that it is for and was found early.
    pub uid: Option<u32>,
    /// It from its IP header on.
    pub packet: Vec<u8>,
    /// Whether that is all of it.
    pub whole: bool,
}

impl Queue {
    /// Hold these queues, each with whether its packets are let go when too many wait.
    ///
    /// # Errors
    /// [`Error::QueueTaken`] if another program holds one; [`Error::Refused`], [`Error::Socket`].
    pub fn hold(queues: &[(u16, bool)]) -> Result<Self, Error> {
        let netlink = Netlink::of(SockProtocol::NetlinkNetFilter, SockFlag::empty())?;
        let mut netlink = netlink.with_queue(RECEIVE_QUEUE)?;
        for (queue, open) in queues.iter().copied() {
            // Packets may come before an answer. They are dropped when nobody judges them, and
            // asked for again.
            for message in configure(queue, open)? {
                match netlink.order("hold a queue", &message) {
                    // Not for lack of rights: enlarging the socket's queue needs the same ones.
                    Err(Error::Refused {
                        errno: Errno::EPERM | Errno::EBUSY | Errno::EEXIST,
                        ..
                    }) => return Err(Error::QueueTaken { queue }),
                    done => done?,
                }
            }
        }
        Ok(Self {
            netlink: netlink.with_patience(1)?,
        })
    }

    /// The next packet; `None` if none came within a second, or some were lost to a full socket,
    /// which their senders send again.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn receive(&mut self) -> Result<Option<Held>, Error> {
        match self.netlink.receive(MsgFlags::empty()) {
            Ok(mut replies) => Ok(replies.find_map(read)),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => Ok(None),
            Err(errno) => Err(Error::Socket {
                attempt: "read held packets",
                errno,
            }),
        }
    }

    /// Let a packet go on, with this mark and, where given, this content.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn release(
        &self,
        queue: u16,
        id: u32,
        mark: Option<u32>,
        packet: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.judge(queue, id, NF_ACCEPT, |w| {
            if let Some(mark) = mark {
                w.be32(NFQA_MARK, mark);
            }
            if let Some(packet) = packet {
                w.bytes(NFQA_PAYLOAD, packet);
            }
        })
    }

    /// Drop a packet.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn discard(&self, queue: u16, id: u32) -> Result<(), Error> {
        self.judge(queue, id, NF_DROP, |_| {})
    }

    fn judge(
        &self,
        queue: u16,
        id: u32,
        verdict: i32,
        more: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let mut w = Writer::default();
        let head = [verdict.to_be_bytes(), id.to_be_bytes()].concat();
        w.bytes(NFQA_VERDICT_HDR, &head);
        more(&mut w);
        let says = "judge a packet".to_owned();
        let message = Message::netfilter(NFNL_SUBSYS_QUEUE, NFQNL_MSG_VERDICT, 0, queue, says, w)?;
        self.netlink.tell("judge a held packet", &message)
    }
}

/// The packet in a message of the kernel's.
pub fn read(reply: Reply<'_>) -> Option<Held> {
    if reply.kind != NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET {
        return None;
    }
    let attributes = reply.attributes();
    let id = attributes.be32(NFQA_PACKET_HDR)?;
    Some(Held {
        queue: u16::from_be_bytes(reply.payload.get(2..4)?.try_into().ok()?),
        id,
        mark: attributes.be32(NFQA_MARK).unwrap_or(0),
        uid: attributes.be32(NFQA_UID),
        packet: attributes.bytes(NFQA_PAYLOAD).to_vec(),
        whole: attributes.get(NFQA_CAP_LEN).is_none(),
    })
}

/// Bind a queue; take packets whole.
fn configure(queue: u16, open: bool) -> Result<[Message; 2], Error> {
    let message = |fill: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        fill(&mut w);
        let says = format!("hold queue {queue}");
        Message::netfilter(
            NFNL_SUBSYS_QUEUE,
            NFQNL_MSG_CONFIG,
            NLM_F_ACK,
            queue,
            says,
            w,
        )
    };
    let [a, b, c, d] = COPY.to_be_bytes();
    let flags = NFQA_CFG_F_UID_GID | if open { NFQA_CFG_F_FAIL_OPEN } else { 0 };
    Ok([
        message(&|w| {
            w.bytes(NFQA_CFG_CMD, &[NFQNL_CFG_CMD_BIND, 0, 0, 0]);
        })?,
        message(&|w| {
            w.bytes(NFQA_CFG_PARAMS, &[a, b, c, d, NFQNL_COPY_PACKET]);
            w.be32(NFQA_CFG_QUEUE_MAXLEN, WAITING_MAX);
            w.be32(NFQA_CFG_MASK, NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_UID_GID)
                .be32(NFQA_CFG_FLAGS, flags);
        })?,
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Replies;

    fn message(kind: u16, queue: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = (20 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend((NFNL_SUBSYS_QUEUE << 8 | kind).to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([2, 0]);
        bytes.extend(queue.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_held_packet_says_where_it_waits_and_whether_it_is_whole() {
        for (cut, whole, uid) in [(None, true, Some(1000)), (Some(2000), false, None)] {
            let mut w = Writer::default();
            w.bytes(NFQA_PACKET_HDR, &[0, 0, 0, 7, 8, 0, 1]);
            w.be32(NFQA_MARK, 0x4800_0001)
                .bytes(NFQA_PAYLOAD, b"packet");
            if let Some(length) = cut {
                w.be32(NFQA_CAP_LEN, length);
            }
            if let Some(uid) = uid {
                w.be32(NFQA_UID, uid);
            }
            let bytes = message(NFQNL_MSG_PACKET, 99, &w.finish().unwrap());
            let held = Replies(&bytes).find_map(read).unwrap();
            assert_eq!((held.queue, held.id, held.mark), (99, 7, 0x4800_0001));
            assert_eq!((&held.packet[..], held.whole), (&b"packet"[..], whole));
            assert_eq!(held.uid, uid);
        }
        assert_eq!(
            Replies(&message(NFQNL_MSG_CONFIG, 1, &[])).find_map(read),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Replies(&message(NFQNL_MSG_PACKET, 1, &bytes)).find_map(read);
            let _ = Replies(&bytes).find_map(read);
        }
    }
}
