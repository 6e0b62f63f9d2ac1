//! What was changed on a unit, and what to put back.
//!
//! A change can be cut off anywhere: the daemon is killed, systemd re-executes itself and loses the
//! reply, a disk is full. Afterwards the old value may stand, the new one, or (properties are set one
//! after the other) some of each. So a record keeps every value that may stand by our doing, and it is
//! written to memory that a crash of the daemon does not lose before the change is made. What stands and
//! is not among them was set by someone else.

mod held;
mod owner;

pub use held::{
    DEFAULT_WEIGHT, LEAST_QUOTA_USEC, LONGEST_PERIOD_USEC, as_held, quota_and_period, rate,
};
pub use owner::{Control, Owner};

use policy::Controls;
use quantities::{Bytes, Cores};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Values of one setting that are remembered: a part of the baseline can be any number.
const MOST_WRITTEN: usize = 32;
/// Settings on their way at once, that no reading has confirmed.
const MOST_SENT: usize = 16;

/// What was changed on one unit or cgroup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// Through what it was changed.
    pub owner: Owner,
    /// The start of the unit that it was changed in.
    pub start: Start,
    /// What its owner set.
    before: Controls,
    /// The last reading.
    found: Controls,
    /// What stood at the last reading that showed what was wanted, and all that was sent since.
    sent: Vec<Controls>,
    /// What was ever set and its owner did not.
    written: Written,
}

/// Quota and period are one setting: neither says anything without the other.
type Cpu = (Option<Cores>, Option<Duration>);

/// One life of a unit, from its loading to its unloading: a transient unit's runtime properties end
/// with it. A restart is the same life, a unit made again under the same name is another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start(pub Option<Fragment>);

impl Start {
    /// Whether both are one life. Of a unit that has no file of its own nothing tells them apart.
    pub fn is_same(self, other: Start) -> bool {
        self.0.is_none() || self == other
    }
}

/// The unit's file, as made by systemd at `StartTransientUnit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// Its inode number.
    pub inode: u64,
    /// When it was written: seconds since 1970 …
    pub seconds: i64,
    /// … and nanoseconds of that.
    pub nanoseconds: i64,
}

/// Values set since the unit started, of each setting, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    cpu: Vec<Cpu>,
    period: Vec<Option<Duration>>,
    weight: Vec<Option<u64>>,
    memory_high: Vec<Option<Bytes>>,
    memory_max: Vec<Option<Bytes>>,
    tasks_max: Vec<Option<u64>>,
    io_weight: Vec<Option<u64>>,
}

impl Undo {
    /// Nothing is changed yet, and this is found.
    pub fn new(owner: Owner, start: Start, found: Controls) -> Undo {
        Undo {
            owner,
            start,
            before: found,
            found,
            sent: vec![found],
            written: Written::default(),
        }
    }

    /// The same of the unit's present cgroup: a restart makes another.
    pub fn of(self, owner: Owner) -> Undo {
        Undo { owner, ..self }
    }

    /// What its owner set, to be put back.
    pub fn before(&self) -> &Controls {
        &self.before
    }

    /// What was set last, or was about to be.
    pub fn ours(&self) -> &Controls {
        self.sent.last().unwrap_or(&self.before)
    }

    /// What may stand by our doing where it is not what its owner set, when nothing can be read.
    pub fn may_stand(&self) -> Controls {
        let (before, mut found) = (&self.before, self.before);
        for sent in &self.sent {
            unlike(&mut found.quota, sent.quota, before.quota);
            unlike(&mut found.period, sent.period, before.period);
            unlike(&mut found.weight, sent.weight, before.weight);
            unlike(&mut found.memory_high, sent.memory_high, before.memory_high);
            unlike(&mut found.memory_max, sent.memory_max, before.memory_max);
            unlike(&mut found.tasks_max, sent.tasks_max, before.tasks_max);
            unlike(&mut found.io_weight, sent.io_weight, before.io_weight);
            found.frozen |= sent.frozen;
        }
        found
    }

    /// Takes a reading in: what stands by nobody's doing but its owner's is what to put back from now
    /// on. Returns whether the owner changed something while ours stood.
    pub fn observe(&mut self, found: &Controls) -> bool {
        let (before, ours) = (self.before, *self.ours());
        self.found = *found;
        if self.is_our_cpu(found) {
            // Also what is half of one change and half of another.
            remember(&mut self.written.cpu, cpu(&before), cpu(found));
        } else if cpu(found) != cpu(&before) {
            // Where the quota is ours still, only the period was changed.
            if found.quota != ours.quota || !self.written.cpu.contains(&cpu(&ours)) {
                self.before.quota = found.quota;
            }
            // An owner who sets a quota leaves the period of ours beside it.
            if !self.written.period.contains(&found.period) {
                self.before.period = found.period;
            }
        }
        let written = &self.written;
        follow(&mut self.before.weight, found.weight, &written.weight);
        follow(
            &mut self.before.memory_high,
            found.memory_high,
            &written.memory_high,
        );
        follow(
            &mut self.before.memory_max,
            found.memory_max,
            &written.memory_max,
        );
        follow(
            &mut self.before.tasks_max,
            found.tasks_max,
            &written.tasks_max,
        );
        follow(
            &mut self.before.io_weight,
            found.io_weight,
            &written.io_weight,
        );
        // One of two values is always one that was set: only what is under way counts.
        if !self.sent.iter().any(|sent| sent.frozen == found.frozen) {
            self.before.frozen = found.frozen;
        }
        self.before != before
    }

    /// A change to this is about to be made.
    pub fn intend(&mut self, target: Controls) {
        let (before, written) = (&self.before, &mut self.written);
        remember(&mut written.cpu, cpu(before), cpu(&target));
        remember(&mut written.period, before.period, target.period);
        remember(&mut written.weight, before.weight, target.weight);
        remember(
            &mut written.memory_high,
            before.memory_high,
            target.memory_high,
        );
        remember(
            &mut written.memory_max,
            before.memory_max,
            target.memory_max,
        );
        remember(&mut written.tasks_max, before.tasks_max, target.tasks_max);
        remember(&mut written.io_weight, before.io_weight, target.io_weight);
        // Half of it may be made, with half of what stands.
        for settings in [self.found, target] {
            self.sent.retain(|sent| *sent != settings);
            self.sent.push(settings);
        }
        if self.sent.len() > MOST_SENT {
            self.sent.remove(0);
        }
    }

    /// This was set here though it was meant for an earlier unit of the same name, whose owner had set
    /// `theirs`: what was read here since may be ours.
    pub fn receive_stray(&mut self, set: Controls, theirs: &Controls) {
        let before = &mut self.before;
        if cpu(before) == cpu(&set) {
            (before.quota, before.period) = cpu(theirs);
        }
        disown(&mut before.weight, set.weight, theirs.weight);
        disown(&mut before.memory_high, set.memory_high, theirs.memory_high);
        disown(&mut before.memory_max, set.memory_max, theirs.memory_max);
        disown(&mut before.tasks_max, set.tasks_max, theirs.tasks_max);
        disown(&mut before.io_weight, set.io_weight, theirs.io_weight);
        self.intend(set);
    }

    /// A reading showed this, and it is what is wanted: nothing else is under way.
    pub fn confirm(&mut self, standing: Controls) {
        self.found = standing;
        self.sent = vec![standing];
    }

    /// Whether something was sent that no reading has confirmed.
    pub fn is_under_way(&self) -> bool {
        self.sent.len() > 1
    }

    /// Whether something of ours may stand.
    pub fn stands(&self) -> bool {
        self.sent.iter().any(|sent| *sent != self.before)
    }

    /// Whether a change may be made although this older record is all that could be noted of it:
    /// whatever is cut off then, the record knows each value as ours, and what to put back.
    pub fn covers(&self, change: &Undo) -> bool {
        let (target, before, written) = (change.ours(), &self.before, &self.written);
        // What its owner set needs no record to be told from ours.
        if target == change.before() {
            return true;
        }
        self.before == change.before
            && knows(&written.cpu, cpu(before), cpu(target))
            && knows(&written.weight, before.weight, target.weight)
            && knows(&written.memory_high, before.memory_high, target.memory_high)
            && knows(&written.memory_max, before.memory_max, target.memory_max)
            && knows(&written.tasks_max, before.tasks_max, target.tasks_max)
            && knows(&written.io_weight, before.io_weight, target.io_weight)
            && (!target.frozen || self.sent.iter().any(|sent| sent.frozen))
    }

    /// Whether this quota was set here, and its owner has another.
    pub fn is_our_quota(&self, quota: Cores) -> bool {
        let ours = |written: &Cpu| written.0 == Some(quota);
        self.before.quota != Some(quota) && self.written.cpu.iter().any(ours)
    }

    /// Whether the kernel holds a value that was set here and that the unit's owner did not set:
    /// systemd may say otherwise.
    pub fn is_in(&self, kernel: &KernelControls) -> bool {
        let held = |(quota, period): Cpu| {
            let settings = as_held(&Controls {
                quota,
                period,
                ..Controls::default()
            });
            (settings.quota, settings.period)
        };
        let pages = |limit: &Option<Bytes>| limit.map(|Bytes(bytes)| bytes / PAGE * PAGE);
        let before = &self.before;
        let cpu_stands = kernel.cpu.is_some_and(|(quota, period)| {
            let found = (quota, Some(period));
            quota.is_some()
                && found != held(cpu(before))
                && self.written.cpu.iter().any(|ours| held(*ours) == found)
        });
        let stands = |found: Option<Option<u64>>, before: Option<u64>, ours: Vec<Option<u64>>| {
            found.is_some_and(|found| found != before && ours.contains(&found))
        };
        let all = |limits: &[Option<Bytes>]| limits.iter().map(pages).collect();
        cpu_stands
            || (kernel.frozen && !before.frozen)
            || stands(
                kernel.memory_high,
                pages(&before.memory_high),
                all(&self.written.memory_high),
            )
            || stands(
                kernel.memory_max,
                pages(&before.memory_max),
                all(&self.written.memory_max),
            )
            || stands(
                kernel.tasks_max,
                before.tasks_max,
                self.written.tasks_max.clone(),
            )
    }

    /// Of a change of two settings one may have been made and the other cut off.
    fn is_our_cpu(&self, found: &Controls) -> bool {
        let under_way = || self.sent.iter().chain([&self.before]);
        let halves = self.sent.len() > 1
            // The whole of one that we did not set is its owner's, put back or set anew.
            && !under_way().any(|one| cpu(one) == cpu(found))
            && under_way().any(|one| one.quota == found.quota)
            && under_way().any(|one| one.period == found.period);
        halves || self.written.cpu.contains(&cpu(found))
    }
}

/// The kernel counts memory in pages.
const PAGE: u64 = 4096;

fn cpu(settings: &Controls) -> Cpu {
    (settings.quota, settings.period)
}

fn unlike<T: PartialEq>(found: &mut T, sent: T, before: T) {
    if sent != before {
        *found = sent;
    }
}

fn disown<T: PartialEq>(before: &mut T, set: T, theirs: T) {
    if *before == set {
        *before = theirs;
    }
}

fn follow<T: PartialEq>(before: &mut T, found: T, written: &[T]) {
    if !written.contains(&found) {
        *before = found;
    }
}

fn remember<T: PartialEq>(written: &mut Vec<T>, before: T, target: T) {
    if target == before {
        return;
    }
    written.retain(|known| *known != target);
    written.push(target);
    if written.len() > MOST_WRITTEN {
        written.remove(0);
    }
}

fn knows<T: PartialEq>(written: &[T], before: T, target: T) -> bool {
    target == before || written.contains(&target)
}

/// What the kernel's files of a cgroup hold; `None` where there is no such file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KernelControls {
    /// `cpu.max`: the quota, `None` for "max", and the period.
    pub cpu: Option<(Option<Cores>, Duration)>,
    /// `memory.high`, in bytes; the inner `None` is "max".
    pub memory_high: Option<Option<u64>>,
    /// `memory.max`, likewise.
    pub memory_max: Option<Option<u64>>,
    /// `pids.max`, likewise.
    pub tasks_max: Option<Option<u64>>,
    /// `cgroup.freeze`.
    pub frozen: bool,
}

#[cfg(test)]
mod tests;
