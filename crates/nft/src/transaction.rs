//! Changes of the rules, whole or not at all, and the number that the kernel counts them by.

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockFlag, SockProtocol, setsockopt, sockopt},
};

use crate::{
    Error,
    message::{self, Message, Replies},
    nla::Writer,
    socket::{Netlink, failed},
    uapi::*,
};

/// Room for the refusals of a whole batch: they come before anything is read.
const RECEIVE_QUEUE: usize = 4 << 20;
pub(crate) const SEND_QUEUE: usize = 1 << 20;

impl Netlink {
    /// A socket to netfilter.
    ///
    /// # Errors
    /// [`Error::Socket`], with CAP_NET_ADMIN missing most likely.
    pub fn open() -> Result<Self, Error> {
        let netfilter = SockProtocol::NetlinkNetFilter;
        let mut netlink = Self::of(netfilter, SockFlag::empty())?.with_queue(RECEIVE_QUEUE)?;
        netlink.make_room(SEND_QUEUE)?;
        Ok(netlink)
    }

    /// Send these messages as one transaction: all of them happen, or none.
    ///
    /// The batch goes in one datagram, which the kernel works off before `send` returns; its
    /// answers are then all in the queue.
    ///
    /// # Errors
    /// [`Error::Refused`] with the first message the kernel refused, [`Error::Socket`], or
    /// [`Error::NoAnswer`] if the answers were lost.
    pub fn transact(&mut self, attempt: &'static str, messages: &[Message]) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        let first = self.reserve(messages.len() + 2);
        let bytes = message::batch(messages, first);
        self.make_room(bytes.len())?;
        self.send_bytes(attempt, &bytes)?;

        let mut verdict = Verdict::on(first, messages.len());
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(replies) => verdict.take(replies),
                Err(Errno::EAGAIN) => return verdict.outcome(attempt, messages),
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            }
        }
    }

    /// The ruleset's generation (`NFT_MSG_GETGEN`): any transaction in this network namespace
    /// raises it.
    ///
    /// # Errors
    /// As [`Netlink::get`].
    pub fn generation(&mut self) -> Result<u32, Error> {
        let says = "read the generation".to_owned();
        let request = Message::nft(NFT_MSG_GETGEN, 0, says, Writer::default())?;
        self.get("read the generation", &request, |reply| {
            reply
                .is_nft(NFT_MSG_NEWGEN)
                .then(|| reply.attributes().be32(NFTA_GEN_ID))?
        })
    }

    /// Let a datagram of this many bytes be sent.
    pub(crate) fn make_room(&mut self, length: usize) -> Result<(), Error> {
        if length > self.send_queue {
            // The kernel doubles the number and needs less than that beside the bytes.
            setsockopt(&self.fd, sockopt::SndBufForce, &length)
                .map_err(failed("enlarge the netlink send buffer"))?;
            self.send_queue = length;
        }
        Ok(())
    }
}

/// What the kernel says on a batch, whose messages have the places from 1 to `last`.
#[derive(Debug)]
struct Verdict {
    first: u32,
    last: usize,
    confirmed: bool,
    /// Place, errno and the kernel's words.
    refused: Option<(usize, i32, String)>,
}

impl Verdict {
    fn on(first: u32, last: usize) -> Self {
        Self {
            first,
            last,
            confirmed: false,
            refused: None,
        }
    }

    fn take(&mut self, replies: Replies<'_>) {
        for reply in replies.filter(|reply| reply.kind == NLMSG_ERROR) {
            let place = reply.seq.wrapping_sub(self.first) as usize;
            match reply.outcome() {
                Some((0, _)) if place == self.last => self.confirmed = true,
                Some((code, said)) if code != 0 && place <= self.last + 1 => {
                    // Place 0 is the batch itself: named only if no message is.
                    let better = match self.refused {
                        None => true,
                        Some((known, ..)) => known == 0 || (place != 0 && place < known),
                    };
                    if better {
                        self.refused = Some((place, code, said.to_owned()));
                    }
                }
                _ => {}
            }
        }
    }

    fn outcome(self, attempt: &'static str, messages: &[Message]) -> Result<(), Error> {
        match self.refused {
            Some((place, code, said)) => {
                let message = place.checked_sub(1).and_then(|i| messages.get(i));
                let message = message.map_or_else(|| attempt.to_owned(), |m| m.says.clone());
                Err(Error::Refused {
                    message,
                    errno: Errno::from_raw(code),
                    said,
                })
            }
            None if self.confirmed => Ok(()),
            None => Err(Error::NoAnswer { attempt }),
        }
    }
}

#[cfg(test)]
mod tests;
