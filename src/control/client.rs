//! Asks a running daemon.

use super::{
    Explanation, FlowList, GrantOrder, GrantStatus, NodeStatus, ServerProcesses, ServerStatus,
};
use crate::bus_socket::{AnswersOnly, DoorSocket};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use zbus::{Connection, connection, proxy};

/// Within this the daemon answers, or it hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

#[proxy(
    interface = "org.hubwarden.Manager1",
    default_service = "org.hubwarden",
    default_path = "/org/hubwarden"
)]
trait Manager {
    async fn status(&self) -> zbus::Result<NodeStatus>;
    async fn list_servers(&self) -> zbus::Result<Vec<ServerStatus>>;
    async fn flows(&self, user: &str) -> zbus::Result<FlowList>;
    async fn processes(&self) -> zbus::Result<Vec<ServerProcesses>>;
    async fn explain(&self, user: &str) -> zbus::Result<Vec<Explanation>>;
    async fn reload(&self) -> zbus::Result<String>;
    async fn grant(&self, order: &GrantOrder) -> zbus::Result<String>;
    async fn grants(&self) -> zbus::Result<Vec<GrantStatus>>;
    async fn revoke(&self, user: &str) -> zbus::Result<String>;
    async fn off(&self) -> zbus::Result<String>;
    async fn on(&self) -> zbus::Result<String>;
}

/// A connection to the daemon.
pub struct Client {
    proxy: ManagerProxy<'static>,
}

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody has the service's name: the daemon is not running.
    #[error("hubwarden is not running (systemctl status hubwarden says why)")]
    NotRunning,
    /// It refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The bus or the socket failed.
    #[error("no answer from hubwarden: {0}")]
    Bus(zbus::Error),
    /// There is neither a control socket nor a system bus.
    #[error("hubwarden cannot be reached: no control socket lets us in, and no system bus: {0}")]
    NoBus(zbus::Error),
}

impl Client {
    /// Speaks to the daemon: over its control socket where that lets us in, else over the bus.
    ///
    /// # Errors
    /// There is neither.
    pub async fn open() -> Result<Client, ClientError> {
        if let Ok(stream) = UnixStream::connect(super::SOCKET).await {
            match over_socket(stream).await {
                Ok(connection) => return Client::new(&connection).await,
                // A user whose membership ended is answered over the bus as any other is.
                Err(zbus::Error::Handshake(_)) => {}
                Err(zbus::Error::InputOutput(error)) if error.kind() != ErrorKind::TimedOut => {}
                Err(error) => return Err(ClientError::Bus(error)),
            }
        }
        let connecting = connection::Builder::system()
            .method_timeout(TIMEOUT)
            .build();
        let connection = connecting.await.map_err(ClientError::NoBus)?;
        Client::new(&connection).await
    }

    /// Speaks over a connection that stands.
    ///
    /// # Errors
    /// It failed.
    pub async fn new(connection: &Connection) -> Result<Client, ClientError> {
        let proxy = ManagerProxy::builder(connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(ClientError::Bus)?;
        Ok(Client { proxy })
    }

    /// The node as a whole.
    ///
    /// # Errors
    /// The daemon is not running, or refuses.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        self.proxy.status().await.map_err(plain)
    }

    /// The servers that the caller may see.
    ///
    /// # Errors
    /// The daemon is not running, or refuses.
    pub async fn servers(&self) -> Result<Vec<ServerStatus>, ClientError> {
        self.proxy.list_servers().await.map_err(plain)
    }

    /// Live flows of a user's servers, or with an empty name of all that the caller may see.
    ///
    /// # Errors
    /// The daemon is not running, or refuses.
    pub async fn flows(&self, user: &str) -> Result<FlowList, ClientError> {
        self.proxy.flows(user).await.map_err(plain)
    }

    /// What runs in the servers that the caller may see.
    ///
    /// # Errors
    /// The daemon is not running, or could not look.
    pub async fn processes(&self) -> Result<Vec<ServerProcesses>, ClientError> {
        self.proxy.processes().await.map_err(plain)
    }

    /// How a user's servers stand and why, of those that the caller may see.
    ///
    /// # Errors
    /// The daemon is not running, or there is no such server.
    pub async fn explain(&self, user: &str) -> Result<Vec<Explanation>, ClientError> {
        self.proxy.explain(user).await.map_err(plain)
    }

    /// Has the configuration read again; the daemon's words on it.
    ///
    /// # Errors
    /// The new configuration is bad, or the daemon is not running.
    pub async fn reload(&self) -> Result<String, ClientError> {
        self.proxy.reload().await.map_err(plain)
    }

    /// Gives a user an exception; the daemon's words on it.
    ///
    /// # Errors
    /// The order is not possible, or the daemon is not running.
    pub async fn grant(&self, order: &GrantOrder) -> Result<String, ClientError> {
        self.proxy.grant(order).await.map_err(plain)
    }

    /// The exceptions that hold.
    ///
    /// # Errors
    /// The daemon is not running, or refuses.
    pub async fn grants(&self) -> Result<Vec<GrantStatus>, ClientError> {
        self.proxy.grants().await.map_err(plain)
    }

    /// Takes a user's exception back; the daemon's words on it.
    ///
    /// # Errors
    /// There is none, or the daemon is not running.
    pub async fn revoke(&self, user: &str) -> Result<String, ClientError> {
        self.proxy.revoke(user).await.map_err(plain)
    }

    /// Switches off; the daemon's words on it.
    ///
    /// # Errors
    /// Something could not be lifted, or the daemon is not running.
    pub async fn off(&self) -> Result<String, ClientError> {
        self.proxy.off().await.map_err(plain)
    }

    /// Switches on; the daemon's words on it.
    ///
    /// # Errors
    /// The daemon refuses, or is not running.
    pub async fn on(&self) -> Result<String, ClientError> {
        self.proxy.on().await.map_err(plain)
    }
}

/// Connects to a daemon's control socket. One that hangs leaves the connection waiting, and then
/// the bus would not help either.
pub(super) async fn over_socket(stream: UnixStream) -> zbus::Result<Connection> {
    let socket = DoorSocket::new(stream, Arc::new(AnswersOnly));
    let connecting = connection::Builder::socket(socket)
        .p2p()
        .method_timeout(TIMEOUT)
        .build();
    match tokio::time::timeout(TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(late) => Err(std::io::Error::from(late).into()),
    }
}

fn plain(error: zbus::Error) -> ClientError {
    use zbus::fdo::Error::{
        AccessDenied, Failed, InvalidArgs, LimitsExceeded, NameHasNoOwner, ServiceUnknown,
    };
    match error {
        zbus::Error::FDO(error) => match *error {
            ServiceUnknown(_) | NameHasNoOwner(_) => ClientError::NotRunning,
            // The bus's own policy speaks of rules and sockets; ours of what to do.
            AccessDenied(words) if words.starts_with("Rejected send message") => {
                ClientError::Refused(super::ADMINS_ONLY.to_owned())
            }
            AccessDenied(words) | Failed(words) | InvalidArgs(words) | LimitsExceeded(words) => {
                ClientError::Refused(words)
            }
            other => ClientError::Bus(other.into()),
        },
        error => ClientError::Bus(error),
    }
}
