//! Which cgroup: the two names that a cgroup has.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A cgroup's 64-bit id: the inode number of its directory, unique while the machine is up, and
/// the key that `socket cgroupv2` and `bpf_get_current_cgroup_id()` use (fs/kernfs, `kernfs_ino`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cgroup's path below the root, without a leading slash: `system.slice/x.service`. A copy costs
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupPath(Arc<str>);

impl CgroupPath {
    /// Takes a path as is; a leading slash is dropped.
    pub fn new(path: &str) -> Self {
        CgroupPath(path.trim_start_matches('/').into())
    }

    /// The path below `parent`.
    pub fn join(&self, name: &str) -> Self {
        match self.as_str() {
            "" => CgroupPath(name.into()),
            parent => CgroupPath(format!("{parent}/{name}").into()),
        }
    }

    /// The path without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component, which is the unit's name where systemd made the cgroup.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is this cgroup or one below it.
    pub fn is_within(&self, other: &CgroupPath) -> bool {
        let below = self.0.strip_prefix(other.as_str());
        below.is_some_and(|below| below.is_empty() || other.0.is_empty() || below.starts_with('/'))
    }

    /// Depth below the root, as `socket cgroupv2 level` counts it; the root is 0.
    pub fn level(&self) -> usize {
        match self.as_str() {
            "" => 0,
            path => path.matches('/').count() + 1,
        }
    }
}

/// A path is looked up by its text: both are ordered and hashed alike.
impl Borrow<str> for CgroupPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_know_their_level_and_name() {
        assert_eq!(CgroupPath::new("").level(), 0);
        let unit = CgroupPath::new("/system.slice").join("x.service");
        assert_eq!((unit.level(), unit.name()), (2, "x.service"));
        assert_eq!(unit.to_string(), "/system.slice/x.service");
    }
}
