//! Netlink messages: framing, and the batch that makes a transaction of them.

use crate::{
    Error,
    nla::{Writer, align},
    uapi::*,
};

/// One request, with the words for it in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    kind: u16,
    flags: u16,
    /// The fixed header that its subsystem has before the attributes, and those.
    payload: Vec<u8>,
    /// What it asks for: "add chain output".
    pub says: String,
}

impl Message {
    /// A request of any subsystem. Its fixed header is begun by the address family, as all are.
    ///
    /// # Errors
    /// [`Error::TooLong`] if an attribute outgrew its length field.
    pub fn new(
        kind: u16,
        flags: u16,
        says: String,
        header: &[u8],
        attributes: Writer,
    ) -> Result<Self, Error> {
        match attributes.finish() {
            Ok(attributes) => Ok(Self {
                kind,
                flags,
                payload: [header, &attributes].concat(),
                says,
            }),
            Err(length) => Err(Error::TooLong {
                message: says,
                length,
            }),
        }
    }

    /// A request to nf_tables, for a table of the family `inet`.
    ///
    /// # Errors
    /// [`Error::TooLong`] if an attribute outgrew its length field.
    pub fn nft(kind: u16, flags: u16, says: String, attributes: Writer) -> Result<Self, Error> {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        Self::new(kind, flags, says, &nfgenmsg(NFPROTO_INET, 0), attributes)
    }

    /// The same request for a table of another family than `inet`.
    pub fn of_family(mut self, family: u8) -> Self {
        if let Some(place) = self.payload.first_mut() {
            *place = family;
        }
        self
    }

    /// A request to another of netfilter's subsystems, of all families, about a resource of its
    /// own: a group, a queue.
    ///
    /// # Errors
    /// [`Error::TooLong`] if an attribute outgrew its length field.
    pub fn netfilter(
        subsystem: u16,
        kind: u16,
        flags: u16,
        resource: u16,
        says: String,
        attributes: Writer,
    ) -> Result<Self, Error> {
        let header = nfgenmsg(NFPROTO_UNSPEC, resource);
        Self::new(subsystem << 8 | kind, flags, says, &header, attributes)
    }

    /// Append the message as `struct nlmsghdr` and payload.
    pub fn write(&self, seq: u32, out: &mut Vec<u8>) {
        frame(self.kind, self.flags, seq, &self.payload, out);
    }
}

/// `struct nfgenmsg`: what netfilter's subsystems have before their attributes.
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn frame(kind: u16, flags: u16, seq: u32, payload: &[u8], out: &mut Vec<u8>) {
    // A message is bounded by its attributes, each of which is bounded by 64 KiB, and by the
    // few attributes there are; it cannot reach 4 GiB.
    #[allow(clippy::cast_possible_truncation)]
    let length = (NLMSG_HDRLEN + payload.len()) as u32;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(payload);
    out.resize(align(out.len()), 0);
}

/// A transaction's bytes: begin, the messages numbered `first` onwards, end.
///
/// Only the last message asks for an acknowledgement: the kernel answers a batch after it has
/// decided on the whole of it, refusals come unasked, and one acknowledgement each would
/// overflow a receive buffer at 5,000 servers (`nfnetlink_rcv_batch` in
/// `net/netfilter/nfnetlink.c`).
pub fn batch(messages: &[Message], first: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(messages.iter().map(|m| m.payload.len() + 64).sum());
    let ends = nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
    frame(NFNL_MSG_BATCH_BEGIN, 0, first, &ends, &mut out);
    let mut seq = first;
    for (i, message) in messages.iter().enumerate() {
        seq = seq.wrapping_add(1);
        let last = i + 1 == messages.len();
        let flags = message.flags | if last { NLM_F_ACK } else { 0 };
        frame(message.kind, flags, seq, &message.payload, &mut out);
    }
    frame(NFNL_MSG_BATCH_END, 0, seq.wrapping_add(1), &ends, &mut out);
    out
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// `nlmsg_pid`: in a notification, the port of the socket whose doing it tells of.
    pub port: u32,
    /// What follows `struct nlmsghdr`.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The attributes behind `struct nfgenmsg`.
    pub fn attributes(&self) -> crate::nla::Attributes<'a> {
        crate::nla::Attributes(self.payload.get(4..).unwrap_or_default())
    }

    /// Whether it is this message of nf_tables.
    pub fn is_nft(&self, kind: u16) -> bool {
        self.kind == NFNL_SUBSYS_NFTABLES << 8 | kind
    }

    /// For `NLMSG_ERROR` and `NLMSG_DONE`: the errno, 0 for success, and the kernel's own words
    /// (`struct nlmsgerr` and its extended attributes, present with `NLM_F_ACK_TLVS`).
    pub fn outcome(&self) -> Option<(i32, &'a str)> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        let tlvs = if self.flags & NLM_F_ACK_TLVS == 0 {
            None
        } else if self.kind == NLMSG_DONE {
            self.payload.get(4..)
        } else {
            let echoed = u32::from_ne_bytes(self.payload.get(4..8)?.try_into().ok()?);
            let capped = self.flags & NLM_F_CAPPED != 0 || code == 0;
            let skip = if capped {
                NLMSG_HDRLEN
            } else {
                align(echoed as usize)
            };
            self.payload.get(4usize.checked_add(skip)?..)
        };
        let words = tlvs.and_then(|tlvs| crate::nla::Attributes(tlvs).text(NLMSGERR_ATTR_MSG));
        Some((code.checked_neg()?, words.unwrap_or_default()))
    }
}

/// Reads the messages of one datagram, and stops at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Replies<'a>(pub &'a [u8]);

impl<'a> Iterator for Replies<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        let header: &[u8; NLMSG_HDRLEN] = self.0.first_chunk()?;
        let [
            l0,
            l1,
            l2,
            l3,
            k0,
            k1,
            f0,
            f1,
            s0,
            s1,
            s2,
            s3,
            p0,
            p1,
            p2,
            p3,
        ] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let reply = Reply {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload: self.0.get(NLMSG_HDRLEN..length)?,
        };
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_reads_back_as_its_messages_in_order() {
        let message = |says: &str| {
            let mut w = Writer::default();
            w.text(NFTA_TABLE_NAME, says);
            Message::nft(NFT_MSG_NEWTABLE, NLM_F_CREATE, says.to_owned(), w).unwrap()
        };
        let bytes = batch(&[message("one"), message("three")], 7);
        let read: Vec<_> = Replies(&bytes)
            .map(|r| (r.kind, r.seq, r.flags & NLM_F_ACK))
            .collect();
        let new_table = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE;
        assert_eq!(
            read,
            [
                (NFNL_MSG_BATCH_BEGIN, 7, 0),
                (new_table, 8, 0),
                (new_table, 9, NLM_F_ACK),
                (NFNL_MSG_BATCH_END, 10, 0)
            ]
        );
        let third = Replies(&bytes).nth(2).unwrap();
        assert_eq!(third.attributes().text(NFTA_TABLE_NAME), Some("three"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for reply in Replies(&bytes) {
                let _ = (reply.outcome(), reply.attributes().count());
            }
        }

        #[test]
        fn any_error_is_read_without_a_panic(
            flags in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            for kind in [NLMSG_ERROR, NLMSG_DONE] {
                let _ = Reply { kind, flags, seq: 1, port: 0, payload: &body }.outcome();
            }
        }
    }
}
