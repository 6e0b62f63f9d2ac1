//! What a cgroup's path says of who made it: systemd, a container's engine, or another manager.

use quantities::CgroupPath;
use serde::Serialize;

/// A container engine whose containers are told by their cgroup's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl Engine {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Docker => "Docker",
            Engine::Podman => "Podman",
        }
    }
}

/// What a place is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocationKind {
    /// A service or scope of systemd's.
    Unit,
    /// A container of an engine that runs as root; its id.
    Container(Engine, String),
    /// The slice of a Unix user, with all that the user runs outside servers.
    Login {
        /// Of `user-UID.slice`.
        uid: u32,
    },
    /// What another program made: Kubernetes, LXC and the like.
    Other,
    /// The root cgroup, or a slice's own, which hold no unit.
    Bare,
}

/// A cgroup that systemd, an engine or another manager made, and that limits are set on as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Its cgroup, in which processes may have made further ones.
    pub cgroup: CgroupPath,
    /// What it is.
    pub kind: LocationKind,
}

impl Location {
    /// The place that a process's cgroup lies in. Users make cgroups only below a place of their own, so
    /// the outermost one decides.
    pub fn of(cgroup: &CgroupPath) -> Location {
        let parts: Vec<&str> = cgroup.as_str().split('/').collect();
        let up_to = |count: usize| CgroupPath::new(&parts.get(..count).unwrap_or(&parts).join("/"));
        if let [USER_SLICE, login, ..] = parts[..]
            && let Some(uid) = uid_of(login)
        {
            return Location {
                cgroup: up_to(2),
                kind: LocationKind::Login { uid },
            };
        }
        if parts.first().is_some_and(|first| is_foreign(first)) {
            let in_slice = parts.first().is_some_and(|first| first.ends_with(".slice"));
            let count = if in_slice { parts.len().min(2) } else { 1 };
            return Location {
                cgroup: up_to(count),
                kind: LocationKind::Other,
            };
        }
        let container = parts.iter().enumerate().find_map(|(at, name)| {
            let (engine, id) = container_of(name)?;
            Some((at + 1, LocationKind::Container(engine, id.to_owned())))
        });
        let slices = parts.iter().take_while(|name| name.ends_with(".slice"));
        let slices = slices.count();
        let unit = parts.get(slices).filter(|name| is_unit(name));
        // A unit's own processes cannot make it a container: what is in it comes after it.
        if let Some((count, kind)) = container
            && (count <= slices + 1 || unit.is_none())
        {
            return Location {
                cgroup: up_to(count),
                kind,
            };
        }
        let (count, kind) = match (unit, parts.get(slices)) {
            (Some(_), _) => (slices + 1, LocationKind::Unit),
            (None, Some(name)) if !name.is_empty() => (slices + 1, LocationKind::Other),
            _ => (slices, LocationKind::Bare),
        };
        Location {
            cgroup: up_to(count),
            kind,
        }
    }

    /// The unit's name, where it is one.
    pub fn unit(&self) -> Option<&str> {
        (self.kind == LocationKind::Unit).then(|| self.cgroup.name())
    }

    /// The cgroup that it lies in.
    pub fn parent(&self) -> CgroupPath {
        let path = self.cgroup.as_str();
        CgroupPath::new(path.rsplit_once('/').map_or("", |(parent, _)| parent))
    }

    /// The topmost slice that it lies in, or is.
    pub fn top_slice(&self) -> Option<&str> {
        let first = self.cgroup.as_str().split('/').next()?;
        first.ends_with(".slice").then_some(first)
    }
}

pub(super) const USER_SLICE: &str = "user.slice";

/// The uid of `user-UID.slice`.
fn uid_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("user-")?.strip_suffix(".slice")?;
    digits.parse().ok()
}

/// Whether a program makes the cgroups below this one that neither systemd nor an engine knows of. What is
/// in them is its guests' to name.
fn is_foreign(top: &str) -> bool {
    ["kubepods", "lxc", ".lxc"]
        .iter()
        .any(|name| top.starts_with(name))
}

fn is_unit(name: &str) -> bool {
    name.ends_with(".service") || name.ends_with(".scope")
}

/// The engine and id that a cgroup's name tells of a container.
pub(super) fn container_of(name: &str) -> Option<(Engine, &str)> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (engine, id) = match (stem.strip_prefix("libpod-"), stem.strip_prefix("docker-")) {
        (Some(id), _) => (Engine::Podman, id),
        (None, Some(id)) => (Engine::Docker, id),
        (None, None) if stem == name => (Engine::Docker, name),
        _ => return None,
    };
    let is_id = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some((engine, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Location {
        Location::of(&CgroupPath::new(path))
    }

    #[test]
    fn a_path_says_who_made_the_place() {
        let id = "0123456789abcdef".repeat(4);
        let docker = || LocationKind::Container(Engine::Docker, id.clone());
        let podman = || LocationKind::Container(Engine::Podman, id.clone());
        for (path, cgroup, kind) in [
            ("", String::new(), LocationKind::Bare),
            ("system.slice", "system.slice".into(), LocationKind::Bare),
            ("init.scope", "init.scope".into(), LocationKind::Unit),
            (
                "system.slice/x.service/payload",
                "system.slice/x.service".into(),
                LocationKind::Unit,
            ),
            (
                "a.slice/a-b.slice/x.service",
                "a.slice/a-b.slice/x.service".into(),
                LocationKind::Unit,
            ),
            (
                "user.slice/user-1001.slice/user@1001.service/app.slice/x.service",
                "user.slice/user-1001.slice".into(),
                LocationKind::Login { uid: 1001 },
            ),
            (
                "lxc.payload.c1/system.slice/x.service",
                "lxc.payload.c1".into(),
                LocationKind::Other,
            ),
            (
                "kubepods.slice/pod7",
                "kubepods.slice/pod7".into(),
                LocationKind::Other,
            ),
            (
                &format!("docker/{id}/docker/{id}"),
                format!("docker/{id}"),
                docker(),
            ),
            (
                &format!("hub/users/{id}"),
                format!("hub/users/{id}"),
                docker(),
            ),
            (
                &format!("machine.slice/libpod-{id}.scope/container"),
                format!("machine.slice/libpod-{id}.scope"),
                podman(),
            ),
            (
                &format!("libpod_parent/libpod-{id}"),
                format!("libpod_parent/libpod-{id}"),
                podman(),
            ),
            // Containers that a user made within the server are the server's.
            (
                &format!("system.slice/jupyter-a.service/docker/{id}"),
                "system.slice/jupyter-a.service".into(),
                LocationKind::Unit,
            ),
        ] {
            let found = place(path);
            assert_eq!(
                (found.cgroup.as_str(), found.kind),
                (&cgroup[..], kind),
                "{path}"
            );
        }
    }

    #[test]
    fn a_place_knows_its_parent_and_topmost_slice() {
        let unit = place("a.slice/a-b.slice/x.service");
        assert_eq!(unit.parent().as_str(), "a.slice/a-b.slice");
        assert_eq!(
            (unit.top_slice(), unit.unit()),
            (Some("a.slice"), Some("x.service"))
        );
        assert_eq!(place("lxc.payload.c1").top_slice(), None);
        assert_eq!(place("").parent().as_str(), "");
    }

    proptest::proptest! {
        #[test]
        fn a_place_is_an_ancestor_of_every_path_in_it(path in "([a-z@é.-]{0,6}(\\.slice|\\.service)?/){0,6}") {
            let path = CgroupPath::new(path.trim_end_matches('/'));
            let place = Location::of(&path);
            proptest::prop_assert!(path.as_str().starts_with(place.cgroup.as_str()));
            proptest::prop_assert_eq!(Location::of(&place.cgroup).cgroup, place.cgroup);
        }
    }
}
