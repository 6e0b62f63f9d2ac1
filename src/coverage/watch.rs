//! From the configuration and the hub's directory to what a survey compares with.

use crate::config::Config;
use crate::config::Outside;
use crate::hub::HubDirectory;
use egress::Admitted;
use hubwarden_core::coverage::{Listed, ListedAt, Naming};

/// The configuration, as far as it says where servers are.
pub fn naming(config: &Config) -> Naming {
    let hub = &config.hub;
    let levels = Admitted::LEVELS.map(usize::from);
    let lowest = levels.into_iter().min().unwrap_or_default();
    let highest = levels.into_iter().max().unwrap_or_default();
    Naming {
        slice: hub.slice.clone(),
        unit_names: hub.unit_names.iter().map(ToString::to_string).collect(),
        hub_units: hub.hub_units.clone(),
        container_parents: hub.container_parents.clone(),
        docker: hub.docker.is_some(),
        podman: hub.podman.is_some(),
        api: hub.api_url.is_some(),
        uid_rules: config.egress.outside == Outside::Judge,
        levels: lowest..=highest,
    }
}

/// Every server that the hub lists, and where it says it runs.
pub fn listed(directory: &HubDirectory) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for (unit, one) in directory.units() {
        all.push(Listed {
            user: one.user.clone(),
            place: ListedAt::Unit(unit.as_str().to_owned()),
        });
    }
    for (id, one) in directory.containers() {
        all.push(Listed {
            user: one.user.clone(),
            place: ListedAt::Container(id.to_owned()),
        });
    }
    let placed: std::collections::BTreeSet<_> = all.iter().map(|one| one.user.clone()).collect();
    let unsaid = directory
        .people()
        .keys()
        .filter(|user| !placed.contains(*user));
    all.extend(unsaid.map(|user| Listed {
        user: user.clone(),
        place: ListedAt::Unsaid,
    }));
    all
}
