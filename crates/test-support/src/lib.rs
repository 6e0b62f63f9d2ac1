//! What tests make of the host's, named so that the next run can tell what a killed one left.
//!
//! A name says by whom it was made: the pid namespace and the process. What somebody made who is alive,
//! or whose numbers are not ours to tell, is left alone.

#![allow(
    clippy::unwrap_used,
    reason = "tests' tools: they panic where a test would"
)]

mod bed;

pub use bed::{Bed, allowed};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CGROUP: &str = "hubwarden-test-";

/// A name that nobody else has, with this before it.
pub fn name(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{}-{}-{number}", namespace(), std::process::id())
}

/// Names in a directory, with this before them, that dead processes of our namespace gave.
pub fn left_in(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_left(name, prefix)).collect()
}

fn is_left(name: &str, prefix: &str) -> bool {
    let numbers = name.strip_prefix(prefix).map(|rest| rest.split('-'));
    let numbers: Option<Vec<u64>> = numbers.and_then(|all| all.map(|n| n.parse().ok()).collect());
    let Some([place, process, _]) = numbers.as_deref() else {
        return false;
    };
    *place == namespace() && !Path::new(&format!("/proc/{process}")).exists()
}

fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").unwrap().ino()
}

/// A cgroup directly below the root, after those are gone that a killed run left there.
///
/// # Errors
/// There may be none.
pub fn make_cgroup(root: &Path) -> std::io::Result<PathBuf> {
    static OLD: Once = Once::new();
    OLD.call_once(|| remove_left_cgroups(root));
    let path = root.join(name(CGROUP));
    fs::create_dir(&path)?;
    Ok(path)
}

/// Ends and removes what dead processes' cgroups hold.
pub fn remove_left_cgroups(root: &Path) {
    for name in left_in(root, CGROUP) {
        remove_cgroup(&root.join(name));
    }
}

/// Ends what is in a cgroup and below it, and removes them all.
pub fn remove_cgroup(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    // A killed process leaves its cgroup a little after it was waited for.
    for _ in 0..500 {
        remove_tree(path);
        if !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("left behind: {}", path.display());
}

/// Removes a cgroup and all below it, where they are empty: by descriptors, since they may nest beyond
/// `PATH_MAX`.
fn remove_tree(path: &Path) {
    let Ok(mut here) = rustix::fs::open(path, DIRECTORY, Mode::empty()) else {
        return;
    };
    // From the top to `here`: children that are to be entered. The last one of each but the last was.
    let mut above = vec![remove_children(&here)];
    while let Some(left) = above.last() {
        let entered = left.last().and_then(|child| {
            let opened = rustix::fs::openat(&here, child, DIRECTORY, Mode::empty());
            opened.ok()
        });
        if let Some(child) = entered {
            above.push(remove_children(&child));
            here = child;
            continue;
        }
        if above.last_mut().and_then(Vec::pop).is_some() {
            // It could not be entered: it is gone.
            continue;
        }
        above.pop();
        let Some(left) = above.last_mut() else {
            break;
        };
        let Ok(up) = rustix::fs::openat(&here, "..", DIRECTORY, Mode::empty()) else {
            return;
        };
        here = up;
        if let Some(child) = left.pop() {
            let _ = rustix::fs::unlinkat(&here, &child, AtFlags::REMOVEDIR);
        }
    }
    let _ = fs::remove_dir(path);
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes the children that can be; the others.
fn remove_children(directory: &OwnedFd) -> Vec<CString> {
    let mut left = Vec::new();
    for entry in Dir::read_from(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory
            && name != c"."
            && name != c".."
            && rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR).is_err()
        {
            left.push(name.to_owned());
        }
    }
    left
}
