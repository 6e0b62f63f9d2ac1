//! What is said of a peer that is not the hub: where, who listens there, and the remedy.

use super::blocking;
use super::place::Place;
use super::seen::{ACCEPTS_WITHIN, Owner};
use crate::config::Hub;
use crate::http::Stranger;
use crate::hub::{UnitName, name_of};
use quantities::Plain;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// A path in a message; a user chooses the names in their own cgroups.
const MOST_OF_A_PATH: usize = 200;

pub(super) struct Words<'a> {
    pub hub: &'a Hub,
}

impl Words<'_> {
    /// It cannot be told who is there.
    pub fn unknown(&self, why: &str) -> Stranger {
        let text = format!(
            "{} was not asked and no token was sent, since it cannot be told who listens there: \
             {why}",
            self.url()
        );
        stranger(text, "unknown".to_owned())
    }

    /// A process that is none of the hub's.
    pub async fn stranger(&self, owner: &Owner, place: Option<&Place>) -> Stranger {
        let remedy = match place {
            Some(Place::Unit(unit)) if unit.contains("docker") || unit.contains("podman") => {
                "If the hub is a container of Docker's or Podman's, write api_peers = \
                 [\"container:NAME\"] in [hub], with the name of the hub's container"
                    .to_owned()
            }
            Some(Place::Unit(unit)) if !self.is_a_server_s(unit) => format!(
                "If {} is the hub or its proxy, write api_peers = [\"{}\"] in [hub]",
                Plain(unit),
                Plain(unit)
            ),
            Some(Place::Container(container)) => format!(
                "If {} container {} is the hub's, write api_peers = [\"container:NAME\"] in [hub], \
                 with the container's name",
                container.engine.as_str(),
                container.short_id()
            ),
            Some(Place::Other) => {
                "If that is the hub, run it as a system service and name that in hub.hub_units"
                    .to_owned()
            }
            Some(Place::Unit(_) | Place::Users) | None => format!(
                "That is no part of the hub ({}). End that process, and start the hub if it is \
                 stopped",
                self.units()
            ),
        };
        let who = who(owner).await;
        let text = format!("{}: {who}, not the hub. {remedy}", self.not_asked());
        stranger(text, format!("{} {}", owner.at, owner.uid))
    }

    /// A process in the hub's unit that the unit does not run.
    pub async fn other_uid(&self, owner: &Owner, service: &UnitName) -> Stranger {
        let text = format!(
            "{}: {}, and {service} is not run as that uid by systemd. Users' processes share the \
             hub's unit: use SystemdSpawner or DockerSpawner, and start the hub if it is stopped",
            self.not_asked(),
            who(owner).await
        );
        stranger(text, format!("{} {}", owner.at, owner.uid))
    }

    /// Not in this network namespace, and not known to be the hub's.
    pub fn elsewhere(&self, asked: SocketAddr, address: IpAddr) -> Stranger {
        let way = match asked.ip().to_canonical() == address {
            true => format!("{address} is not an address of this node"),
            false => format!("{asked} leads to {address} by address translation"),
        };
        let text = format!(
            "{}: {way}, and nothing shows that the hub is there. If it is a container, write \
             api_peers = [\"container:NAME\"] in [hub], with the name of the hub's container; if it \
             is another machine, api_peers = [\"{address}\"]",
            self.not_asked()
        );
        stranger(text, format!("elsewhere {address}"))
    }

    /// The kernel holds the connection, and no process has it.
    pub fn not_accepted(&self, at: SocketAddr) -> Stranger {
        let text = format!(
            "{}: no process accepted the connection to {at} within {} s, so it cannot be told who \
             listens there. Is the hub stuck? Then restart it ({})",
            self.not_asked(),
            ACCEPTS_WITHIN.as_secs(),
            self.units()
        );
        stranger(text, format!("not accepted {at}"))
    }

    /// An address of this node, and a socket in another network namespace.
    pub fn out_of_sight(&self, at: SocketAddr) -> Stranger {
        let text = format!(
            "{}: what answers at {at} is in another network namespace. Give the address of the \
             hub's container in hub.api_url, and write api_peers = [\"container:NAME\"] in [hub]",
            self.not_asked()
        );
        stranger(text, format!("out of sight {at}"))
    }

    /// A proxy before a stranger.
    pub fn behind(&self, proxy: &Owner, why: &Stranger) -> Stranger {
        let text = format!(
            "{why}. (hub.api_url is the proxy's, at {}; every port in hub.api_ports must be the \
             hub's then. Leave out those that it does not use, or give the hub's own in \
             hub.api_url)",
            proxy.at
        );
        stranger(text, format!("behind {}", why.kind))
    }

    /// A proxy without a hub.
    pub fn no_hub_behind(&self, proxy: &Owner) -> Stranger {
        let ports: Vec<String> = self.hub.api_ports.iter().map(u16::to_string).collect();
        let text = format!(
            "{}: at {} is a proxy, or the hub on a port that is not in hub.api_ports, and no \
             process listens on a port of hub.api_ports ({}). Is the hub running, and does \
             hub.api_ports have its port?",
            self.not_asked(),
            proxy.at,
            ports.join(", ")
        );
        stranger(text, "no hub behind".to_owned())
    }

    /// A Unix socket that may be another's.
    pub fn socket(&self, path: &Path, flaw: &str, uid: u32) -> Stranger {
        let flaw = Plain(flaw);
        let text = format!(
            "{}: {flaw}. The hub's socket must be made by the hub ({}), in a directory that only \
             root and the hub can write to, such as /run/jupyterhub",
            self.not_asked(),
            self.units()
        );
        stranger(text, format!("{} {uid}", path.display()))
    }

    fn url(&self) -> String {
        let url = self.hub.api_url.as_ref();
        url.map_or_else(|| "the hub".to_owned(), ToString::to_string)
    }

    fn not_asked(&self) -> String {
        format!("{} was not asked and no token was sent", self.url())
    }

    fn units(&self) -> String {
        format!("hub.hub_units: {}", self.hub.hub_units.join(", "))
    }

    /// Whether a unit's name is one that a spawner gives.
    pub fn is_a_server_s(&self, unit: &str) -> bool {
        let stem = unit.strip_suffix(".service").unwrap_or(unit);
        let mut templates = self.hub.unit_names.iter();
        templates.any(|template| template.extract(stem).is_some())
    }
}

async fn who(owner: &Owner) -> String {
    let uid = owner.uid;
    // May ask LDAP.
    let name = blocking(move || Ok::<_, String>(name_of(uid))).await;
    let name = name.ok().flatten();
    let user = match &name {
        Some(name) => format!("uid {uid} ({})", Plain(name)),
        None => format!("uid {uid}"),
    };
    let at = owner.at;
    match &owner.cgroup {
        Some(cgroup) => {
            let path: String = cgroup.to_string().chars().take(MOST_OF_A_PATH).collect();
            format!("{user} in cgroup {} listens on {at}", Plain(&path))
        }
        None => format!("{user} in a cgroup that was not found listens on {at}"),
    }
}

fn stranger(text: String, kind: String) -> Stranger {
    Stranger { text, kind }
}
