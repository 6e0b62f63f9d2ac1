//! `[hub]`: how this node's hub names things, where it listens, and whom to ask whose a server is.

use super::Template;
use super::api_url::ApiUrl;
use super::decode::{FromToml, Section};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// What is configured of the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// `unit_name_template` of SystemdSpawner; several are tried.
    pub unit_names: Vec<Template>,
    /// `username_template` of SystemdSpawner: the Unix user that proves a unit's owner.
    pub unix_users: Vec<Template>,
    /// The slice that servers are started in; unknown members reach nothing.
    pub slice: String,
    /// The hub's own API on loopback, which servers need.
    pub api_ports: Vec<u16>,
    /// Networks besides loopback from which a proxy asks servers.
    pub proxies: Vec<IpNet>,
    /// The hub's REST API, to ask whose a server is; none is not asked.
    pub api_url: Option<ApiUrl>,
    /// Who may answer there, besides the units of `hub_units`.
    pub api_peers: Vec<ApiPeer>,
    /// Where the token for it is.
    pub token_file: PathBuf,
    /// Who stops a server when a verdict ends it.
    pub stop_by: StopBy,
    /// Docker's socket; none means that its containers are not looked at.
    pub docker: Option<PathBuf>,
    /// Podman's, of root's own; likewise.
    pub podman: Option<PathBuf>,
    /// DockerSpawner's `name_template` without a server's name; several are tried.
    pub container_names: Vec<Template>,
    /// Networks on which a container that is not known reaches nothing: a Docker network's name, or
    /// a bridge's.
    pub container_networks: Vec<String>,
    /// DockerSpawner's `cgroup_parent`, where it is set: cgroup paths with containers in them.
    pub container_parents: Vec<String>,
    /// The hub's own units, in which servers of spawners without a cgroup of their own run.
    pub hub_units: Vec<String>,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            unit_names: vec![
                Template::new("jupyter-", "-singleuser"),
                Template::new("jupyter-", ""),
            ],
            unix_users: vec![Template::new("", ""), Template::new("jupyter-", "")],
            slice: "jupyter.slice".to_owned(),
            api_ports: vec![8081, 15001],
            proxies: Vec::new(),
            api_url: None,
            api_peers: Vec::new(),
            token_file: "/etc/hubwarden/hub-token".into(),
            stop_by: StopBy::Systemd,
            docker: Some("/run/docker.sock".into()),
            podman: Some("/run/podman/podman.sock".into()),
            container_names: vec![Template::new("jupyter-", "")],
            container_networks: Vec::new(),
            container_parents: Vec::new(),
            hub_units: vec!["jupyterhub.service".to_owned()],
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, default: Hub) -> Hub {
    let hub = Hub {
        unit_names: section.list("unit_names", default.unit_names),
        unix_users: section.list("unix_users", default.unix_users),
        slice: section.value("slice", default.slice),
        api_ports: section.list("api_ports", default.api_ports),
        proxies: section.list("proxies", default.proxies),
        api_url: match section.optional::<OrNone<ApiUrl>>("api_url") {
            Some(OrNone(url)) => url,
            None => default.api_url,
        },
        api_peers: section.list("api_peers", default.api_peers),
        token_file: section
            .value("token_file", AbsolutePath(default.token_file))
            .0,
        stop_by: section.value("stop_by", default.stop_by),
        docker: socket(&mut section, "docker", default.docker),
        podman: socket(&mut section, "podman", default.podman),
        container_names: section.list("container_names", default.container_names),
        container_networks: section
            .list::<Network>("container_networks", Vec::new())
            .into_iter()
            .map(|Network(name)| name)
            .collect(),
        container_parents: section
            .list::<Parent>("container_parents", Vec::new())
            .into_iter()
            .map(|Parent(path)| path)
            .collect(),
        hub_units: section
            .optional_list::<Service>("hub_units")
            .map_or(default.hub_units, |units| {
                units.into_iter().map(|Service(name)| name).collect()
            }),
    };
    let stem = hub.slice.strip_suffix(".slice").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if stem.is_empty() || !stem.chars().all(plain) {
        section.complain(
            "slice",
            "must be a top-level slice: letters and digits, then .slice (a dash would nest it)",
        );
    } else if ["system.slice", "user.slice", "machine.slice"].contains(&hub.slice.as_str()) {
        section.complain(
            "slice",
            "must not be one of systemd's own slices: everything in it would lose its network",
        );
    }
    for (key, list) in [
        ("unit_names", &hub.unit_names),
        ("unix_users", &hub.unix_users),
    ] {
        if list.is_empty() {
            section.complain(key, "is empty; no server would ever be recognised");
        }
    }
    if hub.unit_names.iter().any(|name| name.prefix().is_empty()) {
        section.complain(
            "unit_names",
            "has a template that begins with {USERNAME}; every unit of the node would match",
        );
    }
    if hub.stop_by == StopBy::Hub && hub.api_url.is_none() {
        section.complain(
            "stop_by",
            "is \"hub\", and hub.api_url says nowhere where the hub can be asked; set it too",
        );
    }
    section.finish();
    hub
}

fn socket(section: &mut Section<'_, '_>, key: &str, default: Option<PathBuf>) -> Option<PathBuf> {
    match section.optional::<OrNone<AbsolutePath>>(key) {
        Some(OrNone(path)) => path.map(|AbsolutePath(path)| path),
        None => default,
    }
}

/// Who stops a server when a verdict ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBy {
    /// Whoever owns its cgroup: systemd, or the kernel where systemd does not know it.
    Systemd,
    /// The hub, as its own page does; without it the former.
    Hub,
}

impl FromToml for StopBy {
    const EXPECTED: &'static str = "\"systemd\" or \"hub\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("systemd") => Ok(StopBy::Systemd),
            Some("hub") => Ok(StopBy::Hub),
            _ => Err(String::new()),
        }
    }
}

/// Who may answer at the hub's address, besides the hub's own units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiPeer {
    /// A system unit: a proxy, or a socket unit that starts the hub.
    Unit(String),
    /// A container of Docker's or of root's Podman, by its name.
    Container(String),
    /// Whatever has this address: another machine.
    Address(IpAddr),
}

impl FromToml for ApiPeer {
    const EXPECTED: &'static str = "a unit such as \"traefik.service\", a container such as \
                                    \"container:jupyterhub\", or another machine's address";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return match address.to_canonical() {
                here if here.is_loopback() || here.is_unspecified() => {
                    Err("any user of this node can listen there; name a unit or a container".into())
                }
                address => Ok(ApiPeer::Address(address)),
            };
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if let Some(name) = text.strip_prefix("container:") {
            let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
            return match begins && name.chars().all(plain) {
                true => Ok(ApiPeer::Container(name.to_owned())),
                false => Err(String::new()),
            };
        }
        let is_unit = text.ends_with(".service") || text.ends_with(".socket");
        match is_unit && !text.contains('/') {
            true => Ok(ApiPeer::Unit(text.to_owned())),
            false => Err(String::new()),
        }
    }
}

/// A value, or `"none"`; what is expected is said by the value's own type.
struct OrNone<T>(Option<T>);

impl<T: FromToml> FromToml for OrNone<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("none") => Ok(OrNone(None)),
            _ => T::from_toml(value).map(|value| OrNone(Some(value))),
        }
    }
}

struct AbsolutePath(PathBuf);

impl FromToml for AbsolutePath {
    const EXPECTED: &'static str = "an absolute path (for a socket also \"none\")";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let path = Path::new(value.as_str().ok_or_else(String::new)?);
        if path.is_absolute() {
            Ok(AbsolutePath(path.to_owned()))
        } else {
            Err(String::new())
        }
    }
}

/// A network's name as Docker takes them, and a bridge's.
struct Network(String);

impl FromToml for Network {
    const EXPECTED: &'static str =
        "a Docker network such as \"jupyterhub\", or a bridge such as \"docker0\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            Ok(Network(text.to_owned()))
        } else {
            Err(String::new())
        }
    }
}

/// A `cgroup_parent`, kept as the cgroup path it means.
struct Parent(String);

impl FromToml for Parent {
    const EXPECTED: &'static str =
        "a cgroup parent: a slice such as \"hub-users.slice\", or a path such as \"/hub/users\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        let good = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control)
        };
        let path = text.trim_matches('/');
        if !path.split('/').all(good) {
            return Err(String::new());
        }
        match path.strip_suffix(".slice") {
            Some(stem) if !path.contains('/') => nested(stem).map(Parent),
            _ => Ok(Parent(path.to_owned())),
        }
    }
}

/// The path of a slice: each dash begins a level, `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn nested(stem: &str) -> Result<String, String> {
    if stem.split('-').any(str::is_empty) {
        return Err("no part between its dashes may be empty".to_owned());
    }
    let ends = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    let slices: Vec<String> = ends.map(|end| format!("{}.slice", &stem[..end])).collect();
    Ok(slices.join("/"))
}

struct Service(String);

impl FromToml for Service {
    const EXPECTED: &'static str = "a service such as \"jupyterhub.service\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        if text.ends_with(".service") && !text.contains('/') {
            Ok(Service(text.to_owned()))
        } else {
            Err(String::new())
        }
    }
}

#[cfg(test)]
mod tests;
