//! Ports by which the hub is open to everybody who reaches this node: what listens there for it.
//!
//! Server extensions ask the hub by its public address, as nbgrader's does. What anybody outside may speak
//! to, a server on the node may speak to as well. The API of a proxy is not such: it listens on loopback,
//! and its usual ports are left out wherever it listens.

use crate::config::Hub;
use nft::sock_diag::{CgroupId, Listening, Sockets};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Services of a hub that are not in `hub.hub_units`: proxies.
pub const PROXIES: [&str; 3] = [
    "traefik.service",
    "configurable-http-proxy.service",
    "jupyterhub-proxy.service",
];
/// Web servers that stand before a hub on many nodes.
const WEB_SERVERS: [&str; 5] = [
    "nginx.service",
    "apache2.service",
    "httpd.service",
    "caddy.service",
    "haproxy.service",
];
/// What of theirs may be the hub's: they have other sites on other ports.
const WEB_PORTS: [u16; 2] = [80, 443];
/// Where configurable-http-proxy and TLJH's traefik have their own API.
const ADMIN_PORTS: [u16; 2] = [8001, 8099];

/// The ports of this moment. Blocks for some milliseconds; `root` is where cgroup v2 is mounted.
///
/// # Errors
/// The kernel does not list sockets.
pub fn find(root: &Path, hub: &Hub) -> Result<BTreeSet<u16>, nft::Error> {
    let id = |unit: &str| {
        let found = std::fs::metadata(root.join("system.slice").join(unit)).ok()?;
        Some(CgroupId(found.ino()))
    };
    let mut fronts = BTreeMap::new();
    let hubs = hub.hub_units.iter().map(String::as_str).chain(PROXIES);
    fronts.extend(
        WEB_SERVERS
            .into_iter()
            .filter_map(|unit| Some((id(unit)?, false))),
    );
    fronts.extend(hubs.filter_map(|unit| Some((id(unit)?, true))));
    Ok(public(&fronts, &Sockets::open()?.all_listeners()?))
}

/// By the cgroups of the hub's own services (`true`) and of web servers.
fn public(fronts: &BTreeMap<CgroupId, bool>, listening: &[Listening]) -> BTreeSet<u16> {
    let is_public = |one: &&Listening| {
        let (address, port) = (one.at.ip().to_canonical(), one.at.port());
        let of = one.owner.cgroup.and_then(|cgroup| fronts.get(&cgroup));
        let may = match of {
            Some(true) => !ADMIN_PORTS.contains(&port),
            Some(false) => WEB_PORTS.contains(&port),
            None => false,
        };
        may && !address.is_loopback()
    };
    listening
        .iter()
        .filter(is_public)
        .map(|one| one.at.port())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nft::sock_diag::SocketOwner;

    #[test]
    fn what_is_open_to_the_outside_is_a_front_and_a_proxys_api_is_none() {
        let listening = |cgroup: u64, at: &str| Listening {
            at: at.parse().unwrap(),
            owner: SocketOwner {
                cgroup: Some(CgroupId(cgroup)),
                uid: 0,
            },
        };
        let (hub, web, alice) = (1, 2, 3);
        let fronts = [(CgroupId(hub), true), (CgroupId(web), false)].into();
        let all = [
            listening(hub, "0.0.0.0:8000"),
            listening(hub, "[::]:8443"),
            listening(hub, "127.0.0.1:8081"),
            listening(hub, "[::ffff:127.0.0.1]:8082"),
            listening(hub, "0.0.0.0:8001"),
            listening(web, "192.0.2.1:443"),
            listening(web, "0.0.0.0:9000"),
            listening(alice, "0.0.0.0:8888"),
        ];
        assert_eq!(public(&fronts, &all), [443, 8000, 8443].into());
    }
}
