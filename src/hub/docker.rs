//! Asks Docker, or Podman through the same interface, what it knows of a container (Docker Engine
//! API, `GET /containers/{id}/json`; Podman serves it on its own socket).
//!
//! One request over the engine's Unix socket when a container appears, and none in the hot path.
//! The socket is as good as root: only reading is ever asked of it.

use super::container::{ContainerCgroup, ContainerFacts, Engine};
use crate::config::Hub;
use crate::http::{self, Endpoint, HttpError};
use hyper::Method;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

/// Why a container's engine did not tell.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The container is gone.
    #[error("container {0} is gone")]
    Gone(String),
    /// The admin said that it is not to be asked.
    #[error("hub.{} is \"none\"", .0.as_str().to_lowercase())]
    Off(Engine),
    /// It cannot be asked.
    #[error("{} cannot be asked: {source}; {}", .engine.as_str(), remedy(*.engine))]
    Unreachable {
        /// Who.
        engine: Engine,
        /// Why.
        source: HttpError,
    },
    /// It said something unexpected.
    #[error("{}, asked about container {id}: {why}", .engine.as_str())]
    Odd {
        /// Who.
        engine: Engine,
        /// The container.
        id: String,
        /// What it said, bounded and escaped.
        why: String,
    },
}

impl EngineError {
    /// Whether the container does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, EngineError::Gone(_))
    }
}

fn remedy(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "is it running, and does hub.docker name its socket?",
        Engine::Podman => {
            "start its API with `systemctl enable --now podman.socket`, or set hub.podman"
        }
    }
}

/// What of a long answer is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    config: Configured,
    #[serde(default)]
    state: State,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    /// 0 while it does not run.
    #[serde(default)]
    pid: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    /// `null` where there is none.
    #[serde(default)]
    networks: Option<BTreeMap<String, Endpoints>>,
    /// From `8081/tcp` to where it is published; `null` where it is not.
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<Published>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    #[serde(default)]
    host_port: String,
}

/// An address that is not given is empty text.
#[derive(Deserialize)]
struct Endpoints {
    #[serde(default, rename = "IPAddress")]
    v4: String,
    #[serde(default, rename = "GlobalIPv6Address")]
    v6: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configured {
    /// `null` where there is none.
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Words>,
    #[serde(default)]
    entrypoint: Option<Words>,
}

/// A command line, as Docker and Podman write it; older Podman writes an entrypoint as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    One(String),
}

impl Words {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (list, one) = match self {
            Words::List(list) => (&list[..], ""),
            Words::One(one) => (&[][..], one.as_str()),
        };
        list.iter()
            .map(String::as_str)
            .chain(one.split_whitespace())
    }
}

/// Programs that are a hub or its proxy, by their file name.
const HUBS: [&str; 3] = ["jupyterhub", "configurable-http-proxy", "traefik"];

/// Asks a container's engine about it.
///
/// # Errors
/// [`EngineError::Gone`] when there is no such container any more; otherwise who did not answer
/// and what to do about it.
pub async fn container_facts(
    container: &ContainerCgroup,
    hub: &Hub,
) -> Result<ContainerFacts, EngineError> {
    let engine = container.engine;
    let socket = engine.socket(hub).ok_or(EngineError::Off(engine))?;
    inspect(container, socket).await
}

/// A container that the configuration names as the hub's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubContainer {
    /// Who made it.
    pub engine: Engine,
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// It is a user's server, whatever its name.
    pub is_server: bool,
    /// Its addresses on its networks, while it runs.
    pub addresses: BTreeSet<IpAddr>,
    /// TCP ports of this node that lead to it, while it runs.
    pub published: BTreeSet<u16>,
}

/// Asks an engine about a container by its name, which the configuration gives.
///
/// # Errors
/// As for [`container_facts`].
pub async fn hub_container(
    engine: Engine,
    name: &str,
    hub: &Hub,
) -> Result<HubContainer, EngineError> {
    let socket = engine.socket(hub).ok_or(EngineError::Off(engine))?;
    let inspected = ask(engine, name, name, socket).await?;
    let ports = inspected.network_settings.ports.iter().flatten();
    let published = ports
        .filter(|(inside, _)| inside.ends_with("/tcp"))
        .flat_map(|(_, published)| published.iter().flatten())
        .filter_map(|published| published.host_port.parse().ok())
        .collect();
    let id = inspected.id.clone();
    let facts = facts(inspected);
    // Engines take the beginning of another container's id for a name too.
    if facts.name != name {
        return Err(EngineError::Gone(name.to_owned()));
    }
    Ok(HubContainer {
        engine,
        id,
        is_server: facts.users.iter().any(|user| !user.is_empty()),
        addresses: facts.addresses,
        published,
    })
}

async fn inspect(
    container: &ContainerCgroup,
    socket: &Path,
) -> Result<ContainerFacts, EngineError> {
    let (engine, shown) = (container.engine, container.short_id());
    let inspected = ask(engine, &container.id, shown, socket).await?;
    if inspected.id != container.id {
        return Err(EngineError::Odd {
            engine,
            id: shown.to_owned(),
            why: "an answer about another container".to_owned(),
        });
    }
    Ok(facts(inspected))
}

/// Asks about a container by its id or name; `shown` is what errors call it.
async fn ask(
    engine: Engine,
    container: &str,
    shown: &str,
    socket: &Path,
) -> Result<Inspected, EngineError> {
    let odd = |why: String| EngineError::Odd {
        engine,
        id: shown.to_owned(),
        why,
    };
    // Without a version in the path it is the engine's newest; nothing asked for ever changed.
    let path = format!("/containers/{container}/json");
    let endpoint = Endpoint::Unix(socket.to_owned());
    let answer = http::ask(&endpoint, Method::GET, &path, &[], http::of_root)
        .await
        .map_err(|source| EngineError::Unreachable { engine, source })?;
    match answer.status {
        200 => {}
        404 => return Err(EngineError::Gone(shown.to_owned())),
        status => {
            let said = http::excerpt(&answer.body);
            return Err(odd(format!("status {status}: {said}")));
        }
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| odd(format!("an answer that cannot be read: {error}")))
}

fn facts(inspected: Inspected) -> ContainerFacts {
    let environment = inspected.config.env.unwrap_or_default();
    let values = |name: &str| {
        environment
            .iter()
            .filter_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
            .collect()
    };
    let command = [&inspected.config.entrypoint, &inspected.config.cmd];
    let mut words = command.into_iter().flatten().flat_map(Words::iter);
    let runs_hub = words.any(|word| {
        let name = word.rsplit('/').next();
        name.is_some_and(|name| HUBS.contains(&name))
    });
    let networks = inspected.network_settings.networks.unwrap_or_default();
    let addresses = networks
        .values()
        .flat_map(|ends| [&ends.v4, &ends.v6])
        .filter_map(|address| address.parse().ok());
    ContainerFacts {
        runs_hub,
        addresses: addresses.collect(),
        first_process: Some(inspected.state.pid).filter(|pid| *pid != 0),
        users: values("JUPYTERHUB_USER"),
        servers: values("JUPYTERHUB_SERVER_NAME"),
        // Docker writes a slash before it, from the time of linked containers.
        name: inspected.name.trim_start_matches('/').to_owned(),
    }
}

#[cfg(test)]
mod tests;
