//! The control socket: the same service for root and members of group `hubwarden`, past the bus.
//!
//! The kernel lets nobody else connect: the file belongs to root, and an access control list gives
//! the group its part. A change of the file's group would need CAP_CHOWN, a list does not.

use super::PATH;
use super::door::PeerDoor;
use super::mailbox::Outbox;
use super::members::Members;
use super::service::{Callers, Desk, Manager};
use crate::bus_socket::DoorSocket;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use zbus::{Guid, connection};

/// Where it is, below systemd's `RuntimeDirectory=`.
pub const SOCKET: &str = "/run/hubwarden/control";
/// A caller says who it is at once, or is let go.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Connections of root, and of each member.
const MOST_OF_ROOT: usize = 64;
const MOST_OF_A_MEMBER: usize = 8;
/// Connections of all members together.
const MOST_OF_MEMBERS: usize = 64;

/// Listens until the process ends.
///
/// # Errors
/// There can be no socket at this place, or another daemon listens there.
pub async fn listen(path: &Path, outbox: Outbox, members: Arc<Members>) -> io::Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another hubwarden listens there",
        ));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Some(gid) = members.gid().await {
        // Where the file system has no such lists, members use the bus.
        let _ = let_in(path, gid);
    }
    let desk = Arc::new(Desk::new(outbox, members));
    tokio::spawn(accept(listener, desk));
    Ok(())
}

/// Gives a group the right to connect, which is the right to write (unix(7)).
fn let_in(path: &Path, gid: u32) -> io::Result<()> {
    const LIST: &str = "system.posix_acl_access";
    // acl(5), in the form of the kernel's include/uapi/linux/posix_acl_xattr.h.
    const VERSION: u32 = 2;
    const NONE: u32 = u32::MAX;
    const READ_WRITE: u16 = 6;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, READ_WRITE, NONE), // the owner
        (0x04, 0, NONE),          // the file's group
        (0x08, READ_WRITE, gid),  // this group
        (0x10, READ_WRITE, NONE), // what groups may have at most
        (0x20, 0, NONE),          // all others
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(may.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(path, LIST, &list, rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// How many connections each uid has.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<u32, usize>>);

/// One of them; it is free again when this is dropped.
struct Taken {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    fn take(self: &Arc<Self>, uid: u32) -> Option<Taken> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let members = places.iter().filter(|(uid, _)| **uid != 0);
        let all: usize = members.map(|(_, count)| count).sum();
        let count = places.get(&uid).copied().unwrap_or(0);
        let room = match uid {
            0 => count < MOST_OF_ROOT,
            _ => count < MOST_OF_A_MEMBER && all < MOST_OF_MEMBERS,
        };
        room.then(|| {
            places.insert(uid, count + 1);
            Taken {
                places: Arc::clone(self),
                uid,
            }
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut places = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = places.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.uid);
            }
        }
    }
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Places::default());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of file descriptors, say: those in use come back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else {
            continue;
        };
        // Too many are let go at once.
        if let Some(place) = places.take(peer.uid()) {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                serve_one(stream, place.uid, desk).await;
                drop(place);
            });
        }
    }
}

/// Serves one caller until it hangs up; one whose membership ended is not served at all.
async fn serve_one(stream: UnixStream, uid: u32, desk: Arc<Desk>) {
    if !desk.members().has(uid, None).await {
        return;
    }
    let door = Arc::new(PeerDoor::new(uid));
    let connecting = connection::Builder::socket(DoorSocket::new(stream, door))
        .server(Guid::generate())
        .p2p()
        .serve_at(PATH, Manager::new(desk, Callers::Peer(uid)))
        .build();
    if let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE, connecting).await {
        connection.closed().await;
    }
}

#[cfg(test)]
mod tests;
