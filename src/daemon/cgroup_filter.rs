//! Where this hub's servers may be, and which names there are worth a question.

use super::user_slices::{USER_SLICE, uid_of};
use crate::config::Hub;
use crate::hub::{ContainerCgroup, UnitName};
use cgroup::Interest;
use quantities::CgroupPath;
use std::collections::BTreeSet;

/// Where servers may be: anywhere in the tree, since an admin may have a spawner or an engine use any slice.
/// What is worth a look there is sorted by [`filter`].
pub(super) fn slices() -> Vec<CgroupPath> {
    vec![CgroupPath::new("")]
}

/// What this hub's spawners may have made: units by its templates or by the hub's own word, every unit in a
/// guarded slice, and containers.
pub(super) fn filter(
    hub: &Hub,
    guarded: BTreeSet<String>,
    listed: BTreeSet<UnitName>,
) -> impl Fn(&CgroupPath, &str) -> Interest + 'static {
    let hub = hub.clone();
    let parents = hub
        .container_parents
        .iter()
        .map(|path| CgroupPath::new(path));
    let parents: Vec<CgroupPath> = parents.collect();
    let engines = hub.docker.is_some() || hub.podman.is_some();
    move |slice, name| {
        if slice.as_str() == USER_SLICE {
            return match uid_of(name) {
                Some(_) => Interest::Member,
                None => Interest::None,
            };
        }
        if name.ends_with(".slice") {
            // One below another cgroup is that of a system in a container.
            let is_ours = slice.level() == 0 || slice.name().ends_with(".slice");
            return match is_ours {
                true => Interest::Slice,
                false => Interest::None,
            };
        }
        let is_unit = name.ends_with(".service") || name.ends_with(".scope");
        let is_container = || {
            ContainerCgroup::of_name(name)
                .is_some_and(|container| container.engine.socket(&hub).is_some())
        };
        let fits = || {
            let stem = name.strip_suffix(".service");
            let by_template = |stem| {
                hub.unit_names
                    .iter()
                    .any(|name| name.extract(stem).is_some())
            };
            stem.is_some_and(by_template) || listed.contains(&UnitName(name.to_owned()))
        };
        let in_guarded = || guarded.contains(top(slice));
        if is_unit && (in_guarded() || fits()) || is_container() {
            return Interest::Member;
        }
        // Where an engine makes cgroups itself: `docker`, or another name that it is configured to use.
        let path = slice.join(name);
        let leads = |parent: &CgroupPath| parent.is_within(&path);
        if engines && !is_unit && (slice.level() == 0 || parents.iter().any(leads)) {
            return Interest::Slice;
        }
        Interest::None
    }
}

/// The topmost cgroup that another is or lies in.
pub(super) fn top(cgroup: &CgroupPath) -> &str {
    cgroup.as_str().split('/').next().unwrap_or_default()
}

/// The cgroup at or above this one that the configuration has looked at: what `coverage` compares with
/// where no daemon can be asked.
pub(crate) fn watched_cgroup(hub: &Hub, cgroup: &CgroupPath) -> Option<CgroupPath> {
    let interest = filter(hub, [hub.slice.clone()].into(), BTreeSet::new());
    let mut at = CgroupPath::new("");
    for name in cgroup.as_str().split('/') {
        let inner = at.join(name);
        match interest(&at, name) {
            Interest::Member => return Some(inner),
            Interest::Slice => at = inner,
            Interest::None => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn hub(text: &str) -> Hub {
        Config::parse(&format!("[hub]\n{text}")).unwrap().hub
    }

    /// Which of these paths a tree finds as members, going from the root through what may hold servers.
    fn members(hub: &Hub, paths: &[&str]) -> Vec<String> {
        members_listed(hub, &[], paths)
    }

    fn members_listed(hub: &Hub, listed: &[&str], paths: &[&str]) -> Vec<String> {
        let listed = listed.iter().map(|name| UnitName((*name).to_owned()));
        let filter = filter(hub, [hub.slice.clone()].into(), listed.collect());
        let is_member = |path: &&&str| {
            let (mut at, mut interest) = (CgroupPath::new(""), Interest::Slice);
            for name in path.split('/') {
                if interest != Interest::Slice {
                    return false;
                }
                interest = filter(&at, name);
                at = at.join(name);
            }
            interest == Interest::Member
        };
        paths
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
            format!("a.slice/a-b.slice/docker-{id}.scope"),
            format!("users/{id}"),
            format!("machine.slice/libpod-{id}.scope"),
            format!("machine.slice/machine-libpod_pod_0123.slice/libpod-{id}.scope"),
            format!("libpod_parent/libpod-{id}"),
            format!("hub/users/{id}"),
        ]
    }

    fn found(hub: &Hub) -> Vec<String> {
        let all = everywhere();
        members(hub, &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn containers_are_found_wherever_an_engine_puts_them() {
        assert_eq!(found(&hub("")), everywhere()[..7]);
        let parents = hub("container_parents = [\"/hub/users\"]");
        assert_eq!(found(&parents), everywhere());
    }

    #[test]
    fn an_engine_that_is_switched_off_is_not_looked_at() {
        let all = everywhere();
        assert_eq!(found(&hub("docker = \"none\"")), all[4..7]);
        assert_eq!(found(&hub("podman = \"none\"")), all[..4]);
        assert!(found(&hub("docker = \"none\"\npodman = \"none\"")).is_empty());
    }

    #[test]
    fn a_process_deep_in_a_server_is_in_the_cgroup_that_is_looked_at() {
        let id = "0123456789abcdef".repeat(4);
        let podman = format!("machine.slice/libpod-{id}.scope");
        let watched = |path: &str| {
            let found = watched_cgroup(&hub(""), &CgroupPath::new(path));
            found.map(|cgroup| cgroup.as_str().to_owned())
        };
        for (path, expected) in [
            (format!("{podman}/container/x"), Some(podman.clone())),
            (podman.clone(), Some(podman)),
            (
                "user.slice/user-7.slice/session-1.scope".into(),
                Some("user.slice/user-7.slice".into()),
            ),
            ("system.slice/ssh.service".into(), None),
            ("system.slice".into(), None),
            ("jupyter.slicex/x.service".into(), None),
            ("other.slice/ssh.service".into(), None),
        ] {
            assert_eq!(watched(&path), expected, "{path}");
        }
    }

    #[test]
    fn monitors_and_other_cgroups_are_not_looked_at() {
        let id = "0123456789abcdef".repeat(4);
        let others = [
            format!("machine.slice/libpod-conmon-{id}.scope"),
            "docker/buildkit".to_owned(),
            "system.slice/cron.service".to_owned(),
            "lxc.payload.guest/system.slice/jupyter-a.service".to_owned(),
            format!("user.slice/user-1000.slice/user@1000.service/docker-{id}.scope"),
        ];
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        assert!(members(&hub(""), &others).is_empty());
    }

    #[test]
    fn units_by_a_template_or_by_the_hub_s_word_are_found_in_any_slice() {
        let names = [
            "system.slice/jupyter-a.service",
            "jupyter.slice/x.scope",
            "jupyter.slice/jupyter-users.slice/jupyter-a.service",
            "jhub.slice/jhub-host.slice/jupyter-a.service",
            "system.slice/system-jupyter\\x2d.slice/jupyter-a.service",
            "jhub.slice/jhub-host.slice/jsu-a.service",
        ];
        let hub = hub("docker = \"none\"");
        assert_eq!(members(&hub, &names), names[..5]);
        assert_eq!(members_listed(&hub, &["jsu-a.service"], &names), names);
    }
}
