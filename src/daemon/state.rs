//! What must outlive the daemon, on disk before anything is changed.
//!
//! One JSON file, replaced whole by rename: at 5,000 servers about 2 MB, written at most once for
//! all that is waiting. Counters are in it too, so that the CPU used while no daemon ran is
//! booked exactly by the next one's first sample.

mod earlier;

use crate::act::Undo;
use crate::hub::{Account, Server};
use egress::ClassName;
use policy::{Grant, Standing};
use quantities::{CgroupId, CgroupPath, HubUser, Mode, Time};
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
pub struct State {
    version: u32,
    /// Cgroup ids and runtime properties mean something within one boot only.
    boot_id: String,
    /// Whether verdicts were carried out, or only told.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Admins' exceptions, by hub user; they outlive a boot.
    #[serde(default)]
    pub grants: BTreeMap<String, Grant>,
    /// How users stood when their last server ended, and when; until they have rested.
    #[serde(default)]
    pub rested: BTreeMap<HubUser, (Standing, Time)>,
    /// What users sent and received today; it outlives a boot.
    #[serde(default)]
    pub traffic: super::traffic::Traffic,
    /// The accounts of servers' uids, by uid: the next daemon judges users outside their servers
    /// before it has asked.
    #[serde(default)]
    pub accounts: BTreeMap<u32, Account>,
    /// What was changed on units, and what to put back: a second copy of what is under `/run`.
    #[serde(default)]
    pub changes: Vec<Undo>,
    /// Containers known to be no servers: the packet rules must not take them for unknown ones.
    #[serde(default, alias = "bystanders")]
    pub other_containers: BTreeSet<CgroupId>,
    /// From a configured network to its bridge: the next daemon guards it before it has asked.
    #[serde(default)]
    pub bridges: BTreeMap<String, String>,
    /// Slices that spawners themselves asked for: the next daemon, or boot, guards them before anybody is
    /// there.
    #[serde(default)]
    pub spawner_slices: BTreeSet<String>,
    /// Topmost slices in which an admin's units were seen: these are not guarded.
    #[serde(default)]
    pub shared_slices: BTreeSet<String>,
    /// What is in a guarded slice and no server, as the hub may be: the next daemon lets it be before it has
    /// asked.
    #[serde(default)]
    pub exempt: Vec<Exempt>,
    /// Ports by which the hub is open to everybody: the next daemon opens them before it has looked.
    #[serde(default)]
    pub fronts: BTreeSet<u16>,
    /// The servers known.
    #[serde(alias = "cases")]
    pub servers: Vec<ServerState>,
}

/// A unit that is no server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exempt {
    /// Where.
    pub cgroup: CgroupPath,
    /// Which.
    pub id: CgroupId,
    /// Why it is none, in words.
    pub why: String,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerState {
    /// Whose and where.
    pub server: Server,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Its cgroup's id: a path made again is another server.
    pub id: CgroupId,
    /// Its egress class.
    pub class: ClassName,
    /// Credits and stage.
    #[serde(alias = "case")]
    pub standing: Standing,
    /// What its user ran outside it, all in all.
    #[serde(default)]
    pub used_outside: Duration,
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
        "{path} cannot be understood ({why}) and was kept as {kept}; credits, grants and the day's \
         traffic begin anew, and limits are put back from the records in /run/hubwarden"
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

    /// Reads what an earlier daemon left; servers of another boot are forgotten, since nothing of
    /// what they changed is left either.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood; it is never overwritten then.
    pub fn load(&self) -> Result<State, StateError> {
        let state = self.load_any_boot()?;
        if state.boot_id == self.boot_id {
            return Ok(state);
        }
        Ok(State {
            grants: state.grants,
            traffic: state.traffic,
            spawner_slices: state.spawner_slices,
            shared_slices: state.shared_slices,
            fronts: state.fronts,
            ..self.empty()
        })
    }

    /// What a state file that can be read says was changed on units, in whatever boot, and whether
    /// version 0.1.0 was switched off. The file is left as it is. (A container's service can see another
    /// boot id than its shell: systemd-nspawn mounts over the file.)
    pub fn changes(&self) -> (Vec<Undo>, bool) {
        let text = std::fs::read(self.directory.join(FILE)).unwrap_or_default();
        let state = serde_json::from_slice::<State>(&text);
        let (mut changes, off) = earlier::read(&text);
        changes.extend(state.map_or_else(|_| Vec::new(), |state| state.changes));
        (changes, off)
    }

    fn load_any_boot(&self) -> Result<State, StateError> {
        let path = self.directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(self.empty());
            }
            Err(source) => return Err(io(&path, source)),
        };
        let state = match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.version == VERSION => Ok(state),
            Ok(state) => Err(format!("version {} instead of {VERSION}", state.version)),
            Err(error) => Err(error.to_string()),
        };
        match state {
            Ok(state) => Ok(state),
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

    /// A state with nothing in it.
    pub fn empty(&self) -> State {
        State {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            mode: None,
            grants: BTreeMap::new(),
            rested: BTreeMap::new(),
            traffic: super::traffic::Traffic::default(),
            changes: Vec::new(),
            accounts: BTreeMap::new(),
            other_containers: BTreeSet::new(),
            bridges: BTreeMap::new(),
            spawner_slices: BTreeSet::new(),
            shared_slices: BTreeSet::new(),
            exempt: Vec::new(),
            fronts: BTreeSet::new(),
            servers: Vec::new(),
        }
    }

    /// Writes the state so that either the old or the new one is there after a crash.
    ///
    /// # Errors
    /// The disk is full or read-only; the old state stands.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.directory.join(FILE);
        let fresh = self.directory.join(format!("{FILE}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(state)?)?;
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
        let mut state = store.empty();
        assert_eq!(store.load().unwrap(), state);
        state.mode = Some(Mode::Enforce);
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), state);
    }

    #[test]
    fn another_boots_mode_is_forgotten_and_its_bridges_too() {
        let (_directory, store) = store();
        let mut state = store.empty();
        state.mode = Some(Mode::Enforce);
        state.bridges.insert("hub".into(), "br0".into());
        state.boot_id = "another".into();
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), store.empty());
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
