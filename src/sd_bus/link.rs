//! The connection to systemd, made anew when it ends.

use super::TIMEOUT;
use crate::bus_socket::{AnswersOnly, Door, DoorSocket};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use zbus::Connection;
use zbus::message::Type;

/// systemd's own socket (systemd's `bus_init_private`): root alone may connect.
pub const PRIVATE: &str = "/run/systemd/private";
/// During `daemon-reexec` systemd does not listen for some tens of milliseconds.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const ASKED_EVERY: Duration = Duration::from_millis(20);

/// On its private socket systemd answers with its well-known name as the sender (systemd's
/// `bus_on_connection`), where zbus takes unique names alone.
const SENDER: &[u8] = b"org.freedesktop.systemd1";

/// The door of systemd's private socket.
#[derive(Debug)]
struct SystemdAnswers;

impl Door for SystemdAnswers {
    const MOST: usize = AnswersOnly::MOST;

    /// systemd sends every unit's signals to whoever is connected here, asked or not.
    fn wants(&self, kind: Type) -> bool {
        AnswersOnly.wants(kind)
    }

    /// Makes the sender a unique name, of the same length.
    fn mend(&self, message: &mut [u8]) {
        // The field's code, its type, its length and its value (D-Bus specification, "Header
        // Fields"); fields begin at multiples of 8.
        let mut field = b"\x07\x01s\0".to_vec();
        field.extend((SENDER.len() as u32).to_le_bytes());
        field.extend(SENDER);
        for at in (16..message.len()).step_by(8) {
            let Some(rest) = message.get_mut(at..) else {
                return;
            };
            if rest.starts_with(&field) {
                rest[8] = b':';
                return;
            }
        }
    }
}

/// How systemd is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over its private socket, where no user can be in the way.
    Private,
    /// Over the system bus, which users can fill.
    Bus,
}

/// A connection that stood when it was given out.
#[derive(Debug, Clone)]
pub struct Standing {
    pub connection: Connection,
    way: Way,
}

/// See the module's text.
#[derive(Debug)]
pub struct Link {
    socket: PathBuf,
    standing: Mutex<Option<Standing>>,
    over_bus: AtomicBool,
}

impl Link {
    pub fn new(socket: impl Into<PathBuf>) -> Link {
        Link {
            socket: socket.into(),
            standing: Mutex::new(None),
            over_bus: AtomicBool::new(false),
        }
    }

    pub fn way(&self) -> Way {
        match self.over_bus.load(Ordering::Relaxed) {
            true => Way::Bus,
            false => Way::Private,
        }
    }

    /// The connection that stands, or a new one.
    pub async fn connection(&self) -> zbus::Result<Standing> {
        let mut standing = self.standing.lock().await;
        if let Some(standing) = &*standing
            && !standing.connection.is_closed()
        {
            return Ok(standing.clone());
        }
        let new = connect(&self.socket).await?;
        self.over_bus.store(new.way == Way::Bus, Ordering::Relaxed);
        *standing = Some(new.clone());
        Ok(new)
    }

    /// This connection is of no use any more; another that came after it stays.
    pub async fn lost(&self, lost: &Standing) {
        let mut standing = self.standing.lock().await;
        let same = |one: &Standing| one.connection.is_closed() || one.is(lost);
        if standing.as_ref().is_some_and(same) {
            *standing = None;
        }
    }
}

impl Standing {
    fn is(&self, other: &Standing) -> bool {
        std::ptr::eq(
            self.connection.server_guid(),
            other.connection.server_guid(),
        )
    }
}

/// Whether a call's answer can no more come.
pub fn is_lost(error: &zbus::Error) -> bool {
    // A call that took too long is an error of this kind too; systemd is there, and hangs.
    matches!(error, zbus::Error::InputOutput(io) if io.kind() != ErrorKind::TimedOut)
}

async fn connect(socket: &Path) -> zbus::Result<Standing> {
    let deadline = tokio::time::Instant::now() + REFUSED_FOR;
    loop {
        match private(socket).await {
            Ok(connection) => {
                return Ok(Standing {
                    connection,
                    way: Way::Private,
                });
            }
            Err(error) if may_come_back(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(ASKED_EVERY).await;
            }
            Err(_) => break,
        }
    }
    Ok(Standing {
        connection: super::connect_bus().await?,
        way: Way::Bus,
    })
}

/// Somebody listened there, or will in a moment. A socket that is missing or closed to us stays so.
fn may_come_back(error: &zbus::Error) -> bool {
    !matches!(error, zbus::Error::InputOutput(io)
        if matches!(io.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied))
}

async fn private(socket: &Path) -> zbus::Result<Connection> {
    let stream = UnixStream::connect(socket).await?;
    let socket = DoorSocket::new(stream, Arc::new(SystemdAnswers));
    let connecting = zbus::connection::Builder::socket(socket)
        .p2p()
        .method_timeout(TIMEOUT)
        .build();
    match tokio::time::timeout(TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(late) => Err(std::io::Error::from(late).into()),
    }
}

#[cfg(test)]
mod tests;
