//! What a process has mapped (proc_pid_maps(5)), and what of it is worth looking at.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where miners are likely to be, likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// What the process runs, and what a user brought or wrote.
    Users,
    /// Libraries that are root's.
    Roots,
}

/// A line of `/proc/PID/maps` (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping<'a> {
    pub start: u64,
    pub end: u64,
    pub executable: bool,
    pub inode: u64,
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
        let (_offset, _device) = (next()??, next()??);
        let inode = next()??.parse().ok()?;
        let path = words.next().unwrap_or_default().trim_ascii_start();
        (access.starts_with('r') && start < end).then_some(Mapping {
            start,
            end,
            executable: access.as_bytes().get(2) == Some(&b'x'),
            inode,
            path,
        })
    }

    /// Whether it is to be read, and how soon.
    pub fn worth(&self, executable: Option<u64>, program: bool, process: &Path) -> Option<Worth> {
        if self.inode == 0 {
            let code = self.executable && !self.path.starts_with(b"[v");
            return code.then_some(Worth::Users);
        }
        if Some(self.inode) == executable {
            return Some(Worth::Users);
        }
        program.then(|| match self.is_roots(process) {
            true => Worth::Roots,
            false => Worth::Users,
        })
    }

    /// A file of root's that is still what was mapped; in doubt it is not.
    fn is_roots(&self, process: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let Some(path) = self.path.strip_prefix(b"/") else {
            return false;
        };
        let seen = process.join("root").join(std::ffi::OsStr::from_bytes(path));
        std::fs::symlink_metadata(seen)
            .is_ok_and(|file| file.uid() == 0 && file.ino() == self.inode)
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

    #[test]
    fn a_library_of_roots_is_searched_last_and_a_programs_data_not_at_all() {
        let process = Path::new("/proc/self");
        let file = std::fs::metadata("/bin/sh").unwrap();
        let line = format!("1000-2000 r-xp 0 08:01 {} /bin/sh", file.ino());
        let real = std::fs::canonicalize("/bin/sh").unwrap();
        let line = line.replace("/bin/sh", real.to_str().unwrap());
        let mapping = Mapping::parse(line.as_bytes()).unwrap();
        assert_eq!(mapping.worth(None, true, process), Some(Worth::Roots));
        assert_eq!(mapping.worth(None, false, process), None);
        let own = mapping.worth(Some(file.ino()), true, process);
        assert_eq!(own, Some(Worth::Users));
        assert!(Worth::Users < Worth::Roots);
    }

    #[test]
    fn lines_of_maps_are_parsed_and_odd_ones_passed_over() {
        let line = b"7f00-7f10 r-xp 00000000 08:01 42                 /tmp/a b\\012c";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end), (0x7f00, 0x7f10));
        assert_eq!(mapping.path, b"/tmp/a b\\012c");
        assert!(mapping.executable);
        for odd in [
            &b""[..],
            b"7f00 r-xp",
            b"x-y r-xp 0 0 0",
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
