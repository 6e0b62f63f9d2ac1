//! The watched cgroup-v2 tree: who is there, and what their counters say.
//!
//! The root is a parameter everywhere, so that tests use a directory of their own and a hybrid
//! host its `unified` mount.

mod gauges;
mod reader;
pub mod stat;
mod tree;
pub mod walk;

pub use gauges::Gauges;
use quantities::{CgroupId, CgroupPath};
pub use reader::{Reader, Sample, pressure};
pub use tree::{Change, Interest, Tree};

use std::path::{Path, PathBuf};

/// What went wrong with a cgroup file, and with which.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The cgroup was removed: ENOENT on opening, ENODEV on a kept descriptor.
    #[error("{0} is gone")]
    Gone(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel wrote something unexpected.
    #[error("{path}: expected {expected}, found `{found}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the kernel's documentation promises.
        expected: &'static str,
        /// The beginning of what was there.
        found: String,
    },
    /// No cgroup-v2 mount was found.
    #[error(
        "no cgroup-v2 file system is mounted; hubwarden needs systemd's unified or hybrid layout \
         (boot with systemd.unified_cgroup_hierarchy=1)"
    )]
    NoMount,
}

impl CgroupError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(nix::libc::ENOENT | nix::libc::ENODEV) => CgroupError::Gone(path.to_owned()),
            _ => CgroupError::Io {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// Whether this means that the cgroup does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, CgroupError::Gone(_))
    }
}

/// Finds where cgroup v2 is mounted: `/sys/fs/cgroup`, or its `unified` in the hybrid layout.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read, or lists no such mount.
pub fn find_root() -> Result<PathBuf, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(path).map_err(|source| CgroupError::io(path, source))?;
    mounted_root(&text).ok_or(CgroupError::NoMount)
}

/// The shortest mount point of type `cgroup2` in a mountinfo text (proc(5)).
fn mounted_root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            (kind.split(' ').next()? == "cgroup2").then(|| PathBuf::from(point))
        })
        .min_by_key(|point| point.as_os_str().len())
}

/// Whether the CPU controller is on cgroup v2, so that a quota has an effect.
pub fn has_cpu_controller(root: &Path) -> bool {
    std::fs::read_to_string(root.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "cpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_found_in_both_layouts() {
        let unified =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mounted_root(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "1 0 0:1 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      2 1 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      3 1 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(mounted_root(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted_root(""), None);
    }
}
