//! Whether packet rules see what a covered place sends.
//!
//! A process can make a network namespace of its own, but it cannot leave the one it was started in for
//! the node's. So one process in the node's network shows where the place was put; and a namespace in
//! which there is nothing but `lo` sends nothing.

use super::judge::Group;
use super::{Facts, LocationKind, Missing, Namespace, Watch};

/// Interfaces that a row names.
const MOST_DEVICES: usize = 4;

/// What packet rules lack of a place. `port` says that they know a bridge port of it.
pub(super) fn missing(
    group: &Group<'_>,
    port: bool,
    facts: &Facts,
    watch: &Watch,
) -> Option<Missing> {
    // A login slice's packets are judged by uid, and its users make namespaces as they like.
    if matches!(group.place.kind, LocationKind::Login { .. }) {
        return None;
    }
    if group.on_host {
        let level = group.place.cgroup.level();
        return (!watch.naming.levels.contains(&level)).then_some(Missing::Level { level });
    }
    let mut devices = Vec::new();
    for inode in &group.namespaces {
        let nothing = Namespace::default();
        let namespace = facts.namespaces.get(inode).unwrap_or(&nothing);
        if namespace.bridge.is_some() || port {
            return None;
        }
        for device in &namespace.devices {
            if devices.len() < MOST_DEVICES && !devices.contains(device) {
                devices.push(device.clone());
            }
        }
    }
    if devices.is_empty() {
        return None;
    }
    Some(match group.place.kind {
        LocationKind::Container(..) => Missing::ContainerNetwork { devices },
        _ => Missing::UnitNetwork { devices },
    })
}
