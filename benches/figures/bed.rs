//! Cgroups to measure with: made below the host's cgroup-v2 mount, removed afterwards.

use std::path::{Path, PathBuf};

/// A slice of servers' cgroups that holds no process.
pub struct Bed {
    /// What stands for the cgroup root.
    pub root: PathBuf,
    units: Vec<String>,
}

impl Bed {
    pub fn new(servers: usize) -> Bed {
        let mount = cgroup::find_root().expect("cgroup v2 is mounted");
        let root = mount.join(format!("hubwarden-bench-{}", std::process::id()));
        let mut bed = Bed {
            root,
            units: Vec::new(),
        };
        std::fs::create_dir(&bed.root).expect("a cgroup of our own (root is needed)");
        for slice in ["system.slice", "jupyter.slice"] {
            std::fs::create_dir(bed.root.join(slice)).expect("a slice");
        }
        for number in 0..servers {
            let unit = format!("jupyter-user{number}.service");
            std::fs::create_dir(bed.slice().join(&unit)).expect("a server's cgroup");
            bed.units.push(unit);
        }
        bed
    }

    pub fn slice(&self) -> PathBuf {
        self.root.join("jupyter.slice")
    }

    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.units.iter().map(|unit| self.slice().join(unit))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for path in self.paths() {
            remove(&path);
        }
        for slice in ["system.slice", "jupyter.slice"] {
            remove(&self.root.join(slice));
        }
        remove(&self.root);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir(path) {
        eprintln!("{}: {error}; remove it by hand", path.display());
    }
}
