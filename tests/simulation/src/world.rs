//! What is outside of the daemon: units, what systemd and the kernel hold of them, records under `/run`.

use hubwarden_core::actuator::{Answer, Failure, Request, Standing};
use hubwarden_core::undo::{Control, Fragment, KernelControls, Owner, Start, Undo, as_held};
use policy::Controls;
use quantities::{CgroupId, CgroupPath, Cores, Time, UnitName};
use std::collections::BTreeMap;
use std::time::Duration;

/// One unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its present cgroup.
    pub cgroup: CgroupId,
    /// From its loading to its unloading.
    pub life: u64,
    /// Whose it is.
    pub user: String,
    /// It is a login slice.
    pub slice: bool,
    /// What its owner wants of it, last.
    pub theirs: Controls,
    /// All that its owner ever wanted in this life.
    pub ever_theirs: Vec<Controls>,
    /// What systemd says.
    pub standing: Controls,
    /// What the kernel holds.
    pub kernel: Controls,
    /// When a timer thaws it.
    pub timer: Option<Time>,
    /// CPU time used so far.
    pub usage: Duration,
    /// Cores that its programs want.
    pub wants: f64,
}

impl Unit {
    /// Its owner in the core's words.
    pub fn owner(&self, name: &str) -> Owner {
        let cgroup = CgroupPath::new(&format!("jupyter.slice/{name}"));
        Owner::of(
            Control::Systemd,
            &UnitName(name.to_owned()),
            &cgroup,
            self.cgroup,
        )
    }

    /// Its life in the core's words. A slice has no file that tells.
    pub fn start(&self) -> Start {
        match self.slice {
            true => Start(None),
            false => start(self.life),
        }
    }

    /// Runs for a while, as fast as its quota lets it.
    fn run(&mut self, time: Duration) {
        let most = self.kernel.quota.map_or(f64::MAX, |Cores(quota)| quota);
        if !self.kernel.frozen {
            self.usage += time.mul_f64(self.wants.min(most));
        }
    }

    fn set(&mut self, change: &[Part], to: &Controls, kernel_too: bool) {
        for part in change {
            part.set(&mut self.standing, to);
            if kernel_too {
                part.set(&mut self.kernel, to);
            }
        }
    }
}

fn start(life: u64) -> Start {
    Start(Some(Fragment {
        inode: life,
        seconds: 0,
        nanoseconds: 0,
    }))
}

/// Properties are set one after the other, each of which may be the last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Thaw,
    Period,
    Quota,
    Weight,
    Tasks,
    Freeze,
}

impl Part {
    fn set(self, standing: &mut Controls, to: &Controls) {
        match self {
            Part::Thaw | Part::Freeze => standing.frozen = to.frozen,
            Part::Period => standing.period = to.period,
            Part::Quota => standing.quota = to.quota,
            Part::Weight => standing.weight = to.weight,
            Part::Tasks => standing.tasks_max = to.tasks_max,
        }
    }

    /// What differs, in systemd's order: a frozen unit is thawed first, and frozen last.
    fn of(from: Option<&Controls>, to: &Controls) -> Vec<Part> {
        let differs = |part: Part| {
            from.is_none_or(|from| {
                let mut set = *from;
                part.set(&mut set, to);
                set != *from
            })
        };
        let mut parts = Vec::new();
        if !to.frozen && differs(Part::Thaw) {
            parts.push(Part::Thaw);
        }
        let middle = [Part::Period, Part::Quota, Part::Weight, Part::Tasks];
        parts.extend(middle.into_iter().filter(|part| differs(*part)));
        if to.frozen && differs(Part::Freeze) {
            parts.push(Part::Freeze);
        }
        parts
    }
}

/// How a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Well,
    /// It is refused, and nothing happens.
    Refused,
    /// It is cut off after its first half.
    CutOff,
    /// systemd has it, and the kernel does not.
    NotInKernel,
}

/// Everything but the daemon.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The time.
    pub now: Time,
    /// By name.
    pub units: BTreeMap<String, Unit>,
    /// Records under `/run`, by unit.
    pub records: BTreeMap<String, Undo>,
    /// Nothing can be written under `/run`.
    pub run_is_full: bool,
    /// Supervision is off, by the file that says so.
    pub off: bool,
    /// Slices that are gone: their properties are drop-ins of their names.
    gone_slices: BTreeMap<String, Unit>,
    /// Each name's last life that ended.
    ended: BTreeMap<String, Unit>,
    next: u64,
}

impl World {
    /// Nothing runs.
    pub fn at_rest(now: Time) -> World {
        World {
            now,
            ..World::default()
        }
    }

    /// A number that nothing else has.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Starts a unit as its spawner does.
    pub fn spawn(&mut self, name: &str, user: &str, slice: bool, theirs: Controls) {
        let (cgroup, life) = (CgroupId(self.fresh()), self.fresh());
        let unit = Unit {
            cgroup,
            life,
            user: user.to_owned(),
            slice,
            theirs,
            ever_theirs: vec![theirs],
            standing: theirs,
            kernel: theirs,
            timer: None,
            usage: Duration::ZERO,
            wants: 0.0,
        };
        let mut unit = unit;
        // What is not read yet may be taken for what it was in the life before.
        let last = self.units.get(name).or_else(|| self.ended.get(name));
        // A timer is a unit of its own.
        unit.timer = last.and_then(|last| last.timer);
        // A timer is a unit of its own.
        unit.timer = last.and_then(|last| last.timer);
        unit.ever_theirs.extend(
            last.map(|last| last.ever_theirs.clone())
                .unwrap_or_default(),
        );
        if let Some(before) = self
            .gone_slices
            .remove(name)
            .or_else(|| self.units.remove(name))
            && slice
        {
            unit.theirs = before.theirs;
            unit.ever_theirs = before.ever_theirs;
            unit.standing = Controls {
                frozen: false,
                ..before.standing
            };
            unit.kernel = unit.standing;
        }
        self.units.insert(name.to_owned(), unit);
    }

    /// What the owner of a name's last life wanted.
    pub fn last_theirs(&self, name: &str) -> Option<Controls> {
        let last = self.units.get(name).or_else(|| self.ended.get(name));
        last.map(|last| last.theirs)
    }

    /// Ends a unit.
    pub fn stop(&mut self, name: &str) {
        if let Some(unit) = self.units.remove(name) {
            if unit.slice {
                self.gone_slices.insert(name.to_owned(), unit.clone());
            }
            self.ended.insert(name.to_owned(), unit);
        }
    }

    /// Lets time pass: programs run, timers thaw.
    pub fn pass(&mut self, time: Duration) {
        self.now.0 += time;
        let now = self.now;
        for unit in self.units.values_mut() {
            unit.run(time);
            if unit.timer.is_some_and(|at| at <= now) {
                unit.timer = None;
                unit.standing.frozen = false;
                unit.kernel.frozen = false;
            }
        }
    }

    /// The unit with this cgroup.
    pub fn at(&self, cgroup: CgroupId) -> Option<(&String, &Unit)> {
        self.units.iter().find(|(_, unit)| unit.cgroup == cgroup)
    }

    /// The present life of a unit.
    pub fn start_of(&self, name: &str) -> Start {
        self.units.get(name).map_or(Start(None), Unit::start)
    }

    /// Does what an actuator asks for.
    pub fn carry_out(&mut self, owner: &Owner, request: &Request, fate: Fate) -> Answer {
        let name = name_of(owner);
        let start = self.start_of(name);
        let record = self.records.get(name).cloned();
        let refused = fate == Fate::Refused;
        if let Request::Record(undo) = request {
            return Answer::Recorded(match self.run_is_full {
                true => Err("no space left".to_owned()),
                false => {
                    self.records.insert(name.to_owned(), (**undo).clone());
                    Ok(())
                }
            });
        }
        let unit = self.units.get_mut(name);
        let same_cgroup = unit
            .as_ref()
            .is_some_and(|unit| owner_cgroup(owner) == Some(unit.cgroup));
        match request {
            Request::Read => Answer::Read(match unit {
                None => Err(Failure::Gone),
                Some(_) if refused => no(),
                Some(unit) => Ok(Box::new(Standing {
                    controls: Controls {
                        frozen: unit.standing.frozen || (same_cgroup && unit.kernel.frozen),
                        ..unit.standing
                    },
                    start,
                    record,
                    kernel_quota: same_cgroup.then_some(unit.kernel.quota),
                })),
            }),
            Request::Record(_) => Answer::Recorded(Ok(())),
            Request::ThawAfter(after) => Answer::TimerSet(match unit {
                None => Err(Failure::Gone),
                Some(_) if refused => no(),
                Some(unit) => {
                    unit.timer = Some(Time(self.now.0 + *after));
                    Ok(())
                }
            }),
            Request::ThawNoMore => {
                if let Some(unit) = unit.filter(|_| !refused) {
                    unit.timer = None;
                }
                Answer::Done(Ok(()))
            }
            Request::Apply(change) => {
                let gone = self.gone_slices.get_mut(name);
                let done = match unit.or(gone) {
                    None => Err(Failure::Gone),
                    Some(_) if refused => no(),
                    Some(unit) => {
                        let parts = Part::of(change.from.as_ref(), &change.to);
                        let made = match fate {
                            Fate::CutOff => parts.len() / 2,
                            _ => parts.len(),
                        };
                        // Where another program wrote last, or in another cgroup, it is not ours that stays.
                        let ours_stays = same_cgroup && unit.kernel.quota == unit.standing.quota;
                        let in_kernel = fate != Fate::NotInKernel || !ours_stays;
                        unit.set(&parts[..made], &change.to, in_kernel);
                        match fate {
                            Fate::CutOff => no(),
                            _ => Ok(()),
                        }
                    }
                };
                Answer::Applied(done, start)
            }
            Request::ReadKernel => Answer::Kernel(match unit.filter(|_| same_cgroup) {
                None => Ok(KernelControls::default()),
                Some(_) if refused => no(),
                Some(unit) => Ok(held(&unit.kernel)),
            }),
            Request::Lift(undo) => Answer::Done(match unit.filter(|_| same_cgroup) {
                Some(unit) if undo.is_in(&held(&unit.kernel)) => {
                    unit.kernel = *undo.before();
                    Ok(())
                }
                _ => Ok(()),
            }),
            Request::AskHub | Request::Stop | Request::Kill => match (unit, refused) {
                (Some(_), true) => Answer::Done(no()),
                _ => {
                    let name = name.to_owned();
                    self.stop(&name);
                    Answer::Done(Ok(()))
                }
            },
            Request::EndProcesses => Answer::ProcessesEnded(match refused {
                true => no(),
                false => Ok(None),
            }),
        }
    }
}

fn no<T>() -> Result<T, Failure> {
    Err(Failure::Other("refused".to_owned()))
}

/// The name of the unit that an owner is.
pub fn name_of(owner: &Owner) -> &str {
    match owner {
        Owner::Systemd(unit, _) => unit.as_str(),
        Owner::Cgroup(cgroup, _) => cgroup.as_str(),
    }
}

fn owner_cgroup(owner: &Owner) -> Option<CgroupId> {
    match owner {
        Owner::Systemd(_, place) => place.as_ref().map(|(_, id)| *id),
        Owner::Cgroup(_, id) => Some(*id),
    }
}

/// As the kernel's files have it.
fn held(controls: &Controls) -> KernelControls {
    let held = as_held(controls);
    KernelControls {
        cpu: held.period.map(|period| (held.quota, period)),
        memory_high: None,
        memory_max: None,
        tasks_max: Some(controls.tasks_max),
        frozen: controls.frozen,
    }
}
