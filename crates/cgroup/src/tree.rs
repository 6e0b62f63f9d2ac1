//! Who appeared in the watched slices and who is gone.
//!
//! inotify gives speed, a rescan each tick gives the truth: a new subtree is invisible to its
//! parent's watch, a full queue drops events, and either is mended by the next rescan.

use super::{CgroupError, CgroupId, CgroupPath};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use rustix::fs::{FileType, Mode, OFlags, RawDir, open};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a rescan or an event found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A cgroup is there that was not.
    Appeared(CgroupPath, CgroupId),
    /// A cgroup is gone; another may stand at its path with another id.
    Gone(CgroupPath, CgroupId),
}

/// The children of some slices, of those that pass a filter.
pub struct Tree {
    root: PathBuf,
    inotify: Inotify,
    /// Slices to look into; nested ones join while they exist.
    roots: Vec<CgroupPath>,
    interesting: Filter,
    watches: HashMap<WatchDescriptor, CgroupPath>,
    watched: BTreeMap<CgroupPath, (WatchDescriptor, CgroupId)>,
    members: BTreeMap<CgroupPath, CgroupId>,
    /// Names are sorted otherwise than when the members were found.
    sorted_otherwise: bool,
    buffer: Box<[u8; 64 * 1024]>,
}

/// Sorts a name found in a slice.
type Filter = Box<dyn Fn(&CgroupPath, &str) -> Interest>;

/// What a name in a watched slice is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Neither.
    None,
    /// It may be a server.
    Member,
    /// A slice that may hold servers.
    Slice,
}

impl Tree {
    /// Watches `slices` below `root`; `interesting` sorts the names found in a slice.
    ///
    /// # Errors
    /// inotify is not to be had.
    pub fn new(
        root: &Path,
        slices: &[CgroupPath],
        interesting: impl Fn(&CgroupPath, &str) -> Interest + 'static,
    ) -> Result<Tree, CgroupError> {
        let inotify = Inotify::init().map_err(|source| CgroupError::io(root, source))?;
        Ok(Tree {
            root: root.to_owned(),
            inotify,
            roots: slices.to_vec(),
            interesting: Box::new(interesting),
            watches: HashMap::new(),
            watched: BTreeMap::new(),
            members: BTreeMap::new(),
            sorted_otherwise: false,
            buffer: Box::new([0; 64 * 1024]),
        })
    }

    /// Watches other slices, or sorts names otherwise, from the next rescan on.
    pub fn retarget(
        &mut self,
        slices: &[CgroupPath],
        interesting: impl Fn(&CgroupPath, &str) -> Interest + 'static,
    ) {
        self.roots = slices.to_vec();
        self.interesting = Box::new(interesting);
        self.sorted_otherwise = true;
    }

    /// The members known now.
    pub fn members(&self) -> &BTreeMap<CgroupPath, CgroupId> {
        &self.members
    }

    /// Reads every watched slice anew and tells the differences.
    ///
    /// # Errors
    /// Something other than "gone" happened to a slice; what was found stays valid.
    pub fn rescan(&mut self) -> Result<Vec<Change>, CgroupError> {
        let mut found = Found::default();
        let mut alive = BTreeSet::new();
        let mut queue = self.roots.clone();
        // The top is watched so that a slice that appears is seen at once.
        self.watch(&CgroupPath::new(""))?;
        alive.insert(CgroupPath::new(""));
        while let Some(slice) = queue.pop() {
            if !self.watch(&slice)? {
                continue;
            }
            self.list(&slice, &mut found, &mut queue)?;
            alive.insert(slice);
        }
        self.unwatch_all_but(&alive);
        self.sorted_otherwise = false;
        found.known.sort_unstable();
        let mut changes = Vec::new();
        self.members.retain(|path, id| {
            let is_there = found.known.binary_search(id).is_ok();
            if !is_there {
                changes.push(Change::Gone(path.clone(), *id));
            }
            is_there
        });
        for (path, id) in found.new {
            self.members.insert(path.clone(), id);
            changes.push(Change::Appeared(path, id));
        }
        Ok(changes)
    }

    /// Takes in what inotify has to tell, without waiting.
    ///
    /// # Errors
    /// As for [`Tree::rescan`], which it falls back to when events were lost or a slice came up.
    pub fn poll(&mut self) -> Result<Vec<Change>, CgroupError> {
        let mut changes = Vec::new();
        let mut lost = false;
        loop {
            let events = match self.inotify.read_events(self.buffer.as_mut_slice()) {
                Ok(events) => events,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(source) => return Err(CgroupError::io(&self.root, source)),
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    lost = true;
                    continue;
                }
                let (Some(slice), Some(name)) = (
                    self.watches.get(&event.wd),
                    event.name.and_then(OsStr::to_str),
                ) else {
                    continue;
                };
                let path = slice.join(name);
                let within = slice.level() > 0 || self.roots.contains(slice);
                match (self.interesting)(slice, name) {
                    Interest::Member if within => {
                        if let Some(id) = self.members.remove(&path) {
                            changes.push(Change::Gone(path.clone(), id));
                        }
                        if !event.mask.contains(EventMask::CREATE) {
                            continue;
                        }
                        if let Ok(metadata) = std::fs::metadata(self.root.join(path.as_str())) {
                            let id = CgroupId(metadata.ino());
                            self.members.insert(path.clone(), id);
                            changes.push(Change::Appeared(path, id));
                        }
                    }
                    Interest::Slice if within => lost = true,
                    _ if self.roots.contains(&path) => lost = true,
                    _ => {}
                }
            }
        }
        if lost {
            changes.extend(self.rescan()?);
        }
        Ok(changes)
    }

    /// The descriptor to wait on for [`Tree::poll`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Makes sure a slice is watched; false when it does not exist.
    fn watch(&mut self, slice: &CgroupPath) -> Result<bool, CgroupError> {
        let path = self.root.join(slice.as_str());
        let id = match std::fs::metadata(&path) {
            Ok(metadata) => CgroupId(metadata.ino()),
            Err(source) => {
                return match CgroupError::io(&path, source) {
                    error if error.is_gone() => Ok(false),
                    error => Err(error),
                };
            }
        };
        if self
            .watched
            .get(slice)
            .is_some_and(|(_, known)| *known == id)
        {
            return Ok(true);
        }
        self.unwatch(slice);
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::ONLYDIR;
        match self.inotify.watches().add(&path, mask) {
            Ok(descriptor) => {
                self.watches.insert(descriptor.clone(), slice.clone());
                self.watched.insert(slice.clone(), (descriptor, id));
                Ok(true)
            }
            Err(source) => match CgroupError::io(&path, source) {
                error if error.is_gone() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// A removed cgroup sends no IN_IGNORED: its watch would pin it for ever (Linux 6.18).
    fn unwatch(&mut self, slice: &CgroupPath) {
        if let Some((descriptor, _)) = self.watched.remove(slice) {
            self.watches.remove(&descriptor);
            // An error means that the kernel dropped the watch already.
            let _ = self.inotify.watches().remove(descriptor);
        }
    }

    fn unwatch_all_but(&mut self, alive: &BTreeSet<CgroupPath>) {
        let dead: Vec<CgroupPath> = self
            .watched
            .keys()
            .filter(|slice| !alive.contains(*slice))
            .cloned()
            .collect();
        for slice in dead {
            self.unwatch(&slice);
        }
    }

    /// The interesting directories in a slice. kernfs gives the cgroup's id as the entry's inode
    /// number, so that no `stat` is needed (fs/kernfs/dir.c, `kernfs_fop_readdir`).
    /// Reads what is in a slice. Of thousands of servers next to all are known from the last time: these cost
    /// a look-up each, and no memory.
    fn list(
        &mut self,
        slice: &CgroupPath,
        found: &mut Found,
        queue: &mut Vec<CgroupPath>,
    ) -> Result<(), CgroupError> {
        let path = self.root.join(slice.as_str());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(source) => {
                return match CgroupError::io(&path, source.into()) {
                    error if error.is_gone() => Ok(()),
                    error => Err(error),
                };
            }
        };
        let mut text = match slice.as_str() {
            "" => String::new(),
            slice => format!("{slice}/"),
        };
        let above = text.len();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut entries = RawDir::new(directory, &mut buffer);
        // The slice may go while it is read; the next rescan tells.
        while let Some(Ok(entry)) = entries.next() {
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if entry.file_type() != FileType::Directory || [".", ".."].contains(&name) {
                continue;
            }
            text.truncate(above);
            text.push_str(name);
            let id = CgroupId(entry.ino());
            let is_known = self.members.get(text.as_str()) == Some(&id);
            if is_known && !self.sorted_otherwise {
                found.known.push(id);
                continue;
            }
            match (self.interesting)(slice, name) {
                Interest::None => {}
                Interest::Slice => queue.push(CgroupPath::new(&text)),
                Interest::Member if is_known => found.known.push(id),
                Interest::Member => found.new.push((CgroupPath::new(&text), id)),
            }
        }
        Ok(())
    }
}

/// What a rescan finds.
#[derive(Default)]
struct Found {
    /// Members that were known already.
    known: Vec<CgroupId>,
    new: Vec<(CgroupPath, CgroupId)>,
}

#[cfg(test)]
mod tests;
