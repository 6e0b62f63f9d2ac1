//! Whether the files that say who may do what on this node have changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Accounts, groups, where else those are looked for, and who may become root.
const FILES: [&str; 5] = [
    "etc/passwd",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/login.defs",
    "etc/sudoers",
];
const DIRECTORY: &str = "etc/sudoers.d";

/// The user database does not answer now. What was known stays so for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow;

/// What tells one version of a file from the next: its name, its inode, its size, and when its
/// content and its inode changed, in nanoseconds.
type Stamp = (PathBuf, u64, u64, i128, i128);

/// Remembers how the files were.
#[derive(Debug)]
pub struct AccountFiles {
    root: PathBuf,
    seen: Option<Vec<Stamp>>,
}

impl Default for AccountFiles {
    fn default() -> Self {
        AccountFiles::below("/")
    }
}

impl AccountFiles {
    /// Those below a directory, `/` but for tests.
    pub fn below(root: impl Into<PathBuf>) -> AccountFiles {
        AccountFiles {
            root: root.into(),
            seen: None,
        }
    }

    /// Whether one of them changed since this was last asked; the first time it is true.
    pub fn changed(&mut self) -> bool {
        let mut now = Vec::new();
        let directory = self.root.join(DIRECTORY);
        let in_it = std::fs::read_dir(&directory).into_iter().flatten();
        let mut paths: Vec<PathBuf> = FILES.iter().map(|file| self.root.join(file)).collect();
        paths.extend(in_it.flatten().map(|entry| entry.path()));
        paths.push(directory);
        paths.sort();
        for path in paths {
            if let Ok(metadata) = std::fs::metadata(&path) {
                now.push(stamp(&path, &metadata));
            }
        }
        let now = Some(now);
        if self.seen == now {
            return false;
        }
        self.seen = now;
        true
    }
}

fn stamp(path: &Path, metadata: &Metadata) -> Stamp {
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    (
        path.to_owned(),
        metadata.ino(),
        metadata.size(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_of_the_files_is_seen_once() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path(DIRECTORY)).unwrap();
        std::fs::write(path("etc/group"), "sudo:x:27:\n").unwrap();
        let mut files = AccountFiles::below(root.path());
        assert!(files.changed() && !files.changed());
        // As usermod does it: a new file in the old one's place, of any size.
        std::fs::write(path("etc/group+"), "sudo:x:27:b\n").unwrap();
        std::fs::rename(path("etc/group+"), path("etc/group")).unwrap();
        assert!(files.changed() && !files.changed());
        std::fs::write(path("etc/sudoers.d/bob"), "bob ALL=(ALL) ALL\n").unwrap();
        assert!(files.changed() && !files.changed());
        std::fs::remove_file(path("etc/sudoers.d/bob")).unwrap();
        assert!(files.changed() && !files.changed());
        std::fs::remove_file(path("etc/group")).unwrap();
        assert!(files.changed() && !files.changed());
    }
}
