//! Serves `org.hubwarden.Manager1`.
//!
//! The bus's policy lets everybody ask and only root and group `hubwarden` change; both are
//! checked here again, since a policy file is easily edited.

use super::{
    Command, Explanation, FlowList, FlowOrder, GrantOrder, GrantStatus, NAME, NodeStatus, PATH,
    ServerProcesses, ServerStatus,
};
use tokio::sync::{mpsc, oneshot};
use zbus::message::Header;
use zbus::{Connection, fdo, interface};

const GROUP: &str = "hubwarden";

/// The service's object.
pub struct Manager {
    commands: mpsc::Sender<Command>,
}

/// Who asks.
struct Caller {
    uid: u32,
    admin: bool,
}

impl Caller {
    /// Whose servers it is shown: one Unix user's, or everybody's.
    fn sees(&self) -> Option<u32> {
        (!self.admin).then_some(self.uid)
    }

    fn name(&self) -> String {
        match crate::hub::name_of(self.uid) {
            Some(name) => name,
            None => format!("uid {}", self.uid),
        }
    }
}

/// Offers the service on a connection.
///
/// # Errors
/// Another daemon has the name, or the bus's policy forbids it to us.
pub async fn serve(connection: &Connection, commands: mpsc::Sender<Command>) -> zbus::Result<()> {
    connection
        .object_server()
        .at(PATH, Manager { commands })
        .await?;
    connection.request_name(NAME).await.map(drop)
}

#[interface(name = "org.hubwarden.Manager1")]
impl Manager {
    /// The node as a whole; what is not the caller's own is left out for those who are no admins.
    async fn status(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<NodeStatus> {
        let caller = caller(&header, connection).await?;
        let mut status = self.ask(Command::Status).await?;
        if !caller.admin {
            status.unknown.clear();
        }
        Ok(status)
    }

    /// All servers for an admin, one's own for a user.
    async fn list_servers(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<Vec<ServerStatus>> {
        let caller = caller(&header, connection).await?;
        let mut servers = self.ask(Command::Servers).await?;
        servers.retain(|server| caller.admin || server.uid == caller.uid);
        Ok(servers)
    }

    /// Live flows of a user's servers, or with an empty name of everybody's; for who is no admin,
    /// of one's own only.
    async fn flows(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<FlowList> {
        let caller = caller(&header, connection).await?;
        let order = FlowOrder {
            user,
            everybody: caller.admin,
            uid: caller.uid,
        };
        let command = |reply| Command::Flows(order, reply);
        self.ask(command).await?.map_err(fdo::Error::Failed)
    }

    /// What runs in all servers for an admin, in one's own for a user.
    async fn processes(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<Vec<ServerProcesses>> {
        let sees = caller(&header, connection).await?.sees();
        let command = |reply| Command::Processes(sees, reply);
        self.ask(command).await?.map_err(fdo::Error::Failed)
    }

    /// How a hub user's servers stand and why: any user's for an admin, one's own for a user.
    async fn explain(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<Vec<Explanation>> {
        let sees = caller(&header, connection).await?.sees();
        let name = crate::hub::HubUser(user.clone());
        let explained = self
            .ask(|reply| Command::Explain(user, sees, reply))
            .await?;
        match (explained.is_empty(), sees) {
            (false, _) => Ok(explained),
            (true, None) => Err(fdo::Error::InvalidArgs(format!(
                "{name} has no server here (hubwarden status lists those that have)"
            ))),
            // Whether somebody else has one is none of a user's business.
            (true, Some(_)) => Err(fdo::Error::InvalidArgs(format!(
                "{name} has no server that you may see; only root and members of group hubwarden \
                 see those of others"
            ))),
        }
    }

    /// Reads the configuration again.
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<String> {
        admin(&header, connection).await?;
        self.ask(Command::Reload)
            .await?
            .map_err(fdo::Error::InvalidArgs)
    }

    /// Gives a user an exception.
    async fn grant(
        &self,
        mut order: GrantOrder,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<String> {
        order.by = admin(&header, connection).await?.name();
        let command = |reply| Command::Grant(order, reply);
        self.ask(command).await?.map_err(fdo::Error::InvalidArgs)
    }

    /// The exceptions that hold.
    async fn grants(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<Vec<GrantStatus>> {
        admin(&header, connection).await?;
        self.ask(Command::Grants).await
    }

    /// Takes a user's exception back.
    async fn revoke(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<String> {
        let who = admin(&header, connection).await?.name();
        let command = |reply| Command::Revoke(who, user, reply);
        self.ask(command).await?.map_err(fdo::Error::InvalidArgs)
    }

    /// Lifts every verdict and rule.
    async fn off(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<String> {
        let who = admin(&header, connection).await?.name();
        let command = |reply| Command::Off(who, reply);
        self.ask(command).await?.map_err(fdo::Error::Failed)
    }

    /// Resumes.
    async fn on(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<String> {
        let who = admin(&header, connection).await?.name();
        let command = |reply| Command::On(who, reply);
        self.ask(command).await?.map_err(fdo::Error::Failed)
    }
}

impl Manager {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> fdo::Result<T> {
        let (reply, answer) = oneshot::channel();
        let stopping = || fdo::Error::Failed("hubwarden is about to stop".to_owned());
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// Who sent a message, as the bus vouches for it.
async fn caller(header: &Header<'_>, connection: &Connection) -> fdo::Result<Caller> {
    let denied = || fdo::Error::AccessDenied("the bus does not say who asks".to_owned());
    let sender = header.sender().ok_or_else(denied)?;
    let bus = fdo::DBusProxy::new(connection).await?;
    let credentials = bus.get_connection_credentials(sender.into()).await?;
    let uid = credentials.unix_user_id().ok_or_else(denied)?;
    let groups = credentials.unix_group_ids().cloned().unwrap_or_default();
    let in_group = nix::unistd::Group::from_name(GROUP)
        .ok()
        .flatten()
        .is_some_and(|group| groups.contains(&group.gid.as_raw()));
    Ok(Caller {
        uid,
        admin: uid == 0 || in_group,
    })
}

async fn admin(header: &Header<'_>, connection: &Connection) -> fdo::Result<Caller> {
    let caller = caller(header, connection).await?;
    if caller.admin {
        return Ok(caller);
    }
    Err(fdo::Error::AccessDenied(super::ADMINS_ONLY.to_owned()))
}
