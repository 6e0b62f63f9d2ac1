//! The connection between a holder and its client: a sequenced-packet socket, root at both ends.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
        sendmsg, socket_with, sockopt::socket_peercred,
    },
};

/// What is said.
pub(super) const HELD: &[u8] = b"held";
pub(super) const NONE: &[u8] = b"none";
pub(super) const GIVE: &[u8] = b"hold";
pub(super) const DONE: &[u8] = b"done";

/// Why a holder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Nothing listens, or the connection failed.
    #[error("{path}: {errno}")]
    Socket {
        /// Where it should listen.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The process at the other end is not root's.
    #[error("{path}: a process of uid {uid} answers there, and not root's")]
    Stranger {
        /// Where it should listen.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It closed the connection.
    #[error("it ended before it answered")]
    Ended,
    /// It said what it should not.
    #[error("it answers as no holder does")]
    Strange,
    /// It takes too long.
    #[error("it does not answer")]
    Silent,
    /// What it holds cannot be used here.
    #[error("{0}")]
    Unusable(#[from] nft::Error),
}

/// What a holder answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// It holds this, or nothing.
    Has(Option<OwnedFd>),
    /// It did what it was told.
    Done,
}

/// A client's end.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    path: PathBuf,
}

impl Link {
    pub fn open(path: &Path) -> Result<Self, HolderError> {
        let failed = |errno| HolderError::Socket {
            path: path.to_owned(),
            errno,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        connect(&socket, &address).map_err(failed)?;
        match peer(socket.as_fd()).map_err(failed)? {
            Ok(()) => Ok(Self {
                socket,
                path: path.to_owned(),
            }),
            Err(uid) => Err(HolderError::Stranger {
                path: path.to_owned(),
                uid,
            }),
        }
    }

    /// The next answer; none if it has not come within this time.
    pub fn answer(&self, wait: Duration) -> Result<Option<Answer>, HolderError> {
        let failed = |errno| HolderError::Socket {
            path: self.path.clone(),
            errno,
        };
        let mut wanted = [PollFd::new(&self.socket, PollFlags::IN)];
        let wait = Timespec::try_from(wait).unwrap_or_default();
        match poll(&mut wanted, Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut said = [0; 16];
        let (length, passed) = receive(self.socket.as_fd(), &mut said).map_err(failed)?;
        match (said.get(..length).unwrap_or_default(), passed) {
            (b"", _) => Err(HolderError::Ended),
            (HELD, Some(socket)) => Ok(Some(Answer::Has(Some(socket)))),
            (NONE, None) => Ok(Some(Answer::Has(None))),
            (DONE, None) => Ok(Some(Answer::Done)),
            _ => Err(HolderError::Strange),
        }
    }

    /// Gives it a socket to hold.
    pub fn give(&self, socket: BorrowedFd<'_>) -> Result<(), HolderError> {
        send(self.socket.as_fd(), GIVE, Some(socket)).map_err(|errno| HolderError::Socket {
            path: self.path.clone(),
            errno,
        })
    }

    /// Whether the other end lives, as far as the kernel knows.
    pub fn is_open(&self) -> bool {
        let mut wanted = [PollFd::new(&self.socket, PollFlags::IN)];
        let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::IN;
        match poll(&mut wanted, Some(&Timespec::default())) {
            Ok(0) => true,
            Ok(_) => !wanted.iter().any(|one| one.revents().intersects(ended)),
            Err(errno) => errno == Errno::INTR,
        }
    }
}

/// Whether root is at the other end, or whoever this process is; else who.
pub(super) fn peer(socket: BorrowedFd<'_>) -> Result<Result<(), u32>, Errno> {
    let uid = socket_peercred(socket)?.uid;
    match uid.is_root() || uid == rustix::process::geteuid() {
        true => Ok(Ok(())),
        false => Ok(Err(uid.as_raw())),
    }
}

/// Sends a word, and a descriptor with it.
pub(super) fn send(
    to: BorrowedFd<'_>,
    word: &[u8],
    socket: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    let sockets = socket.as_slice();
    if !sockets.is_empty() && !passed.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(to, &[IoSlice::new(word)], &mut passed, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a word, and the last descriptor that came with it. Nothing is said at the end.
pub(super) fn receive(
    from: BorrowedFd<'_>,
    word: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(word)], &mut passed, flags)?;
    let rights = passed.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.last(),
        _ => None,
    });
    Ok((received.bytes, rights.last()))
}
