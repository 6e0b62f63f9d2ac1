//! What a process has mapped (proc_pid_maps(5)), and what of it counts.

use super::owners::Writer;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Where miners are likely to be, likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// What the process runs, and what a user brought or wrote.
    Users,
    /// Libraries that are root's.
    Roots,
}

/// Which pages of a mapping count as the process's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    All,
    /// Those that are the file's still.
    OfFile,
    /// Those that the process wrote itself: it has copies of its own of them.
    Written,
}

/// A file as `maps` names it: by the device of its file system, and its inode there. An inode alone
/// names one file in each file system, and a user can choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    device: (u32, u32),
    /// 0 where there is no file.
    pub inode: u64,
}

impl FileId {
    /// The device of its file system, as `mountinfo` has it: major and minor.
    pub fn device(self) -> (u32, u32) {
        self.device
    }

    /// Whether stat(2) shows the same file. It shows devices of its own for parts of btrfs and
    /// overlayfs, which have no major number as their file systems have none.
    pub fn is(self, file: &Metadata) -> bool {
        let device = (nix::libc::major(file.dev()), nix::libc::minor(file.dev()));
        let same = device == self.device || device.0 == 0 && self.device.0 == 0;
        same && file.ino() == self.inode
    }
}

/// A line of `/proc/PID/maps` (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping<'a> {
    pub start: u64,
    pub end: u64,
    pub executable: bool,
    /// What is written goes to the file, or comes from another process.
    pub shared: bool,
    pub file: FileId,
    /// As the kernel writes it; a user chooses it, so it is only ever compared.
    pub path: &'a [u8],
}

impl Mapping<'_> {
    fn parse(line: &[u8]) -> Option<Mapping<'_>> {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let mut next = || words.next().map(|word| std::str::from_utf8(word).ok());
        let (start, end) = next()??.split_once('-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        let access = next()??;
        let _offset = next()??;
        let (major, minor) = next()??.split_once(':')?;
        let device = (hex(major)?.try_into().ok()?, hex(minor)?.try_into().ok()?);
        let inode = next()??.parse().ok()?;
        let path = words.next().unwrap_or_default().trim_ascii_start();
        (access.starts_with('r') && start < end).then_some(Mapping {
            start,
            end,
            executable: access.as_bytes().get(2) == Some(&b'x'),
            shared: access.as_bytes().get(3) == Some(&b's'),
            file: FileId { device, inode },
            path,
        })
    }

    /// Whether it is a part of a file. The inode of a SysV shared segment is the segment's id, and the first
    /// one of an ipc namespace has the id 0 (ipc/shm.c, `newseg`).
    fn has_file(&self) -> bool {
        self.file.inode != 0 || self.path.starts_with(b"/")
    }

    /// Whether it is a part of a file, and can be executed.
    pub fn is_program(&self) -> bool {
        self.executable && self.has_file()
    }

    /// Whether it is memory without a file that can be executed, and not the kernel's own.
    pub fn is_code_without_a_file(&self) -> bool {
        !self.has_file() && self.executable && !self.path.starts_with(b"[v")
    }

    /// Which pages count of a part of a program that this one could have written, and how soon they
    /// are read.
    pub fn counts(&self, writer: Writer, is_executable: bool) -> Option<(Worth, Pages)> {
        let pages = match (writer, self.executable) {
            // Of a file that another could write, only what the process has put in its place.
            (Writer::Other, true) if !self.shared => Pages::Written,
            (Writer::Other, _) => return None,
            (Writer::System | Writer::Own, true) => Pages::All,
            // What the process wrote where nothing is executed are data, which it may have read.
            (Writer::System | Writer::Own, false) => Pages::OfFile,
        };
        let worth = match writer {
            Writer::System if !is_executable => Worth::Roots,
            _ => Worth::Users,
        };
        Some((worth, pages))
    }
}

pub(super) fn mappings(maps: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse)
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(line: &str) -> Mapping<'_> {
        Mapping::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_library_of_roots_is_searched_last_and_its_written_data_not_at_all() {
        let code = mapping("1000-2000 r-xp 0 08:01 7 /lib/x");
        let data = mapping("2000-3000 rw-p 0 08:01 7 /lib/x");
        let counted = code.counts(Writer::System, false);
        assert_eq!(counted, Some((Worth::Roots, Pages::All)));
        let counted = data.counts(Writer::System, false);
        assert_eq!(counted, Some((Worth::Roots, Pages::OfFile)));
        let counted = code.counts(Writer::System, true);
        assert_eq!(counted, Some((Worth::Users, Pages::All)));
        assert!(Worth::Users < Worth::Roots);
    }

    #[test]
    fn of_a_file_that_another_could_write_only_what_the_process_wrote_counts() {
        let code = mapping("1000-2000 r-xp 0 08:01 7 /dev/shm/x");
        let counted = code.counts(Writer::Other, false);
        assert_eq!(counted, Some((Worth::Users, Pages::Written)));
        for line in [
            "1000-2000 r-xs 0 08:01 7 /dev/shm/x",
            "1000-2000 r--p 0 08:01 7 /dev/shm/x",
            "1000-2000 rw-s 0 08:01 7 /dev/shm/x",
        ] {
            assert_eq!(mapping(line).counts(Writer::Other, false), None, "{line}");
            assert_eq!(mapping(line).counts(Writer::Other, true), None, "{line}");
        }
    }

    #[test]
    fn the_first_shared_segment_of_a_node_is_no_memory_of_the_process_s_own() {
        let segment = mapping("1000-2000 rwxs 0 00:01 0 /SYSV00000000 (deleted)");
        assert!(segment.is_program() && !segment.is_code_without_a_file());
        for own in [
            "1000-2000 rwxp 0 00:00 0",
            "1000-2000 rwxp 0 00:00 0 [heap]",
        ] {
            assert!(mapping(own).is_code_without_a_file(), "{own}");
        }
        assert!(!mapping("1000-2000 r-xp 0 00:00 0 [vdso]").is_code_without_a_file());
    }

    #[test]
    fn files_of_one_inode_on_two_devices_are_two() {
        let one = mapping("1000-2000 r-xp 0 08:01 7 /lib/x");
        let other = mapping("1000-2000 r--p 0 08:02 7 /dev/shm/x");
        assert_ne!(one.file, other.file);
        assert_ne!(one.file, mapping("1000-2000 r--p 0 09:01 7 /x").file);
        let file = std::fs::metadata("/proc/self/exe").unwrap();
        let id = |device: u64| FileId {
            device: (nix::libc::major(device), nix::libc::minor(device)),
            inode: file.ino(),
        };
        assert!(id(file.dev()).is(&file));
        assert!(!id(nix::libc::makedev(250, 1)).is(&file));
    }

    #[test]
    fn lines_of_maps_are_parsed_and_odd_ones_passed_over() {
        let line = b"7f00-7f10 r-xs 00000000 fd:0a 42                 /tmp/a b\\012c";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end), (0x7f00, 0x7f10));
        assert_eq!(mapping.path, b"/tmp/a b\\012c");
        assert_eq!(mapping.file.device, (0xfd, 0x0a));
        assert!(mapping.executable && mapping.shared);
        for odd in [
            &b""[..],
            b"7f00 r-xp",
            b"x-y r-xp 0 0 0",
            b"1-2 r-xp 0 0801 0",
            b"2-1 r-xp 0 08:01 0",
        ] {
            assert_eq!(Mapping::parse(odd), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line: Vec<u8>) {
            let _ = Mapping::parse(&line);
        }
    }
}
