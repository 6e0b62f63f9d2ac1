//! The file that node_exporter's textfile collector reads.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Replaces the file as a whole: a reader sees the old text or the new one. It is root's and `group`'s.
///
/// # Errors
/// The directory is not there or not writable, or the disk is full.
pub(super) fn write(path: &Path, text: &str, group: Option<u32>) -> io::Result<()> {
    // node_exporter reads names that end in .prom, so the half-written file must not.
    let fresh = fresh(path);
    let result = write_fresh(&fresh, text, group).and_then(|()| std::fs::rename(&fresh, path));
    if result.is_err() {
        // What an earlier attempt left is in nobody's way.
        let _ = std::fs::remove_file(&fresh);
    }
    result
}

fn write_fresh(fresh: &Path, text: &str, group: Option<u32>) -> io::Result<()> {
    remove(fresh)?;
    // Made anew, so that a link somebody put there is not followed.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    // node_exporter is another Unix user, and not the only one.
    if let Some(group) = group {
        fchown(&file, None, Some(group))?;
    }
    file.set_permissions(Permissions::from_mode(0o640))?;
    file.write_all(text.as_bytes())
}

/// Removes the file, so that nobody takes old numbers for new ones.
///
/// # Errors
/// It is there and cannot be removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fresh(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_readable_by_a_group_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hubwarden.prom");
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, fresh(&path)).unwrap();
        write(&path, "a 1\n", None).unwrap();
        write(&path, "a 2\n", None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a 2\n");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "theirs");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!fresh(&path).exists());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(write(Path::new("/nonexistent/x.prom"), "", None).is_err());
    }
}
