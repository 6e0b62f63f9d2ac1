//! Where imported lists are kept: one text file each, which a person can read too.

use std::{
    fmt::Write,
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Entries, List, ListName, parse};

/// Directory below the daemon's own.
const DIRECTORY: &str = "lists";
const SUFFIX: &str = ".list";
/// Largest file that is read, bytes; 100,000 entries are about 2 MB.
const FILE_MAX: u64 = 64 << 20;
const ENTRIES_MAX: usize = 1_000_000;
const SOURCE: &str = "# source: ";
const IMPORTED: &str = "# imported, Unix time: ";

/// What went wrong with a list's file.
#[derive(Debug, thiserror::Error)]
pub enum ListsError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is larger, or has more entries, than any feed.
    #[error("{path}: more than 64 MiB or 1,000,000 entries; import a part of it")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is no list of that name.
    #[error("there is no imported list {name}; `hubwarden lists` shows those there are")]
    Unknown {
        /// The name.
        name: ListName,
    },
}

/// The imported lists on disk.
#[derive(Clone, Debug)]
pub struct Lists {
    directory: PathBuf,
}

impl Lists {
    /// Those below the daemon's state directory; nothing is read yet.
    pub fn new(state: &Path) -> Self {
        Self {
            directory: state.join(DIRECTORY),
        }
    }

    /// A feed's bytes, within bounds.
    ///
    /// # Errors
    /// [`ListsError::Io`], [`ListsError::TooLarge`].
    pub fn read_feed(path: &Path) -> Result<Vec<u8>, ListsError> {
        use std::io::Read;
        let failed = |source| failed(path, source);
        let file = fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(ListsError::TooLarge { path: path.into() });
        }
        Ok(bytes)
    }

    /// All lists, the built-in one first unless one was imported under its name; and what is
    /// wrong with the files of those left out.
    pub fn load(&self) -> (Vec<List>, Vec<ListsError>) {
        let mut lists = Vec::new();
        let mut troubles = Vec::new();
        match self.names() {
            Ok(names) => {
                for name in names {
                    match self.read(&name) {
                        Ok(list) => lists.push(list),
                        Err(error) => troubles.push(error),
                    }
                }
            }
            Err(error) => troubles.push(error),
        }
        if let Some(built_in) = List::built_in()
            && lists.iter().all(|list| list.name != built_in.name)
        {
            lists.insert(0, built_in);
        }
        (lists, troubles)
    }

    /// Keep a list in the place of any of its name; after a crash the old or the new one is there.
    ///
    /// # Errors
    /// [`ListsError::Io`], [`ListsError::TooLarge`].
    pub fn save(&self, list: &List) -> Result<(), ListsError> {
        let path = self.path(&list.name);
        if list.entries.len() > ENTRIES_MAX {
            return Err(ListsError::TooLarge { path });
        }
        let text = written(list);
        let fresh = path.with_extension("new");
        let write = || {
            fs::create_dir_all(&self.directory)?;
            fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))?;
            fs::write(&fresh, text)?;
            fs::File::open(&fresh)?.sync_data()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|source| failed(&path, source))
    }

    /// Forget a list.
    ///
    /// # Errors
    /// [`ListsError::Unknown`], [`ListsError::Io`].
    pub fn remove(&self, name: &ListName) -> Result<(), ListsError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ListsError::Unknown { name: name.clone() })
            }
            Err(source) => Err(failed(&path, source)),
        }
    }

    fn path(&self, name: &ListName) -> PathBuf {
        self.directory.join(format!("{name}{SUFFIX}"))
    }

    /// The names of the files there are, in order.
    fn names(&self) -> Result<Vec<ListName>, ListsError> {
        let failed = |source| failed(&self.directory, source);
        let directory = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in directory {
            let file = entry.map_err(failed)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            names.extend(name.and_then(|name| name.parse().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &ListName) -> Result<List, ListsError> {
        let bytes = Self::read_feed(&self.path(name))?;
        let header = |key: &str| {
            let head = bytes.split(|b| *b == b'\n').take(2);
            let mut lines = head.filter_map(|line| std::str::from_utf8(line).ok());
            lines.find_map(|line| line.strip_prefix(key).map(str::to_owned))
        };
        Ok(List {
            name: name.clone(),
            source: header(SOURCE).unwrap_or_default(),
            imported: header(IMPORTED).map_or(0, |text| text.parse().unwrap_or(0)),
            entries: parse(&bytes).0,
        })
    }
}

fn failed(path: &Path, source: io::Error) -> ListsError {
    ListsError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A list as its file has it, in the form that `parse` reads.
pub fn written(list: &List) -> String {
    let mut text = format!("{SOURCE}{}\n{IMPORTED}{}\n", list.source, list.imported);
    let Entries {
        networks,
        endpoints,
        names,
    } = &list.entries;
    // Writing to a String cannot fail.
    for network in networks {
        let _ = writeln!(text, "{network}");
    }
    for endpoint in endpoints {
        let _ = match endpoint.ip() {
            IpAddr::V4(address) => writeln!(text, "{address}:{}", endpoint.port()),
            IpAddr::V6(address) => writeln!(text, "[{address}]:{}", endpoint.port()),
        };
    }
    for (name, port) in names {
        let _ = match port {
            Some(port) => writeln!(text, "{name}:{port}"),
            None => writeln!(text, "{name}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, text: &str) -> List {
        List {
            name: name.parse().unwrap(),
            source: "/root/feed.txt".to_owned(),
            imported: 1_800_000_000,
            entries: parse(text.as_bytes()).0,
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let lists = Lists::new(directory.path());
        assert_eq!(lists.load().0.len(), 1, "the built-in one");
        let feed = list(
            "feed",
            "pool.example.com\nname.example:3333\n192.0.2.0/24\n2001:db8::1\n192.0.2.9:1\n[fe00::2]:5\n",
        );
        lists.save(&feed).unwrap();
        let (found, troubles) = lists.load();
        assert!(troubles.is_empty());
        assert_eq!(found[1], feed);

        let ours = list("mining-pools", "pool.example.org");
        lists.save(&ours).unwrap();
        assert_eq!(
            lists.load().0,
            [feed.clone(), ours],
            "in place of the built-in one"
        );
        lists.remove(&feed.name).unwrap();
        let error = lists.remove(&feed.name).unwrap_err();
        assert!(
            error.to_string().contains("no imported list feed"),
            "{error}"
        );
    }

    #[test]
    fn files_that_are_no_lists_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let lists = Lists::new(directory.path());
        lists.save(&list("a", "pool.example.com")).unwrap();
        let place = directory.path().join(DIRECTORY);
        fs::write(place.join("a.new"), "torn").unwrap();
        fs::write(place.join("UPPER.list"), "torn").unwrap();
        fs::create_dir(place.join("folder.list")).unwrap();
        let (found, troubles) = lists.load();
        assert_eq!(found.len(), 2);
        assert_eq!(troubles.len(), 1);
    }
}
