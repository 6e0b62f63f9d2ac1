//! Memory and processes of a cgroup, for whoever wants to see them.

use super::CgroupPath;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Kept descriptors of the gauges that a cgroup has; which, depends on its controllers.
#[derive(Debug)]
pub struct Gauges {
    memory: Option<File>,
    pids: Option<File>,
}

impl Gauges {
    /// Opens what is there. A controller that is switched on later is not seen.
    pub fn open(root: &Path, cgroup: &CgroupPath) -> Gauges {
        let directory = root.join(cgroup.as_str());
        let open = |name| File::open(directory.join(name)).ok();
        Gauges {
            memory: open("memory.current"),
            pids: open("pids.current"),
        }
    }

    /// Memory in use, in bytes (`memory.current`); `None` where it cannot be known.
    pub fn memory(&self) -> Option<u64> {
        read(self.memory.as_ref()?)
    }

    /// Processes and threads (`pids.current`); `None` where it cannot be known.
    pub fn pids(&self) -> Option<u64> {
        read(self.pids.as_ref()?)
    }
}

/// A gauge that cannot be read is not shown; the sampler tells what is wrong with a cgroup.
fn read(file: &File) -> Option<u64> {
    let mut buffer = [0; 32];
    let length = file.read_at(&mut buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length])
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_read_where_they_exist() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = CgroupPath::new("a");
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/pids.current"), "12\n").unwrap();
        let gauges = Gauges::open(root.path(), &cgroup);
        assert_eq!(gauges.pids(), Some(12));
        assert_eq!(gauges.memory(), None);
        std::fs::write(root.path().join("a/pids.current"), "max\n").unwrap();
        assert_eq!(gauges.pids(), None);
    }
}
