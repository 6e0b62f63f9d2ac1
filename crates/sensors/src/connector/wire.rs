//! The connector's messages (include/uapi/linux/connector.h, cn_proc.h) and its socket.

use super::ConnectorError;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, bind, recvfrom, send, setsockopt, sockopt::RcvBufForce,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const NLMSG_DONE: u16 = 3;
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
/// `PROC_EVENT_NONE`: the answer to what we asked.
const ANSWER: u32 = 0;
const PROC_EVENT_EXEC: u32 = 2;
/// Where `what` is: behind `struct nlmsghdr` and `struct cn_msg`.
const WHAT: usize = 16 + 20;
/// And what belongs to the event: behind `what`, the CPU and the time.
const OF_EVENT: usize = WHAT + 16;
/// Room for some 5,000 starts: each takes near a kilobyte of the kernel's.
const RECEIVE_QUEUE: usize = 4 << 20;
/// The kernel answers before `send` returns; a second is for one that is very busy.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// So many messages of others' may lie before the answer.
const MOST_BEFORE_ANSWER: usize = 10_000;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Our request was answered with this error number, 0 for none.
    Answer { to: u32, error: u32 },
    /// This process (thread group) runs another program now.
    Exec { pid: u32 },
    /// Anything else.
    Other,
}

impl Message {
    /// Reads one; what is too short is [`Message::Other`].
    pub fn parse(bytes: &[u8]) -> Message {
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        if (word(16), word(20)) != (Some(CN_IDX_PROC), Some(CN_VAL_PROC)) {
            return Message::Other;
        }
        match (word(WHAT), word(28), word(OF_EVENT), word(OF_EVENT + 4)) {
            // The sequence number is the kernel's own; what we wrote to `ack` comes back plus one
            // (`cn_proc_ack` in drivers/connector/cn_proc.c).
            (Some(ANSWER), Some(ack), Some(error), _) => Message::Answer {
                to: ack.wrapping_sub(1),
                error,
            },
            (Some(PROC_EVENT_EXEC), _, _, Some(pid)) => Message::Exec { pid },
            _ => Message::Other,
        }
    }
}

/// Asks for the events; `number` comes back in the answer.
pub fn request(number: u32) -> Vec<u8> {
    let length = 16u32 + 20 + 4;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend([0; 10]);
    for word in [CN_IDX_PROC, CN_VAL_PROC, 0, number] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(4u16.to_ne_bytes());
    bytes.extend(0u16.to_ne_bytes());
    bytes.extend(PROC_CN_MCAST_LISTEN.to_ne_bytes());
    bytes
}

/// A subscribed socket.
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one and asks for events.
    ///
    /// # Errors
    /// The kernel refused, or does not answer here.
    pub fn subscribe() -> Result<Socket, ConnectorError> {
        let failed = |attempt| move |errno| ConnectorError::Refused { attempt, errno };
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no memory of ours.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
        let fd = Errno::result(fd).map_err(failed("open a socket"))?;
        // SAFETY: just opened, and nobody else has it.
        let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });
        socket
            .only_starts()
            .map_err(failed("filter its messages"))?;
        // Refused is a smaller queue: then more is thrown away, which is noticed.
        let _ = setsockopt(&socket.0, RcvBufForce, &RECEIVE_QUEUE);
        bind(fd, &NetlinkAddr::new(0, 1 << (CN_IDX_PROC - 1))).map_err(failed("listen"))?;
        let number = std::process::id();
        send(fd, &request(number), MsgFlags::empty()).map_err(failed("ask for starts"))?;
        for _ in 0..MOST_BEFORE_ANSWER {
            match socket.next() {
                Ok(Some(Message::Answer { to, error })) if to == number => {
                    return match error {
                        0 => Ok(socket),
                        error => Err(failed("ask for starts")(Errno::from_raw(error as i32))),
                    };
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let mut readable = [PollFd::new(&socket, PollFlags::IN)];
                    if poll(&mut readable, Some(&PATIENCE)) == Ok(0) {
                        return Err(ConnectorError::NoAnswer);
                    }
                }
                Err(Errno::ENOBUFS) => {}
                Err(errno) => return Err(failed("wait for an answer")(errno)),
            }
        }
        Err(ConnectorError::NoAnswer)
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// ENOBUFS when the kernel had to throw messages away.
    pub fn next(&self) -> Result<Option<Message>, Errno> {
        let mut bytes = [0; 256];
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut bytes) {
                // The kernel alone is number 0.
                Ok((length, Some(from))) if from.pid() == 0 => {
                    return Ok(Some(Message::parse(
                        bytes.get(..length).unwrap_or_default(),
                    )));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Has the kernel drop what is neither a start nor an answer: forks and ends are many times as
    /// many, and each would wake us.
    fn only_starts(&self) -> Result<(), Errno> {
        // The program reads in network order.
        let seen = |word: u32| u32::from_be_bytes(word.to_ne_bytes());
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let give = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let mut steps = [
            step(load, 0, 0, WHAT as u32),
            step(equal, 1, 0, seen(PROC_EVENT_EXEC)),
            step(equal, 0, 1, seen(ANSWER)),
            step(give, 0, 0, u32::MAX),
            step(give, 0, 0, 0),
        ];
        let program = libc::sock_fprog {
            len: steps.len() as u16,
            filter: steps.as_mut_ptr(),
        };
        // SAFETY: `program` and the steps it points to outlive the call, which copies both.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        Errno::result(result).map(drop)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
