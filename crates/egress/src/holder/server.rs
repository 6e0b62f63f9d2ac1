//! The holder's side.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{SocketFlags, accept_with},
};

use super::link::{DONE, GIVE, HELD, NONE, peer, receive, send};

/// It says that it lives as often as this.
const BEAT: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Who started a holder.
pub trait Keeper {
    /// This is held from now on, and nothing else; the client that gave it has not been told yet.
    fn keep(&mut self, socket: BorrowedFd<'_>);

    /// The holder lives.
    fn beat(&mut self);
}

/// Serves one client after the other at a listening sequenced-packet socket. `held` is what an earlier
/// holder held. Returns when it has held nothing and nobody has come for this time.
///
/// # Errors
/// The listening socket failed.
pub fn hold(
    listener: BorrowedFd<'_>,
    mut held: Option<OwnedFd>,
    keeper: &mut dyn Keeper,
    idle: Duration,
) -> Result<(), Errno> {
    let mut since = Instant::now();
    loop {
        if held.is_none() && since.elapsed() >= idle {
            return Ok(());
        }
        if !readable(listener, keeper)? {
            continue;
        }
        match accept_with(listener, SocketFlags::CLOEXEC) {
            // What fails with one client is that one's; it asks again.
            Ok(client) => drop(serve(client.as_fd(), &mut held, keeper)),
            Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        since = Instant::now();
    }
}

/// Serves a client until it closes the connection or ends.
fn serve(
    client: BorrowedFd<'_>,
    held: &mut Option<OwnedFd>,
    keeper: &mut dyn Keeper,
) -> Result<(), Errno> {
    if peer(client)?.is_err() {
        return Ok(());
    }
    match held {
        Some(socket) => send(client, HELD, Some(socket.as_fd()))?,
        None => send(client, NONE, None)?,
    }
    loop {
        if !readable(client, keeper)? {
            continue;
        }
        let mut said = [0; 16];
        let (length, passed) = receive(client, &mut said)?;
        let (GIVE, Some(socket)) = (said.get(..length).unwrap_or_default(), passed) else {
            return Ok(());
        };
        keeper.keep(socket.as_fd());
        *held = Some(socket);
        send(client, DONE, None)?;
    }
}

/// Waits until something can be read, or it is time for the next beat.
fn readable(socket: BorrowedFd<'_>, keeper: &mut dyn Keeper) -> Result<bool, Errno> {
    keeper.beat();
    match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&BEAT)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}
