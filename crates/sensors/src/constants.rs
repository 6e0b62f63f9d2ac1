//! RandomX's consensus constants in the memory of a process.
//!
//! Every RandomX has them, whatever it is called and however it was built: they are in its code,
//! and in the code that its compiler writes. Read through `/proc/PID/mem`, which stops nobody
//! (proc_pid_mem(5)); only which constant was there is kept.
//!
//! What counts as having them is what the process executes and what its own user, or the system, put
//! there (docs/evidence.md, What counts as having the code): another could lay a file with these
//! numbers where the process reads it.
//!
//! Looked at first are the main executable, programs that are not root's, and anonymous memory that
//! can be executed: about 5 MB for a miner. Then, within a smaller bound, programs that are root's,
//! as all are in a container's image. Small mappings come before large ones, so that a mapping of a
//! terabyte hides nothing behind it; only pages that are there are read, and bytes and time are
//! bounded.

mod maps;
mod open;
mod owners;
mod pages;

pub use open::{BlindError, try_out};

use super::process::{Process, ProcessError};
use aho_corasick::AhoCorasick;
use maps::{FileId, Mapping, Pages, Worth, mappings};
use owners::{Owners, Writer};
use pages::{End, Look, Search};
use std::collections::BTreeSet;
use std::time::Duration;

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
/// CPU time that a process is looked at for, at most.
const MOST_TIME: Duration = Duration::from_millis(300);
/// How long that may take where the CPU is waited for.
const LONGEST: Duration = Duration::from_secs(2);
/// Mappings looked at, at most.
const MOST_MAPPINGS: usize = 4096;
/// With this of personality(2), all that can be read can be executed too.
const READ_IMPLIES_EXEC: u32 = 0x0040_0000;

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// How many of the seven constants are there.
    pub found: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that was to be read was.
    pub complete: bool,
    /// It was not, since the reader did not get the CPU for it.
    pub starved: bool,
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

    /// Looks through one process.
    ///
    /// # Errors
    /// It is gone, or its memory is closed to us.
    pub fn scan(&self, process: &Process) -> Result<Scan, ProcessError> {
        let maps = process.read("maps", 4 << 20)?;
        let memory = process.open("mem")?;
        let pages = process.open("pagemap")?;
        let personality = process.read("personality", 64).unwrap_or_default();
        let data_are_executable = implies_exec(&personality);
        let search = Search::new(&self.patterns, MOST_BYTES, End::after(MOST_TIME, LONGEST));
        let mut look = Look::new(memory, pages, search);
        // Of a mapped program all parts count, code and constants; data of gigabytes is mapped too.
        let programs: BTreeSet<FileId> = mappings(&maps)
            .filter(Mapping::is_program)
            .map(|mapping| mapping.file)
            .collect();
        let mut complete = mappings(&maps).nth(MOST_MAPPINGS).is_none();
        let mut owners = Owners::of(process);
        let mut counts = |mapping: &Mapping<'_>| {
            if mapping.is_code_without_a_file() {
                return (!data_are_executable).then_some((Worth::Users, Pages::All));
            }
            if !programs.contains(&mapping.file) {
                return None;
            }
            let (writer, is_executable) = owners.writer(mapping);
            if !data_are_executable {
                return mapping.counts(writer, is_executable);
            }
            // Which of the others is a program is not to be seen.
            let own = is_executable && writer != Writer::Other;
            own.then_some((Worth::Users, Pages::OfFile))
        };
        let mut worth: Vec<(Worth, u64, Pages, Mapping<'_>)> = mappings(&maps)
            .take(MOST_MAPPINGS)
            .filter_map(|mapping| {
                let (worth, pages) = counts(&mapping)?;
                Some((worth, mapping.end - mapping.start, pages, mapping))
            })
            .collect();
        worth.sort_by_key(|(worth, size, ..)| (*worth, *size));
        for (worth, _, pages, mapping) in &worth {
            let search = &mut look.search;
            if *worth == Worth::Roots {
                search.most = search.most.min(search.bytes + MOST_BYTES_OF_ROOTS);
            }
            // What is found already cannot be found again.
            if search.found() == SUPERSCALAR.len() {
                break;
            }
            complete &= look.read(mapping, *pages);
        }
        Ok(Scan {
            found: look.search.found(),
            bytes: look.search.bytes,
            complete,
            starved: !complete && look.search.is_late(),
        })
    }
}

/// Whether a process's `personality` has it that data can be executed.
fn implies_exec(personality: &[u8]) -> bool {
    let digits = std::str::from_utf8(personality).unwrap_or_default().trim();
    u32::from_str_radix(digits, 16).is_ok_and(|flags| flags & READ_IMPLIES_EXEC != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_personality_may_have_data_executable() {
        assert!(implies_exec(b"00400000\n") && implies_exec(b"00440000\n"));
        assert!(!implies_exec(b"00000000\n") && !implies_exec(b"00040000\n") && !implies_exec(b""));
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
}
