//! `hubwarden hold-table`: holds the socket that the packet rules belong to, while daemons come and go, on
//! kernels where rules cannot both belong to a socket and outlast it (5.12 to 6.8).
//!
//! systemd starts it when a daemon first connects (`hubwarden-table.socket`), and keeps a duplicate of
//! what it holds (`FDSTORE=1`, sd_notify(3)): a holder that is killed is started again with that.

use super::Failure;
use egress::Keeper;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What it holds, for systemd.
const NAME: &str = "rules";
/// One that holds nothing and is not asked ends then, until somebody connects again.
const IDLE: Duration = Duration::from_secs(30);

pub(super) fn hold() -> Result<(), Failure> {
    let mut listener = None;
    let mut held = None;
    for (fd, name) in sd_notify::listen_fds_with_names().map_err(Failure::new)? {
        // SAFETY: systemd opened it for this process (sd_listen_fds(3)), which takes it here once,
        // before anything else could.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        match name == NAME {
            true => held = Some(fd),
            false => listener = Some(fd),
        }
    }
    let Some(listener) = listener else {
        return Err(Failure::input(
            "no socket to listen on was handed over; systemd starts this, by hubwarden-table.socket",
        ));
    };
    let mut systemd = Systemd(std::env::var_os("NOTIFY_SOCKET"));
    egress::hold(listener.as_fd(), held, &mut systemd, IDLE).map_err(Failure::new)
}

/// Where systemd hears of it, if systemd started this.
struct Systemd(Option<OsString>);

impl Keeper for Systemd {
    fn keep(&mut self, socket: BorrowedFd<'_>) {
        if let Some(systemd) = &self.0 {
            // Without it a holder that is killed while no daemon runs takes the rules along.
            let _ = store(systemd, socket);
        }
    }

    fn beat(&mut self) {
        // One that hangs is killed, and the next has what this one held.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// Has systemd keep this, and nothing else. `FDPOLL=0`: a netlink socket whose queue ran over counts
/// as broken for systemd otherwise.
fn store(systemd: &OsStr, socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let forget = format!("FDSTOREREMOVE=1\nFDNAME={NAME}\n");
    let keep = format!("FDSTORE=1\nFDNAME={NAME}\nFDPOLL=0\n");
    let name = systemd.as_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddrUnix::new_abstract_name(abstract_name)?,
        None => SocketAddrUnix::new(name)?,
    };
    let to = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&to, &address)?;
    for (words, sockets) in [(forget, &[][..]), (keep, &[socket][..])] {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut passed = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !passed.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(rustix::io::Errno::NOBUFS);
        }
        let words = [IoSlice::new(words.as_bytes())];
        sendmsg(&to, &words, &mut passed, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}
