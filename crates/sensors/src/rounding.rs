//! Rounding modes of watched servers' threads, counted in the kernel.
//!
//! A program of ours (`bpf/rounding.bpf.c`) looks at each thread that leaves the CPU
//! (`x86_fpu_regs_deactivated`). It is attached only while somebody is watched. A lone miner on a
//! quiet core is switched out twice a second; [`Nudge`] makes that fifty times.

use super::program::{self, Place, ProgramError};
use aya::maps::{HashMap, MapData};
use aya::programs::BtfTracePoint;
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::{Btf, Ebpf};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use policy::finding::Modes;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rounding.bpf.o"));
const TRACEPOINT: &str = "x86_fpu_regs_deactivated";
const PLACE: Place = Place {
    name: "the tracepoint x86_fpu_regs_deactivated",
    hint: "it is there on x86 only",
};

/// Samples of one thread group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Id of the watched cgroup that it is in.
    pub cgroup: u64,
    /// The thread group.
    pub pid: u32,
    /// Since the program first saw it.
    pub modes: Modes,
}

/// The program in the kernel.
pub struct Rounding {
    program: Ebpf,
    watched: HashMap<MapData, u64, u8>,
    /// Cgroup, down, up, to zero, flushed: `struct counts`.
    seen: HashMap<MapData, u32, [u64; 5]>,
    attached: Option<BtfTracePointLinkId>,
    watching: BTreeSet<u64>,
}

impl Rounding {
    /// Loads the program and has the kernel check it; it does not run yet.
    ///
    /// # Errors
    /// This kernel or our rights do not allow it; the error says which.
    pub fn load(types: &Btf) -> Result<Rounding, ProgramError> {
        let mut program = program::load(OBJECT, Some(types))?;
        tracepoint(&mut program)?
            .load(TRACEPOINT, types)
            .map_err(|error| PLACE.refused(error))?;
        Ok(Rounding {
            watched: program::table(&mut program, "watched")?,
            seen: program::table(&mut program, "seen")?,
            program,
            attached: None,
            watching: BTreeSet::new(),
        })
    }

    /// Watches just these cgroups and what is below them, by id; with none, nothing runs.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn watch(&mut self, cgroups: &BTreeSet<u64>) -> Result<(), ProgramError> {
        for old in self.watching.difference(cgroups) {
            // Gone already is what was wanted.
            let _ = self.watched.remove(old);
        }
        self.watching.retain(|id| cgroups.contains(id));
        for new in cgroups {
            if !self.watching.contains(new) {
                self.watched.insert(new, 1, 0)?;
                self.watching.insert(*new);
            }
        }
        let tracepoint = tracepoint(&mut self.program)?;
        match (self.attached.take(), cgroups.is_empty()) {
            (Some(link), true) => tracepoint
                .detach(link)
                .map_err(|error| PLACE.refused(error))?,
            (None, false) => {
                self.attached = Some(tracepoint.attach().map_err(|error| PLACE.refused(error))?)
            }
            (link, _) => self.attached = link,
        }
        Ok(())
    }

    /// Whether the program runs.
    pub fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// What was counted; thread groups of cgroups that are not watched any more are forgotten.
    pub fn counted(&mut self) -> Vec<Counted> {
        let mut counted = Vec::new();
        let mut stale = Vec::new();
        // Bounded by the table's size; an entry that is replaced meanwhile is read next time.
        for (pid, [cgroup, down, up, zero, flushed]) in self.seen.iter().flatten() {
            if !self.watching.contains(&cgroup) {
                stale.push(pid);
                continue;
            }
            let modes = Modes {
                down,
                up,
                zero,
                flushed,
            };
            counted.push(Counted { cgroup, pid, modes });
        }
        for pid in stale {
            let _ = self.seen.remove(&pid);
        }
        counted
    }
}

fn tracepoint(object: &mut Ebpf) -> Result<&mut BtfTracePoint, ProgramError> {
    program::part(object, "rounding", PLACE)
}

/// How often a CPU is visited.
const EVERY: Duration = Duration::from_millis(20);
/// CPUs visited at most: as many suspects are looked at closely at once.
const MOST_CPUS: usize = 16;

/// A thread that wakes on the suspects' CPUs for a moment, so that they are switched out and seen:
/// 35 samples a second instead of 2, for 0.28 % of the core. It sleeps while there are none.
pub struct Nudge {
    shared: Arc<(Mutex<Where>, Condvar)>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Where {
    cpus: Vec<usize>,
    end: bool,
}

impl Nudge {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread more.
    pub fn start() -> std::io::Result<Nudge> {
        let shared: Arc<(Mutex<Where>, Condvar)> = Arc::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("nudge".into())
            .stack_size(64 << 10)
            .spawn(move || visit_forever(&theirs))?;
        Ok(Nudge { shared, thread })
    }

    /// Whether its thread has not ended.
    pub fn runs(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Visits just these CPUs; none is rest.
    pub fn visit(&self, mut cpus: Vec<usize>) {
        cpus.truncate(MOST_CPUS);
        let (place, changed) = &*self.shared;
        place.lock().unwrap_or_else(PoisonError::into_inner).cpus = cpus;
        changed.notify_one();
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        let (place, changed) = &*self.shared;
        place.lock().unwrap_or_else(PoisonError::into_inner).end = true;
        changed.notify_one();
    }
}

fn visit_forever(shared: &(Mutex<Where>, Condvar)) {
    loop {
        let (place, changed) = shared;
        let held = place.lock().unwrap_or_else(PoisonError::into_inner);
        let held = changed
            .wait_while(held, |place| place.cpus.is_empty() && !place.end)
            .unwrap_or_else(PoisonError::into_inner);
        if held.end {
            return;
        }
        let cpus = held.cpus.clone();
        drop(held);
        let pause = EVERY / u32::try_from(cpus.len()).unwrap_or(1).max(1);
        for cpu in cpus {
            let mut only = CpuSet::new();
            // A CPU that is not ours to use is not visited.
            if only.set(cpu).is_ok() {
                let _ = sched_setaffinity(Pid::from_raw(0), &only);
            }
            std::thread::sleep(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::allowed;

    /// Where the kernel lets us (root, x86, type information); elsewhere it must say why not.
    #[test]
    fn the_program_passes_the_kernels_check_and_runs_only_while_somebody_is_watched() {
        let loaded = program::types().and_then(|types| Rounding::load(&types));
        let Some(mut rounding) = allowed(loaded) else {
            return;
        };
        assert!(!rounding.is_attached());
        rounding.watch(&BTreeSet::from([1])).unwrap();
        assert!(rounding.is_attached());
        rounding.counted();
        rounding.watch(&BTreeSet::new()).unwrap();
        assert!(!rounding.is_attached());
        assert_eq!(rounding.counted(), []);
    }

    #[test]
    fn the_nudge_rests_until_it_is_sent_somewhere_and_ends_with_its_owner() {
        let nudge = Nudge::start().unwrap();
        nudge.visit(vec![0, usize::MAX]);
        std::thread::sleep(2 * EVERY);
        nudge.visit(Vec::new());
        let shared = Arc::downgrade(&nudge.shared);
        drop(nudge);
        for _ in 0..100 {
            if shared.upgrade().is_none() {
                return;
            }
            std::thread::sleep(EVERY);
        }
        panic!("the thread is still there");
    }
}
