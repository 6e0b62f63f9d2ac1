//! A netfilter socket that another process opened and handed over. To the kernel it is the same
//! writer: what the socket owns, whoever has it may change (`NFT_TABLE_F_OWNER`).

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    libc,
    sys::{socket::MsgFlags, stat::fstat},
};

use crate::{
    Error,
    socket::{Netlink, failed},
    transaction::SEND_QUEUE,
};

/// Asks a socket for its network namespace (`linux/sockios.h`).
const SIOCGSKNS: libc::Ioctl = 0x894c;
/// More than the receive queue holds.
const STALE_MAX: usize = 1 << 20;
const ATTEMPT: &str = "go on with another's netlink socket";

impl Netlink {
    /// Goes on with a socket that another process opened and used before. What it was still to be
    /// told is read and dropped, a dump that was under way is ended, and requests are numbered from
    /// elsewhere, so that no late answer is taken for an answer to this process. Nobody else may use
    /// the socket meanwhile. `beside` is any socket of the namespace in which it is to be.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it is no netfilter socket, or another network namespace's;
    /// [`Error::Socket`], with CAP_NET_ADMIN missing most likely.
    pub fn adopt(fd: OwnedFd, beside: &Netlink) -> Result<Self, Error> {
        let kind = [libc::SO_DOMAIN, libc::SO_PROTOCOL]
            .map(|option| number(&fd, option).map_err(failed(ATTEMPT)));
        if !matches!(kind, [Ok(libc::AF_NETLINK), Ok(libc::NETLINK_NETFILTER)]) {
            return Err(Error::Foreign {
                what: "no netfilter socket",
            });
        }
        if namespace(&fd)? != namespace(&beside.fd)? {
            return Err(Error::Foreign {
                what: "a socket of another network namespace",
            });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut netlink = Self {
            fd,
            seq: now.map_or(1, |since| since.subsec_nanos() | 1),
            send_queue: 0,
            buffer: vec![0; beside.buffer.len()],
        };
        netlink.make_room(SEND_QUEUE)?;
        for _ in 0..STALE_MAX {
            match netlink.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(netlink),
                Err(errno) => return Err(failed(ATTEMPT)(errno)),
            }
        }
        Err(failed(ATTEMPT)(Errno::EBUSY))
    }

    /// Whether this descriptor is the same socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn is(&self, other: &impl AsFd) -> Result<bool, Error> {
        let inode = |fd: BorrowedFd<'_>| {
            fstat(fd)
                .map(|stat| (stat.st_dev, stat.st_ino))
                .map_err(failed("tell sockets apart"))
        };
        Ok(inode(self.fd.as_fd())? == inode(other.as_fd())?)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The namespace that a socket is in, as a file's device and inode.
fn namespace(fd: &OwnedFd) -> Result<(u64, u64), Error> {
    // SAFETY: this request takes no argument, and returns a descriptor or -1.
    let opened = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSKNS) };
    let opened = Errno::result(opened).map_err(failed(ATTEMPT))?;
    // SAFETY: the kernel has just opened it for this process, and nothing else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(opened) };
    let stat = fstat(&namespace).map_err(failed(ATTEMPT))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// An option of a socket that is a number.
fn number(fd: &OwnedFd, option: libc::c_int) -> Result<libc::c_int, Errno> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers and the length are of `value` and `length`, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(|_| value)
}
