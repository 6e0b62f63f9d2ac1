//! The socket below a D-Bus connection, which hands zbus only what its door lets in.
//!
//! zbus keeps each message that comes, however large, and starts a task for each call. Whoever
//! may send to us could so take the daemon's memory and time. Here a message is looked at before
//! zbus sees it: its size and kind when its first 16 bytes are there, its sender when its header is.

mod framer;

use framer::{Framed, Framer};
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;
use zbus::message::Type;
use zbus::{Error, Message};

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Decides which messages a connection takes in.
pub trait Door: Debug + Send + Sync + 'static {
    /// The largest message that is kept, in bytes. Of a larger one only the header is seen.
    const MOST: usize;

    /// Whether messages of this kind are looked at; others cost no more than being read.
    fn wants(&self, kind: Type) -> bool;

    /// Puts right what zbus would not read, before it sees the message.
    fn mend(&self, _message: &mut [u8]) {}

    /// Whether this message goes on to zbus. One that is `cut` was too large: its body is missing.
    fn lets_in(&self, message: Message, cut: bool) -> Option<Message> {
        (!cut).then_some(message)
    }

    /// Messages that were not let in at first, and are now.
    fn held(&self) -> impl Future<Output = Message> + Send {
        std::future::pending()
    }

    /// Waits until there is room for another message; until then nothing is read.
    fn room(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// A message was sent.
    fn sent(&self, _message: &Message) {}

    /// Who is at the other end, where that is known and the other end has to say the same.
    fn peer(&self) -> Option<u32> {
        None
    }
}

/// The door of a connection that only we make calls on.
#[derive(Debug)]
pub struct AnswersOnly;

impl Door for AnswersOnly {
    // All properties of a service are some 30 kB.
    const MOST: usize = 1024 * 1024;

    fn wants(&self, kind: Type) -> bool {
        matches!(kind, Type::MethodReturn | Type::Error)
    }
}

/// A Unix socket with a door.
#[derive(Debug)]
pub struct DoorSocket<D> {
    stream: UnixStream,
    door: Arc<D>,
}

impl<D: Door> DoorSocket<D> {
    /// Puts a door before a socket.
    pub fn new(stream: UnixStream, door: Arc<D>) -> Self {
        DoorSocket { stream, door }
    }
}

impl<D: Door> Socket for DoorSocket<D> {
    type ReadHalf = Reader<D>;
    type WriteHalf = Writer<D>;

    fn split(self) -> Split<Reader<D>, Writer<D>> {
        let (read, write) = self.stream.into_split();
        let reader = Reader {
            read,
            door: Arc::clone(&self.door),
            framer: Framer::new(D::MOST),
        };
        let door = self.door;
        Split::new(reader, Writer { write, door })
    }
}

/// The half that messages come by.
#[derive(Debug)]
pub struct Reader<D> {
    read: OwnedReadHalf,
    door: Arc<D>,
    framer: Framer,
}

#[async_trait]
impl<D: Door> ReadHalf for Reader<D> {
    async fn receive_message(
        &mut self,
        seq: u64,
        already_received_bytes: &mut Vec<u8>,
        _already_received_fds: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        // What came behind the handshake.
        self.framer.push(&std::mem::take(already_received_bytes));
        loop {
            self.door.room().await;
            let wants = |kind| kind_of(kind).is_some_and(|kind| self.door.wants(kind));
            let framed = self.framer.take(wants).map_err(|_| {
                Error::from(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "what came is no D-Bus message",
                ))
            })?;
            let (mut bytes, cut) = match framed {
                Some(Framed::Whole(bytes)) => (bytes, false),
                Some(Framed::Cut(bytes)) => (bytes, true),
                None => {
                    let mut bytes = vec![0; READ];
                    tokio::select! {
                        message = self.door.held() => return Ok(message),
                        read = self.read.read(&mut bytes) => {
                            let read = read?;
                            if read == 0 {
                                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                            }
                            self.framer.push(bytes.get(..read).unwrap_or_default());
                        }
                    }
                    continue;
                }
            };
            self.door.mend(&mut bytes);
            // One that zbus cannot read is dropped: it must not end the connection of all others.
            if let Ok(message) = parsed(bytes, seq).await
                && let Some(message) = self.door.lets_in(message, cut)
            {
                return Ok(message);
            }
        }
    }

    /// Only the handshake reads so.
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.read.read(buffer).await?, Vec::new()))
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let nothing = ConnectionCredentials::default();
        Ok(match self.door.peer() {
            Some(uid) => nothing.set_unix_user_id(uid),
            None => nothing,
        })
    }
}

/// The half that messages leave by.
#[derive(Debug)]
pub struct Writer<D> {
    write: OwnedWriteHalf,
    door: Arc<D>,
}

#[async_trait]
impl<D: Door> WriteHalf for Writer<D> {
    async fn send_message(&mut self, message: &Message) -> zbus::Result<()> {
        // Counted before it is written: a peer that reads nothing holds up its own connection only.
        self.door.sent(message);
        self.write.write_all(message.data()).await?;
        Ok(())
    }

    async fn sendmsg(&mut self, bytes: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.write.write(bytes).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let nothing = ConnectionCredentials::default();
        Ok(match self.door.peer() {
            Some(uid) => nothing.set_unix_user_id(uid),
            None => nothing,
        })
    }
}

/// The kinds of the specification; it says that others are to be ignored.
fn kind_of(byte: u8) -> Option<Type> {
    match byte {
        1 => Some(Type::MethodCall),
        2 => Some(Type::MethodReturn),
        3 => Some(Type::Error),
        4 => Some(Type::Signal),
        _ => None,
    }
}

/// Has zbus read a message from bytes, as it does from a socket.
async fn parsed(bytes: Vec<u8>, seq: u64) -> zbus::Result<Message> {
    let mut bytes = Bytes { bytes, at: 0 };
    bytes
        .receive_message(seq, &mut Vec::new(), &mut Vec::new())
        .await
}

#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    at: usize,
}

#[async_trait]
impl ReadHalf for Bytes {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok((count, Vec::new()))
    }
}
