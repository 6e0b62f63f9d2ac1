//! Reading a process's memory page by page: those alone that are there, within bounds.

use super::SUPERSCALAR;
use super::maps::{Mapping, Pages};
use aho_corasick::AhoCorasick;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;
/// Pages whose presence is asked for at once: of a hole that is most of what it costs.
const ASKED: usize = 32_768;
/// What the kernel says of a page (Documentation/admin-guide/mm/pagemap.rst).
const ENTRY: usize = 8;
/// Pages that are read at once.
const STRIDE: usize = 512;
/// A constant may lie across two reads.
const OVERLAP: usize = 7;

/// The memory of one process, as far as it may be read.
pub(super) struct Look<'a> {
    memory: File,
    pages: File,
    /// What the kernel says of the pages asked for.
    told: Vec<u8>,
    pub search: Search<'a>,
}

impl<'a> Look<'a> {
    /// From its `mem` and its `pagemap`.
    pub fn new(memory: File, pages: File, search: Search<'a>) -> Look<'a> {
        Look {
            memory,
            pages,
            told: vec![0; ENTRY * ASKED],
            search,
        }
    }

    /// Reads what is there of a mapping and counts; false when that had to end early.
    pub fn read(&mut self, mapping: &Mapping<'_>, wanted_pages: Pages) -> bool {
        let mut at = mapping.start;
        let (mut kept, mut next) = (0, at);
        while at < mapping.end {
            if self.search.is_over() {
                return false;
            }
            let wanted = ((mapping.end - at) / PAGE).clamp(1, ASKED as u64) as usize;
            let room = self.told.get_mut(..ENTRY * wanted).unwrap_or_default();
            let Ok(told) = self.pages.read_at(room, at / PAGE * ENTRY as u64) else {
                return true;
            };
            let told = self.told.get(..told).unwrap_or_default();
            let (told, _) = told.as_chunks::<ENTRY>();
            if told.is_empty() {
                return true;
            }
            for run in runs(told, wanted_pages) {
                if self.search.is_over() {
                    return false;
                }
                let place = at + run.first * PAGE;
                // What was kept lies before a hole.
                if place != next {
                    kept = 0;
                }
                let read = self.search.read(&self.memory, place, run.pages, kept);
                (kept, next) = (read.kept, place + read.bytes);
            }
            at += told.len() as u64 * PAGE;
        }
        true
    }
}

/// Pages beside each other that are there, as many as are read at once.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    pages: usize,
}

fn runs(told: &[[u8; ENTRY]], wanted: Pages) -> impl Iterator<Item = Run> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = told.get(at..)?;
        // A hole may be most of a terabyte: over it in one go.
        let hole = rest.iter().position(|page| is_wanted(page, wanted))?;
        let there = rest.iter().skip(hole).take(STRIDE);
        let pages = there.take_while(|page| is_wanted(page, wanted)).count();
        let first = at + hole;
        at = first + pages;
        Some(Run {
            first: first as u64,
            pages,
        })
    })
}

/// Whether a page is there (bits 63 and 62: present, or swapped out) and of that kind (bit 61: it
/// is a file's or shared memory's, and no copy of the process's own).
fn is_wanted(entry: &[u8; ENTRY], wanted: Pages) -> bool {
    let entry = u64::from_ne_bytes(*entry);
    let of_file = entry >> 61 & 1 == 1;
    let counts = match wanted {
        Pages::All => true,
        Pages::OfFile => of_file,
        Pages::Written => !of_file,
    };
    entry >> 62 != 0 && counts
}

/// What is searched for, and how long still.
pub(super) struct Search<'a> {
    patterns: &'a AhoCorasick,
    found: [bool; SUPERSCALAR.len()],
    /// Bytes read.
    pub bytes: u64,
    /// Bytes that may be read.
    pub most: u64,
    end: End,
    buffer: Vec<u8>,
}

/// When a search is over: after so much CPU time of its thread, or so long at most. A thread that has to
/// wait for the CPU has done little in that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    used: Duration,
    at: Instant,
}

impl End {
    /// After that much CPU time from now on, or that long.
    pub fn after(used: Duration, longest: Duration) -> End {
        End {
            used: thread_time() + used,
            at: Instant::now() + longest,
        }
    }

    fn has_come(&self) -> bool {
        self.is_late() || thread_time() >= self.used
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.at
    }
}

/// CPU time of this thread; the clock cannot fail (clock_gettime(2)).
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What came of one reading.
struct Read {
    bytes: u64,
    /// Bytes of its end that are in the buffer for what lies behind it.
    kept: usize,
}

impl Search<'_> {
    /// Whether it ended for having taken long, and not for what it did.
    pub fn is_late(&self) -> bool {
        self.bytes < self.most && self.end.is_late()
    }

    /// A search in so many bytes, until then.
    pub fn new(patterns: &AhoCorasick, most: u64, end: End) -> Search<'_> {
        Search {
            patterns,
            found: Default::default(),
            bytes: 0,
            most,
            end,
            buffer: vec![0; OVERLAP + STRIDE * PAGE as usize],
        }
    }

    /// How many of the constants were found.
    pub fn found(&self) -> usize {
        self.found.iter().filter(|found| **found).count()
    }

    fn is_over(&self) -> bool {
        self.bytes >= self.most || self.end.has_come()
    }

    /// Searches a run of pages; `kept` bytes of what lies before it are in the buffer already.
    fn read(&mut self, memory: &File, at: u64, pages: usize, kept: usize) -> Read {
        let wanted = kept..kept + pages * PAGE as usize;
        let room = self.buffer.get_mut(wanted).unwrap_or_default();
        // What cannot be read has been unmapped since, or is a device's.
        let read = memory.read_at(room, at).unwrap_or(0);
        self.bytes += read as u64;
        let end = kept + read;
        let text = self.buffer.get(..end).unwrap_or_default();
        for place in self.patterns.find_iter(text) {
            if let Some(found) = self.found.get_mut(place.pattern().as_usize()) {
                *found = true;
            }
        }
        let kept = OVERLAP.min(end);
        self.buffer.copy_within(end - kept..end, 0);
        Read {
            bytes: read as u64,
            kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constants::maps::mappings;
    use crate::process::Process;
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::num::NonZeroUsize;

    const LONG: Duration = Duration::from_secs(600);

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
            // SAFETY: that mapping. A huge page would fill what is to be a hole.
            unsafe { madvise(place, length.get(), MmapAdvise::MADV_NOHUGEPAGE) }.unwrap();
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

    impl Code {
        /// Whether a search came to its end, what of the patterns it found, and in how many bytes.
        fn searched(&self, patterns: &AhoCorasick) -> (bool, Vec<bool>, u64) {
            let me = Process::new(std::process::id());
            let start = self.place.as_ptr() as u64;
            let end = start + self.length.get() as u64;
            let maps = format!("{start:x}-{end:x} rwxp 0 00:00 0");
            let mapping = mappings(maps.as_bytes()).next();
            let search = Search::new(patterns, 1 << 30, End::after(LONG, LONG));
            let mut look = Look::new(me.open("mem").unwrap(), me.open("pagemap").unwrap(), search);
            let complete = look.read(&mapping.unwrap(), Pages::All);
            (complete, look.search.found.to_vec(), look.search.bytes)
        }
    }

    /// Numbers that this program has nowhere but where a test writes them.
    fn constants() -> [u64; SUPERSCALAR.len()] {
        let salt = std::hint::black_box(u64::from(std::process::id()) | 1 << 40);
        SUPERSCALAR.map(|constant| constant.wrapping_mul(salt).rotate_left(17))
    }

    const SIZE: usize = PAGE as usize;

    #[test]
    fn constants_are_found_over_the_borders_of_pages_of_reads_and_of_what_is_asked_for() {
        let constants = constants();
        let patterns = AhoCorasick::new(constants.map(u64::to_le_bytes)).unwrap();
        let code = Code::new(1 << 36);
        let (complete, found, bytes) = code.searched(&patterns);
        assert!(complete && !found.contains(&true) && bytes == 0);
        let places = [
            SIZE - 3,
            // Where one read ends and the next begins, as also where more is asked for.
            STRIDE * SIZE - 1,
            2 * STRIDE * SIZE - 7,
            ASKED * SIZE - 4,
            2 * ASKED * SIZE - 1,
            // Far into the hole, and at the very end.
            (1 << 35) + SIZE - 5,
            (1 << 36) - 8,
        ];
        for page in 0..2 * STRIDE + 1 {
            code.write(page * SIZE, &[1]);
        }
        for (place, constant) in places.iter().zip(constants) {
            code.write(*place, &constant.to_le_bytes());
        }
        let (complete, found, bytes) = code.searched(&patterns);
        assert!(complete);
        assert_eq!(found, [true; SUPERSCALAR.len()]);
        assert!(bytes < 16 << 20, "{bytes} bytes were read of a hole");
    }

    #[test]
    fn halves_of_a_constant_with_a_hole_between_them_are_none() {
        let constants = constants();
        let patterns = AhoCorasick::new(constants.map(u64::to_le_bytes)).unwrap();
        let code = Code::new(1 << 30);
        let (front, back) = (constants[0].to_le_bytes(), constants[0].to_le_bytes());
        code.write(SIZE - 4, &front[..4]);
        code.write(2 * SIZE, &back[4..]);
        assert_eq!(code.searched(&patterns).1, [false; SUPERSCALAR.len()]);
    }

    #[test]
    fn a_search_ends_with_its_bytes_and_its_time() {
        let patterns = AhoCorasick::new(constants().map(u64::to_le_bytes)).unwrap();
        let me = Process::new(std::process::id());
        let maps = me.read("maps", 4 << 20).unwrap();
        let ours = mappings(&maps).filter(Mapping::is_program);
        let program = ours.max_by_key(|one| one.end - one.start).unwrap();
        assert!(program.end - program.start > 2 * (STRIDE as u64) * PAGE);
        let never = End::after(LONG, LONG);
        let used_up = End::after(Duration::ZERO, LONG);
        let late = End::after(LONG, Duration::ZERO);
        for (most, end) in [(1, never), (1 << 30, used_up), (1 << 30, late)] {
            let search = Search::new(&patterns, most, end);
            let (memory, pages) = (me.open("mem").unwrap(), me.open("pagemap").unwrap());
            let mut look = Look::new(memory, pages, search);
            assert!(!look.read(&program, Pages::All));
            assert!(look.search.bytes <= most + (STRIDE as u64) * PAGE);
        }
    }

    proptest::proptest! {
        #[test]
        fn runs_are_all_pages_that_are_there_and_count_and_no_other(pages: Vec<(bool, bool)>) {
            let entry = |(there, of_file): &(bool, bool)| {
                (u64::from(*there) << 63 | u64::from(*of_file) << 61 | 5).to_ne_bytes()
            };
            let told: Vec<[u8; ENTRY]> = pages.iter().map(entry).collect();
            for wanted in [Pages::All, Pages::OfFile, Pages::Written] {
                let mut seen = vec![false; pages.len()];
                for run in runs(&told, wanted) {
                    let first = run.first as usize;
                    seen[first..first + run.pages].fill(true);
                }
                let expected: Vec<bool> = pages
                    .iter()
                    .map(|(there, of_file)| *there && match wanted {
                        Pages::All => true,
                        Pages::OfFile => *of_file,
                        Pages::Written => !*of_file,
                    })
                    .collect();
                proptest::prop_assert_eq!(seen, expected);
            }
        }
    }
}
