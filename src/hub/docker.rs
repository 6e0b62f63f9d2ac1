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
mod tests {
    use super::*;
    use crate::http::fake::{Service, run};
    use std::collections::BTreeSet;

    fn container() -> ContainerCgroup {
        ContainerCgroup::of_name(&format!("docker-{}.scope", "ab".repeat(32))).unwrap()
    }

    fn asked(
        answer: impl Fn() -> (u16, String) + Send + 'static,
    ) -> (Result<ContainerFacts, EngineError>, Service) {
        let service = Service::unix(move |_| answer());
        let Endpoint::Unix(socket) = service.endpoint() else {
            unreachable!()
        };
        (run(inspect(&container(), socket)), service)
    }

    /// As Docker 28 answers, shortened.
    fn body(id: &str, env: &str) -> String {
        format!(
            r#"{{"Id":"{id}","Created":"2026-01-01T00:00:00Z","State":{{"Status":"running","Pid":42}},
            "Name":"/jupyter-a-2db","HostConfig":{{"NetworkMode":"bridge"}},
            "Config":{{"Hostname":"x","User":"1000","Env":{env},"Labels":{{"maintainer":"x"}}}}}}"#
        )
    }

    #[test]
    fn name_and_environment_are_read() {
        let env = r#"["PATH=/bin","JUPYTERHUB_USER=a-b","JUPYTERHUB_USER_X=no","JUPYTERHUB_SERVER_NAME="]"#;
        let (facts, service) = asked(move || (200, body(&"ab".repeat(32), env)));
        let facts = facts.unwrap();
        assert_eq!(facts.name, "jupyter-a-2db");
        assert_eq!(facts.users, BTreeSet::from(["a-b".to_owned()]));
        assert_eq!(facts.servers, BTreeSet::from([String::new()]));
        let target = format!("GET /containers/{}/json", "ab".repeat(32));
        assert_eq!(service.asked()[0].target, target);
    }

    #[test]
    fn a_hub_and_its_proxy_are_known_by_what_they_were_made_to_run() {
        let runs_hub = |command: &'static str| {
            let body = body(&"ab".repeat(32), "null");
            let (facts, _service) =
                asked(move || (200, body.replacen(r#""Env":null"#, command, 1)));
            facts.unwrap().runs_hub
        };
        for command in [
            r#""Cmd":["jupyterhub","--config","/srv/x.py"],"Entrypoint":null"#,
            r#""Cmd":["-f","x"],"Entrypoint":["tini","-g","--","/usr/local/bin/jupyterhub"]"#,
            r#""Cmd":null,"Entrypoint":"/entry configurable-http-proxy --port 80""#,
            r#""Cmd":["traefik"]"#,
        ] {
            assert!(runs_hub(command), "{command}");
        }
        for command in [
            r#""Cmd":["jupyterhub-singleuser"]"#,
            r#""Cmd":["start-notebook.sh","--hub=jupyterhub"],"Entrypoint":[]"#,
            r#""Cmd":null"#,
        ] {
            assert!(!runs_hub(command), "{command}");
        }
    }

    #[test]
    fn addresses_are_read_once_the_network_is_made() {
        let body = |ends: &str| {
            body(&"ab".repeat(32), "[]").replacen(
                r#""HostConfig""#,
                &format!(r#""NetworkSettings":{{"Networks":{ends}}},"HostConfig""#),
                1,
            )
        };
        let made = r#"{"hub":{"IPAddress":"172.18.0.3","GlobalIPv6Address":"fd00::3"},
            "other":{"IPAddress":"172.19.0.2","GlobalIPv6Address":""}}"#;
        let (facts, _service) = asked(move || (200, body(made)));
        let addresses: Vec<String> = facts
            .unwrap()
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["172.18.0.3", "172.19.0.2", "fd00::3"]);
        let not_yet = r#"{"hub":{"IPAddress":"","GlobalIPv6Address":""}}"#;
        let (facts, _service) = asked(move || (200, body(not_yet)));
        assert!(facts.unwrap().addresses.is_empty());
        let (facts, _service) = asked(move || (200, body("null")));
        assert!(facts.unwrap().addresses.is_empty());
    }

    #[test]
    fn the_hub_s_container_is_known_by_addresses_and_published_ports() {
        let service = Service::unix(|asked| {
            assert!(asked.target.starts_with("GET /containers/jupyter-a"));
            let settings = r#""NetworkSettings":{"Networks":{"hub":{"IPAddress":"172.18.0.2"}},
                "Ports":{"8081/tcp":[{"HostIp":"127.0.0.1","HostPort":"15001"}],"53/udp":
                [{"HostIp":"","HostPort":"53"}],"8000/tcp":null}},"HostConfig""#;
            let body = body(&"ab".repeat(32), "[]");
            (200, body.replacen(r#""HostConfig""#, settings, 1))
        });
        let Endpoint::Unix(socket) = service.endpoint() else {
            unreachable!()
        };
        let mut hub = crate::config::Config::default().hub;
        hub.docker = Some(socket.to_owned());
        let of = |name: &str| run(hub_container(Engine::Docker, name, &hub));
        assert!(
            of("jupyter-a").unwrap_err().is_gone(),
            "another's id or name"
        );
        let found = of("jupyter-a-2db").unwrap();
        assert_eq!(found.id, "ab".repeat(32));
        assert!(!found.is_server);
        assert_eq!(
            found.addresses,
            BTreeSet::from(["172.18.0.2".parse().unwrap()])
        );
        assert_eq!(found.published, BTreeSet::from([15001]));
    }

    #[test]
    fn a_container_without_an_environment_is_no_error() {
        let (facts, _service) = asked(|| (200, body(&"ab".repeat(32), "null")));
        assert!(facts.unwrap().users.is_empty());
    }

    #[test]
    fn a_container_that_is_no_more_is_gone() {
        let (facts, _service) = asked(|| (404, r#"{"message":"No such container"}"#.into()));
        assert!(facts.unwrap_err().is_gone());
    }

    #[test]
    fn an_engines_refusal_is_quoted() {
        let (facts, _service) = asked(|| (500, "out of \u{1b}[1mspace".into()));
        let text = facts.unwrap_err().to_string();
        assert_eq!(
            text,
            "Docker, asked about container abababababab: status 500: out of \\u{1b}[1mspace"
        );
    }

    #[test]
    fn an_answer_about_another_container_proves_nothing() {
        let (facts, _service) = asked(|| (200, body("cd", "[]")));
        assert!(facts.is_err());
    }

    #[test]
    fn an_engine_that_is_not_there_comes_with_a_remedy() {
        let mut hub = crate::config::Config::default().hub;
        hub.podman = Some("/nonexistent/podman.sock".into());
        let podman = ContainerCgroup {
            engine: Engine::Podman,
            ..container()
        };
        let text = run(container_facts(&podman, &hub)).unwrap_err().to_string();
        assert!(
            text.starts_with("Podman cannot be asked: /nonexistent/podman.sock cannot be reached")
                && text.contains("systemctl enable --now podman.socket"),
            "{text}"
        );
        hub.podman = None;
        let text = run(container_facts(&podman, &hub)).unwrap_err().to_string();
        assert_eq!(text, "hub.podman is \"none\"");
    }
}
