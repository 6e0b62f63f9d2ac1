//! What must outlive the daemon, on disk before anything is changed.
//!
//! One JSON file, replaced whole by rename: at 5,000 servers about 2 MB, written at most once for
//! all that is waiting. Counters are in it too, so that the CPU used while no daemon ran is
//! booked exactly by the next one's first sample.

use crate::cgroup::{CgroupId, CgroupPath};
use crate::egress::ClassName;
use crate::hub::{Account, Server, UnitName};
use crate::judge::{Case, Controls, Grant};
use crate::units::{Mode, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's format; another one is set aside, not guessed at.
const VERSION: u32 = 1;
const FILE: &str = "state.json";

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Book {
    version: u32,
    /// Cgroup ids and runtime properties mean something within one boot only.
    boot_id: String,
    /// `hubwarden off` was said, and `on` not since.
    pub off: bool,
    /// Whether verdicts were carried out, or only told.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Admins' exceptions, by hub user; they outlive a boot.
    #[serde(default)]
    pub grants: BTreeMap<String, Grant>,
    /// How users stood when their last server ended, and when; until they have rested.
    #[serde(default)]
    pub rested: BTreeMap<String, (Case, Time)>,
    /// What users sent and received today; it outlives a boot.
    #[serde(default)]
    pub traffic: super::traffic::Traffic,
    /// The accounts of servers' uids, by uid: the next daemon judges users outside their servers
    /// before it has asked.
    #[serde(default)]
    pub accounts: BTreeMap<u32, Account>,
    /// What we changed on the guarded slice as a whole.
    #[serde(default)]
    pub slice: Option<SliceCap>,
    /// Containers known to be no servers: the packet rules must not take them for unknown ones.
    #[serde(default)]
    pub bystanders: BTreeSet<CgroupId>,
    /// From a configured network to its bridge: the next daemon guards it before it has asked.
    #[serde(default)]
    pub bridges: BTreeMap<String, String>,
    /// The servers known.
    pub cases: Vec<Record>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose and where.
    pub server: Server,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Its cgroup's id: a path made again is another server.
    pub id: CgroupId,
    /// Its egress class.
    pub class: ClassName,
    /// Credits and rung.
    pub case: Case,
    /// What we changed, and what stood there before.
    pub changed: Option<Changed>,
    /// What its user ran outside it, all in all.
    #[serde(default)]
    pub used_outside: Duration,
}

/// A change of ours to a unit's properties.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// What to put back.
    pub before: Controls,
    /// What we set, or were about to set.
    pub ours: Controls,
}

/// The cap on all servers together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceCap {
    /// The slice.
    pub unit: UnitName,
    /// As for a server.
    pub changed: Option<Changed>,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file was not ours, or damaged; it was moved aside and not lost.
    #[error(
        "{path} cannot be understood ({why}) and was kept as {kept}; limits set before may have to \
         be put back by hand: systemctl set-property --runtime UNIT CPUQuota="
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Where it is now.
        kept: PathBuf,
    },
}

/// The directory the state is kept in.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    boot_id: String,
}

impl Store {
    /// Uses a directory, which systemd makes (`StateDirectory=`).
    ///
    /// # Errors
    /// The kernel's boot id cannot be read.
    pub fn new(directory: &Path) -> Result<Store, StateError> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(path).map_err(|source| io(path, source))?;
        Ok(Store {
            directory: directory.to_owned(),
            boot_id: boot_id.trim().to_owned(),
        })
    }

    /// Reads what an earlier daemon left; cases of another boot are forgotten, since nothing of
    /// what they changed is left either.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood; it is never overwritten then.
    pub fn load(&self) -> Result<Book, StateError> {
        let book = self.load_any_boot()?;
        if book.boot_id == self.boot_id {
            return Ok(book);
        }
        Ok(Book {
            off: book.off,
            grants: book.grants,
            traffic: book.traffic,
            ..self.empty()
        })
    }

    /// As [`Store::load`], cases of another boot included: for the brake, which compares each
    /// unit with what we set before it touches it. A container's service can see another boot id
    /// than its shell (systemd-nspawn over-mounts the file).
    ///
    /// # Errors
    /// As for [`Store::load`].
    pub fn load_any_boot(&self) -> Result<Book, StateError> {
        let path = self.directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(self.empty());
            }
            Err(source) => return Err(io(&path, source)),
        };
        let book = match serde_json::from_slice::<Book>(&text) {
            Ok(book) if book.version == VERSION => Ok(book),
            Ok(book) => Err(format!("version {} instead of {VERSION}", book.version)),
            Err(error) => Err(error.to_string()),
        };
        match book {
            Ok(book) => Ok(book),
            Err(why) => {
                let kept = self.directory.join(format!("{FILE}.damaged"));
                std::fs::rename(&path, &kept).map_err(|source| io(&path, source))?;
                Err(StateError::Damaged { path, why, kept })
            }
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A book with nothing in it.
    pub fn empty(&self) -> Book {
        Book {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            off: false,
            mode: None,
            grants: BTreeMap::new(),
            rested: BTreeMap::new(),
            traffic: super::traffic::Traffic::default(),
            slice: None,
            accounts: BTreeMap::new(),
            bystanders: BTreeSet::new(),
            bridges: BTreeMap::new(),
            cases: Vec::new(),
        }
    }

    /// Writes the book so that either the old or the new one is there after a crash.
    ///
    /// # Errors
    /// The disk is full or read-only; the old book stands.
    pub fn save(&self, book: &Book) -> Result<(), StateError> {
        let path = self.directory.join(FILE);
        let fresh = self.directory.join(format!("{FILE}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(book)?)?;
            file.sync_data()?;
            std::fs::rename(&fresh, &path)
        };
        write().map_err(|source| io(&path, source))
    }
}

fn io(path: &Path, source: std::io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_book_comes_back_as_it_was() {
        let (_directory, store) = store();
        let mut book = store.empty();
        assert_eq!(store.load().unwrap(), book);
        book.off = true;
        store.save(&book).unwrap();
        assert_eq!(store.load().unwrap(), book);
    }

    #[test]
    fn another_boots_cases_are_forgotten_and_off_is_not() {
        let (_directory, store) = store();
        let mut book = store.empty();
        book.off = true;
        book.boot_id = "another".into();
        store.save(&book).unwrap();
        let loaded = store.load().unwrap();
        assert!(loaded.off && loaded.cases.is_empty());
        assert_eq!(loaded.boot_id, store.boot_id);
    }

    #[test]
    fn a_server_noted_before_containers_were_known_is_systemds() {
        let text = r#"{"user":"alice","name":"","spawner":"systemd",
            "unit":"jupyter-alice.service","uid":1001}"#;
        let server: Server = serde_json::from_str(text).unwrap();
        assert_eq!(server.control, crate::hub::Control::Systemd);
    }

    #[test]
    fn a_damaged_book_is_kept_and_named() {
        let (directory, store) = store();
        let path = directory.path().join(FILE);
        std::fs::write(&path, "{\"version\":1,").unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains("state.json.damaged"), "{error}");
        assert!(directory.path().join("state.json.damaged").exists());
        assert_eq!(store.load().unwrap(), store.empty());
    }
}
