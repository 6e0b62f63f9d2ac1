//! Which cgroup an id belongs to, and what its path says of who runs there.

use crate::config::Hub;
use crate::hub::ContainerCgroup;
use quantities::{CgroupId, CgroupPath};
use std::collections::VecDeque;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

/// A node has some hundreds of cgroups outside users' slices.
const MOST_DIRECTORIES: usize = 20_000;
/// Deeper than systemd and engines nest.
const DEEPEST: usize = 12;
/// Where engines put containers when they make cgroups themselves.
const ENGINES: [&str; 2] = ["docker", "libpod_parent"];

/// What a cgroup's path says of who runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A unit of the system's service manager.
    Unit(String),
    /// A container of a system-wide engine.
    Container(ContainerCgroup),
    /// A user's slice, or the slice of users' servers.
    Users,
    /// None of these.
    Other,
}

/// Reads a cgroup's path. Only what stands directly in slices, or in an engine's own cgroup, is
/// what its name says: below a unit with `Delegate=` its owner chooses the names.
pub(super) fn place_of(cgroup: &CgroupPath, hub: &Hub) -> Place {
    let path = cgroup.as_str();
    if is_users(cgroup, hub) {
        return Place::Users;
    }
    let mut parts = path.split('/').skip_while(|part| part.ends_with(".slice"));
    let container = |part: Option<&str>| part.and_then(ContainerCgroup::of_name);
    let of_parent = hub.container_parents.iter().find_map(|parent| {
        let below = path.strip_prefix(parent.as_str())?.strip_prefix('/')?;
        container(below.split('/').next())
    });
    if let Some(container) = of_parent {
        return Place::Container(container);
    }
    match parts.next() {
        Some(engine) if ENGINES.contains(&engine) && path.starts_with(engine) => {
            container(parts.next()).map_or(Place::Other, Place::Container)
        }
        Some(part)
            if [".service", ".socket", ".scope"]
                .iter()
                .any(|end| part.ends_with(end)) =>
        {
            container(Some(part)).map_or_else(|| Place::Unit(part.to_owned()), Place::Container)
        }
        _ => Place::Other,
    }
}

/// Whether users make cgroups there.
pub(super) fn is_users(cgroup: &CgroupPath, hub: &Hub) -> bool {
    let top = cgroup.as_str().split('/').next();
    top == Some("user.slice") || top == Some(hub.slice.as_str())
}

/// Finds the cgroup with this id: first where users make none, so that they cannot make the search
/// longer, then among theirs, for the message. None where it is gone or the tree is too large.
/// Reads directories: not for the loop's thread.
pub(super) fn find(root: &Path, id: CgroupId, hub: &Hub) -> Option<CgroupPath> {
    let top = CgroupPath::new("");
    if std::fs::metadata(root).is_ok_and(|found| found.ino() == id.0) {
        return Some(top);
    }
    let mut theirs = Vec::new();
    search(root, id, vec![top], |cgroup| {
        let users = is_users(cgroup, hub);
        if users {
            theirs.push(cgroup.clone());
        }
        !users
    })
    .or_else(|| search(root, id, theirs, |_| true))
}

/// Looks breadth first, and enters what `enter` says.
fn search(
    root: &Path,
    id: CgroupId,
    from: Vec<CgroupPath>,
    mut enter: impl FnMut(&CgroupPath) -> bool,
) -> Option<CgroupPath> {
    let mut next: VecDeque<CgroupPath> = from.into();
    for _ in 0..MOST_DIRECTORIES {
        let cgroup = next.pop_front()?;
        let entries = std::fs::read_dir(root.join(cgroup.as_str()));
        for entry in entries.into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !is_directory {
                continue;
            }
            let child = cgroup.join(&name);
            // In cgroup v2 the inode's number in a listing is the cgroup's id.
            if entry.ino() == id.0 {
                return Some(child);
            }
            if child.level() < DEEPEST && next.len() < MOST_DIRECTORIES && enter(&child) {
                next.push_back(child);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn place(path: &str) -> Place {
        let config = Config::parse("[hub]\ncontainer_parents = [\"a-b.slice\", \"/x/y\"]").unwrap();
        place_of(&CgroupPath::new(path), &config.hub)
    }

    #[test]
    fn a_unit_is_what_stands_directly_in_slices() {
        for path in [
            "system.slice/hub.service",
            "hub.slice/hub-x.slice/hub.service/below",
            "/system.slice/hub.service",
        ] {
            assert_eq!(place(path), Place::Unit("hub.service".into()), "{path}");
        }
        for path in [
            "user.slice/user-1001.slice/user@1001.service/app.slice/hub.service",
            "user.slice/user-1001.slice/session-1.scope",
            "jupyter.slice/hub.service",
        ] {
            assert_eq!(place(path), Place::Users, "{path}");
        }
        for path in ["", "x/hub.service", "system.slice", "docker/hub.service"] {
            assert_eq!(place(path), Place::Other, "{path}");
        }
        let delegated = "system.slice/jupyter-alice.service/system.slice/hub.service";
        assert_eq!(
            place(delegated),
            Place::Unit("jupyter-alice.service".into())
        );
    }

    #[test]
    fn a_container_is_one_only_where_engines_put_them() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("system.slice/docker-{id}.scope"),
            format!("machine.slice/libpod-{id}.scope/container"),
            format!("docker/{id}"),
            format!("libpod_parent/libpod-{id}"),
            format!("a.slice/a-b.slice/docker-{id}.scope"),
            format!("x/y/{id}/init"),
        ] {
            assert!(matches!(place(&path), Place::Container(_)), "{path}");
        }
        for path in [
            format!("system.slice/jupyter-alice.service/docker-{id}.scope"),
            format!("system.slice/x.service/docker/{id}"),
            format!("y/{id}"),
        ] {
            assert!(!matches!(place(&path), Place::Container(_)), "{path}");
        }
    }

    #[test]
    fn a_cgroup_is_found_by_its_id_users_last() {
        let root = tempfile::tempdir().unwrap();
        let hub = Config::default().hub;
        let make = |path: &str| {
            let directory = root.path().join(path);
            std::fs::create_dir_all(&directory).unwrap();
            CgroupId(std::fs::metadata(directory).unwrap().ino())
        };
        for path in [
            "system.slice/hub.service/below",
            "jupyter.slice/jupyter-a.service",
            "user.slice/user-1.slice/user@1.service/app.slice",
        ] {
            let id = make(path);
            let found = find(root.path(), id, &hub);
            assert_eq!(found, Some(CgroupPath::new(path)));
        }
        assert_eq!(find(root.path(), CgroupId(1), &hub), None);
        let top = CgroupId(std::fs::metadata(root.path()).unwrap().ino());
        assert_eq!(find(root.path(), top, &hub), Some(CgroupPath::new("")));
    }

    proptest::proptest! {
        #[test]
        fn below_users_slices_nothing_is_a_unit_or_a_container(
            parts in proptest::collection::vec(
                "(user|hub|x)\\.(slice|service|socket|scope)|docker|[0-9a-f]{64}", 0..5),
        ) {
            for top in ["user.slice", "jupyter.slice"] {
                let path = format!("{top}/{}", parts.join("/"));
                proptest::prop_assert_eq!(place(&path), Place::Users);
            }
        }
    }
}
