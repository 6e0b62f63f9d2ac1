//! What tests make of the host's, named so that the next run can tell what a killed one left.
//!
//! A name says by whom it was made: the pid namespace and the process. What somebody made who is alive,
//! or whose numbers are not ours to tell, is left alone.

use std::fs;
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

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
