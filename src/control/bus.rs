//! The service on the system bus, on a thread of its own: whatever users send there takes that
//! thread's time, and not the loop's.

use super::budget::Rank;
use super::door::{BusDoor, Errands, Known};
use super::mailbox::Outbox;
use super::members::Members;
use super::service::{Callers, Desk, Manager};
use super::{NAME, PATH};
use crate::bus_socket::{AnswersOnly, DoorSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, connection};

/// Where the system bus listens, unless the environment says another place (D-Bus specification,
/// "Well-known Message Bus Instances").
const BUS: &str = "/run/dbus/system_bus_socket";
const BUS_VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// The bus itself answers within this, or is as good as gone.
const TIMEOUT: Duration = Duration::from_secs(30);
/// After the bus went away it is sought so often.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the service is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process has the name, and keeps it.
    #[error(
        "the name org.hubwarden is taken on the system bus: another hubwarden runs (busctl status \
         org.hubwarden names it)"
    )]
    Taken,
    /// There is no bus, or it does not let us.
    #[error("the service is not on the system bus: {0}")]
    Bus(zbus::Error),
    /// There can be no thread for it.
    #[error("the service is not on the system bus: no thread: {0}")]
    Thread(std::io::Error),
    /// The bus ended the connection.
    #[error("the system bus hung up; it is sought again every second")]
    HungUp,
}

/// Starts to serve; returns when the name is ours or cannot be had. Where there is no bus it is
/// sought until there is one, and `tell` is called with each change for the worse, once.
///
/// # Errors
/// What is in the way now. Only [`ServeError::Bus`] may pass by itself.
pub async fn serve(
    outbox: Outbox,
    members: Arc<Members>,
    tell: impl Fn(&ServeError) + Send + 'static,
) -> Result<(), ServeError> {
    let (begun, first) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(serve_forever(outbox, members, tell, begun)),
            Err(error) => drop(begun.send(Err(ServeError::Thread(error)))),
        }
    };
    std::thread::Builder::new()
        .name("bus".into())
        .spawn(run)
        .map_err(ServeError::Thread)?;
    first.await.unwrap_or(Err(ServeError::HungUp))
}

async fn serve_forever(
    outbox: Outbox,
    members: Arc<Members>,
    tell: impl Fn(&ServeError),
    begun: oneshot::Sender<Result<(), ServeError>>,
) {
    let desk = Arc::new(Desk::new(outbox, members));
    let mut begun = Some(begun);
    let mut told = false;
    loop {
        let error = match on_the_bus(&desk).await {
            Ok(connection) => {
                told = false;
                if let Some(begun) = begun.take() {
                    let _ = begun.send(Ok(()));
                }
                connection.closed().await;
                ServeError::HungUp
            }
            Err(error) => error,
        };
        match begun.take() {
            Some(begun) => {
                let taken = matches!(error, ServeError::Taken);
                let _ = begun.send(Err(error));
                told = true;
                if taken {
                    return;
                }
            }
            None if !told => {
                tell(&error);
                told = !matches!(error, ServeError::HungUp);
            }
            None => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Connects and takes the name.
async fn on_the_bus(desk: &Arc<Desk>) -> Result<Connection, ServeError> {
    let (door, errands) = BusDoor::new();
    let door = Arc::new(door);
    let manager = Manager::new(Arc::clone(desk), Callers::Bus(Arc::clone(&door)));
    // Look-ups have a connection of their own: their answers do not queue behind questions.
    let asks = build(connect().await?, Arc::new(AnswersOnly), None).await?;
    let serves = build(connect().await?, Arc::clone(&door), Some(manager)).await?;
    tokio::spawn(run_errands(
        door,
        errands,
        asks,
        serves.clone(),
        Arc::clone(desk.members()),
    ));
    // Without the flag to allow it, no other process can take the name from us.
    let asked = serves
        .request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE)
        .await;
    match asked {
        Ok(_) => Ok(serves),
        Err(zbus::Error::NameTaken) => Err(ServeError::Taken),
        Err(error) => Err(ServeError::Bus(error)),
    }
}

async fn connect() -> Result<UnixStream, ServeError> {
    let address = std::env::var(BUS_VARIABLE).unwrap_or_default();
    let path = address.strip_prefix("unix:path=").unwrap_or(BUS);
    let path = path.split([',', ';']).next().unwrap_or(BUS);
    let connected = UnixStream::connect(path).await;
    connected.map_err(|error| ServeError::Bus(error.into()))
}

async fn build<D: crate::bus_socket::Door>(
    stream: UnixStream,
    door: Arc<D>,
    manager: Option<Manager>,
) -> Result<Connection, ServeError> {
    let mut builder =
        connection::Builder::socket(DoorSocket::new(stream, door)).method_timeout(TIMEOUT);
    if let Some(manager) = manager {
        builder = builder.serve_at(PATH, manager);
    }
    let built = tokio::time::timeout(TIMEOUT, builder.build()).await;
    let late = |late| ServeError::Bus(std::io::Error::from(late).into());
    built.map_err(late)?.map_err(ServeError::Bus)
}

/// Looks callers up and sends refusals, until the connection ends.
async fn run_errands(
    door: Arc<BusDoor>,
    mut errands: Errands,
    asks: Connection,
    serves: Connection,
    members: Arc<Members>,
) {
    loop {
        tokio::select! {
            () = serves.closed() => return,
            Some(sender) = errands.look_up.recv() => {
                let (door, asks) = (Arc::clone(&door), asks.clone());
                let members = Arc::clone(&members);
                tokio::spawn(async move {
                    let known = look_up(&asks, &sender, &members).await;
                    door.found(&sender, known);
                });
            }
            Some(refusal) = errands.refuse.recv() => {
                // A connection that is lost is seen above.
                let _ = serves.send(&refusal).await;
            }
        }
    }
}

async fn look_up(asks: &Connection, sender: &str, members: &Members) -> Option<Known> {
    let reply = asks
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionCredentials",
            &(sender,),
        )
        .await
        .ok()?;
    let body = reply.body();
    let credentials: zbus::fdo::ConnectionCredentials = body.deserialize().ok()?;
    let uid = credentials.unix_user_id()?;
    let groups = credentials.unix_group_ids().cloned().unwrap_or_default();
    let rank = match members.has(uid, Some(&groups)).await {
        true => Rank::Admin,
        false => Rank::User,
    };
    Some(Known { uid, groups, rank })
}
