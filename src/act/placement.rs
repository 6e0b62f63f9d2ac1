//! In which slice new servers are started, while verdicts are carried out.
//!
//! What is in the guarded slice reaches nothing until it is known, so a server that is started there sends
//! not one packet that no class has judged. A drop-in for the beginning of the units' names has systemd
//! start them there. It is below `/run`, goes when supervision is off or only observes, and ends with the
//! boot. systemd finds such a file without `daemon-reload`, which nobody here asks for (seen on 252).
//!
//! Two kinds of unit are left where they are by a file of the same name in a directory of their own, which
//! comes before that of the names' beginning (systemd.unit(5)): a unit that has a file, such as the hub's,
//! is no server. And a server that runs in the slice stays there in systemd's mind too: at the next
//! `daemon-reload` systemd would else believe it elsewhere, switch the controllers of the slice off, and
//! take its owner's `MemoryMax=` away with them (seen on 252).

use quantities::UnitName;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "10-hubwarden.conf";
/// How each file of ours begins.
const MARK: &str = "# Made by hubwarden";
const RUNTIME: &str = "/run/systemd/system";
const TRANSIENT: &str = "/run/systemd/transient";
/// Where units have files that an admin or a package made (systemd.unit(5)).
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    RUNTIME,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// So many cgroups of a slice are looked at.
const MOST: usize = 20_000;

/// Where new servers are to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServers {
    /// The slice.
    pub slice: String,
    /// How the names of their units begin.
    pub prefixes: BTreeSet<String>,
}

/// The drop-in could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PlacementError {
    path: PathBuf,
    source: std::io::Error,
}

/// systemd's directories, and the slices' cgroups.
#[derive(Debug, Clone)]
pub struct Placement {
    runtime: PathBuf,
    transient: PathBuf,
    units: Vec<PathBuf>,
    root: PathBuf,
}

impl Placement {
    /// This node's; `root` is where cgroup v2 is mounted.
    pub fn new(root: &Path) -> Placement {
        Placement::below(Path::new("/"), root)
    }

    /// The same of a system whose files are below another directory.
    pub fn below(system: &Path, root: &Path) -> Placement {
        let path = |path: &str| system.join(path.trim_start_matches('/'));
        Placement {
            runtime: path(RUNTIME),
            transient: path(TRANSIENT),
            units: UNITS.map(path).to_vec(),
            root: root.to_owned(),
        }
    }

    /// The slice that a spawner itself asked for, for a unit that it has started.
    pub fn asked_for(&self, unit: &UnitName) -> Option<String> {
        let text = fs::read_to_string(self.transient.join(unit.as_str())).ok()?;
        let mut slices = text.lines().filter_map(|line| line.strip_prefix("Slice="));
        slices.next_back().map(|slice| slice.trim().to_owned())
    }

    /// Has new servers started in a slice, or wherever their spawner has them started.
    ///
    /// # Errors
    /// A file cannot be written or removed. What could be is.
    pub fn bring_about(&self, wanted: Option<&NewServers>) -> Result<(), PlacementError> {
        let ours = self.ours();
        let mut desired = BTreeMap::new();
        if let Some(wanted) = wanted {
            let admins = self.unit_files(&wanted.prefixes);
            for prefix in wanted.prefixes.iter().filter(|prefix| is_fit(prefix)) {
                desired.insert(format!("{prefix}.service"), in_slice(&wanted.slice));
            }
            for unit in admins {
                desired.insert(unit, stays());
            }
        }
        let slices: BTreeSet<&str> = ours.values().filter_map(|text| slice_of(text)).collect();
        for slice in slices {
            if wanted.is_none_or(|wanted| wanted.slice != slice) {
                for unit in self.running(slice).0 {
                    desired.entry(unit).or_insert_with(|| runs_in(slice));
                }
            }
        }
        let mut result = Ok(());
        for (unit, text) in &desired {
            let before = ours.get(unit);
            if before != Some(text) {
                result = result.and(self.write(unit, text, before.is_some()));
            }
        }
        for unit in ours.keys().filter(|unit| !desired.contains_key(*unit)) {
            result = result.and(self.remove(unit));
        }
        result
    }

    /// A server has ended: when its user starts it again, that is where its spawner puts it.
    ///
    /// # Errors
    /// The file that kept it in its slice cannot be removed.
    pub fn ended(&self, unit: &UnitName) -> Result<(), PlacementError> {
        let unit = unit.as_str();
        let path = self.runtime.join(format!("{unit}.d")).join(FILE);
        match fs::read_to_string(path) {
            Ok(text) if text.starts_with(MARK) && slice_of(&text).is_some() => self.remove(unit),
            _ => Ok(()),
        }
    }

    /// The files of ours that are there, by unit or beginning of units' names.
    fn ours(&self) -> BTreeMap<String, String> {
        let mut ours = BTreeMap::new();
        for name in names(&self.runtime) {
            if let Some(unit) = name.strip_suffix(".d")
                && let Ok(text) = fs::read_to_string(self.runtime.join(&name).join(FILE))
                && text.starts_with(MARK)
            {
                ours.insert(unit.to_owned(), text);
            }
        }
        ours
    }

    /// Units with a file whose names begin so.
    fn unit_files(&self, prefixes: &BTreeSet<String>) -> BTreeSet<String> {
        let begins = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let directories = self.units.iter();
        let files = directories.flat_map(|directory| names(directory));
        files
            .filter(|name| name.ends_with(".service") && begins(name))
            .collect()
    }

    /// Whether a service has a file that an admin or a package made, of its own or of its template, and was
    /// not made by a spawner.
    pub fn is_admins(&self, unit: &UnitName) -> bool {
        let unit = unit.as_str();
        let template = unit
            .split_once('@')
            .map(|(stem, _)| format!("{stem}@.service"));
        let is_there = |directory: &PathBuf| {
            let names = [Some(unit), template.as_deref()];
            names
                .into_iter()
                .flatten()
                .any(|name| directory.join(name).exists())
        };
        unit.ends_with(".service")
            && !self.transient.join(unit).exists()
            && self.units.iter().any(is_there)
    }

    /// Whether a service that no spawner made runs in a slice: it has a file that an admin or a package made.
    pub fn is_shared(&self, slice: &str) -> bool {
        let (_, others) = self.running(slice);
        !others.is_empty()
    }

    /// Transient services that run in a slice, and others.
    fn running(&self, slice: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut transient, mut others) = (BTreeSet::new(), BTreeSet::new());
        let mut slices = vec![self.root.join(slice)];
        let mut left = MOST;
        while let Some(slice) = slices.pop() {
            for name in names(&slice) {
                left = left.saturating_sub(1);
                if left == 0 {
                    return (transient, others);
                }
                if name.ends_with(".slice") {
                    slices.push(slice.join(&name));
                } else if name.ends_with(".service") {
                    match self.transient.join(&name).exists() {
                        true => transient.insert(name),
                        false => others.insert(name),
                    };
                }
            }
        }
        (transient, others)
    }

    fn write(&self, unit: &str, text: &str, is_ours: bool) -> Result<(), PlacementError> {
        let directory = self.runtime.join(format!("{unit}.d"));
        let (path, fresh) = (directory.join(FILE), directory.join("hubwarden.new"));
        if !is_ours && path.exists() {
            let source =
                std::io::Error::other("somebody else's file is there; give it another name");
            return Err(PlacementError { path, source });
        }
        let write = || -> std::io::Result<()> {
            // Readable by all, as unit files are: systemd warns at each start of a server of one that is not.
            match fs::create_dir(&directory) {
                Ok(()) => fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?,
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
            let mut file = fs::File::create(&fresh)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&fresh);
            let _ = fs::remove_dir(&directory);
            PlacementError {
                path: path.clone(),
                source,
            }
        })
    }

    fn remove(&self, unit: &str) -> Result<(), PlacementError> {
        let directory = self.runtime.join(format!("{unit}.d"));
        let path = directory.join(FILE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(PlacementError { path, source });
            }
            _ => {}
        }
        // Others' files keep it.
        let _ = fs::remove_dir(&directory);
        Ok(())
    }
}

/// Whether systemd looks for drop-ins by this beginning of a name: it ends with a dash, or is a template's.
pub fn is_fit(prefix: &str) -> bool {
    prefix.ends_with('-') || prefix.ends_with('@')
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.collect()
}

fn slice_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("Slice="))
}

fn in_slice(slice: &str) -> String {
    format!(
        "{MARK}, while it carries verdicts out; `hubwarden off` removes it. New servers are started in this\n\
         # slice, where they reach nothing until hubwarden knows whose they are.\n\
         [Service]\nSlice={slice}\n"
    )
}

fn stays() -> String {
    format!(
        "{MARK}. This unit has a file of its own, so it is no user's server and stays where it is.\n"
    )
}

fn runs_in(slice: &str) -> String {
    format!(
        "{MARK}. The unit was started in this slice; while it runs, systemd has to know that, or its memory\n\
         # limit would be lost at the next daemon-reload.\n\
         [Service]\nSlice={slice}\n"
    )
}

#[cfg(test)]
mod tests;
