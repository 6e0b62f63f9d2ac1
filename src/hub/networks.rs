//! Asks Docker or Podman for the bridge that one of their networks is made of (Docker Engine API,
//! `GET /networks/{name}`; Podman's own, `GET /libpod/networks/{name}/json`).

use super::container::Engine;
use crate::config::Hub;
use crate::http::{self, Endpoint, HttpError};
use hyper::Method;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Why an engine names no bridge.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The admin said that it is not to be asked.
    #[error("hub.{} is \"none\"", .0.as_str().to_lowercase())]
    Off(Engine),
    /// It cannot be asked.
    #[error("{} cannot be asked: {source}", .engine.as_str())]
    Unreachable {
        /// Who.
        engine: Engine,
        /// Why.
        source: HttpError,
    },
    /// There is no such network, or not yet.
    #[error("{} has no such network", .0.as_str())]
    Absent(Engine),
    /// There is one, and it is not made of a bridge.
    #[error("{}'s has the driver {driver}, and only bridges are looked at", .engine.as_str())]
    NoBridge {
        /// Whose network.
        engine: Engine,
        /// Its driver, escaped.
        driver: String,
    },
    /// It said something unexpected.
    #[error("{} said (status {status}): {said}", .engine.as_str())]
    Odd {
        /// Who.
        engine: Engine,
        /// The status.
        status: u16,
        /// What it said, bounded and escaped.
        said: String,
    },
}

impl NetworkError {
    /// Whether the engine is there and answers.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            NetworkError::Absent(_) | NetworkError::NoBridge { .. }
        )
    }
}

/// What Docker says of a network.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfDocker {
    id: String,
    driver: String,
    /// `null` where there is none.
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

/// What Podman says of one.
#[derive(Deserialize)]
struct OfPodman {
    driver: String,
    #[serde(default)]
    network_interface: String,
}

/// The engines to ask for networks. Where there is no Podman there is nothing to say of it.
pub fn with_networks(hub: &Hub) -> Vec<Engine> {
    let is_there = |engine: &Engine| match engine {
        Engine::Docker => hub.docker.is_some(),
        Engine::Podman => engine.socket(hub).is_some_and(Path::exists),
    };
    let all = [Engine::Docker, Engine::Podman];
    all.into_iter().filter(is_there).collect()
}

/// The name of the bridge that an engine's network is made of.
///
/// # Errors
/// It cannot be asked, has no such network, or one that is not made of a bridge.
pub async fn network_bridge(
    engine: Engine,
    network: &str,
    hub: &Hub,
) -> Result<String, NetworkError> {
    let socket = engine.socket(hub).ok_or(NetworkError::Off(engine))?;
    let endpoint = Endpoint::Unix(socket.to_owned());
    let path = match engine {
        Engine::Docker => format!("/networks/{network}"),
        // Asked in Podman's own words: the interface that it shares with Docker does not name
        // bridges. This is the oldest version that Podman 4 and 5 speak.
        Engine::Podman => format!("/v4.0.0/libpod/networks/{network}/json"),
    };
    let answer = http::ask(&endpoint, Method::GET, &path, &[], http::of_root)
        .await
        .map_err(|source| NetworkError::Unreachable { engine, source })?;
    if answer.status == 404 {
        return Err(NetworkError::Absent(engine));
    }
    let odd = || NetworkError::Odd {
        engine,
        status: answer.status,
        said: http::excerpt(&answer.body),
    };
    let (driver, bridge) = match engine {
        Engine::Docker => {
            let of: OfDocker = serde_json::from_slice(&answer.body).map_err(|_| odd())?;
            (of.driver.clone(), of.bridge())
        }
        Engine::Podman => {
            let of: OfPodman = serde_json::from_slice(&answer.body).map_err(|_| odd())?;
            let bridge = Some(of.network_interface).filter(|name| !name.is_empty());
            (of.driver, bridge)
        }
    };
    if driver != "bridge" {
        let driver = driver.escape_debug().to_string();
        return Err(NetworkError::NoBridge { engine, driver });
    }
    bridge.ok_or_else(odd)
}

impl OfDocker {
    /// The one that it was told to use, or else the one that Docker names by the network's id.
    fn bridge(&self) -> Option<String> {
        const NAME: &str = "com.docker.network.bridge.name";
        let named = self.options.as_ref().and_then(|options| options.get(NAME));
        let by_id = || Some(format!("br-{}", self.id.get(..12)?));
        named.cloned().or_else(by_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fake::{Service, run};

    fn hub_with(service: &Service) -> Hub {
        let Endpoint::Unix(socket) = service.endpoint() else {
            unreachable!()
        };
        let mut hub = crate::config::Config::default().hub;
        hub.docker = Some(socket.to_owned());
        hub.podman = Some(socket.to_owned());
        hub
    }

    fn said(engine: Engine, network: &str, hub: &Hub) -> Result<String, String> {
        run(network_bridge(engine, network, hub)).map_err(|error| error.to_string())
    }

    #[test]
    fn podman_names_the_interface() {
        let service = Service::unix(|asked| match asked.target.as_str() {
            "GET /v4.0.0/libpod/networks/hub/json" => (
                200,
                r#"{"name":"hub","driver":"bridge","network_interface":"podman1"}"#.to_owned(),
            ),
            "GET /v4.0.0/libpod/networks/lan/json" => {
                (200, r#"{"name":"lan","driver":"macvlan"}"#.to_owned())
            }
            _ => (404, "{}".to_owned()),
        });
        let hub = hub_with(&service);
        let of = |network: &str| said(Engine::Podman, network, &hub);
        assert_eq!(of("hub").unwrap(), "podman1");
        assert_eq!(
            of("lan").unwrap_err(),
            "Podman's has the driver macvlan, and only bridges are looked at"
        );
        assert_eq!(of("none").unwrap_err(), "Podman has no such network");
    }

    #[test]
    fn docker_s_bridge_is_the_one_it_was_told_of_or_the_one_of_the_network_s_id() {
        let service = Service::unix(|asked| {
            let rest = match asked.target.as_str() {
                "GET /networks/hub" => r#""Driver":"bridge","Options":null"#,
                "GET /networks/named" => {
                    r#""Driver":"bridge","Options":{"com.docker.network.bridge.name":"docker0"}"#
                }
                "GET /networks/lan" => r#""Driver":"mac\u001bvlan""#,
                _ => return (500, "out of \u{1b}[1mspace".to_owned()),
            };
            (200, format!(r#"{{"Id":"0123456789abcdef",{rest}}}"#))
        });
        let hub = hub_with(&service);
        let of = |network: &str| said(Engine::Docker, network, &hub);
        assert_eq!(of("hub").unwrap(), "br-0123456789ab");
        assert_eq!(of("named").unwrap(), "docker0");
        assert!(of("lan").unwrap_err().contains(r"mac\u{1b}vlan"));
        assert_eq!(
            of("odd").unwrap_err(),
            "Docker said (status 500): out of \\u{1b}[1mspace"
        );
    }

    #[test]
    fn a_podman_that_is_not_installed_is_not_asked_and_a_docker_that_is_not_there_is() {
        let mut hub = crate::config::Config::default().hub;
        hub.docker = Some("/nonexistent/docker.sock".into());
        hub.podman = Some("/nonexistent/podman.sock".into());
        assert_eq!(with_networks(&hub), [Engine::Docker]);
        let why = run(network_bridge(Engine::Docker, "hub", &hub)).unwrap_err();
        assert!(!why.is_answer(), "{why}");
        hub.docker = None;
        assert!(with_networks(&hub).is_empty());
    }
}
