//! The D-Bus service `org.hubwarden` and its client.
//!
//! It is served in two places. On the system bus any user may ask, within a budget; that runs on a
//! thread of its own. On the control socket only root and members of group `hubwarden` may; the
//! command line uses it first, since any user can fill the bus.

mod budget;
mod bus;
mod client;
mod door;
mod mailbox;
mod members;
mod service;
mod socket;

pub use bus::{ServeError, serve};
pub use client::{Client, ClientError};
pub use mailbox::{Inbox, Outbox, Questions, mailbox};
pub use members::Members;
pub use socket::{SOCKET, listen};

use crate::coverage::UncoveredStatus;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The service's well-known name.
pub const NAME: &str = "org.hubwarden";
/// The one object it has.
pub const PATH: &str = "/org/hubwarden";

/// Members may give orders.
const GROUP: &str = "hubwarden";

/// What a user is told who asks for what is an admin's to do.
const ADMINS_ONLY: &str = "only root and members of group hubwarden may do that; use sudo";

/// A request to the daemon's loop, with where to send the answer.
pub enum Command {
    /// The node as a whole.
    Status(oneshot::Sender<NodeStatus>),
    /// Live flows of servers.
    Flows(FlowOrder, oneshot::Sender<Result<FlowList, String>>),
    /// Every server.
    Servers(oneshot::Sender<Vec<ServerStatus>>),
    /// What runs in every server, or in those of one Unix user.
    Processes(
        Option<u32>,
        oneshot::Sender<Result<Vec<ServerProcesses>, String>>,
    ),
    /// How a hub user's servers stand and why, of every Unix user's or of one's only.
    Explain(String, Option<u32>, oneshot::Sender<Vec<Explanation>>),
    /// Read the configuration and the deny lists again, as somebody asked.
    Reload(String, oneshot::Sender<Result<String, String>>),
    /// Give a user an exception.
    Grant(GrantOrder, oneshot::Sender<Result<String, String>>),
    /// The exceptions that hold.
    Grants(oneshot::Sender<Vec<GrantStatus>>),
    /// Take a user's exception back; said by this person.
    Revoke(String, String, oneshot::Sender<Result<String, String>>),
    /// Lift everything; said by this person.
    Off(String, oneshot::Sender<Result<String, String>>),
    /// Resume; said by this person.
    On(String, oneshot::Sender<Result<String, String>>),
}

/// The node as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct NodeStatus {
    /// The daemon's version.
    pub version: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// Switched off by an admin.
    pub off: bool,
    /// The packet rules are in the kernel.
    pub egress_loaded: bool,
    /// CPU limits have an effect.
    pub cpu_controller: bool,
    /// Units that may be servers and are not known, with the reason.
    pub unknown: Vec<(String, String)>,
    /// Places where users run whom limits or packet rules do not hold, with the remedy.
    pub uncovered: Vec<UncoveredStatus>,
    /// Sensors for miners that do not work here, with the reason and what remains.
    pub lacks: Vec<(String, String)>,
    /// What became of resolvers' answers since the daemon started: a word for each, and how many.
    pub names: Vec<(String, u64)>,
}

impl NodeStatus {
    /// What somebody may see of it who is no admin: nothing about other users.
    pub fn for_one(mut self, servers: &[ServerStatus], uid: u32) -> NodeStatus {
        self.unknown.clear();
        let own = |cgroup: &str| {
            let mut servers = servers.iter();
            servers.any(|server| server.uid == uid && server.cgroup == cgroup)
        };
        self.uncovered.retain(|row| own(&row.cgroup));
        self
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct ServerStatus {
    /// The hub user's name, as the hub has it.
    pub user: String,
    /// The server's name; empty for the default one.
    pub server: String,
    /// What started it.
    pub spawner: String,
    /// Its unit.
    pub unit: String,
    /// Its cgroup.
    pub cgroup: String,
    /// The Unix user it runs as; 2³²−1 where it has none of its own.
    pub uid: u32,
    /// CPU use between the last two samples, in cores.
    pub cpu_cores: f64,
    /// Credits left, in core-seconds.
    pub credits_core_seconds: f64,
    /// Credits of a rested server, in core-seconds.
    pub credits_size_core_seconds: f64,
    /// Credits do not matter, by an admin's grant.
    pub credits_unlimited: bool,
    /// An admin's grant holds for its user.
    pub granted: bool,
    /// Its stage.
    pub stage: String,
    /// Its egress class.
    pub class: String,
    /// The limit in force, ours or the admin's, in cores; 0 where there is none.
    pub limit_cores: f64,
    /// What evidence of mining amounts to: `none`, `exonerates`, `suspicious`, `high` or `certain`.
    pub evidence: String,
}

/// What runs in one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct ServerProcesses {
    /// The server's cgroup, as in [`ServerStatus`].
    pub cgroup: String,
    /// By program, busiest first.
    pub groups: Vec<ProcessGroup>,
}

/// Processes of one server that run the same program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct ProcessGroup {
    /// What kind of program; `others` for what is left where there are many.
    pub kind: String,
    /// Its path or package; a user chose it, so it may be any text.
    pub program: String,
    /// How many run it.
    pub processes: u32,
    /// What they use together, in cores.
    pub cpu_cores: f64,
}

/// How a server stands and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct Explanation {
    /// The server.
    pub server: ServerStatus,
    /// How long it has stood on its stage, in seconds; negative before any verdict.
    pub stage_seconds: f64,
    /// Why, in words; empty when the daemon decided nothing since its start.
    pub reason: String,
    /// How long it has used much CPU, in seconds; negative when it does not.
    pub hot_seconds: f64,
    /// What was found of it, oldest first.
    pub signs: Vec<Sign>,
    /// Changes that would have made a difference, and to what level.
    pub counterfactuals: Vec<(String, String)>,
    /// What is looked for, with the thresholds in force.
    pub rules: Vec<String>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct Sign {
    /// Which sensor found it.
    pub sensor: String,
    /// What it proves by itself.
    pub level: String,
    /// With its numbers, in words.
    pub reading: String,
    /// How long ago, in seconds.
    pub seconds_ago: f64,
}

/// Whose flows are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowOrder {
    /// The hub user's name; empty for everybody who may be shown.
    pub user: String,
    /// Whether all servers may be shown, or only those that run as this Unix user.
    pub everybody: bool,
    /// That Unix user.
    pub uid: u32,
}

/// Live flows, the largest of each server first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, zbus::Type)]
pub struct FlowList {
    /// The flows; a bounded number for each server.
    pub flows: Vec<FlowStatus>,
    /// How many more there are.
    pub more: u64,
}

/// Whom a server speaks with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, zbus::Type)]
pub struct FlowStatus {
    /// The hub user's name.
    pub user: String,
    /// The server's name; empty for the default one.
    pub server: String,
    /// `tcp`, `udp`, or a protocol's number.
    pub protocol: String,
    /// The server's address and port.
    pub local: String,
    /// The other end's.
    pub remote: String,
    /// Whether its bytes are counted: those of TCP are; a container's, and UDP's, may not be.
    pub counted: bool,
    /// Bytes that the server sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
}

/// An exception as an admin orders it; zero and empty text leave a thing as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct GrantOrder {
    /// The hub user's name.
    pub user: String,
    /// Limit, in cores.
    pub limit_cores: f64,
    /// Refill rate, in cores.
    pub baseline_cores: f64,
    /// Credits, in core-seconds; negative is unlimited.
    pub credits_core_seconds: f64,
    /// Egress class.
    pub class: String,
    /// How long it holds, in seconds.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// Who orders it; the daemon fills that in from what the bus vouches for.
    pub by: String,
}

/// An exception that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, zbus::Type)]
pub struct GrantStatus {
    /// What was ordered; `seconds` is what is left.
    pub order: GrantOrder,
    /// In words.
    pub words: String,
}
