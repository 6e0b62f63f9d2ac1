//! A cgroup with programs in it, for tests that need a kernel.

#![allow(
    clippy::unwrap_used,
    reason = "a test's tool: it panics where a test would"
)]

use crate::{make_cgroup, remove_cgroup};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where cgroup v2 is mounted, in the unified or the hybrid layout.
fn root() -> PathBuf {
    let hybrid = PathBuf::from("/sys/fs/cgroup/unified");
    if hybrid.join("cgroup.procs").exists() {
        hybrid
    } else {
        PathBuf::from("/sys/fs/cgroup")
    }
}

/// A cgroup of a test's own, with programs in it; removed in the end.
pub struct Bed {
    /// Its directory.
    pub directory: PathBuf,
    /// Its inode's number, which is the cgroup's id.
    pub id: u64,
}

/// What the kernel gave. `None`, and said so, where it refuses; with `CI` set and as root it must
/// not.
pub fn allowed<T, E: std::fmt::Display>(given: Result<T, E>) -> Option<T> {
    given
        .map_err(|error| {
            eprintln!("NOT TESTED, since this kernel does not allow it: {error}");
            assert!(std::env::var_os("CI").is_none() || !rustix::process::geteuid().is_root());
        })
        .ok()
}

impl Bed {
    /// `None`, and said so, where there may be none.
    pub fn new() -> Option<Bed> {
        let root = root();
        let directory = allowed(make_cgroup(&root))?;
        let id = std::fs::metadata(&directory).unwrap().ino();
        Some(Bed { directory, id })
    }

    /// Bash, in there from its first instruction on.
    pub fn command(&self, script: &str) -> Command {
        let enter = format!("echo $$ > {}/cgroup.procs\n", self.directory.display());
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(enter + script).stdin(Stdio::null());
        bash
    }

    /// Runs a script in there and waits for its end.
    pub fn run(&self, script: &str) {
        let status = self.command(script).status().unwrap();
        assert!(status.success(), "{script}: {status}");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove_cgroup(&self.directory);
    }
}
