//! Is it the hub that listens at `hub.api_url`? Asked of each connection before a token is sent.
//!
//! While the hub is down, any user of the node can bind its port. So the kernel is asked who took
//! the connection: the cgroup in which the listener was made, and the uid that accepted. It is the
//! hub's if that is a unit of `hub.hub_units` or `hub.api_peers`, run as systemd says of that unit,
//! or a container that its engine knows by a name in `hub.api_peers`. Anything else is a stranger.

mod place;
mod seen;
mod socket;
mod words;

use super::{Engine, HubContainer, UnitFacts, UnitName, Units, hub_container};
use crate::config::{ApiPeer, Hub};
use crate::http::{Connection, Endpoint, Stranger};
use place::{Place, place_of};
use seen::{Owner, Seen};
use std::path::Path;
use std::time::Duration;

/// Uids that systemd gives to units with `DynamicUser=` (systemd's `UIDS-GIDS.md`).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// An engine that has not answered by then is not the one that the hub runs in.
const ENGINE_ANSWERS: Duration = Duration::from_secs(3);

/// Admits a connection whose other end is the hub. `root` is where cgroup v2 is mounted.
///
/// # Errors
/// It is not, or that cannot be told.
pub async fn admit<U: Units>(
    connection: &Connection,
    hub: &Hub,
    root: &Path,
    units: &U,
) -> Result<(), Stranger> {
    let words = words::Words { hub };
    match connection {
        Connection::Unix(stream) => {
            let Some(Endpoint::Unix(path)) = hub.api_url.as_ref().map(|url| &url.endpoint) else {
                return Err(words.unknown("hub.api_url names no socket"));
            };
            socket::admit(stream, path, hub, units).await
        }
        Connection::Tcp(stream) => {
            let ends = stream
                .local_addr()
                .and_then(|a| Ok((a, stream.peer_addr()?)));
            let (ours, theirs) = ends.map_err(|error| words.unknown(&error.to_string()))?;
            let seen = {
                let (hub, root) = (hub.clone(), root.to_owned());
                blocking(move || seen::look(ours, theirs, &root, &hub)).await
            };
            match seen.map_err(|why| words.unknown(&why))? {
                Seen::Here(owner) => {
                    let passes_on = here(&owner, hub, units).await?;
                    let direct = [theirs.port(), owner.at.port()];
                    match passes_on && !direct.iter().any(|port| hub.api_ports.contains(port)) {
                        true => behind_the_proxy(&owner, hub, root, units).await,
                        false => Ok(()),
                    }
                }
                Seen::Elsewhere { address, by_a_card } => {
                    let named = hub.api_peers.contains(&ApiPeer::Address(address));
                    if by_a_card || named {
                        return Ok(());
                    }
                    let mut containers = containers(hub).await.into_iter();
                    match containers.any(|one| one.addresses.contains(&address)) {
                        true => Ok(()),
                        false => Err(words.elsewhere(theirs, address)),
                    }
                }
                Seen::NotAccepted => Err(words.not_accepted(theirs)),
                Seen::OutOfSight => Err(words.out_of_sight(theirs)),
            }
        }
    }
}

/// Whether a process of this network namespace is the hub's. True if what it passes on could go to
/// a port of this network namespace.
async fn here<U: Units>(owner: &Owner, hub: &Hub, units: &U) -> Result<bool, Stranger> {
    let words = words::Words { hub };
    let place = owner.cgroup.as_ref().map(|path| place_of(path, hub));
    match &place {
        Some(Place::Unit(unit)) => {
            if let Some(service) = service_of(unit, hub) {
                return match runs_as(&service, owner.uid, units).await {
                    Ok(true) => Ok(true),
                    Ok(false) => Err(words.other_uid(owner, &service).await),
                    Err(why) => Err(words.unknown(&why)),
                };
            }
            // Docker's proxy of a published port runs as root in Docker's unit; the engine knows
            // for which container.
            let port = owner.at.port();
            if owner.uid == 0 && unit.ends_with(".service") && !words.is_a_server_s(unit) {
                let mut containers = containers(hub).await.into_iter();
                if containers.any(|one| one.published.contains(&port)) {
                    return Ok(false);
                }
            }
        }
        Some(Place::Container(found)) => {
            let mut containers = containers(hub).await.into_iter();
            if containers.any(|one| one.engine == found.engine && one.id == found.id) {
                return Ok(true);
            }
        }
        Some(Place::Users | Place::Other) | None => {}
    }
    Err(words.stranger(owner, place.as_ref()).await)
}

/// Whoever speaks for the hub without listening on its port passes on what it gets to that port.
/// So nothing is sent while a stranger, or no process, listens there.
async fn behind_the_proxy<U: Units>(
    proxy: &Owner,
    hub: &Hub,
    root: &Path,
    units: &U,
) -> Result<(), Stranger> {
    let words = words::Words { hub };
    let found = {
        let (hub, root) = (hub.clone(), root.to_owned());
        blocking(move || seen::listeners(&hub.api_ports, &root, &hub)).await
    };
    let found = found.map_err(|why| words.unknown(&why))?;
    if found.is_empty() {
        return Err(words.no_hub_behind(proxy));
    }
    for owner in found {
        if let Err(why) = here(&owner, hub, units).await {
            return Err(words.behind(proxy, &why));
        }
    }
    Ok(())
}

/// The service that a unit of the hub's belongs to; none where it is not the hub's.
fn service_of(unit: &str, hub: &Hub) -> Option<UnitName> {
    let service = match unit.strip_suffix(".socket") {
        Some(stem) => format!("{stem}.service"),
        None => unit.to_owned(),
    };
    let named = |unit: &str| {
        let peer = |one: &ApiPeer| matches!(one, ApiPeer::Unit(name) if name == unit);
        hub.hub_units.iter().any(|name| name == unit) || hub.api_peers.iter().any(peer)
    };
    (named(unit) || named(&service)).then_some(UnitName(service))
}

/// Whether a unit's processes run as this uid. Where users' servers share the hub's unit, as
/// LocalProcessSpawner leaves them, the cgroup alone proves nothing.
async fn runs_as<U: Units>(service: &UnitName, uid: u32, units: &U) -> Result<bool, String> {
    if uid == 0 {
        return Ok(true);
    }
    let facts = units.facts(service).await;
    Ok(fits(&facts.map_err(|error| error.to_string())?, uid))
}

/// A transient unit is what a spawner makes, and no hub's.
fn fits(facts: &UnitFacts, uid: u32) -> bool {
    let dynamic = facts.dynamic_user && DYNAMIC.contains(&uid);
    !facts.transient && (facts.uid == Some(uid) || dynamic)
}

/// The containers of `hub.api_peers`, as their engines know them. A user's server is none of the
/// hub's, whatever its name.
async fn containers(hub: &Hub) -> Vec<HubContainer> {
    let mut found = Vec::new();
    for peer in &hub.api_peers {
        let ApiPeer::Container(name) = peer else {
            continue;
        };
        for engine in [Engine::Docker, Engine::Podman] {
            // An engine that fails to start behind its socket leaves who asks waiting.
            let asked =
                tokio::time::timeout(ENGINE_ANSWERS, hub_container(engine, name, hub)).await;
            if let Ok(Ok(container)) = asked
                && !container.is_server
            {
                found.push(container);
            }
        }
    }
    found
}

/// Runs what asks the kernel off the loop's thread.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
