//! A netlink socket, of any protocol: numbered requests and what the kernel answers to them.
//!
//! Transactions are in `transaction`, what the kernel says unasked in `listener`.

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

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

use crate::{
    Error,
    message::{Message, Replies, Reply},
    uapi::*,
};

/// A dump's datagrams hold at most 32 KiB (`netlink_recvmsg` in `net/netlink/af_netlink.c`), a
/// queue's messages one packet of at most 64 KiB.
const RECEIVE: usize = 80 << 10;
/// The kernel answers at once; this is for a machine in deep trouble.
const PATIENCE_S: i64 = 5;
const TRIES: u32 = 10;

/// A netlink socket in the network namespace it was opened in.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) fd: OwnedFd,
    pub(crate) seq: u32,
    /// The longest datagram that may be sent.
    pub(crate) send_queue: usize,
    pub(crate) buffer: Vec<u8>,
}

impl Netlink {
    /// A socket to this part of the kernel; with `SOCK_NONBLOCK` nothing waits.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn of(protocol: SockProtocol, flags: SockFlag) -> Result<Self, Error> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags | SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map_err(failed("open a netlink socket"))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind a netlink socket"))?;
        option(&fd, libc::NETLINK_CAP_ACK, 1).map_err(failed("ask for short refusals"))?;
        option(&fd, libc::NETLINK_EXT_ACK, 1).map_err(failed("ask for worded refusals"))?;
        let netlink = Self {
            fd,
            seq: 0,
            send_queue: 0,
            buffer: vec![0; RECEIVE],
        };
        netlink.with_patience(PATIENCE_S)
    }

    /// Wait for answers for this many seconds at most.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn with_patience(self, seconds: i64) -> Result<Self, Error> {
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))
            .map_err(failed("bound the wait for netlink answers"))?;
        Ok(self)
    }

    /// Let this many bytes wait until they are read, whatever the node's common bound.
    ///
    /// # Errors
    /// [`Error::Socket`], with CAP_NET_ADMIN missing most likely.
    pub fn with_queue(self, bytes: usize) -> Result<Self, Error> {
        setsockopt(&self.fd, sockopt::RcvBufForce, &bytes)
            .map_err(failed("enlarge the netlink receive buffer"))?;
        Ok(self)
    }

    /// Be told of what happens in a multicast group.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn join(&self, group: libc::c_int) -> Result<(), Error> {
        option(&self.fd, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(failed("listen to a netlink group"))
    }

    /// Be told no more of a multicast group. What was told already can still be read.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn leave(&self, group: libc::c_int) -> Result<(), Error> {
        option(&self.fd, libc::NETLINK_DROP_MEMBERSHIP, group)
            .map_err(failed("stop listening to a netlink group"))
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        let attempt = "use a netlink socket twice";
        let fd = self.fd.try_clone();
        Ok(Self {
            fd: fd.map_err(|error| Error::of_io(attempt, &error))?,
            seq: 0,
            send_queue: 0,
            buffer: Vec::new(),
        })
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

    /// Ask for all objects of a kind and hand each answer to `each`, again from the start
    /// with nothing found when they changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`], with `ENOENT` for a table or set that is not there;
    /// [`Error::Unsettled`], [`Error::NoAnswer`], [`Error::Socket`].
    pub fn dump<T>(
        &mut self,
        attempt: &'static str,
        request: &Message,
        mut each: impl FnMut(&mut Vec<T>, Reply<'_>),
    ) -> Result<Vec<T>, Error> {
        for _ in 0..TRIES {
            let mut found = Vec::new();
            let whole = self.ask(attempt, request, &mut |reply| {
                each(&mut found, reply);
                ControlFlow::Continue(())
            })?;
            if whole {
                return Ok(found);
            }
        }
        Err(Error::Unsettled {
            attempt,
            tries: TRIES,
        })
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
        let mut found = None;
        let mut answered = false;
        self.ask(attempt, request, &mut |reply| {
            answered = true;
            found = read(reply);
            ControlFlow::Break(())
        })?;
        let what = match answered {
            true => "fields missing",
            false => "no answer but an acknowledgement",
        };
        found.ok_or(Error::Malformed { attempt, what })
    }

    /// Ask for something to be done, by a message with `NLM_F_ACK`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Socket`].
    pub fn order(&mut self, attempt: &'static str, request: &Message) -> Result<(), Error> {
        self.ask(attempt, request, &mut |_| ControlFlow::Continue(()))?;
        Ok(())
    }

    /// Say something that the kernel does not answer.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn tell(&self, attempt: &'static str, message: &Message) -> Result<(), Error> {
        self.send(attempt, message, 0)
    }

    /// Ask, and hand each answer to `each` until it has enough or the kernel has said all. False
    /// if it did not say all: what it told of changed meanwhile, or something was lost.
    fn ask(
        &mut self,
        attempt: &'static str,
        request: &Message,
        each: &mut dyn FnMut(Reply<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let seq = self.reserve(1);
        self.send(attempt, request, seq)?;
        let mut answers = Answers::to(seq);
        loop {
            match self.receive(MsgFlags::empty()) {
                Ok(replies) => {
                    if let Some(end) = answers.take(replies, each) {
                        return end.outcome(attempt, request);
                    }
                }
                Err(Errno::EINTR) => {}
                // The queue was full; what is still to come ends the answer, if that was not lost.
                Err(Errno::ENOBUFS) => answers.whole = false,
                Err(Errno::EAGAIN) if !answers.whole => return Err(Error::NoAnswer { attempt }),
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            }
        }
    }

    fn send(&self, attempt: &'static str, message: &Message, seq: u32) -> Result<(), Error> {
        let mut bytes = Vec::new();
        message.write(seq, &mut bytes);
        self.send_bytes(attempt, &bytes)
    }

    /// Send a datagram.
    pub(crate) fn send_bytes(&self, attempt: &'static str, bytes: &[u8]) -> Result<(), Error> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())
            .map(drop)
            .map_err(failed(attempt))
    }

    /// Numbers for this many messages; the first is returned. Zero is what the kernel numbers
    /// notifications with, so it is never one of them.
    pub(crate) fn reserve(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.seq == 0 || self.seq.checked_add(count).is_none() {
            self.seq = 1;
        }
        let first = self.seq;
        self.seq = self.seq.wrapping_add(count);
        first
    }

    /// The next datagram. `ENOBUFS` says that at least one was lost.
    pub fn receive(&mut self, flags: MsgFlags) -> Result<Replies<'_>, Errno> {
        let length = receive(&self.fd, &mut self.buffer, flags)?;
        Ok(Replies(self.buffer.get(..length).unwrap_or_default()))
    }
}

/// Reads a datagram into a buffer; the length is no more than the buffer's. One that does not fit
/// counts as lost.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, Errno> {
    // With this flag the length is the datagram's own, however much of it was copied.
    let length = recv(fd.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC)?;
    if length > buffer.len() {
        return Err(Errno::ENOBUFS);
    }
    Ok(length)
}

/// What was answered to one request so far.
#[derive(Debug)]
struct Answers {
    seq: u32,
    whole: bool,
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All was said, or enough.
    Whole,
    /// What it told of changed meanwhile, or something of it was lost.
    Broken,
    Refused(Errno, String),
    Malformed,
}

impl Answers {
    fn to(seq: u32) -> Self {
        Self { seq, whole: true }
    }

    /// Takes in a datagram; what answers other requests, or none, is passed over.
    fn take(
        &mut self,
        replies: Replies<'_>,
        each: &mut dyn FnMut(Reply<'_>) -> ControlFlow<()>,
    ) -> Option<End> {
        for reply in replies.filter(|reply| reply.seq == self.seq) {
            self.whole &= reply.flags & NLM_F_DUMP_INTR == 0;
            if !matches!(reply.kind, NLMSG_DONE | NLMSG_ERROR) {
                match each(reply) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return Some(End::Whole),
                }
            }
            return Some(match reply.outcome() {
                Some((0, _)) if self.whole => End::Whole,
                // The second: a dump that met a change between two of its parts.
                Some((0 | libc::EINTR, _)) => End::Broken,
                Some((code, said)) => End::Refused(Errno::from_raw(code), said.to_owned()),
                None => End::Malformed,
            });
        }
        None
    }
}

impl End {
    /// Whether all was said.
    fn outcome(self, attempt: &'static str, request: &Message) -> Result<bool, Error> {
        match self {
            Self::Whole => Ok(true),
            Self::Broken => Ok(false),
            Self::Refused(errno, said) => Err(Error::Refused {
                message: request.says.clone(),
                errno,
                said,
            }),
            Self::Malformed => Err(Error::Malformed {
                attempt,
                what: "short error",
            }),
        }
    }
}

fn option(fd: &impl AsFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
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

/// The kernel's answer as an error of what was attempted.
pub(crate) fn failed(attempt: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Socket { attempt, errno }
}

#[cfg(test)]
mod tests;
