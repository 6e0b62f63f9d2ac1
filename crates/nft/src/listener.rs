//! What the kernel says unasked: notifications, and packets of a log group.

use std::os::fd::OwnedFd;

use nix::{errno::Errno, sys::socket::MsgFlags};
use tokio::io::unix::AsyncFd;

use crate::{
    Error,
    message::Replies,
    socket::{Netlink, receive},
};

/// A netlink socket that is listened to.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    attempt: &'static str,
}

/// What was received.
#[derive(Debug)]
pub enum Received<'a> {
    /// Messages.
    Messages(Replies<'a>),
    /// There is nothing more for now.
    Nothing,
    /// Something was lost, since it came faster than it was read. From here until the queue is empty
    /// the kernel drops more without another word (`NETLINK_S_CONGESTED` in
    /// `net/netlink/af_netlink.c`).
    Lost,
}

impl Listener {
    /// Listen on a socket that was opened with `SOCK_NONBLOCK`. An error names `attempt`.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn on(netlink: Netlink, attempt: &'static str) -> Result<Self, Error> {
        let Netlink { fd, buffer, .. } = netlink;
        // SAFETY: an `OwnedFd` is an open descriptor, and stays the same one until it is dropped
        // with the `AsyncFd` that now owns it.
        let fd = unsafe { AsyncFd::register(fd) }
            .map_err(|error| Error::of_io(attempt, &error.into()))?;
        Ok(Self {
            fd,
            buffer,
            attempt,
        })
    }

    /// Waits for what comes next. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn next(&mut self) -> Result<Received<'_>, Error> {
        let attempt = self.attempt;
        loop {
            let mut ready = self
                .fd
                .readable()
                .await
                .map_err(|error| Error::of_io(attempt, &error))?;
            match receive(ready.get_inner(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => {
                    drop(ready);
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    return Ok(Received::Messages(Replies(bytes)));
                }
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    return Ok(Received::Nothing);
                }
                Err(Errno::ENOBUFS) => return Ok(Received::Lost),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Socket { attempt, errno }),
            }
        }
    }
}
