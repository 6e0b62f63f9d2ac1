//! What covers a place: a line of configuration, or why there is none.

use super::{Engine, Location, Manager, Missing, Naming, Watch};
use std::collections::{BTreeMap, BTreeSet};

/// Values that are proposed for one list of the configuration.
const MOST_PROPOSED: usize = 8;

/// What mends a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// A line for `[hub]` in hubwarden's configuration, whole: with what stands there now.
    Config(String),
    /// A word for the kernel's command line.
    Boot(&'static str),
    /// What an admin can do, or why nothing can be done here; a sentence.
    Advice(String),
}

/// A list in `[hub]` that a value can be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListKey {
    /// `unit_names`.
    UnitNames,
    /// `hub_units`.
    HubUnits,
    /// `container_parents`.
    ContainerParents,
}

impl ListKey {
    fn as_str(self) -> &'static str {
        match self {
            ListKey::UnitNames => "unit_names",
            ListKey::HubUnits => "hub_units",
            ListKey::ContainerParents => "container_parents",
        }
    }

    fn stands(self, naming: &Naming) -> &[String] {
        match self {
            ListKey::UnitNames => &naming.unit_names,
            ListKey::HubUnits => &naming.hub_units,
            ListKey::ContainerParents => &naming.container_parents,
        }
    }
}

/// A remedy before all rows are known: two rows may add to one list, or name two slices.
pub(super) enum Proposal {
    Add(ListKey, String),
    Final(Remedy),
}

const SPAWNERS: &str =
    "Use SystemdSpawner or DockerSpawner, which give each server a cgroup of its own.";

/// What covers a place that lacks this.
pub(super) fn propose(missing: &Missing, place: &Location, watch: &Watch) -> Proposal {
    let advice = |text: &str| Proposal::Final(Remedy::Advice(text.to_owned()));
    let config = |line: &str| Proposal::Final(Remedy::Config(line.to_owned()));
    match missing {
        Missing::HubsCgroup => advice(SPAWNERS),
        Missing::OtherHub { .. } => match place.unit() {
            Some(unit) if is_service(unit) => Proposal::Add(ListKey::HubUnits, unit.to_owned()),
            _ => advice("Run the hub as a system service, and name that in hub_units."),
        },
        Missing::UnitName {
            template: Some(template),
        } => Proposal::Add(ListKey::UnitNames, template.clone()),
        Missing::UnitName { template: None } => advice(
            "Add the spawner's template (c.SystemdSpawner.unit_name_template in \
             jupyterhub_config.py) to unit_names in [hub].",
        ),
        Missing::UnitFile => advice(
            "hubwarden acts on units that a spawner makes. Limit this one in its unit file \
             (CPUQuota=, IPAddressDeny=).",
        ),
        Missing::EngineOff(Engine::Docker) => config("docker = \"/run/docker.sock\""),
        Missing::EngineOff(Engine::Podman) => config("podman = \"/run/podman/podman.sock\""),
        Missing::ContainerParent { parent } => {
            Proposal::Add(ListKey::ContainerParents, parent.clone())
        }
        Missing::Rootless => advice(
            "Out of reach: an engine that a user runs cannot be asked, and holds its containers in \
             that user's slice. Use root's Docker or Podman for the hub's servers.",
        ),
        Missing::OtherManager(manager) => advice(match manager {
            Manager::Kubernetes => {
                "Out of reach: hubwarden does not supervise Kubernetes. Set limits and network \
                 policies there."
            }
            Manager::Slurm => "Out of reach: Slurm owns this cgroup. Set limits in Slurm.",
            Manager::Lxc | Manager::Machined => {
                "Out of reach: this is a container or machine with a system of its own. Install \
                 hubwarden in it, or limit it as a whole."
            }
            Manager::Unknown => {
                "Out of reach: neither systemd nor a container engine made this cgroup. Use \
                 SystemdSpawner or DockerSpawner."
            }
        }),
        Missing::Login => advice(
            "hubwarden holds a login slice while it knows a server of the same Unix user. Have the \
             hub start the server.",
        ),
        Missing::OutsideServer { timed: true } => advice(
            "An /etc/cron.allow and an /etc/at.allow that name only admins close this way out.",
        ),
        Missing::OutsideServer { timed: false } => advice(
            "Have the service open sessions by pam_systemd, so that they are in the user's slice, or \
             keep hub users out of it.",
        ),
        Missing::NoUnit => advice(
            "Out of reach: limits there would hold the whole system. Start servers in units or \
             containers.",
        ),
        Missing::Unmapped { .. } if !watch.naming.api => {
            config("api_url = \"http://127.0.0.1:8081/hub/api\"  # TLJH: port 15001")
        }
        Missing::Unmapped { .. } => advice(
            "The hub's API does not name it either. If it is a server, correct unit_names and \
             unix_users, or container_names, in [hub].",
        ),
        Missing::Pending { .. } => {
            advice("hubwarden asks again at every tick. If this lasts, see to what it waits for.")
        }
        Missing::Unread => {
            advice("Look at what this user runs (ps -u), and end processes that hang in state D.")
        }
        Missing::CgroupV1 | Missing::CpuOnV1 => {
            Proposal::Final(Remedy::Boot("systemd.unified_cgroup_hierarchy=1"))
        }
        Missing::Cpu { .. } | Missing::Packets { .. } => {
            advice("journalctl -u hubwarden says what was tried.")
        }
        Missing::ContainerNetwork { .. } => advice(
            "Out of reach of packet rules: use a bridge network \
             (c.DockerSpawner.network_name = \"jupyterhub\"), not macvlan or ipvlan, or filter at \
             the router.",
        ),
        Missing::UnitNetwork { .. } => advice(
            "Out of reach of packet rules: remove NetworkNamespacePath= or PrivateNetwork= from the \
             unit (c.SystemdSpawner.unit_extra_properties), or filter in that namespace.",
        ),
        Missing::Level { .. } => advice(
            "Out of reach of packet rules: use a bridge network instead of the node's own, or a \
             cgroup parent that is a slice at the top level.",
        ),
        Missing::NotFound => advice(
            "It runs on another machine, or in a way that hubwarden does not recognise. If it runs \
             here, use SystemdSpawner or DockerSpawner.",
        ),
    }
}

/// The remedies of all proposals, which are in the rows' order: a list has all that is proposed for it,
/// and one slice at most is named.
pub(super) fn remedies(proposals: Vec<Proposal>, watch: &Watch) -> Vec<Remedy> {
    let mut added: BTreeMap<ListKey, BTreeSet<String>> = BTreeMap::new();
    for proposal in &proposals {
        match proposal {
            Proposal::Add(key, value) => {
                added.entry(*key).or_default().insert(value.clone());
            }
            Proposal::Final(_) => {}
        }
    }
    let of = |proposal| match proposal {
        Proposal::Final(remedy) => remedy,
        Proposal::Add(key, _) => Remedy::Config(list(key, added.get(&key), &watch.naming)),
    };
    proposals.into_iter().map(of).collect()
}

fn list(key: ListKey, added: Option<&BTreeSet<String>>, naming: &Naming) -> String {
    let stands = key.stands(naming);
    let new = added.into_iter().flatten();
    let new = new
        .filter(|value| !stands.contains(value))
        .take(MOST_PROPOSED);
    let all: Vec<String> = stands
        .iter()
        .chain(new)
        .map(|value| quoted(value))
        .collect();
    format!("{} = [{}]", key.as_str(), all.join(", "))
}

/// A basic string of TOML, which Python reads the same way.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_graphic() || c == ' ' => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn is_service(unit: &str) -> bool {
    unit.ends_with(".service")
}

/// The template of which this unit's name is made for one of these users. They are the hub's and the user
/// database's words; what a process says makes no template.
pub(super) fn template<'a>(unit: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let stem = unit.strip_suffix(".service")?;
    let plain = |part: &str| {
        part.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.:@".contains(c))
    };
    let of = |name: &str| {
        let mut found = stem.match_indices(name);
        let (at, _) = found.next().filter(|_| name.len() > 1)?;
        let (before, after) = (stem.get(..at)?, stem.get(at + name.len()..)?);
        // Without a prefix every unit of the node would match.
        let good = found.next().is_none() && !before.is_empty() && plain(before) && plain(after);
        good.then(|| format!("{before}{{USERNAME}}{after}"))
    };
    names.into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_proposed_only_where_a_known_name_stands_in_the_unit_once() {
        let of = |unit: &str, name: &str| template(unit, [name]);
        let proposed = of("jsu-alice.service", "alice");
        assert_eq!(proposed.as_deref(), Some("jsu-{USERNAME}"));
        let proposed = of("jhub-alice-lab.service", "alice");
        assert_eq!(proposed.as_deref(), Some("jhub-{USERNAME}-lab"));
        for (unit, name) in [
            ("alice.service", "alice"),
            ("al-alice-alice.service", "alice"),
            ("jsu-bob.service", "alice"),
            ("ssh.service", "s"),
            ("jsu-alice.scope", "alice"),
            ("j\\x2d-alice.service", "alice"),
            ("x.service", ""),
        ] {
            assert_eq!(of(unit, name), None, "{unit}");
        }
    }

    #[test]
    fn quoted_text_is_one_line_of_plain_letters() {
        assert_eq!(
            quoted("a\"\\\n\u{202e}"),
            "\"a\\\"\\\\\\U0000000a\\U0000202e\""
        );
    }
}
