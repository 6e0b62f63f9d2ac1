//! Who could have written a file that a process has mapped.
//!
//! RandomX's constants in a file prove something about a process only if that process's user, or the
//! system, put them there. A file that another user owns or could write may have been laid there for
//! it to find.

use super::maps::{FileId, Mapping};
use crate::process::Process;
use nix::libc;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{Metadata, metadata};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Accounts and groups, as root keeps them on this node. Not asked of NSS, which may ask a network.
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Extended attribute of an access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// Bytes of a `mountinfo` that are read.
const MOST_BYTES: u64 = 4 << 20;

/// Who could have written a mapped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Root, and no user.
    System,
    /// The process's user, and no other user.
    Own,
    /// Another user, or it cannot be known.
    Other,
}

/// A process's mapped files and who could have written them; each is asked for once.
pub(super) struct Owners {
    directory: PathBuf,
    /// User ids that the process runs under, and those that belong to its user namespace.
    users: Vec<Range<u64>>,
    /// It is in a user namespace of its user's own.
    own_namespace: bool,
    /// Its executable's device and inode, as stat(2) has them.
    executable: Option<(u64, u64)>,
    mounts: Option<Vec<u8>>,
    known: BTreeMap<FileId, (Writer, bool)>,
}

impl Owners {
    /// Of one process.
    pub fn of(process: &Process) -> Owners {
        let directory = process.directory();
        let executable = metadata(directory.join("exe")).ok();
        let (users, own_namespace) = users(process);
        Owners {
            users,
            own_namespace,
            executable: executable.map(|file| (file.dev(), file.ino())),
            mounts: process.read("mountinfo", MOST_BYTES).ok(),
            directory,
            known: BTreeMap::new(),
        }
    }

    /// Who could have written a mapping's file, and whether it is the process's executable.
    pub fn writer(&mut self, mapping: &Mapping<'_>) -> (Writer, bool) {
        if let Some(known) = self.known.get(&mapping.file) {
            return *known;
        }
        let found = match self.find(mapping) {
            Some((path, file)) => (
                self.writer_of(&path, &file, mapping),
                self.executable == Some((file.dev(), file.ino())),
            ),
            None => (self.writer_of_unseen(mapping), false),
        };
        self.known.insert(mapping.file, found);
        found
    }

    /// The very file that is mapped, whatever is at its path now, and deleted ones too; that needs
    /// CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)). Without, what is at its path if it is the same.
    fn find(&self, mapping: &Mapping<'_>) -> Option<(PathBuf, Metadata)> {
        let name = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        let link = self.directory.join(name);
        if let Ok(file) = metadata(&link) {
            return Some((link, file));
        }
        let executable = self.directory.join("exe");
        let path = mapping.path.strip_prefix(b"/")?;
        let path = self.directory.join("root").join(OsStr::from_bytes(path));
        // The executable is reached by its own link, deleted or not.
        [path, executable].into_iter().find_map(|path| {
            let file = metadata(&path).ok()?;
            mapping.file.is(&file).then_some((path, file))
        })
    }

    /// A FUSE mount without `allow_other` shows nothing to root, and to no other user than its maker
    /// (`fuse_allow_current_process` in fs/fuse/dir.c): its files are the maker's.
    fn writer_of_unseen(&self, mapping: &Mapping<'_>) -> Writer {
        let mounts = self.mounts.as_deref().unwrap_or_default();
        match fuse_user(mounts, mapping.file.device()) {
            Mount::Fuse(Some(user)) if self.is_own(user) => Writer::Own,
            // Made in the process's own namespace, whose root its user is.
            Mount::Fuse(Some(0)) if self.own_namespace => Writer::Own,
            _ => Writer::Other,
        }
    }

    fn is_own(&self, user: u64) -> bool {
        self.users.iter().any(|users| users.contains(&user))
    }

    fn writer_of(&self, path: &Path, file: &Metadata, mapping: &Mapping<'_>) -> Writer {
        let owner = u64::from(file.uid());
        if !file.is_file() || !(self.is_own(owner) || owner == 0) {
            return Writer::Other;
        }
        let system = || match owner {
            0 => Writer::System,
            _ => Writer::Own,
        };
        if file.nlink() == 0 {
            // Memory without a path: nobody but a process that was given it has it, and its mode
            // says nothing. SysV shared memory is the exception: others attach it by its key.
            if mapping.path.starts_with(b"/SYSV") {
                return Writer::Other;
            }
            let kinds: [&[u8]; 3] = [b"/memfd:", b"/dev/zero", b"/anon_hugepage"];
            if kinds.iter().any(|kind| mapping.path.starts_with(kind)) {
                return system();
            }
        }
        if others_write(path, file) || self.is_anothers_mount(path, file) {
            return Writer::Other;
        }
        system()
    }

    /// A FUSE mount says of its files what the user likes who made it.
    fn is_anothers_mount(&self, path: &Path, file: &Metadata) -> bool {
        let device = (libc::major(file.dev()), libc::minor(file.dev()));
        let mounts = self.mounts.as_deref().unwrap_or_default();
        match fuse_user(mounts, device) {
            Mount::Fuse(Some(user)) => user != 0 && !self.is_own(user),
            Mount::Fuse(None) => true,
            Mount::Other => false,
            // Unmounted meanwhile, or a part of btrfs or overlayfs.
            Mount::Unknown => {
                statfs(path).is_ok_and(|kind| kind.filesystem_type() == FUSE_SUPER_MAGIC)
            }
        }
    }
}

/// The user ids that are the process's. In a user namespace of its own these are all that it maps:
/// such a namespace is given ids of the one user who made it (subuid(5)). Whether it is in one.
fn users(process: &Process) -> (Vec<Range<u64>>, bool) {
    let one = |id: u64| id..id + 1;
    let status = process.read("status", 64 << 10).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids = ids.unwrap_or_default().split_ascii_whitespace();
    let mut users: Vec<_> = ids.filter_map(|id| Some(one(id.parse().ok()?))).collect();
    let namespace = |process: &Path| {
        metadata(process.join("ns/user"))
            .ok()
            .map(|file| file.ino())
    };
    let theirs = namespace(&process.directory());
    let mut own_namespace = false;
    if theirs.is_some() && theirs != namespace(Path::new("/proc/self")) {
        let map = process.read("uid_map", 64 << 10).unwrap_or_default();
        let before = users.len();
        users.extend(String::from_utf8_lossy(&map).lines().filter_map(mapped));
        own_namespace = users.len() > before;
    }
    (users, own_namespace)
}

/// A line of `uid_map` (user_namespaces(7)): first inside, first outside, how many.
fn mapped(line: &str) -> Option<Range<u64>> {
    let mut numbers = line.split_ascii_whitespace().skip(1);
    let first: u64 = numbers.next()?.parse().ok()?;
    let many: u64 = numbers.next()?.parse().ok()?;
    // The whole of ids is no namespace of one user's.
    (many < u64::from(u32::MAX)).then_some(first..first.saturating_add(many))
}

/// Whether another than the owner may write, by mode bits or access control list.
fn others_write(path: &Path, file: &Metadata) -> bool {
    if file.mode() & libc::S_IWOTH != 0 {
        return true;
    }
    // With a list, the group's bits are what its entries have at most.
    if file.mode() & libc::S_IWGRP == 0 {
        return false;
    }
    let mut list = [0u8; 1024];
    let has_list = match rustix::fs::getxattr(path, ACL, &mut list[..]) {
        Ok(size) => size > 0,
        // None, or no such thing there. In doubt there is one.
        Err(Errno::NODATA | Errno::NOTSUP) => false,
        Err(_) => true,
    };
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    has_list || !is_private(file.gid(), file.uid(), &read(PASSWD), &read(GROUP))
}

/// Whether a group has no other member than this user, as far as this node's files tell; of one that
/// is not in them that is not known.
fn is_private(group: u32, user: u32, passwd: &str, groups: &str) -> bool {
    let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u32>().ok());
    let fields = |line: &'_ str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let mut names = Vec::new();
    for line in passwd.lines() {
        let fields = fields(line);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        if number(fields.get(2)) == Some(user) {
            names.extend(fields.first().map(|name| (*name).to_owned()));
        } else if number(fields.get(3)) == Some(group) {
            return false;
        }
    }
    let mut known = false;
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if number(fields.get(2)) != Some(group) {
            continue;
        }
        known = true;
        let mut members = fields.get(3).copied().unwrap_or_default().split(',');
        if members.any(|member| !member.is_empty() && !names.iter().any(|name| name == member)) {
            return false;
        }
    }
    known
}

/// What a `mountinfo` says of a device.
#[derive(Debug, PartialEq, Eq)]
enum Mount {
    /// A FUSE file system, and the user who made it.
    Fuse(Option<u64>),
    Other,
    Unknown,
}

fn fuse_user(mounts: &[u8], (major, minor): (u32, u32)) -> Mount {
    let device = format!("{major}:{minor}");
    let words = |line: &'_ [u8]| -> Vec<Vec<u8>> {
        line.split(|byte| *byte == b' ')
            .map(<[u8]>::to_vec)
            .collect()
    };
    // No field has a space in it: the kernel writes \040 for one (proc_pid_mountinfo(5)).
    let Some(line) = mounts
        .split(|byte| *byte == b'\n')
        .map(words)
        .find(|words| words.get(2).is_some_and(|at| at == device.as_bytes()))
    else {
        return Mount::Unknown;
    };
    let mut rest = line.iter().skip_while(|word| *word != b"-").skip(1);
    if !rest.next().is_some_and(|kind| kind.starts_with(b"fuse")) {
        return Mount::Other;
    }
    let options = rest.nth(1).map(Vec::as_slice).unwrap_or_default();
    let user = options
        .split(|byte| *byte == b',')
        .find_map(|option| option.strip_prefix(b"user_id="))
        .and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
    Mount::Fuse(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n\
                          bob:x:1002:1002::/:/bin/sh\ncarol:x:1003:100::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:alice\nalice:x:1001:\nbob:x:1002:bob\n\
                         lab:x:2000:alice,bob\n";

    #[test]
    fn a_group_is_private_if_only_the_owner_is_in_it() {
        for (group, user, private) in [
            (1001, 1001, true),
            (1002, 1002, true),
            (0, 0, true),
            (2000, 1001, false),
            // Somebody has it for the first group.
            (100, 1001, false),
            // It is in no file here.
            (3000, 1001, false),
            // The owner is not in it, and others are not either.
            (1001, 1002, false),
        ] {
            let found = is_private(group, user, PASSWD, GROUP);
            assert_eq!(found, private, "{group} {user}");
        }
    }

    #[test]
    fn what_root_may_not_see_on_a_fuse_mount_is_its_makers() {
        let owners = |mount: &str, own_namespace| Owners {
            directory: "/nonexistent".into(),
            users: one_user(1001),
            own_namespace,
            executable: None,
            mounts: Some(format!("36 35 0:50 / /m rw - {mount}\n").into_bytes()),
            known: BTreeMap::new(),
        };
        let text = "7f0000000000-7f0000001000 r-xp 00000000 00:32 7 /m/python\n";
        let mappings: Vec<Mapping<'_>> = super::super::maps::mappings(text.as_bytes()).collect();
        for (mount, own_namespace, writer) in [
            ("fuse x rw,user_id=1001,group_id=1", false, Writer::Own),
            ("fuse x rw,user_id=1002,group_id=1", false, Writer::Other),
            ("fuse x rw,user_id=0,group_id=0", true, Writer::Own),
            ("fuse x rw,user_id=0,group_id=0", false, Writer::Other),
            ("ext4 x rw,user_id=1001", true, Writer::Other),
        ] {
            let mut owners = owners(mount, own_namespace);
            assert_eq!(owners.writer(&mappings[0]).0, writer, "{mount}");
        }
    }

    fn one_user(id: u64) -> Vec<Range<u64>> {
        Vec::from_iter([id].map(|id| id..id + 1))
    }

    #[test]
    fn a_fuse_mount_is_its_makers() {
        let mounts =
            b"36 35 0:50 / /a\\040b rw,nosuid master:1 - fuse.sshfs x rw,user_id=1001,group_id=1\n\
                       37 35 0:51 / /c rw - fuse y rw,allow_other\n\
                       38 35 8:1 / / rw - ext4 /dev/sda1 rw,user_id=7\n";
        assert_eq!(fuse_user(mounts, (0, 50)), Mount::Fuse(Some(1001)));
        assert_eq!(fuse_user(mounts, (0, 51)), Mount::Fuse(None));
        assert_eq!(fuse_user(mounts, (8, 1)), Mount::Other);
        assert_eq!(fuse_user(mounts, (8, 2)), Mount::Unknown);
    }

    #[test]
    fn a_user_namespace_has_the_ids_that_it_was_given() {
        assert_eq!(mapped("         0       1001          1"), Some(1001..1002));
        assert_eq!(mapped("1 100000 65536"), Some(100_000..165_536));
        assert_eq!(mapped("0 0 4294967295"), None);
        assert_eq!(mapped("0"), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_these_files_makes_their_readers_panic(text: String, bytes: Vec<u8>) {
            let _ = is_private(0, 0, &text, &text);
            let _ = fuse_user(&bytes, (0, 0));
            let _ = mapped(&text);
        }
    }
}
