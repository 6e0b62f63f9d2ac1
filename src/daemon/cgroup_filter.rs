//! Where this hub's servers may be, and which names there are worth a question.

use super::user_slices::{USER_SLICE, uid_of};
use crate::config::Hub;
use crate::hub::{ContainerCgroup, Control};
use cgroup::Interest;
use quantities::CgroupPath;

/// Where Docker and root's Podman put containers when they make cgroups themselves.
const CGROUPFS_PARENTS: [&str; 2] = ["docker", "libpod_parent"];

/// The cgroups in which this hub's servers may be. One that does not exist costs nothing.
pub(super) fn slices(hub: &Hub) -> Vec<CgroupPath> {
    let mut slices = vec![
        CgroupPath::new("system.slice"),
        CgroupPath::new(USER_SLICE),
        CgroupPath::new(&hub.slice),
    ];
    if hub.podman.is_some() {
        slices.push(CgroupPath::new("machine.slice"));
    }
    slices.extend(parents(hub));
    slices
}

/// The cgroups of which every child named as a container is one.
fn parents(hub: &Hub) -> Vec<CgroupPath> {
    if hub.docker.is_none() && hub.podman.is_none() {
        return Vec::new();
    }
    let configured = hub.container_parents.iter().map(String::as_str);
    CGROUPFS_PARENTS
        .into_iter()
        .chain(configured)
        .map(CgroupPath::new)
        .collect()
}

/// What this hub's spawners may have made: units by its templates anywhere, every unit in the
/// guarded slice, and containers.
pub(super) fn filter(hub: &Hub) -> impl Fn(&CgroupPath, &str) -> Interest + 'static {
    let hub = hub.clone();
    let parents = parents(&hub);
    // An instance unit's own slice carries the template's name, dashes escaped.
    let instance_slices: Vec<String> = hub
        .unit_names
        .iter()
        .map(|name| format!("system-{}", name.prefix().replace('-', "\\x2d")))
        .collect();
    move |slice, name| {
        let in_guarded = within(slice, &hub.slice);
        if slice.as_str() == USER_SLICE {
            return match uid_of(name) {
                Some(_) => Interest::Member,
                None => Interest::None,
            };
        }
        if name.ends_with(".slice") {
            // A pod of Podman's has a slice of its own.
            let pod = hub.podman.is_some()
                && within(slice, "machine.slice")
                && name.starts_with("machine-libpod_pod_");
            let may_hold_servers = in_guarded
                || pod
                || instance_slices
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
            return if may_hold_servers {
                Interest::Slice
            } else {
                Interest::None
            };
        }
        let is_container = || {
            ContainerCgroup::of_name(name).is_some_and(|container| {
                container.engine.socket(&hub).is_some()
                    && (container.control == Control::Systemd || parents.contains(slice))
            })
        };
        let is_unit = name.ends_with(".service") || name.ends_with(".scope");
        let fits = || {
            name.strip_suffix(".service").is_some_and(|stem| {
                hub.unit_names
                    .iter()
                    .any(|name| name.extract(stem).is_some())
            })
        };
        if is_unit && (in_guarded || fits()) || is_container() {
            Interest::Member
        } else {
            Interest::None
        }
    }
}

/// Whether a cgroup is a top-level slice or lies in it.
pub(super) fn within(cgroup: &CgroupPath, slice: &str) -> bool {
    cgroup.as_str().split('/').next() == Some(slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn hub(text: &str) -> Hub {
        Config::parse(&format!("[hub]\n{text}")).unwrap().hub
    }

    fn members(hub: &Hub, names: &[&str]) -> Vec<String> {
        let filter = filter(hub);
        let is_member = |path: &&&str| {
            let (slice, name) = path.rsplit_once('/').unwrap();
            let slice = CgroupPath::new(slice);
            slices(hub).contains(&slice) && filter(&slice, name) == Interest::Member
        };
        names
            .iter()
            .filter(is_member)
            .map(|s| s.to_string())
            .collect()
    }

    fn everywhere() -> Vec<String> {
        let id = "0123456789abcdef".repeat(4);
        vec![
            format!("system.slice/docker-{id}.scope"),
            format!("docker/{id}"),
            format!("machine.slice/libpod-{id}.scope"),
            format!("libpod_parent/libpod-{id}"),
            format!("a.slice/a-b.slice/docker-{id}.scope"),
            format!("hub/users/{id}"),
        ]
    }

    fn found(hub: &Hub) -> Vec<String> {
        let all = everywhere();
        members(hub, &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn containers_of_both_engines_and_drivers_are_looked_at() {
        assert_eq!(found(&hub("")), everywhere()[..4]);
        let parents = hub("container_parents = [\"a-b.slice\", \"/hub/users\"]");
        assert_eq!(found(&parents), everywhere());
    }

    #[test]
    fn an_engine_that_is_switched_off_is_not_looked_at() {
        let all = everywhere();
        assert_eq!(found(&hub("docker = \"none\"")), all[2..4]);
        assert_eq!(found(&hub("podman = \"none\"")), all[..2]);
        assert!(found(&hub("docker = \"none\"\npodman = \"none\"")).is_empty());
    }

    #[test]
    fn monitors_and_other_cgroups_are_not_looked_at() {
        let id = "0123456789abcdef".repeat(4);
        let others = [
            format!("machine.slice/libpod-conmon-{id}.scope"),
            format!("system.slice/{id}"),
            "docker/buildkit".to_owned(),
            "system.slice/cron.service".to_owned(),
        ];
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        assert!(members(&hub(""), &others).is_empty());
    }

    #[test]
    fn containers_of_a_pod_are_found_in_its_slice() {
        let pod = "machine-libpod_pod_0123.slice";
        let filter = filter(&hub(""));
        let machine = CgroupPath::new("machine.slice");
        assert_eq!(filter(&machine, pod), Interest::Slice);
        let id = "0123456789abcdef".repeat(4);
        let name = format!("libpod-{id}.scope");
        assert_eq!(filter(&machine.join(pod), &name), Interest::Member);
    }

    #[test]
    fn servers_of_systemdspawner_are_looked_at_as_ever() {
        let names = ["system.slice/jupyter-a.service", "jupyter.slice/x.scope"];
        assert_eq!(members(&hub("docker = \"none\""), &names), names);
    }
}
