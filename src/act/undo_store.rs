//! Records of changes under `/run`: there for as long as what they tell of.
//!
//! Runtime properties and cgroups end with the boot, and so does `/run`. A disk that is full is no
//! matter to it, and neither is a state file that is damaged or from another version. One small file a
//! unit, replaced by rename: a crash leaves the old one or the new one.

use crate::hub::UnitName;
use hubwarden_core::undo::{Fragment, Owner, Start, Undo};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where systemd keeps a transient unit's file for as long as the unit is loaded
/// (src/basic/path-lookup.c, `transient`).
const TRANSIENT: &str = "/run/systemd/transient";
const SUFFIX: &str = "undo";
/// A record is a few hundred bytes; this is far beyond any.
const LONGEST: u64 = 1 << 20;

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct UndoError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// All records of this boot.
#[derive(Debug, Clone)]
pub struct UndoStore {
    directory: PathBuf,
    transient: PathBuf,
    /// As they are on file.
    records: BTreeMap<String, Box<Undo>>,
    /// Those of them that no server known has claimed.
    unclaimed: BTreeSet<String>,
    /// There may be records in the directory, which could not be read.
    unread: bool,
}

impl UndoStore {
    /// Keeps records in this directory, which is made when the first one is written.
    pub fn new(directory: &Path) -> UndoStore {
        UndoStore::with_units_in(directory, Path::new(TRANSIENT))
    }

    /// The same, where systemd keeps transient units elsewhere.
    pub fn with_units_in(directory: &Path, transient: &Path) -> UndoStore {
        UndoStore {
            directory: directory.to_owned(),
            transient: transient.to_owned(),
            records: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
            unread: false,
        }
    }

    /// Reads all records there are. One that cannot be read is left where it is, and returned as an
    /// error: what it tells of may stand.
    pub fn load(&mut self) -> Vec<UndoError> {
        let mut errors = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.unread = false;
                return errors;
            }
            Err(error) => {
                self.unread = true;
                return vec![failed(&self.directory, error)];
            }
        };
        self.unread = false;
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    errors.push(failed(&self.directory, error));
                    continue;
                }
            };
            if path.extension().is_none_or(|end| end != SUFFIX) {
                continue;
            }
            match read(&path) {
                Ok(Some(undo)) => {
                    let key = key(&undo.owner);
                    self.unclaimed.insert(key.clone());
                    self.records.insert(key, Box::new(undo));
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Reads all records if they could not be read before; true if they could be now.
    ///
    /// # Errors
    /// They still cannot be read. What stands anywhere may be ours, so nothing may be changed, and
    /// nothing taken for what an owner set.
    pub fn read_again(&mut self) -> Result<bool, UndoError> {
        if !self.unread {
            return Ok(false);
        }
        let mut errors = self.load();
        match (self.unread, errors.pop()) {
            (true, Some(error)) => Err(error),
            _ => Ok(true),
        }
    }

    /// Reads what is on file of an owner, if it is not known: it could not be read before.
    ///
    /// # Errors
    /// It still cannot be read. What stands there may be ours.
    pub fn read_missing(&mut self, owner: &Owner) -> Result<(), UndoError> {
        let key = key(owner);
        if self.records.contains_key(&key) {
            return Ok(());
        }
        if let Some(undo) = read(&self.path(&key))? {
            self.unclaimed.insert(key.clone());
            self.records.insert(key, Box::new(undo));
        }
        Ok(())
    }

    /// The records as they are on file.
    pub fn records(&self) -> impl Iterator<Item = &Undo> {
        self.records.values().map(|undo| &**undo)
    }

    /// What is on file of this owner.
    pub fn get(&self, owner: &Owner) -> Option<&Undo> {
        self.records.get(&key(owner)).map(|undo| &**undo)
    }

    /// Hands out what is on record of an owner, be it of an earlier life, to the server that is known there
    /// from now on.
    pub fn claim(&mut self, owner: &Owner) -> Option<Undo> {
        let undo = self.get(owner)?.clone();
        self.unclaimed.remove(&key(owner));
        Some(undo)
    }

    /// No server is known there any more.
    pub fn disclaim(&mut self, owner: &Owner) {
        let key = key(owner);
        if self.records.contains_key(&key) {
            self.unclaimed.insert(key);
        }
    }

    /// Whether a server is known there, or nothing is on record.
    pub fn is_claimed(&self, owner: &Owner) -> bool {
        !self.unclaimed.contains(&key(owner))
    }

    /// Records of owners where no server is known.
    pub fn unclaimed(&self) -> impl Iterator<Item = &Undo> {
        let records = &self.records;
        let unclaimed = self.unclaimed.iter();
        unclaimed.filter_map(|key| records.get(key).map(|undo| &**undo))
    }

    /// Takes over a record from elsewhere, unless there is one on file, which is newer.
    pub fn add(&mut self, undo: Undo) {
        let key = key(&undo.owner);
        if !self.records.contains_key(&key) {
            self.unclaimed.insert(key.clone());
            self.records.insert(key, Box::new(undo));
        }
    }

    /// Writes a record, if the one on file is another.
    ///
    /// # Errors
    /// It cannot be written, so the change that it is of must not be made unless
    /// [`Undo::covers`] it.
    pub fn save(&mut self, undo: &Undo) -> Result<(), UndoError> {
        let key = key(&undo.owner);
        let path = self.path(&key);
        // Somebody may have cleared /run.
        if self.get(&undo.owner) == Some(undo) && path.exists() {
            return Ok(());
        }
        let fresh = self.directory.join(format!("{key}.new"));
        let write = || -> std::io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.directory)?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options
                .open(&fresh)?
                .write_all(&serde_json::to_vec(undo)?)?;
            fs::rename(&fresh, &path)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&fresh);
            return Err(failed(&path, error));
        }
        self.records.insert(key, Box::new(undo.clone()));
        Ok(())
    }

    /// Forgets a record: its unit is gone, and everything set on it with it.
    pub fn forget(&mut self, owner: &Owner) {
        let key = key(owner);
        self.unclaimed.remove(&key);
        if self.records.remove(&key).is_some() {
            // Gone already is as good; one that stays is found stale at the next start.
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// The present life of an owner's unit.
    pub fn start_of(&self, owner: &Owner) -> Start {
        match owner {
            Owner::Systemd(unit, _) => Start(self.fragment(unit)),
            Owner::Cgroup(..) => Start(None),
        }
    }

    /// Whether what a record tells of can still stand: of a unit that has been unloaded since, and of
    /// one made anew, nothing does. A slice's properties outlive it.
    pub fn may_stand(&self, undo: &Undo) -> bool {
        undo.start.is_same(self.start_of(&undo.owner))
    }

    fn fragment(&self, unit: &UnitName) -> Option<Fragment> {
        let file = fs::symlink_metadata(self.transient.join(unit.as_str())).ok()?;
        Some(Fragment {
            inode: file.ino(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
        })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.{SUFFIX}"))
    }
}

/// A record; `None` where its file has gone since it was listed.
fn read(path: &Path) -> Result<Option<Undo>, UndoError> {
    let text = match fs::metadata(path) {
        Ok(file) if file.len() > LONGEST => return Err(odd(path, "it is too long")),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| odd(path, &error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// A unit's name may be as long as a file's, and hold anything.
fn key(owner: &Owner) -> String {
    let text = match owner {
        Owner::Systemd(unit, _) => format!("unit {}", unit.as_str()),
        Owner::Cgroup(cgroup, id) => format!("cgroup {} {}", id.0, cgroup.as_str()),
    };
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn failed(path: &Path, error: std::io::Error) -> UndoError {
    odd(path, &error.to_string())
}

fn odd(path: &Path, why: &str) -> UndoError {
    UndoError {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests;
