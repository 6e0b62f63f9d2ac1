//! RandomX's consensus constants in the memory of a process.
//!
//! Every RandomX has them, whatever it is called and however it was built: they are in its code,
//! and in the code that its compiler writes. Read through `/proc/PID/mem`, which stops nobody
//! (proc_pid_mem(5)); only which constant was there is kept.
//!
//! Looked at first are the main executable, mapped files that are not root's, and anonymous memory
//! that can be executed: about 5 MB for a miner. Then, within a smaller bound, programs that are
//! root's, as all are in a container's image. Small mappings come before large ones, so that a
//! mapping of a terabyte hides nothing behind it; only pages that are there are read, and bytes and
//! time are bounded.

use super::process::{Process, ProcessError};
use aho_corasick::AhoCorasick;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Constants by which a superscalar program is seeded (RandomX, `src/dataset.cpp`). Left out is
/// the multiplier 6364136223846793005: every linear congruential generator has it, TensorFlow's
/// too.
pub const SUPERSCALAR: [u64; 7] = [
    9_298_411_001_130_361_340,
    12_065_312_585_734_608_966,
    9_306_329_213_124_626_780,
    5_281_919_268_842_080_866,
    10_536_153_434_571_861_004,
    3_398_623_926_847_679_864,
    9_549_104_520_008_361_294,
];
/// Bytes of a process that are read at most.
const MOST_BYTES: u64 = 64 << 20;
/// Of these so many in programs that are root's.
const MOST_BYTES_OF_ROOTS: u64 = 16 << 20;
/// How long a process is looked at, at most.
const MOST_TIME: Duration = Duration::from_millis(300);
/// Mappings looked at, at most.
const MOST_MAPPINGS: usize = 4096;
const PAGE: u64 = 4096;
/// Pages whose presence is asked for at once: of a hole that is most of what it costs.
const ASKED: usize = 32_768;
/// Pages that are read at once.
const STRIDE: usize = 512;
/// A constant may lie across two reads.
const OVERLAP: usize = 7;

/// Why memory cannot be searched here.
#[derive(Debug, thiserror::Error)]
pub enum BlindError {
    /// Another process's memory is closed to us.
    #[error(
        "processes' memory cannot be read (CAP_SYS_PTRACE is needed, and kernel.yama.ptrace_scope \
         below 3): {0}"
    )]
    Closed(#[from] ProcessError),
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// How many of the seven constants are there.
    pub found: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that was to be read was.
    pub complete: bool,
}

/// The search for the constants.
#[derive(Debug)]
pub struct Constants {
    patterns: AhoCorasick,
}

impl Constants {
    /// Builds the search once, for many processes.
    ///
    /// # Errors
    /// The patterns do not make a searcher, which seven of eight bytes always do.
    pub fn new() -> Result<Constants, aho_corasick::BuildError> {
        let patterns = AhoCorasick::new(SUPERSCALAR.map(u64::to_le_bytes))?;
        Ok(Constants { patterns })
    }

    /// Proves that memory of another's process can be read here.
    ///
    /// # Errors
    /// The kernel refuses that.
    pub fn try_out() -> Result<(), BlindError> {
        Ok(readable(&others(Path::new("/proc")))?)
    }

    /// Looks through one process.
    ///
    /// # Errors
    /// It is gone, or its memory is closed to us.
    pub fn scan(&self, process: &Process) -> Result<Scan, ProcessError> {
        let directory = process.directory();
        let maps = process.read("maps", 4 << 20)?;
        let memory = process.open("mem")?;
        let pages = process.open("pagemap")?;
        // A kernel thread has none, and one that is about to end has none any more.
        let executable = std::fs::metadata(directory.join("exe"))
            .ok()
            .map(|file| file.ino());
        let mut look = Look {
            patterns: &self.patterns,
            found: [false; SUPERSCALAR.len()],
            bytes: 0,
            most: MOST_BYTES,
            until: Instant::now() + MOST_TIME,
            buffer: vec![0; OVERLAP + STRIDE * PAGE as usize],
            present: vec![0; 8 * ASKED],
        };
        // Of a mapped program all parts count, code and constants; data of gigabytes is mapped too.
        let programs: BTreeSet<u64> = mappings(&maps)
            .filter(|mapping| mapping.executable && mapping.inode != 0)
            .map(|mapping| mapping.inode)
            .collect();
        let mut complete = mappings(&maps).nth(MOST_MAPPINGS).is_none();
        let mut worth: Vec<(Worth, u64, Mapping<'_>)> = mappings(&maps)
            .take(MOST_MAPPINGS)
            .filter_map(|mapping| {
                let program = programs.contains(&mapping.inode);
                let worth = mapping.worth(executable, program, &directory)?;
                Some((worth, mapping.end - mapping.start, mapping))
            })
            .collect();
        worth.sort_by_key(|(worth, size, _)| (*worth, *size));
        for (worth, _, mapping) in &worth {
            if *worth == Worth::Roots {
                look.most = look.most.min(look.bytes + MOST_BYTES_OF_ROOTS);
            }
            // What is found already cannot be found again.
            if look.found.iter().all(|found| *found) {
                break;
            }
            complete &= look.read(&memory, &pages, mapping);
        }
        Ok(Scan {
            found: look.found.iter().filter(|found| **found).count(),
            bytes: look.bytes,
            complete,
        })
    }
}

/// Processes that are not ours and have a program, and whether each is another user's.
fn others(proc: &Path) -> Vec<(bool, Process)> {
    let me = std::process::id();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != me)
        .map(Process::new)
        // A kernel thread has no memory to be closed. What may not be looked at has a program.
        .filter(|process| {
            let program = std::fs::read_link(process.directory().join("exe"));
            !program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
        .filter_map(|process| {
            let owner = std::fs::metadata(process.directory()).ok()?.uid();
            Some((owner != 0, process))
        })
        .collect()
}

/// Whether memory can be read: any user's decides; where only root's processes run, one of them
/// does. Not the first process alone: some machines close that one to everybody.
fn readable(others: &[(bool, Process)]) -> Result<(), ProcessError> {
    // What is open of root's says nothing of users'.
    let users = others.iter().any(|(user, _)| *user);
    let mut refused = Ok(());
    for (_, process) in others.iter().filter(|(user, _)| *user == users) {
        match process.open("mem") {
            Ok(_) => return Ok(()),
            Err(error) if error.is_gone() => {}
            Err(error) => refused = Err(error),
        }
    }
    refused
}

/// Where miners are likely to be, likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// What the process runs, and what a user brought or wrote.
    Users,
    /// Libraries that are root's.
    Roots,
}

/// A line of `/proc/PID/maps` (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    start: u64,
    end: u64,
    executable: bool,
    inode: u64,
    /// As the kernel writes it; a user chooses it, so it is only ever compared.
    path: &'a [u8],
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
    fn worth(&self, executable: Option<u64>, program: bool, process: &Path) -> Option<Worth> {
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

fn mappings(maps: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse)
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

struct Look<'a> {
    patterns: &'a AhoCorasick,
    found: [bool; SUPERSCALAR.len()],
    bytes: u64,
    /// Bytes that may be read.
    most: u64,
    until: Instant,
    buffer: Vec<u8>,
    /// What the kernel says of the pages asked for.
    present: Vec<u8>,
}

impl Look<'_> {
    /// Reads what is there of a mapping; false when that had to end early.
    fn read(&mut self, memory: &File, pages: &File, mapping: &Mapping<'_>) -> bool {
        let mut at = mapping.start;
        let mut kept = 0;
        while at < mapping.end {
            let wanted = ((mapping.end - at) / PAGE).clamp(1, ASKED as u64) as usize;
            let Ok(told) = pages.read_at(&mut self.present[..8 * wanted], at / PAGE * 8) else {
                return true;
            };
            if told < 8 {
                return true;
            }
            let told = told / 8;
            let mut page = 0;
            while page < told {
                if self.bytes >= self.most || Instant::now() >= self.until {
                    return false;
                }
                let rest = self.present[8 * page..8 * told].chunks_exact(8);
                let run = rest.clone().take(STRIDE).take_while(|page| is_there(page));
                match run.count() {
                    0 => {
                        // A hole may be most of a terabyte: over it in one go.
                        page += rest.take_while(|page| !is_there(page)).count();
                        kept = 0;
                    }
                    run => {
                        kept = self.search(memory, at + page as u64 * PAGE, run, kept);
                        page += run;
                    }
                }
            }
            at += told as u64 * PAGE;
        }
        true
    }

    /// Searches a run of pages; `kept` bytes of what lies before it are in the buffer already.
    /// Returns how many are for what lies behind it.
    fn search(&mut self, memory: &File, at: u64, pages: usize, kept: usize) -> usize {
        let room = &mut self.buffer[kept..kept + pages * PAGE as usize];
        // What cannot be read has been unmapped since, or is a device's.
        let Ok(read) = memory.read_at(room, at) else {
            return 0;
        };
        self.bytes += read as u64;
        let end = kept + read;
        for place in self.patterns.find_iter(&self.buffer[..end]) {
            if let Some(found) = self.found.get_mut(place.pattern().as_usize()) {
                *found = true;
            }
        }
        let keep = OVERLAP.min(end);
        self.buffer.copy_within(end - keep..end, 0);
        keep
    }
}

/// Bits 63 and 62: present, or swapped out (Documentation/admin-guide/mm/pagemap.rst).
fn is_there(entry: &[u8]) -> bool {
    entry.last().is_some_and(|high| high & 0xc0 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    use std::num::NonZeroUsize;

    /// Anonymous memory that can be executed.
    struct Code {
        place: std::ptr::NonNull<std::ffi::c_void>,
        length: NonZeroUsize,
    }

    impl Code {
        fn new(length: usize) -> Code {
            let length = NonZeroUsize::new(length).unwrap();
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
            // SAFETY: a new mapping, where the kernel likes, overlaps nothing of ours.
            let place = unsafe { mmap_anonymous(None, length, access, flags) }.unwrap();
            Code { place, length }
        }

        fn write(&self, at: usize, bytes: &[u8]) {
            assert!(at + bytes.len() <= self.length.get());
            // SAFETY: within the mapping, as was just asserted, and nobody else has it.
            unsafe {
                let target = self.place.as_ptr().cast::<u8>().add(at);
                target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
    }

    impl Drop for Code {
        fn drop(&mut self) {
            // SAFETY: our mapping, of that length, and no reference into it is left.
            let _ = unsafe { munmap(self.place, self.length.get()) };
        }
    }

    /// In one test, since they share a process: this program itself has the constants, as data.
    #[test]
    fn constants_are_found_over_page_borders_in_a_mapping_of_a_terabyte() {
        let me = Process::new(std::process::id());
        let constants = Constants::new().unwrap();
        let before = constants.scan(&me).unwrap();
        assert!(before.bytes > 0);
        let code = Code::new(1 << 40);
        // One across a page's end, the others far into the hole.
        for (number, constant) in SUPERSCALAR.iter().enumerate() {
            code.write(4093 + (number << 22), &constant.to_le_bytes());
        }
        let begun = Instant::now();
        let scan = constants.scan(&me).unwrap();
        assert_eq!(scan.found, SUPERSCALAR.len());
        assert!(begun.elapsed() < 4 * MOST_TIME, "{:?}", begun.elapsed());
        assert!(scan.bytes < MOST_BYTES + (STRIDE as u64) * PAGE);
    }

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
    fn a_process_that_is_gone_is_an_error_and_no_reading() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = Constants::new()
            .unwrap()
            .scan(&Process::new(child.id()))
            .unwrap_err();
        assert!(error.is_gone(), "{error}");
    }

    #[test]
    fn one_process_that_can_be_read_is_enough_and_one_that_is_gone_says_nothing() {
        let mut child = std::process::Command::new("sleep")
            .arg("9")
            .spawn()
            .unwrap();
        let open = Process::new(child.id());
        let gone = Process::new(u32::MAX);
        assert!(readable(&[(false, gone), (false, open)]).is_ok());
        assert!(readable(&[(true, gone)]).is_ok());
        assert!(readable(&[]).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!others(Path::new("/proc")).is_empty());
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
