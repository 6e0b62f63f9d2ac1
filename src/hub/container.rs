//! From a container's cgroup to a server.
//!
//! Whose word counts, best first: the hub's own (its API names the container's id), then
//! `JUPYTERHUB_USER` in the container's configuration, which DockerSpawner sets and only a holder
//! of the engine's socket can, then the container's name, and that only for somebody whom the hub
//! knows: a container called `jupyter-lab` may be anybody's. What a process in the container says
//! of itself counts for nothing. Where the hub or the name says another than the engine, the engine's word
//! stands.

use super::identify::{Identified, one_user, two};
use super::{Control, Finding, HubDirectory, Listed, Server, Spawner, UnitName, escapism};
use crate::config::Hub;
use quantities::CgroupPath;
use quantities::HubUser;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// Which engine made a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman, root's own.
    Podman,
}

impl Engine {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Docker => "Docker",
            Engine::Podman => "Podman",
        }
    }

    /// Its API's socket; `None` where the admin said that its containers are not to be looked at.
    pub fn socket(self, hub: &Hub) -> Option<&Path> {
        match self {
            Engine::Docker => hub.docker.as_deref(),
            Engine::Podman => hub.podman.as_deref(),
        }
    }

    fn spawner(self) -> Spawner {
        match self {
            Engine::Docker => Spawner::Docker,
            Engine::Podman => Spawner::Podman,
        }
    }
}

/// What a cgroup's name tells of the container in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCgroup {
    /// Who made it.
    pub engine: Engine,
    /// The container's id: 64 hexadecimal digits.
    pub id: String,
    /// Through whom its limits are changed.
    pub control: Control,
}

impl ContainerCgroup {
    /// Reads a cgroup directory's name: `docker-ID.scope` and `libpod-ID.scope` where the engine
    /// uses systemd's driver, `ID` and `libpod-ID` where it makes cgroups itself. Podman's monitor
    /// (`libpod-conmon-ID.scope`) is no container.
    pub fn of_name(name: &str) -> Option<ContainerCgroup> {
        let (stem, control) = match name.strip_suffix(".scope") {
            Some(stem) => (stem, Control::Systemd),
            None => (name, Control::Cgroup),
        };
        let (engine, id) = match (stem.strip_prefix("libpod-"), stem.strip_prefix("docker-")) {
            (Some(id), _) => (Engine::Podman, id),
            (None, Some(id)) if control == Control::Systemd => (Engine::Docker, id),
            (None, None) if control == Control::Cgroup => (Engine::Docker, stem),
            _ => return None,
        };
        let is_id = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| ContainerCgroup {
            engine,
            id: id.to_owned(),
            control,
        })
    }

    /// As [`ContainerCgroup::of_name`], by the last part of a path.
    pub fn of(cgroup: &CgroupPath) -> Option<ContainerCgroup> {
        Self::of_name(cgroup.name())
    }

    /// The id as people know it: its first twelve digits.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What an engine knows of a container, of that which tells whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Every value of `JUPYTERHUB_USER` in its configuration.
    pub users: BTreeSet<String>,
    /// Every value of `JUPYTERHUB_SERVER_NAME`.
    pub servers: BTreeSet<String>,
    /// Its addresses on its networks; none before those are made.
    pub addresses: BTreeSet<IpAddr>,
    /// The process it was started as, while it runs; pid as the host has it.
    pub first_process: Option<u32>,
    /// It was made to run a hub or its proxy.
    pub runs_hub: bool,
}

impl ContainerFacts {
    /// Whether it is the hub or its proxy, whatever its name: what DockerSpawner configures is not there.
    fn is_hubs(&self) -> bool {
        self.runs_hub && self.users.iter().all(String::is_empty)
    }
}

/// Whether a container is surely no server: it has neither what DockerSpawner configures nor a
/// name of a server's form, or it is the hub or its proxy.
pub fn is_other_container(facts: &ContainerFacts, hub: &Hub) -> bool {
    facts.is_hubs() || facts.users.iter().all(String::is_empty) && named(facts, hub).is_none()
}

/// Tells whose container it is; pure. Without `facts` (the engine does not answer) the hub's word
/// alone can tell.
pub fn identify_container(
    container: &ContainerCgroup,
    unit: &UnitName,
    facts: Option<&ContainerFacts>,
    hub: &Hub,
    directory: &HubDirectory,
) -> Identified {
    // What the hub calls a server is none of its own.
    let listed = !directory.of_container(&container.id).is_empty();
    if !listed && facts.is_some_and(ContainerFacts::is_hubs) {
        return Finding::NotAServer("it runs a hub or a hub's proxy".to_owned()).into();
    }
    let (whose, contradiction) = whose(container, facts, hub, directory);
    let finding = match whose {
        Ok(Listed { user, server }) => Finding::Server(Server {
            user,
            name: server,
            spawner: container.engine.spawner(),
            unit: unit.clone(),
            uid: None,
            control: container.control,
        }),
        Err(why) => Finding::Unknown(why),
    };
    Identified {
        finding,
        contradiction,
    }
}

/// Whose it is, or why that cannot be told; and what the hub's word contradicts.
fn whose(
    container: &ContainerCgroup,
    facts: Option<&ContainerFacts>,
    hub: &Hub,
    directory: &HubDirectory,
) -> (Result<Listed, String>, Option<String>) {
    let listed = directory.of_container(&container.id);
    let configured = facts.map_or(Ok(None), configured);
    match (listed, configured) {
        ([one], Ok(None)) => (Ok(one.clone()), None),
        ([one], Ok(Some(configured))) if one.user == configured.user => (Ok(one.clone()), None),
        ([one], Ok(Some(configured))) => {
            let why = format!(
                "the hub's API says that it is {}'s, but its JUPYTERHUB_USER is {}",
                one.user, configured.user
            );
            (Ok(configured), Some(why))
        }
        ([a, b, ..], Ok(Some(configured))) => (Ok(configured), Some(two(a, b))),
        ([a, b, ..], Ok(None)) => match one_user(listed) {
            // Two servers of one user's: which of them does not matter.
            Some(user) => {
                let server = String::new();
                let user = user.clone();
                (Ok(Listed { user, server }), None)
            }
            None => (Err(two(a, b)), None),
        },
        (_, Err(why)) => (Err(why), None),
        ([], Ok(Some(configured))) => match facts.and_then(|facts| named(facts, hub)) {
            // A template may have in it what users choose, so that the name proves nothing.
            Some(named) if !fits(&named, &configured) => {
                let why = format!(
                    "by its name it is {}'s, but its JUPYTERHUB_USER is {}",
                    named.user, configured.user
                );
                (Ok(configured), Some(why))
            }
            _ => (Ok(configured), None),
        },
        ([], Ok(None)) => (by_name(container, facts, hub, directory), None),
    }
}

/// What DockerSpawner put into the container's environment.
fn configured(facts: &ContainerFacts) -> Result<Option<Listed>, String> {
    let mut users = facts.users.iter().filter(|user| !user.is_empty());
    let Some(user) = users.next() else {
        return Ok(None);
    };
    if let Some(other) = users.next() {
        return Err(format!(
            "its JUPYTERHUB_USER is both {} and {}",
            HubUser(user.clone()),
            HubUser(other.clone())
        ));
    }
    Ok(Some(Listed {
        user: HubUser(user.clone()),
        server: facts.servers.first().cloned().unwrap_or_default(),
    }))
}

/// Whose it is by its name, where that fits a template: `jupyter-USER` or `jupyter-USER--SERVER`,
/// both escaped. A name that several templates read differently says nothing.
fn named(facts: &ContainerFacts, hub: &Hub) -> Option<Listed> {
    let read = |text: &str| {
        let (user, server) = text.split_once("--").unwrap_or((text, ""));
        Some(Listed {
            user: HubUser(escapism::unescape(user)?),
            server: escapism::unescape(server)?,
        })
    };
    let found: BTreeSet<Listed> = hub
        .container_names
        .iter()
        .filter_map(|template| read(template.extract(&facts.name)?))
        .collect();
    let mut found = found.into_iter();
    found.next().filter(|_| found.next().is_none())
}

/// Whether a name is what the spawner makes of what it configured; it lower-cases server names.
fn fits(named: &Listed, configured: &Listed) -> bool {
    let same = escapism::escape(named.user.as_str()) == escapism::escape(configured.user.as_str());
    // A template of one's own may leave the server's name out.
    same && (named.server.is_empty() || named.server == configured.server.to_lowercase())
}

fn by_name(
    container: &ContainerCgroup,
    facts: Option<&ContainerFacts>,
    hub: &Hub,
    directory: &HubDirectory,
) -> Result<Listed, String> {
    let Some(facts) = facts else {
        return Err(format!(
            "{} cannot be asked about container {}",
            container.engine.as_str(),
            container.short_id()
        ));
    };
    let shown = HubUser(facts.name.clone());
    match named(facts, hub) {
        Some(named) if directory.person(&named.user).is_some() => Ok(named),
        Some(named) => Err(format!(
            "container {shown} has {}'s name but no JUPYTERHUB_USER, as every server of a hub has",
            named.user
        )),
        None => Err(format!(
            "container {shown} has no JUPYTERHUB_USER, so no hub's spawner made it"
        )),
    }
}

#[cfg(test)]
mod tests;
