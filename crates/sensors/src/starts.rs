//! Programs that guarded servers start, as the kernel tells of them (`bpf/starts.bpf.c`).
//!
//! A miner is named once, when it is started, and often ends before anybody could read its name
//! from `/proc`. Where this does not work, names are read of hot servers' processes only.

use super::program::{self, Place, ProgramError};
use aya::maps::{HashMap, MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/starts.bpf.o"));
const TRACEPOINT: &str = "sched_process_exec";
const PLACE: Place = Place {
    name: "the tracepoint sched_process_exec",
    hint: "CAP_BPF and CAP_PERFMON are needed",
};
/// `NAME_BYTES` of the program.
const NAME_BYTES: usize = 104;
/// Starts read in one go; the others wait in the kernel, and are counted there once it is full.
const MOST_AT_ONCE: usize = 1024;

/// One program's start.
#[derive(Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// The guarded server's cgroup id.
    pub cgroup: u64,
    /// The process, as `/proc` numbers it.
    pub pid: u32,
    /// The file's name as it was called, cut at 103 bytes.
    pub name: &'a [u8],
    /// Its first arguments, each ended by NUL, cut at 384 bytes.
    pub arguments: &'a [u8],
}

impl Start<'_> {
    /// Reads `struct start`; `None` for what is none.
    fn parse(bytes: &[u8]) -> Option<Start<'_>> {
        let (cgroup, rest) = bytes.split_first_chunk()?;
        let (pid, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (name, arguments) = rest.split_at_checked(NAME_BYTES)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
        Some(Start {
            cgroup: u64::from_ne_bytes(*cgroup),
            pid: u32::from_ne_bytes(*pid),
            name: name.get(..end)?,
            arguments: arguments.get(..u32::from_ne_bytes(*length) as usize)?,
        })
    }
}

/// The program in the kernel.
pub struct Starts {
    _program: Ebpf,
    /// Cgroup id → the second, starts told in it, starts missed: `struct budget`.
    guarded: HashMap<MapData, u64, [u64; 3]>,
    ring: RingBuf<MapData>,
    watching: BTreeSet<u64>,
    missed_by_gone: u64,
}

impl Starts {
    /// Loads the program and runs it; it tells nothing until somebody is watched.
    ///
    /// # Errors
    /// This kernel or our rights do not allow it; the error says which.
    pub fn load(types: &Btf) -> Result<Starts, ProgramError> {
        let mut program = program::load(OBJECT, Some(types))?;
        let tracepoint: &mut BtfTracePoint = program::part(&mut program, "started", PLACE)?;
        let refused = |error| PLACE.refused(error);
        tracepoint.load(TRACEPOINT, types).map_err(refused)?;
        tracepoint.attach().map_err(refused)?;
        Ok(Starts {
            guarded: program::table(&mut program, "guarded")?,
            ring: program::table(&mut program, "starts")?,
            _program: program,
            watching: BTreeSet::new(),
            missed_by_gone: 0,
        })
    }

    /// Watches just these cgroups and what is below them, by id.
    ///
    /// # Errors
    /// The kernel has no room for one more.
    pub fn watch(&mut self, cgroups: &BTreeSet<u64>) -> Result<(), ProgramError> {
        for old in self.watching.difference(cgroups) {
            if let Ok([_, _, missed]) = self.guarded.get(old, 0) {
                self.missed_by_gone += missed;
            }
            // Gone already is what was wanted.
            let _ = self.guarded.remove(old);
        }
        self.watching.retain(|id| cgroups.contains(id));
        for new in cgroups {
            if !self.watching.contains(new) {
                self.guarded.insert(new, [0; 3], 0)?;
                self.watching.insert(*new);
            }
        }
        Ok(())
    }

    /// What was started since the last time, oldest first.
    pub fn read(&mut self, mut take: impl FnMut(Start<'_>)) {
        for _ in 0..MOST_AT_ONCE {
            let Some(bytes) = self.ring.next() else {
                return;
            };
            if let Some(start) = Start::parse(&bytes) {
                take(start);
            }
        }
    }

    /// Starts that came faster than they are told: over 100 in a second of one server.
    pub fn missed(&self) -> u64 {
        let counted = self.guarded.iter().flatten();
        self.missed_by_gone + counted.map(|(_, [_, _, missed])| missed).sum::<u64>()
    }
}

impl AsFd for Starts {
    /// Readable when something was started.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::{Bed, allowed};

    fn message(length: u32, name: &[u8], arguments: &[u8]) -> Vec<u8> {
        let mut bytes = 7u64.to_ne_bytes().to_vec();
        bytes.extend(42u32.to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(name);
        bytes.resize(16 + NAME_BYTES, 0);
        bytes.extend(arguments);
        bytes.resize(512, 0xff);
        bytes
    }

    #[test]
    fn a_start_is_read_as_the_kernel_wrote_it() {
        let bytes = message(4, b"/bin/a\xff", b"a\0b\0");
        let start = Start::parse(&bytes).unwrap();
        assert_eq!((start.cgroup, start.pid), (7, 42));
        assert_eq!(start.name, b"/bin/a\xff");
        assert_eq!(start.arguments, b"a\0b\0");
    }

    #[test]
    fn a_length_beyond_the_message_is_no_start() {
        assert_eq!(Start::parse(&message(u32::MAX, b"a", b"")), None);
        assert_eq!(Start::parse(b"short"), None);
    }

    /// Where the kernel lets us (root, type information); elsewhere it must say why not.
    #[test]
    fn the_kernel_tells_what_a_watched_cgroup_starts_and_counts_what_is_too_much() {
        let loaded = program::types().and_then(|types| Starts::load(&types));
        let (Some(mut starts), Some(bed)) = (allowed(loaded), Bed::new()) else {
            return;
        };
        starts.watch(&BTreeSet::from([bed.id])).unwrap();
        bed.run("exec -a 'odd name' /bin/true --donate-level 1");
        let mut told = Vec::new();
        starts.read(|start| {
            assert_eq!(start.cgroup, bed.id);
            told.push((start.name.to_vec(), start.arguments.to_vec()));
        });
        let wanted = (
            b"/bin/true".to_vec(),
            b"odd name\0--donate-level\x001\0".to_vec(),
        );
        assert!(told.contains(&wanted), "{told:?}");
        assert_eq!(starts.missed(), 0);

        bed.run("for i in $(seq 400); do /bin/true; done");
        let mut told = 0;
        starts.read(|_| told += 1);
        assert!(starts.missed() > 0, "{told} told");
        assert_eq!(told + starts.missed(), 401);
        starts.watch(&BTreeSet::new()).unwrap();
        assert!(starts.missed() > 0);
        bed.run("/bin/true");
        starts.read(|start| panic!("{start:?}"));
    }
}
