//! Serves `org.hubwarden.Manager1`.
//!
//! The bus's policy lets everybody ask and only root and group `hubwarden` change; both are
//! checked here again, since a policy file is easily edited. What users ask is answered from what
//! the loop last showed, or by the loop in its own time; orders have a queue of their own.

use super::door::BusDoor;
use super::mailbox::Outbox;
use super::members::Members;
use super::{
    Command, Explanation, FlowList, FlowOrder, GrantOrder, GrantStatus, NodeStatus,
    ServerProcesses, ServerStatus,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};
use zbus::message::Header;
use zbus::{fdo, interface};

/// What users are shown of the node may be so old: however many ask, the loop is asked once.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// The loop answers within milliseconds, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every connection's object answers from.
pub struct Desk {
    outbox: Outbox,
    members: Arc<Members>,
    shown: Mutex<Option<(Instant, Arc<Shown>)>>,
}

/// The node as it stood a moment ago.
struct Shown {
    status: NodeStatus,
    servers: Vec<ServerStatus>,
}

/// How the caller of one connection's object is known.
pub enum Callers {
    /// Of many, by the sender's name.
    Bus(Arc<BusDoor>),
    /// One, by its socket.
    Peer(u32),
}

/// The object of one connection.
pub struct Manager {
    desk: Arc<Desk>,
    callers: Callers,
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

    /// Its name, which the user database may take a while to give.
    async fn name(&self) -> String {
        let uid = self.uid;
        let named = tokio::task::spawn_blocking(move || crate::hub::name_of(uid));
        match tokio::time::timeout(Duration::from_secs(2), named).await {
            Ok(Ok(Some(name))) => name,
            _ => format!("uid {uid}"),
        }
    }
}

impl Desk {
    pub fn new(outbox: Outbox, members: Arc<Members>) -> Desk {
        Desk {
            outbox,
            members,
            shown: Mutex::new(None),
        }
    }

    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// The node as of a second ago at most; a caller that waits for it waits with all others.
    async fn shown(&self) -> fdo::Result<Arc<Shown>> {
        let mut shown = self.shown.lock().await;
        if let Some((at, shown)) = &*shown
            && at.elapsed() < SHOWN_FOR
        {
            return Ok(Arc::clone(shown));
        }
        let new = Arc::new(Shown {
            status: self.ask(false, Command::Status).await?,
            servers: self.ask(false, Command::Servers).await?,
        });
        *shown = Some((Instant::now(), Arc::clone(&new)));
        Ok(new)
    }

    /// Asks the loop.
    async fn ask<T>(
        &self,
        admin: bool,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> fdo::Result<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let sent = self.outbox.question(admin, command(reply)).await;
            sent.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())
        };
        let late = |_| {
            fdo::Error::Failed(format!(
                "hubwarden has not answered for {} s: it is busy or hangs (journalctl -u \
                 hubwarden)",
                PATIENCE.as_secs()
            ))
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(late)?
    }

    /// Has the loop do something, which takes as long as it takes.
    async fn order<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> fdo::Result<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.outbox.order(command(reply)).await;
        sent.map_err(|_| stopping())?;
        let answer = answer.await.map_err(|_| stopping());
        // What is shown after an order shows what came of it.
        *self.shown.lock().await = None;
        answer
    }
}

fn stopping() -> fdo::Error {
    fdo::Error::Failed("hubwarden is about to stop".to_owned())
}

#[interface(name = "org.hubwarden.Manager1")]
impl Manager {
    /// The node as a whole; what is not the caller's own is left out for those who are no admins.
    async fn status(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<NodeStatus> {
        let caller = self.caller(&header).await?;
        if caller.admin {
            return self.desk.ask(true, Command::Status).await;
        }
        let shown = self.desk.shown().await?;
        Ok(shown.status.clone().for_one(&shown.servers, caller.uid))
    }

    /// All servers for an admin, one's own for a user.
    async fn list_servers(
        &self,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<Vec<ServerStatus>> {
        let caller = self.caller(&header).await?;
        if caller.admin {
            return self.desk.ask(true, Command::Servers).await;
        }
        let shown = self.desk.shown().await?;
        let own = shown.servers.iter().filter(|one| one.uid == caller.uid);
        Ok(own.cloned().collect())
    }

    /// Live flows of a user's servers, or with an empty name of everybody's; for who is no admin,
    /// of one's own only.
    async fn flows(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<FlowList> {
        let caller = self.caller(&header).await?;
        let order = FlowOrder {
            user,
            everybody: caller.admin,
            uid: caller.uid,
        };
        let command = |reply| Command::Flows(order, reply);
        self.desk
            .ask(caller.admin, command)
            .await?
            .map_err(fdo::Error::Failed)
    }

    /// What runs in all servers for an admin, in one's own for a user.
    async fn processes(
        &self,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<Vec<ServerProcesses>> {
        let sees = self.caller(&header).await?.sees();
        let command = |reply| Command::Processes(sees, reply);
        self.desk
            .ask(sees.is_none(), command)
            .await?
            .map_err(fdo::Error::Failed)
    }

    /// How a hub user's servers stand and why: any user's for an admin, one's own for a user.
    async fn explain(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<Vec<Explanation>> {
        let sees = self.caller(&header).await?.sees();
        let name = quantities::HubUser(user.clone());
        let command = |reply| Command::Explain(user, sees, reply);
        let explained = self.desk.ask(sees.is_none(), command).await?;
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
    async fn reload(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<String> {
        let who = self.admin(&header).await?.name().await;
        let command = |reply| Command::Reload(who, reply);
        self.desk
            .order(command)
            .await?
            .map_err(fdo::Error::InvalidArgs)
    }

    /// Gives a user an exception.
    async fn grant(
        &self,
        mut order: GrantOrder,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<String> {
        order.by = self.admin(&header).await?.name().await;
        let command = |reply| Command::Grant(order, reply);
        self.desk
            .order(command)
            .await?
            .map_err(fdo::Error::InvalidArgs)
    }

    /// The exceptions that hold.
    async fn grants(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<Vec<GrantStatus>> {
        self.admin(&header).await?;
        self.desk.ask(true, Command::Grants).await
    }

    /// Takes a user's exception back.
    async fn revoke(
        &self,
        user: String,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<String> {
        let who = self.admin(&header).await?.name().await;
        let command = |reply| Command::Revoke(who, user, reply);
        self.desk
            .order(command)
            .await?
            .map_err(fdo::Error::InvalidArgs)
    }

    /// Lifts every verdict and rule.
    async fn off(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<String> {
        let who = self.admin(&header).await?.name().await;
        let command = |reply| Command::Off(who, reply);
        self.desk.order(command).await?.map_err(fdo::Error::Failed)
    }

    /// Resumes.
    async fn on(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<String> {
        let who = self.admin(&header).await?.name().await;
        let command = |reply| Command::On(who, reply);
        self.desk.order(command).await?.map_err(fdo::Error::Failed)
    }
}

impl Manager {
    pub fn new(desk: Arc<Desk>, callers: Callers) -> Manager {
        Manager { desk, callers }
    }

    /// Who sent a message, as the bus or the socket vouches for it, and what rights it has now.
    async fn caller(&self, header: &Header<'_>) -> fdo::Result<Caller> {
        let members = &self.desk.members;
        let (uid, admin) = match &self.callers {
            Callers::Bus(door) => {
                let sender = header.sender();
                let known = sender.and_then(|sender| door.who(sender.as_str()));
                let known = known.ok_or_else(|| {
                    fdo::Error::AccessDenied("the bus does not say who asks".to_owned())
                })?;
                let admin = members.has(known.uid, Some(&known.groups)).await;
                (known.uid, admin)
            }
            // The kernel let the process connect, so it has the group; whether its user still does
            // is to be seen.
            Callers::Peer(uid) => (*uid, members.has(*uid, None).await),
        };
        Ok(Caller { uid, admin })
    }

    async fn admin(&self, header: &Header<'_>) -> fdo::Result<Caller> {
        let caller = self.caller(header).await?;
        if caller.admin {
            return Ok(caller);
        }
        Err(fdo::Error::AccessDenied(super::ADMINS_ONLY.to_owned()))
    }
}
