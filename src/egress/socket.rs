//! The netlink socket: transactions, dumps, the generation.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind,
            getsockname, recv, send, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use super::{
    Error,
    message::{self, Message, Replies, Reply},
    nla::Writer,
    uapi::*,
};

/// A dump's datagrams hold at most 32 KiB (`netlink_recvmsg` in `net/netlink/af_netlink.c`).
const RECEIVE: usize = 64 << 10;
/// Room for the refusals of a whole batch: they come before anything is read.
const RECEIVE_QUEUE: usize = 4 << 20;
const SEND_QUEUE: usize = 1 << 20;
const TRIES: u32 = 10;

/// A socket to netfilter in the network namespace it was opened in.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    seq: u32,
    send_queue: usize,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Open one.
    ///
    /// # Errors
    /// [`Error::Socket`], with CAP_NET_ADMIN missing most likely.
    pub fn open() -> Result<Self, Error> {
        let fd = open(SockFlag::empty(), RECEIVE_QUEUE)?;
        let mut netlink = Self {
            fd,
            seq: 0,
            send_queue: 0,
            buffer: vec![0; RECEIVE],
        };
        netlink.make_room(SEND_QUEUE)?;
        Ok(netlink)
    }

    /// The number that the kernel knows this socket by in its namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn port(&self) -> Result<u32, Error> {
        getsockname::<NetlinkAddr>(self.fd.as_raw_fd())
            .map(|address| address.pid())
            .map_err(failed("ask for a netlink socket's number"))
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
        let Some(last) = messages.len().checked_sub(1) else {
            return Ok(());
        };
        let first = self.reserve(messages.len() + 2);
        let bytes = message::batch(messages, first);
        self.make_room(bytes.len())?;
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(failed(attempt))?;

        let mut confirmed = false;
        let mut refused: Option<(usize, i32, String)> = None;
        loop {
            let length = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOBUFS | Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            };
            for reply in Replies(&self.buffer[..length]).filter(|r| r.kind == NLMSG_ERROR) {
                let place = reply.seq.wrapping_sub(first) as usize;
                match reply.outcome() {
                    Some((0, _)) if place == last + 1 => confirmed = true,
                    Some((code, said)) if code != 0 && place <= last + 2 => {
                        // Place 0 is the batch itself: named only if no message is.
                        let better = match refused {
                            None => true,
                            Some((known, ..)) => known == 0 || (place != 0 && place < known),
                        };
                        if better {
                            refused = Some((place, code, said.to_owned()));
                        }
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some((place, code, said)) => {
                let message = place.checked_sub(1).and_then(|i| messages.get(i));
                let message = message.map_or_else(|| attempt.to_owned(), |m| m.says.clone());
                Err(Error::Refused {
                    message,
                    errno: Errno::from_raw(code),
                    said,
                })
            }
            None if confirmed => Ok(()),
            None => Err(Error::NoAnswer { attempt }),
        }
    }

    /// Ask for all objects of a kind and hand each answer to `each`, again from the start
    /// (after `restart`) when the rules changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] with `ENOENT` for a table or set that is not there,
    /// [`Error::Unsettled`], [`Error::Socket`].
    pub fn dump<T>(
        &mut self,
        attempt: &'static str,
        request: &Message,
        mut each: impl FnMut(&mut Vec<T>, Reply<'_>),
    ) -> Result<Vec<T>, Error> {
        for _ in 0..TRIES {
            let mut found = Vec::new();
            if self.dump_once(attempt, request, &mut |reply| each(&mut found, reply))? {
                return Ok(found);
            }
        }
        Err(Error::Unsettled {
            attempt,
            tries: TRIES,
        })
    }

    /// One dump; false if it was interrupted by a change.
    fn dump_once(
        &mut self,
        attempt: &'static str,
        request: &Message,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<bool, Error> {
        let seq = self.ask(attempt, request)?;
        let mut whole = true;
        loop {
            let length = match self.receive(MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            };
            for reply in Replies(&self.buffer[..length]).filter(|r| r.seq == seq) {
                whole &= reply.flags & NLM_F_DUMP_INTR == 0;
                match reply.kind {
                    NLMSG_DONE | NLMSG_ERROR => match reply.outcome() {
                        Some((0, _)) => return Ok(whole),
                        // A dump that met a change between two of its parts.
                        Some((libc::EINTR, _)) => return Ok(false),
                        Some((code, said)) => {
                            return Err(Error::Refused {
                                message: request.says.clone(),
                                errno: Errno::from_raw(code),
                                said: said.to_owned(),
                            });
                        }
                        None => {
                            return Err(Error::Malformed {
                                attempt,
                                what: "short error",
                            });
                        }
                    },
                    _ => each(reply),
                }
            }
        }
    }

    /// Ask for one thing and hand its answer to `read`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Socket`], or [`Error::Malformed`] if `read` makes nothing
    /// of the answer.
    pub fn get<T>(
        &mut self,
        attempt: &'static str,
        request: &Message,
        read: impl Fn(Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let seq = self.ask(attempt, request)?;
        loop {
            let length = match self.receive(MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            };
            let Some(reply) = Replies(&self.buffer[..length]).find(|r| r.seq == seq) else {
                continue;
            };
            if reply.kind != NLMSG_ERROR {
                return read(reply).ok_or(Error::Malformed {
                    attempt,
                    what: "fields missing",
                });
            }
            return Err(match reply.outcome() {
                Some((code, said)) if code != 0 => Error::Refused {
                    message: request.says.clone(),
                    errno: Errno::from_raw(code),
                    said: said.to_owned(),
                },
                _ => Error::Malformed {
                    attempt,
                    what: "no answer but an acknowledgement",
                },
            });
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

    fn ask(&mut self, attempt: &'static str, request: &Message) -> Result<u32, Error> {
        let seq = self.reserve(1);
        let mut bytes = Vec::new();
        request.write(seq, 0, &mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(failed(attempt))?;
        Ok(seq)
    }

    /// Numbers for this many messages; the first is returned. Zero is what the kernel numbers
    /// notifications with, so it is never one of them.
    fn reserve(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.seq == 0 || self.seq.checked_add(count).is_none() {
            self.seq = 1;
        }
        let first = self.seq;
        self.seq = self.seq.wrapping_add(count);
        first
    }

    fn receive(&mut self, flags: MsgFlags) -> Result<usize, Errno> {
        let length = recv(self.fd.as_raw_fd(), &mut self.buffer, flags)?;
        Ok(length.min(self.buffer.len()))
    }

    /// Let a datagram of this many bytes be sent.
    fn make_room(&mut self, length: usize) -> Result<(), Error> {
        if length > self.send_queue {
            // The kernel doubles the number and needs less than that beside the bytes.
            setsockopt(&self.fd, sockopt::SndBufForce, &length)
                .map_err(failed("enlarge the netlink send buffer"))?;
            self.send_queue = length;
        }
        Ok(())
    }
}

/// A netfilter netlink socket with a receive queue of this many bytes.
///
/// # Errors
/// [`Error::Socket`].
pub fn open(flags: SockFlag, receive_queue: usize) -> Result<OwnedFd, Error> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .map_err(failed("open a netfilter socket"))?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind a netfilter socket"))?;
    setsockopt(&fd, sockopt::RcvBufForce, &receive_queue)
        .map_err(failed("enlarge the netlink receive buffer"))?;
    // The kernel answers at once; a second is for a machine in deep trouble.
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))
        .map_err(failed("bound the wait for netlink answers"))?;
    netlink_option(&fd, libc::NETLINK_CAP_ACK, 1).map_err(failed("ask for short refusals"))?;
    netlink_option(&fd, libc::NETLINK_EXT_ACK, 1).map_err(failed("ask for worded refusals"))?;
    Ok(fd)
}

/// Have a socket told of what happens in a multicast group.
///
/// # Errors
/// [`Error::Socket`].
pub fn join(fd: &impl AsFd, group: libc::c_int) -> Result<(), Error> {
    netlink_option(fd, libc::NETLINK_ADD_MEMBERSHIP, group)
        .map_err(failed("listen to changes of the rules"))
}

/// The number of an error from the operating system; 0 for any other.
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn netlink_option(fd: &impl AsFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and length are of `value`, which outlives the call; the kernel only
    // reads them.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

fn failed(attempt: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Socket { attempt, errno }
}

#[cfg(test)]
mod tests;
