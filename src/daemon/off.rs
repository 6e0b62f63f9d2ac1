//! That supervision is switched off: an empty file, in two places.
//!
//! The one under `/run` can be made whatever the disk does; the one beside the state outlives the
//! boot. Both are names alone: a disk that is full of data still takes them, and a state file that is
//! damaged or from another version does not matter.

use std::fs::{DirBuilder, File};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const NAME: &str = "off";

/// The two files.
#[derive(Debug, Clone)]
pub struct OffSwitch {
    until_reboot: PathBuf,
    lasting: PathBuf,
}

impl OffSwitch {
    /// Below `/run/hubwarden`, or what stands for it, and below the state's directory.
    pub fn new(runtime: &Path, state: &Path) -> OffSwitch {
        OffSwitch {
            until_reboot: runtime.join(NAME),
            lasting: state.join(NAME),
        }
    }

    /// Whether supervision is off.
    pub fn is_off(&self) -> bool {
        self.until_reboot.exists() || self.lasting.exists()
    }

    /// Switches off for this boot: the first thing to do.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn off_until_reboot(&self) -> Result<(), String> {
        make(&self.until_reboot)
    }

    /// Switches off for later boots too.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn off(&self) -> Result<(), String> {
        make(&self.lasting)
    }

    /// Switches on.
    ///
    /// # Errors
    /// One of the files cannot be removed, so that supervision stays off.
    pub fn on(&self) -> Result<(), String> {
        for path in [&self.lasting, &self.until_reboot] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn make(path: &Path) -> Result<(), String> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(directory)
            .map_err(|error| failed(path, &error))?;
    }
    // Unlike a write, this needs no room for data.
    let made = File::options().create(true).append(true).open(path);
    made.map(drop).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_file_means_off_and_on_removes_both() {
        let directory = tempfile::tempdir().unwrap();
        let (run, state) = (directory.path().join("run"), directory.path().join("state"));
        let switch = OffSwitch::new(&run, &state);
        assert!(!switch.is_off());
        switch.off_until_reboot().unwrap();
        assert!(switch.is_off());
        switch.off().unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        assert!(switch.is_off(), "after a reboot");
        switch.off_until_reboot().unwrap();
        switch.on().unwrap();
        assert!(!switch.is_off());
        switch.on().unwrap();
    }
}
