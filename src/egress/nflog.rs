//! Refusals as they happen, from the kernel's NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::{
    collections::VecDeque,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{MsgFlags, SockFlag, recv, send},
};
use tokio::io::unix::AsyncFd;

use super::{
    Error, Refusal,
    message::{Message, Replies},
    nla::Writer,
    socket,
    uapi::*,
};

/// Some thousands of refusals: each is a few hundred bytes.
const RECEIVE_QUEUE: usize = 1 << 20;
const RECEIVE: usize = 64 << 10;
/// Headers are all that is asked for; the rules cut packets to the same.
const COPY: u32 = 64;

/// The refusals told to one NFLOG group, of the network namespace it was opened in.
#[derive(Debug)]
pub struct Refusals {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    waiting: VecDeque<Refusal>,
    /// The sequence number of the kernel's next message.
    expected: Option<u32>,
    lost: u64,
}

impl Refusals {
    /// Listen to a group.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::GroupTaken`] if another socket listens to the group; [`Error::Refused`],
    /// [`Error::Socket`].
    pub fn listen(group: u16) -> Result<Self, Error> {
        let fd = socket::open(SockFlag::SOCK_NONBLOCK, RECEIVE_QUEUE)?;
        let mut buffer = vec![0; RECEIVE];
        for (seq, message) in (1..).zip(configure(group)?) {
            request(&fd, &message, seq, group, &mut buffer)?;
        }
        // SAFETY: an `OwnedFd` is an open descriptor, and stays the same one until it is dropped
        // with the `AsyncFd` that now owns it.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| Error::Socket {
            attempt: "wait for refusals",
            errno: socket::errno_of(&error.into()),
        })?;
        Ok(Self {
            fd,
            buffer,
            waiting: VecDeque::new(),
            expected: None,
            lost: 0,
        })
    }

    /// The next refusal. Cancelling loses none.
    ///
    /// # Errors
    /// [`Error::Socket`]; refusals lost to a full queue are no error, they are counted.
    pub async fn next(&mut self) -> Result<Refusal, Error> {
        const ATTEMPT: &str = "read refusals";
        loop {
            if let Some(refusal) = self.waiting.pop_front() {
                return Ok(refusal);
            }
            let mut ready = self.fd.readable().await.map_err(|error| Error::Socket {
                attempt: ATTEMPT,
                errno: socket::errno_of(&error),
            })?;
            match recv(
                ready.get_inner().as_raw_fd(),
                &mut self.buffer,
                MsgFlags::empty(),
            ) {
                Ok(length) => {
                    drop(ready);
                    self.take(length.min(self.buffer.len()));
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // The queue was full: the sequence numbers say how many are missing.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Socket {
                        attempt: ATTEMPT,
                        errno,
                    });
                }
            }
        }
    }

    /// How many of the kernel's messages were lost since the start because they came faster
    /// than they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn take(&mut self, length: usize) {
        for reply in Replies(&self.buffer[..length]) {
            if reply.kind != NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
                continue;
            }
            let attributes = reply.attributes();
            if let Some(seq) = attributes.be32(NFULA_SEQ) {
                if let Some(expected) = self.expected {
                    self.lost += u64::from(seq.wrapping_sub(expected));
                }
                self.expected = Some(seq.wrapping_add(1));
            }
            self.waiting.extend(Refusal::read(attributes));
        }
    }
}

/// Bind the group; take headers only, each as it comes, numbered.
fn configure(group: u16) -> Result<[Message; 3], Error> {
    let message = |fill: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        fill(&mut w);
        Message::log(
            NFULNL_MSG_CONFIG,
            format!("listen to NFLOG group {group}"),
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

fn request(
    fd: &OwnedFd,
    message: &Message,
    seq: u32,
    group: u16,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let attempt = "listen to NFLOG";
    let socket = |errno| Error::Socket { attempt, errno };
    let mut bytes = Vec::new();
    message.write(seq, group, &mut bytes);
    send(fd.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(socket)?;
    // The answer is in the queue when `send` returns; refusals may be before it.
    loop {
        let length = recv(fd.as_raw_fd(), buffer, MsgFlags::empty()).map_err(socket)?;
        let mut answers = Replies(&buffer[..length.min(buffer.len())]);
        let Some(reply) = answers.find(|r| r.kind == NLMSG_ERROR && r.seq == seq) else {
            continue;
        };
        return match reply.outcome() {
            Some((0, _)) => Ok(()),
            // Not for lack of rights: enlarging the queue needs the same ones.
            Some((libc::EPERM | libc::EBUSY, _)) => Err(Error::GroupTaken { group }),
            Some((code, said)) => Err(Error::Refused {
                message: message.says.clone(),
                errno: Errno::from_raw(code),
                said: said.to_owned(),
            }),
            None => Err(Error::Malformed {
                attempt,
                what: "short error",
            }),
        };
    }
}
